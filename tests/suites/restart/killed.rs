//! `kill -9`, and what pods do while nobody is there.

use anyhow::{Result, ensure};

use super::world::{World, events, finish, kill, opened, result_of, wait_for};

/// Connections of each kind; all together fewer than the ring holds.
const CONNECTIONS: usize = 40;

#[test]
fn nothing_of_the_time_without_an_agent_is_lost() -> Result<()> {
    let world = World::new()?;
    let agent = world.agent()?;
    ensure!(result_of(&agent)? == "created");
    let before = world.send()?;
    world.expect(std::slice::from_ref(&before))?;
    // Open before the agent dies, and silent until the next one is there.
    let mut older = world.late()?;
    let older_connection = opened(&mut older)?;
    wait_for("the counters to be kept", || Ok(events(&agent, "read")? == 1))?;
    kill(agent)?;

    let mut expected = vec![before, older_connection];
    for _ in 0..CONNECTIONS {
        expected.push(world.send()?);
    }
    // Open while there was no agent, and silent until there is one.
    let mut during = world.late()?;
    expected.push(opened(&mut during)?);

    let agent = world.agent()?;
    ensure!(result_of(&agent)? == "reused", "{}", agent.logs());
    finish(&mut older)?;
    finish(&mut during)?;
    expected.push(world.send()?);
    world.expect(&expected)?;
    // The first one belongs to the agent that is no more; the rest is this one's.
    let mine = expected.len() as u64 - 1;
    for outcome in ["seen", "delivered", "read"] {
        wait_for(outcome, || Ok(events(&agent, outcome)? == mine))?;
    }
    ensure!(events(&agent, "full")? == 0 && world.findings()?.len() == expected.len());
    Ok(())
}

#[test]
fn the_ring_tells_what_did_not_fit() -> Result<()> {
    let world = World::new()?;
    kill(world.agent()?)?;
    // More than the ring holds with nobody to read.
    let room = spanwarden_ebpf::abi::FINDINGS_BYTES / size_of::<spanwarden_ebpf::abi::Finding>();
    let connections = room as u64 + 200;
    let mut client = world.web.spawn(super::world::CLIENT, &["steady", &world.target(), "http1", "0"])?;
    for _ in 0..connections {
        opened(&mut client)?;
    }
    client.say("stop")?;
    let done = client.wait_for_line("done ", super::world::PATIENCE)?;
    let sent: u64 = done.trim_start_matches("done ").parse()?;
    let agent = world.agent()?;
    wait_for("all to be counted", || Ok(events(&agent, "seen")? == sent))?;
    let (delivered, full) = (events(&agent, "delivered")?, events(&agent, "full")?);
    ensure!(delivered + full == sent && full > 0, "{sent} sent, {delivered} delivered, {full} lost");
    wait_for("all to be read", || Ok(events(&agent, "read")? == delivered))?;
    wait_for("all lines", || Ok(world.findings()?.len() as u64 == delivered))
}

#[test]
fn a_peaceful_end_leaves_the_programs_too_and_removing_the_directory_ends_them() -> Result<()> {
    let world = World::new()?;
    let agent = world.agent()?;
    let (status, log) = agent.stop()?;
    ensure!(status.success(), "{log}");
    let meanwhile = world.send()?;
    let agent = world.agent()?;
    ensure!(result_of(&agent)? == "reused", "{}", agent.logs());
    world.expect(&[meanwhile])?;
    agent.stop()?;
    std::fs::remove_dir_all(world.pins()?)?;
    let unseen = world.send()?;
    let agent = world.agent()?;
    ensure!(result_of(&agent)? == "created", "{}", agent.logs());
    let seen = world.send()?;
    world.expect(&[seen])?;
    ensure!(!world.findings()?.contains_key(&unseen.local), "found by programs that should be gone");
    Ok(())
}
