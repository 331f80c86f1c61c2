//! Another version of the programs takes over while a client never pauses.

use anyhow::{Context, Result, ensure};
use spanwarden_tests::agent::Directory;

use super::world::{CLIENT, PATIENCE, World, another_version, finish, kill, opened, parse, result_of};

/// Between connections: those of an agent's start fit in the ring.
const PAUSE_MS: &str = "20";

#[test]
fn a_client_that_connects_all_the_time_misses_nothing() -> Result<()> {
    let world = World::new()?;
    let files = Directory::new()?;
    let other = files.path().join("spanwarden");
    another_version(&other)?;
    let agent = world.agent()?;
    let mut older = world.late()?;
    let older_connection = opened(&mut older)?;
    let mut client = world.web.spawn(CLIENT, &["steady", &world.target(), "http1", PAUSE_MS])?;
    let mut expected = vec![older_connection, opened(&mut client)?];
    kill(agent)?;
    let agent = world.start(true).program(&other).start()?;
    ensure!(result_of(&agent)? == "updated", "{}", agent.logs());
    finish(&mut older)?;
    client.say("stop")?;
    let done = client.wait_for_line("done ", PATIENCE)?;
    client.wait_success(PATIENCE)?;
    for line in client.output().lines().filter(|line| line.starts_with("open ")) {
        expected.push(parse(line)?);
    }
    let count: usize = done.strip_prefix("done ").context("a count")?.parse()?;
    ensure!(expected.len() == count + 1 && count > 10, "{count} connections, {} known", expected.len());
    world.expect(&expected)?;
    kill(agent)?;
    let agent = world.start(true).program(&other).start()?;
    ensure!(result_of(&agent)? == "reused", "the update is complete: {}", agent.logs());
    world.expect(&[world.send()?])
}
