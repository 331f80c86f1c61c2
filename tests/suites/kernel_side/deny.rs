//! Stopped: the packet, the connections that follow, and when not.

#![forbid(unsafe_code)]

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use spanwarden_ebpf::abi::{
    FLAG_BLOCKED, FLAG_NOT_ENFORCED, MODE_BLOCK, MODE_OBSERVE, PLACE_OUTSIDE, PULSE_TIMEOUT_NS, Settings,
    counter,
};
use spanwarden_tests::{
    node::{Node, Pod},
    process::Process,
};

use super::{
    policy::{EVERYWHERE, policy},
    programs::{CLIENT, PATIENCE, Peer, Programs, boot_ns, client, eventually},
};

/// How long an answer may take that does not come.
const SILENCE: &str = "400";
const EPERM: &str = "refused 1";

/// A pod's own cgroup, in which its containers' are.
fn cgroup(pod: &Pod) -> Result<&std::path::Path> {
    pod.place().cgroup.as_deref().and_then(std::path::Path::parent).context("the pod's cgroup")
}

fn settings(deny: Duration) -> Result<Settings> {
    Ok(Settings { deny_ns: u64::try_from(deny.as_nanos())?, ..Settings::default() })
}

#[test]
fn a_blocked_connection_is_silent_and_the_next_is_refused_for_a_while() -> Result<()> {
    let node = Node::new()?;
    let (pod, other) = (node.pod("shop", "web")?, node.pod("shop", "other")?);
    let peer = node.pod("obs", "peer")?;
    let mut programs = Programs::attach(&node)?;
    let mut sink = Peer::start(peer.place(), &["sink", "[::]:4318"])?;
    let second = Peer::start(peer.place(), &["echo", "[::]:4319"])?;
    for pod in [&pod, &other] {
        programs.policy(cgroup(pod)?, policy(MODE_BLOCK, 1 << PLACE_OUTSIDE, 0))?;
    }
    for address in [IpAddr::from(peer.ipv4), IpAddr::from(peer.ipv6)] {
        let to = SocketAddr::new(address, sink.port);
        let target = to.to_string();
        // Longer than the test is given to reach the end of the refusals.
        programs.settings(settings(Duration::from_hours(1))?)?;
        programs.pulse(Duration::ZERO, true)?;
        let said = client(pod.place(), &["probe", &target, "http1", SILENCE])?;
        ensure!(said.outcome == "silent", "{}", said.outcome);
        let event = programs.event()?;
        ensure!(
            event.flags == FLAG_BLOCKED && event.mode == MODE_BLOCK && event.tgid == said.pid,
            "{event:?}"
        );
        ensure!(sink.got()? == 0, "not one byte reaches the peer");

        let denied = programs.counter(counter::DENIED)?;
        for (attempt, target) in [(1, target.clone()), (2, mapped(to))] {
            programs.pulse(Duration::ZERO, true)?;
            let said = client(pod.place(), &["talk", &target, "http1"])?;
            ensure!(said.outcome == EPERM, "to {target}: {}", said.outcome);
            ensure!(programs.counter(counter::DENIED)? == denied + attempt, "counted");
        }
        ensure!(programs.events()?.is_empty(), "what does not connect is not found");
        // Another port of the same destination, and another pod.
        let elsewhere = SocketAddr::new(address, second.port).to_string();
        let said = client(pod.place(), &["probe", &elsewhere, "http1-get", "10000"])?;
        ensure!(said.outcome == "answered", "to another port: {}", said.outcome);
        programs.pulse(Duration::ZERO, true)?;
        let said = client(other.place(), &["talk", &target, "http1-get"])?;
        ensure!(said.outcome == "sent", "of another pod: {}", said.outcome);
        ensure!(sink.got()? > 0, "of another pod");
        // No sign of life, the kill switch, another policy: nothing is refused.
        let age = Duration::from_nanos(PULSE_TIMEOUT_NS) + Duration::from_millis(1);
        for (age, enforce, mode) in [
            (age, true, MODE_BLOCK),
            (Duration::ZERO, false, MODE_BLOCK),
            (Duration::ZERO, true, MODE_OBSERVE),
        ] {
            programs.policy(cgroup(&pod)?, policy(mode, EVERYWHERE, 0))?;
            programs.pulse(age, enforce)?;
            let said = client(pod.place(), &["talk", &target, "http1-get"])?;
            ensure!(said.outcome == "sent", "{age:?}, {enforce}, mode {mode}: {}", said.outcome);
            ensure!(sink.got()? > 0, "{age:?}, {enforce}, mode {mode}");
        }
        programs.policy(cgroup(&pod)?, policy(MODE_BLOCK, EVERYWHERE, 0))?;
    }
    ensure!(programs.counter(counter::BLOCKED)? == 2, "blocked");
    ensure!(programs.counter(counter::DROPPED)? >= 2, "dropped");
    programs.reconcile()?;
    Ok(())
}

/// IPv4 from an IPv6 socket.
fn mapped(to: SocketAddr) -> String {
    match to.ip() {
        IpAddr::V4(v4) => SocketAddr::new(v4.to_ipv6_mapped().into(), to.port()).to_string(),
        IpAddr::V6(_) => to.to_string(),
    }
}

