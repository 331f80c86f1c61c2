//! Pins that are not what they should be, and a second agent.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};

use super::world::{PATIENCE, World, result_of, wait_for};

type Deed = (&'static str, fn(&Path) -> std::io::Result<()>);

const DEEDS: [Deed; 4] = [
    ("another program under a link's name", |pins| {
        fs::rename(pins.join("programs/plaintext_egress"), pins.join("links/origin_connect4"))
    }),
    ("a map of another shape", |pins| fs::rename(pins.join("maps/SOCKETS"), pins.join("maps/OWN"))),
    ("open to others", |pins| fs::set_permissions(pins.join("maps"), fs::Permissions::from_mode(0o755))),
    ("half of it gone", |pins| fs::remove_dir_all(pins.join("links"))),
];

#[test]
fn changed_pins_are_refused_replaced_and_reported() -> Result<()> {
    let world = World::new()?;
    world.agent()?.stop()?;
    for (deed, change) in DEEDS {
        change(&world.pins()?)?;
        let agent = world.agent()?;
        ensure!(result_of(&agent)? == "replaced", "{deed}: {}", agent.logs());
        ensure!(agent.logs().contains("are not used and are being replaced"), "{deed}: {}", agent.logs());
        world.expect(&[world.send()?])?;
        agent.stop()?;
        world.pins()?;
        let agent = world.agent()?;
        ensure!(result_of(&agent)? == "reused", "{deed}: {}", agent.logs());
        agent.stop()?;
    }
    Ok(())
}

#[test]
fn a_second_agent_says_that_there_is_a_first_and_breaks_nothing() -> Result<()> {
    let world = World::new()?;
    let first = world.agent()?;
    let mut second = world.start_at(Some(&world.pin_path())).start()?;
    let status = second.process().wait(PATIENCE)?;
    let said = second.logs();
    ensure!(status.code() == Some(1), "{status}: {said}");
    ensure!(said.contains("another agent uses") && said.contains("pin_path"), "{said}");
    world.expect(&[world.send()?])?;
    first.stop()?;
    ensure!(result_of(&world.agent()?)? == "reused");
    Ok(())
}

#[test]
fn of_two_that_start_at_the_same_time_one_gives_way() -> Result<()> {
    let world = World::new()?;
    for _ in 0..3 {
        let mut agents = [world.start_at(Some(&world.pin_path())), world.start_at(Some(&world.pin_path()))]
            .map(spanwarden_tests::agent::Start::start)
            .into_iter()
            .collect::<Result<Vec<_>>>()?;
        let mut loser = None;
        // The other one has the lock until it is told to end.
        wait_for("one to give way", || {
            loser = agents.iter_mut().position(|agent| agent.process().wait(Duration::ZERO).is_ok());
            Ok(loser.is_some())
        })?;
        let loser = agents.swap_remove(loser.context("one that has ended")?);
        ensure!(loser.logs().contains("another agent uses"), "{}", loser.logs());
        let winner = agents.swap_remove(0);
        wait_for("the other one", || Ok(winner.logs().contains("kernel programs are attached")))?;
        world.expect(&[world.send()?])?;
        winner.stop()?;
    }
    Ok(())
}

#[test]
fn a_directory_that_is_no_bpffs_is_refused_with_what_to_do() -> Result<()> {
    let world = World::new()?;
    let elsewhere = spanwarden_tests::agent::Directory::new()?;
    let path = elsewhere.path().join("pins");
    let mut agent = world.start_at(Some(&path)).start()?;
    let status = agent.process().wait(PATIENCE)?;
    let said = agent.logs();
    ensure!(status.code() == Some(1), "{status}: {said}");
    ensure!(said.contains("mount -t bpf") && said.contains("hostPath"), "{said}");
    ensure!(!path.exists());
    Ok(())
}
