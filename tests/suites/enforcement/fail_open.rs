//! Whatever happens to the agent, applications go on.

use std::fs;

use anyhow::{Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use spanwarden_tests::node::Pod;

use super::scene::{Export, PATIENCE, Scene, once};
use spanwarden_tests::patience::deadline;

fn scene() -> Result<(Scene, Pod)> {
    let plaintext = "{mode: block, deny_for: 0s, kill_switch: KILL_SWITCH}";
    Scene::new(plaintext, |node| node.pod("shop", "web"), |web| vec![web])
}

#[test]
fn the_kill_switch_ends_it_and_its_removal_resumes_it() -> Result<()> {
    let (mut scene, web) = scene()?;
    let target = scene.at(4318);
    ensure!(once(web.place(), "http1", &target)?.is_ended(), "blocked at first");
    fs::write(scene.kill_switch(), "")?;
    scene.wait_active(false)?;
    ensure!(once(web.place(), "http1", &target)? == Export::Accepted, "the switch is set");
    ensure!(once(web.place(), "h2c", &scene.at(4317))? == Export::Accepted, "the switch is set");
    ensure!(scene.agent.logs().contains("the kill switch is set"), "{}", scene.agent.logs());
    fs::remove_file(scene.kill_switch())?;
    scene.wait_active(true)?;
    ensure!(once(web.place(), "http1", &target)?.is_ended(), "blocked again");
    ensure!(scene.arrived()? == 2, "{}", scene.arrived()?);
    Ok(())
}

#[test]
fn an_agent_that_stops_is_followed_by_a_free_passage() -> Result<()> {
    let (mut scene, web) = scene()?;
    let target = scene.at(4318);
    ensure!(once(web.place(), "http1", &target)?.is_ended(), "blocked at first");
    scene.agent.process().signal(Signal::SIGSTOP)?;
    // What is dropped before the kernel notices is sent again by TCP, and passes then.
    ensure!(once(web.place(), "http1", &target)? == Export::Accepted, "the agent is stopped");
    ensure!(once(web.place(), "h2c", &scene.at(4317))? == Export::Accepted, "the agent is stopped");
    scene.agent.process().signal(Signal::SIGCONT)?;
    // The gauge still says what was true before it was stopped, so only the outcome tells that it beats again.
    let end = deadline(PATIENCE);
    while !once(web.place(), "http1", &target)?.is_ended() {
        ensure!(std::time::Instant::now() < end, "blocked again");
    }
    scene.agent.process().signal(Signal::SIGKILL)?;
    scene.agent.process().wait(PATIENCE)?;
    ensure!(once(web.place(), "http1", &target)? == Export::Accepted, "the agent is dead");
    Ok(())
}

#[test]
fn programs_that_outlive_the_agent_block_nothing() -> Result<()> {
    let plaintext = "{mode: block, deny_for: 0s}\n    pin_path: PIN_PATH";
    let (mut scene, web) = Scene::new(plaintext, |node| node.pod("shop", "web"), |web| vec![web])?;
    let target = scene.at(4318);
    ensure!(once(web.place(), "http1", &target)?.is_ended(), "blocked at first");
    scene.agent.process().signal(Signal::SIGKILL)?;
    scene.agent.process().wait(PATIENCE)?;
    // Dropped until the last sign of life is too old, then sent again by TCP.
    ensure!(once(web.place(), "http1", &target)? == Export::Accepted, "the agent is dead");
    ensure!(once(web.place(), "http1", &target)? == Export::Accepted, "and still is");
    Ok(())
}

#[test]
fn without_the_helper_nothing_is_blocked() -> Result<()> {
    let (mut scene, web) = scene()?;
    let target = scene.at(4318);
    ensure!(once(web.place(), "http1", &target)?.is_ended(), "blocked at first");
    let helper = helper_of(scene.agent.id())?;
    kill(helper, Signal::SIGKILL)?;
    scene.wait_active(false)?;
    ensure!(once(web.place(), "http1", &target)? == Export::Accepted, "the helper is gone");
    ensure!(scene.agent.logs().contains("the helper that ends blocked connections is gone"), "said");
    Ok(())
}

#[test]
fn a_worker_that_is_killed_is_replaced() -> Result<()> {
    let (scene, web) = scene()?;
    let target = scene.at(4318);
    ensure!(once(web.place(), "http1", &target)?.is_ended(), "blocked at first");
    let keeper = helper_of(scene.agent.id())?;
    for restarts in 1..3 {
        kill(worker_of(keeper)?, Signal::SIGKILL)?;
        // Asked while there is no worker, or a new one: either way it is ended.
        let outcome = once(web.place(), "http1", &target)?;
        ensure!(outcome.is_ended(), "{outcome:?}\n{}", scene.agent.logs());
        scene.wait_metric("spanwarden_enforcement_helper_restarts", |count| count == Some(restarts))?;
    }
    ensure!(scene.agent.logs().contains("had ended, and was started again"), "{}", scene.agent.logs());
    ensure!(scene.metric("spanwarden_enforcement_active")? == Some(1), "it never ceased");
    scene.nothing_arrived()
}

#[test]
fn an_agent_that_ends_takes_the_helper_along() -> Result<()> {
    let (mut scene, web) = scene()?;
    ensure!(once(web.place(), "http1", &scene.at(4318))?.is_ended(), "blocked at first");
    let helper = helper_of(scene.agent.id())?;
    let worker = worker_of(helper)?;
    let status = scene.agent.process().stop(PATIENCE)?;
    ensure!(status.success(), "{status}\n{}", scene.agent.logs());
    wait_for_end(helper)?;
    wait_for_end(worker)?;
    ensure!(once(web.place(), "http1", &scene.at(4318))? == Export::Accepted, "nobody blocks any more");
    drop(scene);
    let (mut scene, _web) = self::scene()?;
    let helper = helper_of(scene.agent.id())?;
    let worker = worker_of(helper)?;
    scene.agent.process().signal(Signal::SIGKILL)?;
    scene.agent.process().wait(PATIENCE)?;
    wait_for_end(helper)?;
    wait_for_end(worker)
}

fn wait_for_end(helper: Pid) -> Result<()> {
    let deadline = deadline(PATIENCE);
    while fs::read_to_string(format!("/proc/{helper}/comm")).is_ok_and(|comm| comm.starts_with("sock-")) {
        ensure!(std::time::Instant::now() < deadline, "the helper outlives the agent");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    Ok(())
}

/// The agent's only child, which keeps the worker alive.
fn helper_of(agent: u32) -> Result<Pid> {
    child_of(Pid::from_raw(agent.try_into()?), "sock-keeper")
}

/// Its only child.
fn worker_of(keeper: Pid) -> Result<Pid> {
    child_of(keeper, "sock-destroyer")
}

/// The only child of a process, once it has this name.
fn child_of(parent: Pid, name: &str) -> Result<Pid> {
    let deadline = deadline(PATIENCE);
    loop {
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"))?;
        if let Some(child) = children.split_whitespace().next()
            && fs::read_to_string(format!("/proc/{child}/comm")).is_ok_and(|comm| comm.trim_end() == name)
        {
            return Ok(Pid::from_raw(child.parse()?));
        }
        ensure!(std::time::Instant::now() < deadline, "no {name} below {parent}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}
