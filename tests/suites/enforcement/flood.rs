//! Many blocked connections of one pod: every one of them is ended, however few of them are reported.

use anyhow::{Context, Result, ensure};

use super::scene::{Scene, once, run};

const CONNECTIONS: u64 = 2_000;

#[test]
fn every_blocked_connection_of_a_flood_is_ended() -> Result<()> {
    let plaintext =
        "{mode: block, deny_for: 0s}\n    findings: {file: findings.jsonl, per_second: 1, burst: 10}";
    let make =
        |node: &spanwarden_tests::node::Node| Ok([node.pod("shop", "web")?, node.pod("shop", "other")?]);
    let (scene, [web, other]) = Scene::new(plaintext, make, |pods| pods.iter().collect())?;
    let lines = run(web.place(), &["flood", &scene.at(4318), &CONNECTIONS.to_string()])?;
    // What an application gets that waits, that writes, and that finds the socket without a peer.
    let mut ended = 0;
    for line in &lines {
        let (end, count) = line.split_once(' ').context("two words")?;
        if matches!(end, "ECONNABORTED" | "ECONNRESET" | "EPIPE" | "ENOTCONN") {
            ended += count.parse::<u64>()?;
        }
    }
    ensure!(ended == CONNECTIONS, "{lines:?}\n{}", scene.agent.logs());
    println!("{CONNECTIONS} blocked connections at once: {lines:?}");
    let seen = scene.metric("spanwarden_bpf_events{outcome=\"throttled\"}")?;
    ensure!(seen.is_some_and(|throttled| throttled > CONNECTIONS / 2), "most are not reported: {seen:?}");
    ensure!(once(other.place(), "http1", &scene.at(4318))?.is_ended(), "another pod's as well");
    scene.nothing_arrived()
}
