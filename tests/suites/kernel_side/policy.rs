//! Who is whose, and where things go.

#![forbid(unsafe_code)]

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use spanwarden_ebpf::abi::{
    MODE_BLOCK, MODE_OBSERVE, MODE_WARN, PLACE_AGENT, PLACE_CLUSTER, PLACE_NODE, PLACE_OUTSIDE, PLACE_POD,
    POLICY_GROUP, Policy, Settings,
};
use spanwarden_tests::{node::Node, process::Place};

use super::programs::{Peer, Programs, client};

pub(super) const EVERYWHERE: u32 = u32::MAX;

pub(super) fn policy(mode: u32, places: u32, flags: u32) -> Policy {
    Policy { mode, places, flags, reserved: 0 }
}

#[test]
fn the_deepest_entry_counts_and_what_a_pod_makes_below_changes_nothing() -> Result<()> {
    let node = Node::new()?;
    let (pod, twin, peer) = (node.pod("shop", "web")?, node.pod("shop", "twin")?, node.pod("obs", "peer")?);
    let service = node.service_place("backup")?;
    let mut programs = Programs::attach(&node)?;
    let sink = Peer::start(peer.place(), &["hole", "[::]:4318"])?;
    let target = SocketAddr::new(peer.ipv4.into(), sink.port).to_string();
    let container = pod.place().cgroup.clone().context("a cgroup")?;
    let own = container.parent().context("the pod's cgroup")?.to_owned();
    let burstable = own.parent().context("the class of service")?.to_owned();
    let all_pods = burstable.parent().context("kubepods.slice")?.to_owned();
    let nested = pod.sub_cgroup("a/kubepods.slice/pod7")?;
    let deep = pod.sub_cgroup("a/b/c/d/e/f/g/h")?;
    let mode = |programs: &mut Programs, place: &Place| -> Result<u32> {
        let said = client(place, &["talk", &target, "http1"])?;
        ensure!(said.outcome == "sent", "{}", said.outcome);
        let event = programs.event()?;
        ensure!(event.tgid == said.pid, "{event:?}");
        Ok(event.mode)
    };

    ensure!(mode(&mut programs, pod.place())? == MODE_OBSERVE, "no entry at all");
    programs.policy(&all_pods, policy(MODE_WARN, EVERYWHERE, POLICY_GROUP))?;
    for place in [pod.place(), twin.place(), &nested, &deep] {
        ensure!(mode(&mut programs, place)? == MODE_WARN, "{place:?} is below kubepods.slice");
    }
    ensure!(mode(&mut programs, &service)? == MODE_OBSERVE, "a process of the node");
    programs.policy(&own, policy(MODE_OBSERVE, EVERYWHERE, 0))?;
    for place in [pod.place(), &nested, &deep] {
        ensure!(mode(&mut programs, place)? == MODE_OBSERVE, "{place:?} has an entry of its own");
    }
    ensure!(mode(&mut programs, twin.place())? == MODE_WARN, "the twin has none");
    programs.policy(&own, policy(MODE_WARN, 1 << PLACE_OUTSIDE | 1 << PLACE_POD, 0))?;
    ensure!(mode(&mut programs, pod.place())? == MODE_WARN, "outside");
    programs.place("10.244.0.0", 16, PLACE_CLUSTER)?;
    ensure!(mode(&mut programs, pod.place())? == MODE_OBSERVE, "in the cluster: a place without the mode");
    programs.forget_policy(&own)?;
    programs.policy(&burstable, policy(MODE_OBSERVE, EVERYWHERE, POLICY_GROUP))?;
    ensure!(mode(&mut programs, pod.place())? == MODE_OBSERVE, "the deeper of two groups");
    programs.reconcile()?;
    Ok(())
}

