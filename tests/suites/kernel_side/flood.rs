//! One pod against all others: more connections than there is room for, and nothing of another's is lost.

#![forbid(unsafe_code)]

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use spanwarden_ebpf::abi::{MODE_OBSERVE, POLICY_GROUP, Settings};
use spanwarden_tests::{node::Node, process::Process};

use super::{
    policy::{EVERYWHERE, policy},
    programs::{CLIENT, PATIENCE, Peer, Programs, client},
};
use crate::server::{self, Server, at};

/// Connections of the flood, from two processes at once.
const FLOOD: u64 = 100_000;
const FLOODERS: u64 = 2;
/// Connections of the pod that must not suffer: below the default burst of findings.
const OTHERS: u64 = 90;
/// In which they come, while the flood goes on.
const ROUNDS: u64 = 5;

/// Findings and attribution of one pod while another opens 100,000 connections in plaintext.
#[test]
fn a_flood_of_100_000_connections_costs_another_pod_nothing() -> Result<()> {
    let node = Node::new()?;
    let agent = node.pod("spanwarden", "agent")?;
    let (flooder, web, peer) =
        (node.pod("batch", "flooder")?, node.pod("shop", "web")?, node.pod("obs", "peer")?);
    let mut server = Server::start(&node, &agent, &[flooder.clone(), web.clone()])?;
    let sinks = [
        Peer::start(peer.place(), &["hole", "[::]:4318"])?,
        Peer::start(peer.place(), &["hole", "[::]:4319"])?,
    ];
    let mut flood = Vec::new();
    for sink in &sinks {
        let target = SocketAddr::new(peer.ipv4.into(), sink.port).to_string();
        flood.push(flooder.spawn(CLIENT, &["flood", &target, "http1", &(FLOOD / FLOODERS).to_string()])?);
    }
    let drain = Peer::start(peer.place(), &["hole", "[::]:8080"])?;
    let plaintext = SocketAddr::new(peer.ipv4.into(), drain.port).to_string();
    for round in 0..ROUNDS {
        let count = OTHERS / ROUNDS;
        client(web.place(), &["flood", &plaintext, "http1", &count.to_string()])?;
        let first = (round * count).to_string();
        let arguments = ["stay", &web.uid, &at(agent.ipv4), &first, &count.to_string()];
        web.spawn(server::CLIENT, &arguments)?.wait_success(PATIENCE)?;
    }
    server.accept_right(OTHERS)?;
    let still_going =
        flood.iter_mut().map(|flooder| Ok(flooder.output().is_empty())).collect::<Result<Vec<_>>>()?;
    for flooder in &mut flood {
        flooder.wait_for_line("outcome flooded", PATIENCE)?;
    }
    ensure!(still_going.contains(&true), "the flood was over before the others were done: {still_going:?}");

    server.ask(&format!("findings {OTHERS}"))?;
    let findings = server.answer()?;
    let findings = findings.as_array().context("a list")?;
    let of = |uid: &str| findings.iter().filter(|finding| finding["pod_uid"] == uid).count() as u64;
    ensure!(of(&web.uid) == OTHERS, "{} of {OTHERS} findings of the other pod", of(&web.uid));
    ensure!(of(&flooder.uid) < FLOOD / 10, "{} findings of the flooder", of(&flooder.uid));
    server.ask("counters")?;
    let counters = server.answer()?;
    let counters = counters.as_str().context("text")?;
    let number = |name: &str| -> Result<u64> {
        let (_, rest) = counters.split_once(&format!(" {name}: ")).with_context(|| name.to_owned())?;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        Ok(digits.parse()?)
    };
    ensure!(number("seen")? == FLOOD + OTHERS, "{counters}");
    ensure!(
        number("seen")? == number("delivered")? + number("full")? + number("throttled")?,
        "they do not add up: {counters}"
    );
    ensure!(number("read")? == number("delivered")?, "{counters}");
    ensure!(number("throttled")? > FLOOD / 2, "{counters}");
    ensure!(number("joined")? >= OTHERS && number("store_failed")? == 0, "{counters}");
    Ok(())
}

/// The bucket of a pod is one, whatever it makes below its cgroup; and each pod has its own.
#[test]
fn findings_are_throttled_by_pod_and_all_are_accounted_for() -> Result<()> {
    const BURST: u64 = 20;
    const EACH: u64 = 500;
    let node = Node::new()?;
    let (flooder, web, peer) =
        (node.pod("batch", "flooder")?, node.pod("shop", "web")?, node.pod("obs", "peer")?);
    let mut programs = Programs::attach(&node)?;
    let sink = Peer::start(peer.place(), &["hole", "[::]:4318"])?;
    let target = SocketAddr::new(peer.ipv4.into(), sink.port).to_string();
    let container = web.place().cgroup.clone().context("a cgroup")?;
    for level in 2..=3 {
        let group = container.ancestors().nth(level).context("a group")?;
        programs.policy(group, policy(MODE_OBSERVE, EVERYWHERE, POLICY_GROUP))?;
    }
    // One more in an hour or so: the burst is all there is.
    let burst = u32::try_from(BURST)?;
    let slow = Settings { findings_per_second: 1, findings_burst: burst, ..Settings::default() };
    programs.settings(slow)?;
    let started = std::time::Instant::now();
    let mut flood = Vec::new();
    for number in 0..4 {
        let mut command = flooder.sub_cgroup(&format!("worker-{number}"))?.command(CLIENT)?;
        command.args(["flood", &target, "http1", &EACH.to_string()]);
        flood.push(Process::spawn("flooder", command)?);
    }
    for flooder in &mut flood {
        flooder.wait_success(PATIENCE)?;
    }
    let by_flood = programs.events()?.len() as u64;
    let more = started.elapsed().as_secs() + 1;
    // Two CPUs may each take the last token.
    ensure!((BURST..=BURST + more + 4).contains(&by_flood), "{by_flood} of {BURST} and {more}");
    for _ in 0..BURST {
        client(web.place(), &["talk", &target, "http1"])?;
    }
    let of_web = programs.events()?.len() as u64;
    ensure!(of_web == BURST, "{of_web} of the other pod's {BURST}");
    let sums = programs.reconcile()?;
    ensure!(sums["seen"] == 4 * EACH + BURST && sums["full"] == 0, "{sums:?}");
    ensure!(sums["delivered"] == by_flood + of_web, "{sums:?}");

    // No limit: what the ring has no room for is counted as such, and everything adds up.
    programs.settings(Settings::default())?;
    client(flooder.place(), &["flood", &target, "http1", "2000"])?;
    let sums = programs.reconcile()?;
    ensure!(sums["seen"] == 4 * EACH + BURST + 2000 && sums["full"] > 0, "{sums:?}");
    Ok(())
}
