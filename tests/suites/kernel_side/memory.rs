//! The memory of failed TLS connections under pressure. What it remembers of real clients is the suite of fallback's
//! matter.

#![forbid(unsafe_code)]

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use spanwarden_ebpf::abi::{
    ATTEMPTS, ATTEMPTS_BURST, KIND_FALLBACK, KIND_PLAINTEXT, MODE_OBSERVE, POLICY_GROUP, Settings, counter,
};
use spanwarden_tests::node::Node;

use super::{
    policy::{EVERYWHERE, policy},
    programs::{Peer, Programs, client},
};

/// More destinations than the memory has entries, each failing once.
#[test]
fn one_pod_s_failures_do_not_push_out_another_s() -> Result<()> {
    let node = Node::new()?;
    let (pod, peer) = (node.pod("shop", "web")?, node.pod("obs", "peer")?);
    let attacker = node.pod("batch", "attacker")?;
    let mut programs = Programs::attach(&node)?;
    let container = pod.place().cgroup.clone().context("a cgroup")?;
    for level in 2..=3 {
        let group = container.ancestors().nth(level).context("a group")?;
        programs.policy(group, policy(MODE_OBSERVE, EVERYWHERE, POLICY_GROUP))?;
    }
    let minute = Settings { fallback_window_ns: 60_000_000_000, ..Settings::default() };
    programs.settings(minute)?;
    let sink = Peer::start(peer.place(), &["hole", "[::]:4318"])?;
    let target = SocketAddr::new(peer.ipv4.into(), sink.port).to_string();
    client(pod.place(), &["talk", &target, "http1"])?;
    ensure!(programs.event()?.kind == KIND_PLAINTEXT, "nothing has failed yet");
    let tls = client(pod.place(), &["probe", &target, "tls", "10000"])?;

    let hole = Peer::start(attacker.place(), &["hole", "0.0.0.0:7000"])?;
    let count = ATTEMPTS + ATTEMPTS / 4;
    // Sub-cgroups have a memory of their own and no budget of their own.
    for number in 0..2 {
        let place = attacker.sub_cgroup(&format!("worker-{number}"))?;
        let said = client(&place, &["churn", &hole.port.to_string(), &(count / 2).to_string()])?;
        ensure!(said.outcome == format!("churned {}", count / 2), "{}", said.outcome);
    }
    let (failed, forgotten) =
        (programs.counter(counter::TLS_FAILED)?, programs.counter(counter::TLS_FORGOTTEN)?);
    // A close and a reset that cross each other on two CPUs may both end the watch.
    let all = count as u64 + 1;
    ensure!((all..=all + all / 100).contains(&failed), "{failed} of {count} and one failed");
    let remembered = failed - forgotten - 1;
    ensure!(
        remembered >= u64::from(ATTEMPTS_BURST) && remembered < ATTEMPTS as u64 / 8,
        "{remembered} of the attacker's {count} are remembered"
    );

    client(pod.place(), &["talk", &target, "http1"])?;
    let event = programs.event()?;
    ensure!(event.kind == KIND_FALLBACK && event.tls_tgid == tls.pid && event.tls_weak == 0, "{event:?}");
    // The same port elsewhere, and then the window's end.
    let other = SocketAddr::new(peer.ipv6.into(), sink.port).to_string();
    client(pod.place(), &["talk", &other, "http1"])?;
    let event = programs.event()?;
    ensure!(event.kind == KIND_FALLBACK && event.tls_tgid == tls.pid && event.tls_weak == 1, "{event:?}");
    programs.settings(Settings { fallback_window_ns: 1, ..minute })?;
    client(pod.place(), &["talk", &target, "http1"])?;
    ensure!(programs.event()?.kind == KIND_PLAINTEXT, "after the window");
    programs.settings(Settings { fallback_window_ns: 0, ..minute })?;
    client(pod.place(), &["talk", &target, "http1"])?;
    ensure!(programs.event()?.kind == KIND_PLAINTEXT, "without a window");
    Ok(())
}