/// The pod is the token bucket's and the denial's key: it must be the same for all of its containers and what
/// they make below, and another for every other pod.
#[test]
fn a_pod_is_one_level_below_the_deepest_group() -> Result<()> {
    let node = Node::new()?;
    let (pod, peer) = (node.pod("shop", "web")?, node.pod("obs", "peer")?);
    let mut programs = Programs::attach(&node)?;
    let sink = Peer::start(peer.place(), &["hole", "[::]:4318"])?;
    let to = SocketAddr::new(peer.ipv4.into(), sink.port);
    let container = pod.place().cgroup.clone().context("a cgroup")?;
    let own = container.parent().context("the pod's cgroup")?.to_owned();
    let burstable = own.parent().context("the class of service")?.to_owned();
    let all_pods = burstable.parent().context("kubepods.slice")?.to_owned();
    programs.settings(Settings { deny_ns: 60_000_000_000, ..Settings::default() })?;
    for cgroup in [&all_pods, &burstable] {
        programs.policy(cgroup, policy(MODE_BLOCK, EVERYWHERE, POLICY_GROUP))?;
    }
    programs.pulse(std::time::Duration::ZERO, true)?;
    let nested = pod.sub_cgroup("a/b/c/d/e/f")?;
    client(&nested, &["probe", &to.to_string(), "http1", "1"])?;
    ensure!(programs.denied_until(&own, to)?.is_some(), "denied for the pod");
    for other in [&container, &burstable, &all_pods] {
        ensure!(programs.denied_until(other, to)?.is_none(), "and not for {}", other.display());
    }
    Ok(())
}

#[test]
fn where_bytes_go_is_told_by_the_packet() -> Result<()> {
    let node = Node::new()?;
    let (pod, peer) = (node.pod("shop", "web")?, node.pod("obs", "peer")?);
    let service: (std::net::Ipv4Addr, std::net::Ipv6Addr) = ("10.96.0.7".parse()?, "fd00:10:96::7".parse()?);
    node.service(service.0, service.1, &peer, false)?;
    let mut programs = Programs::attach(&node)?;
    let sink = Peer::start(peer.place(), &["hole", "[::]:4318"])?;
    let inside = Peer::start(pod.place(), &["hole", "[::]:4318"])?;
    ensure!(inside.port == sink.port, "ports");
    let place = |programs: &mut Programs, address: IpAddr| -> Result<u32> {
        let target = SocketAddr::new(address, 4318).to_string();
        client(pod.place(), &["talk", &target, "http1"])?;
        let event = programs.event()?;
        ensure!(event.destination.ip() == address, "{event:?}");
        Ok(event.place)
    };
    let (v4, v6) = (IpAddr::from(peer.ipv4), IpAddr::from(peer.ipv6));
    for address in ["127.0.0.1", "127.8.9.1", "::1"] {
        ensure!(place(&mut programs, address.parse()?)? == PLACE_POD, "{address}");
    }
    for address in [v4, v6, service.0.into(), service.1.into()] {
        ensure!(place(&mut programs, address)? == PLACE_OUTSIDE, "{address}");
    }
    programs.place("10.0.0.0", 8, PLACE_CLUSTER)?;
    programs.place("fd00::", 16, PLACE_CLUSTER)?;
    for address in [v4, v6, service.0.into(), service.1.into()] {
        ensure!(place(&mut programs, address)? == PLACE_CLUSTER, "{address}");
    }
    programs.place(&v4.to_string(), 32, PLACE_NODE)?;
    programs.place(&v6.to_string(), 128, PLACE_NODE)?;
    for address in [v4, v6] {
        ensure!(place(&mut programs, address)? == PLACE_NODE, "the longest prefix: {address}");
    }
    for address in [v4, v6, service.0.into()] {
        programs.own(address)?;
        ensure!(place(&mut programs, address)? == PLACE_AGENT, "{address} is the agent's");
    }
    let ports = [4317, 4319, 0, 0, 0, 0, 0, 0];
    programs.settings(Settings { port_count: 2, ports, ..Settings::default() })?;
    ensure!(place(&mut programs, v4)? == PLACE_NODE, "the agent does not receive on that port");
    programs.settings(Settings {
        port_count: 3,
        ports: [1, 2, 4318, 0, 0, 0, 0, 0],
        ..Settings::default()
    })?;
    ensure!(place(&mut programs, v4)? == PLACE_AGENT, "it does now");
    Ok(())
}
