//! What was decided of one socket is not held against the next one at its address.

#![forbid(unsafe_code)]

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, ensure};
use spanwarden_ebpf::abi::counter;
use spanwarden_tests::{node::Node, process::Process};

use super::programs::{CLIENT, PATIENCE, Peer, Programs};

/// Connections a pod, of which every other one carries telemetry.
const EACH: u64 = 4_000;
/// The client looks up the address of one socket in so many.
const SAMPLE: u64 = 20;
/// Every connection of both pods has this port.
const SOURCE: u16 = 40_123;

/// Two pods, so two namespaces, with the same pair of ports: all their sockets share one cell of the map of decided
/// sockets, and most have the address of one that was decided as foreign. Were cells not emptied, about a third of the
/// exports would be missed.
#[test]
fn telemetry_is_found_at_the_address_and_ports_of_a_decided_socket() -> Result<()> {
    let node = Node::new()?;
    let programs = Programs::attach(&node)?;
    let mut clients = Vec::new();
    for name in ["one", "two"] {
        let (pod, peer) = (node.pod("shop", name)?, node.pod("obs", name)?);
        let echo = Peer::start(peer.place(), &["echo", "0.0.0.0:4318"])?;
        let source = SocketAddr::from((Ipv4Addr::UNSPECIFIED, SOURCE)).to_string();
        let target = SocketAddr::new(peer.ipv4.into(), echo.port).to_string();
        let arguments = ["recycle", &source, &target, "http1", &EACH.to_string()];
        clients.push((pod.spawn(CLIENT, &arguments)?, echo));
    }
    for (client, _) in &mut clients {
        let addresses = outcome(client)?;
        ensure!(addresses < EACH / SAMPLE / 4, "{addresses} addresses: hardly any was used again");
    }
    let seen = programs.reconcile()?["seen"];
    ensure!(seen == EACH, "{seen} of {EACH} exports were found");
    let foreign = programs.counter(counter::FOREIGN)?;
    ensure!(foreign >= EACH, "{foreign} of {EACH} connections were decided");
    Ok(())
}

/// At how many addresses the sampled sockets were.
fn outcome(client: &mut Process) -> Result<u64> {
    let line = client.wait_for_line("outcome recycled ", PATIENCE)?;
    client.wait_success(PATIENCE)?;
    line.split(' ').nth(3).and_then(|text| text.parse().ok()).with_context(|| line.clone())
}
