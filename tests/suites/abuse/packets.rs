//! Handshakes that no socket has made.

#![forbid(unsafe_code)]

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Result, ensure};
use serde_json::json;
use spanwarden_tests::node::{Node, Pod};

use crate::{
    programs::{self, PATIENCE, client},
    server::{Server, at},
};

/// The kernel knows nothing of the thief's connections, and must not end them.
const NO_RESETS: &str = "table inet thief {
  chain output { type filter hook output priority 0; tcp flags & rst == rst drop; }
}";

fn without_resets(pod: &Pod) -> Result<()> {
    match &pod.place().netns {
        Some(netns) => netns.nft(NO_RESETS),
        None => Ok(()),
    }
}

#[test]
fn raw_packets_give_no_evidence_of_anybody() -> Result<()> {
    let node = Node::new()?;
    let agent = node.pod("spanwarden", "agent")?;
    let (victim, thief) = (node.pod("shop", "victim")?, node.pod("batch", "thief")?);
    without_resets(&thief)?;
    let mut server = Server::start(&node, &agent, &[victim.clone(), thief.clone()])?;
    let local = SocketAddr::new(thief.ipv4.into(), 40_000).to_string();
    let line = format!("1 1 {} {local} 0 victim", victim.uid);
    let mut raw = thief.spawn(programs::CLIENT, &["raw", &local, &at(agent.ipv4), &line])?;
    raw.wait_for_line("said", PATIENCE)?;
    server.ask("accept 1")?;
    let report = server.answer()?;
    let connection = &report["connections"][0];
    ensure!(report["missing"] == json!(1) && connection["evidence"] == json!("address"), "{report:#}");
    ensure!(connection["pod_uid"] != json!(victim.uid), "{report:#}");
    Ok(())
}

/// The victim connects to the thief, who makes a handshake with the agent that has the same numbers. For the agent's
/// kernel its client is the victim; only where the victim wanted to go tells.
#[test]
fn a_relayed_handshake_is_a_conflict() -> Result<()> {
    let node = Node::new()?;
    let agent = node.pod("spanwarden", "agent")?;
    let (victim, thief) = (node.pod("shop", "victim")?, node.pod("batch", "thief")?);
    without_resets(&thief)?;
    let mut server = Server::start(&node, &agent, &[victim.clone(), thief.clone()])?;
    let local = SocketAddr::new(IpAddr::from(thief.ipv4), 9_999).to_string();
    let line = format!("1 1 {} {local} 0 victim", victim.uid);
    let mut relay = thief.spawn(programs::CLIENT, &["relay", &local, &at(agent.ipv4), &line])?;
    relay.wait_for_line("ready ", PATIENCE)?;
    let wait = Duration::from_secs(10).as_millis().to_string();
    let target = local.clone();
    let place = victim.place().clone();
    // Held until the relay has ended, so that the victim's side of the join is there.
    let holder = std::thread::spawn(move || client(&place, &["probe", &target, "http1-get", &wait]));
    let said = relay.wait_for_line("said", PATIENCE);
    server.ask("accept 1")?;
    let report = server.answer()?;
    drop(relay);
    let _ = holder.join();
    said?;
    let connection = &report["connections"][0];
    ensure!(connection["evidence"] == json!("conflict"), "{report:#}");
    ensure!(connection["pod_uid"] == json!(null) && report["right"] == json!(0), "{report:#}");
    Ok(())
}
