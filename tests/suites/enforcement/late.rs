//! Pods of which the kernel does not know yet.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;

use super::scene::{Export, PATIENCE, Scene, once, start};

/// With an exclusion nobody is blocked before it is known who he is.
const POLICY: &str = "{mode: block, exclude: [{namespaces: [kube-system]}], deny_for: 30s}";
const WITHOUT_DENIAL: &str = "{mode: block, exclude: [{namespaces: [kube-system]}], deny_for: 0s}";

const BLOCKED_PODS: &str = "spanwarden_plaintext_policies{mode=\"block\"}";

#[test]
fn a_pod_is_blocked_from_when_it_is_known() -> Result<()> {
    let (scene, web) = Scene::new(WITHOUT_DENIAL, |node| node.pod("shop", "web"), |_| vec![])?;
    let target = scene.at(4318);
    ensure!(once(web.place(), "http1", &target)? == Export::Accepted, "nobody knows the pod");
    scene.list([&web])?;
    // The collector's pod is the second.
    scene.wait_metric(BLOCKED_PODS, |pods| pods == Some(2))?;
    let outcome = once(web.place(), "http1", &target)?;
    ensure!(outcome.is_ended(), "{outcome:?}");
    // One more, while the agent looks on.
    let new = scene.node.pod("shop", "new")?;
    scene.list([&web, &new])?;
    scene.wait_metric(BLOCKED_PODS, |pods| pods == Some(3))?;
    let outcome = once(new.place(), "http1", &target)?;
    ensure!(outcome.is_ended(), "{outcome:?}");
    Ok(())
}

#[test]
fn what_passed_before_the_kernel_knew_is_ended_late() -> Result<()> {
    let (mut scene, ()) = Scene::new(POLICY, |_| Ok(()), |()| vec![])?;
    let target = scene.at(4318);
    // While the agent sleeps a pod comes and exports: its cgroup has no policy of its own.
    scene.agent.process().signal(Signal::SIGSTOP)?;
    let web = scene.node.pod("shop", "web")?;
    scene.list([&web])?;
    let mut exporter = start(web.place(), &["hold", &target])?;
    exporter.wait_for_line("accepted", PATIENCE)?;
    scene.agent.process().signal(Signal::SIGCONT)?;
    let ended = exporter.wait_for_line("ended E", PATIENCE)?;
    ensure!(ended.contains("ECONNABORTED"), "{ended}");
    scene.wait_metric("spanwarden_plaintext_destroyed{result=\"late\"}", |count| count == Some(1))?;
    let started = Instant::now();
    let outcome = once(web.place(), "http1", &target)?;
    if started.elapsed() < Duration::from_secs(10) {
        ensure!(outcome == Export::Connect("EPERM".to_owned()), "{outcome:?}");
    }
    Ok(())
}