#[test]
fn a_refusal_ends_by_itself() -> Result<()> {
    let node = Node::new()?;
    let (pod, peer) = (node.pod("shop", "web")?, node.pod("obs", "peer")?);
    let mut programs = Programs::attach(&node)?;
    let sink = Peer::start(peer.place(), &["hole", "[::]:4318"])?;
    let to = SocketAddr::new(peer.ipv4.into(), sink.port);
    programs.policy(cgroup(&pod)?, policy(MODE_BLOCK, EVERYWHERE, 0))?;
    programs.settings(settings(Duration::from_secs(2))?)?;
    let before = boot_ns()?;
    programs.pulse(Duration::ZERO, true)?;
    client(pod.place(), &["probe", &to.to_string(), "http1", "1"])?;
    let until = programs.denied_until(cgroup(&pod)?, to)?.context("denied")?;
    ensure!((before + 2_000_000_000..=boot_ns()? + 2_000_000_000).contains(&until), "until {until}");
    eventually("the refusal ends", || {
        programs.pulse(Duration::ZERO, true)?;
        let now = boot_ns()?;
        let said = client(pod.place(), &["talk", &to.to_string(), "http1-get"])?;
        ensure!(said.outcome == "sent" || now < until, "refused at {now}, until {until}");
        Ok(said.outcome == "sent")
    })?;
    // 0: not refused at all.
    programs.settings(settings(Duration::ZERO)?)?;
    programs.pulse(Duration::ZERO, true)?;
    let target = SocketAddr::new(peer.ipv6.into(), sink.port);
    client(pod.place(), &["probe", &target.to_string(), "http1", "1"])?;
    ensure!(programs.denied_until(cgroup(&pod)?, target)?.is_none(), "no refusal without a time for it");
    Ok(())
}

#[test]
fn what_is_not_to_be_enforced_passes_and_is_said() -> Result<()> {
    let node = Node::new()?;
    let (pod, peer) = (node.pod("shop", "web")?, node.pod("obs", "peer")?);
    let mut programs = Programs::attach(&node)?;
    let mut sink = Peer::start(peer.place(), &["sink", "[::]:4318"])?;
    let target = SocketAddr::new(peer.ipv4.into(), sink.port).to_string();
    programs.policy(cgroup(&pod)?, policy(MODE_BLOCK, EVERYWHERE, 0))?;
    programs.settings(settings(Duration::from_hours(1))?)?;
    let age = Duration::from_nanos(PULSE_TIMEOUT_NS) + Duration::from_millis(1);
    // User space has never been there; it is dead; the kill switch.
    for (number, pulse) in [None, Some((age, true)), Some((Duration::ZERO, false))].into_iter().enumerate() {
        if let Some((age, enforce)) = pulse {
            programs.pulse(age, enforce)?;
        }
        client(pod.place(), &["talk", &target, "http1"])?;
        ensure!(sink.got()? > 0, "{pulse:?}");
        let event = programs.event()?;
        ensure!(event.flags == FLAG_NOT_ENFORCED && event.mode == MODE_BLOCK, "{pulse:?}: {event:?}");
        ensure!(programs.counter(counter::NOT_ENFORCED)? == number as u64 + 1, "counted");
    }
    ensure!(
        programs.counter(counter::BLOCKED)? == 0 && programs.counter(counter::DROPPED)? == 0,
        "nothing else"
    );

    // A port alone is no proof, in whatever mode.
    programs.pulse(Duration::ZERO, true)?;
    let otlp = Peer::start(peer.place(), &["echo", "[::]:4317"])?;
    let target = SocketAddr::new(peer.ipv4.into(), otlp.port).to_string();
    let said = client(pod.place(), &["probe", &target, "h2c", "10000"])?;
    ensure!(said.outcome == "answered", "{}", said.outcome);
    Ok(())
}

#[test]
fn the_agent_itself_is_never_stopped() -> Result<()> {
    let node = Node::new()?;
    let (pod, peer) = (node.pod("spanwarden", "agent")?, node.pod("obs", "peer")?);
    let mut programs = Programs::attach(&node)?;
    let mut sink = Peer::start(peer.place(), &["sink", "[::]:4318"])?;
    let target = SocketAddr::new(peer.ipv4.into(), sink.port).to_string();
    programs.policy(cgroup(&pod)?, policy(MODE_BLOCK, EVERYWHERE, 0))?;
    let mut command = pod.command(CLIENT)?;
    command.args(["await", &target, "http1"]);
    let mut agent = Process::spawn("agent", command)?;
    let deny = settings(Duration::from_hours(1))?;
    programs.settings(Settings { agent_tgid: agent.id(), ..deny })?;
    programs.pulse(Duration::ZERO, true)?;
    agent.say("go")?;
    let line = agent.wait_for_line("outcome ", PATIENCE)?;
    ensure!(line == "outcome sent", "{line}");
    ensure!(sink.got()? > 0, "it is received");
    let event = programs.event()?;
    ensure!(event.flags == 0 && event.mode == MODE_BLOCK, "{event:?}");
    Ok(())
}
