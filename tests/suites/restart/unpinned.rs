//! Without pins a new agent starts from nothing, and says so.

use anyhow::{Result, ensure};

use super::world::{World, finish, kill, opened, wait_for};

#[test]
fn a_connection_that_is_older_than_the_agent_is_marked_so() -> Result<()> {
    let world = World::new()?;
    let agent = world.start(false).start()?;
    let mut older = world.late()?;
    let connection = opened(&mut older)?;
    kill(agent)?;
    let agent = world.start(false).start()?;
    finish(&mut older)?;
    wait_for("the finding", || Ok(world.findings()?.contains_key(&connection.local)))?;
    let finding = &world.findings()?[&connection.local][0];
    ensure!(finding["proof"] == "pre-existing" && finding["seen"] == "path", "{finding:#}");
    ensure!(finding["pid"].is_null() && finding["pod_uid"] == world.web.uid.as_str(), "{finding:#}");
    drop(agent);
    Ok(())
}
