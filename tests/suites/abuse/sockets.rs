//! Ports, pids and descriptors that somebody else had before.

#![forbid(unsafe_code)]

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use spanwarden_ebpf::abi::PROOF_PATH;
use spanwarden_tests::{
    agent::Directory,
    node::{Node, Pod},
};

use crate::{
    programs::{self, PATIENCE, Peer, Programs, cgroup_id, client},
    server::{CLIENT, Server, at},
};

fn pod_client(pod: &Pod, arguments: &[&str]) -> Result<u32> {
    let mut client = pod.spawn(CLIENT, arguments)?;
    client.wait_success(PATIENCE)?;
    Ok(client.id())
}

/// Two pods in one network namespace: the second takes the first one's port as soon as that is closed.
#[test]
fn a_port_that_was_another_s_a_moment_ago() -> Result<()> {
    let node = Node::new()?;
    let (agent, web) = (node.pod("spanwarden", "agent")?, node.pod("shop", "web")?);
    let sidecar = node.pod_in_network_of(&web, "shop", "sidecar")?;
    let mut server = Server::start(&node, &agent, &[web.clone(), sidecar.clone()])?;
    let source = SocketAddr::new(web.ipv4.into(), 41_000).to_string();
    for (id, pod) in [&web, &sidecar, &web, &sidecar].into_iter().enumerate() {
        let mut holder =
            pod.spawn(programs::CLIENT, &["claim", &source, &at(agent.ipv4), &pod.uid, &id.to_string()])?;
        holder.wait_for_line("open", PATIENCE)?;
        let report = server.accept_right(1)?;
        drop(holder);
        let connection = &report["connections"][0];
        ensure!(connection["peer"] == json!(source), "{connection:#}");
        ensure!(connection["pod_uid"] == json!(pod.uid), "{connection:#}");
    }
    Ok(())
}

/// The process that connected is gone, and its id belongs to a process of another pod when the agent looks.
#[test]
fn a_process_id_that_another_pod_has_now() -> Result<()> {
    let node = Node::new()?;
    let agent = node.pod("spanwarden", "agent")?;
    let (web, thief) = (node.pod("shop", "web")?, node.pod("batch", "thief")?);
    let mut server = Server::start(&node, &agent, &[web.clone(), thief.clone()])?;
    let pid = pod_client(&web, &["stay", &web.uid, &at(agent.ipv4), "1", "1"])?;
    let mut heir = thief.spawn(programs::CLIENT, &["as-pid", &pid.to_string()])?;
    heir.wait_for_line("ready ", PATIENCE)?;
    let cgroup = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    ensure!(cgroup.contains(&thief.container_id), "{pid} is the thief's: {cgroup}");
    let report = server.accept_right(1)?;
    ensure!(report["gone"] == json!(0), "the process id is in use: {report:#}");
    ensure!(report["connections"][0]["container_id"] == json!(web.container_id), "{report:#}");
    Ok(())
}

/// How a connection may come into the hands of a process in another pod: by a fork that moves there, by
/// `pidfd_getfd(2)`, by `SCM_RIGHTS` of unix(7).
const WAYS: [&str; 3] = ["fork", "pidfd", "passed"];

/// `opener` connects to `target`, `speaker` says the words. The opener's process id.
fn in_other_hands(
    how: &str,
    (opener, speaker): (&Pod, &Pod),
    target: SocketAddr,
    words: &[&str],
) -> Result<u32> {
    let target = target.to_string();
    if how != "passed" {
        let cgroup = speaker.place().cgroup.clone().context("a cgroup")?.display().to_string();
        let said = client(opener.place(), &[&["heir", how, &cgroup, &target], words].concat())?;
        ensure!(said.outcome == "said", "{how}: {}", said.outcome);
        return Ok(said.pid);
    }
    let (taker, giver) = passed("connected", (opener, speaker), &target, words)?;
    ensure!(taker != giver, "one process");
    Ok(giver)
}

/// Passes a socket; the process ids of who has taken it and who has given it.
fn passed(state: &str, (giver, taker): (&Pod, &Pod), target: &str, words: &[&str]) -> Result<(u32, u32)> {
    let files = Directory::new()?;
    let path = files.path().join("socket").display().to_string();
    let late = if state == "connected" { &[][..] } else { &[target] };
    let mut take = taker.spawn(programs::CLIENT, &[&["take", &path], late].concat())?;
    take.wait_for_line("ready ", PATIENCE)?;
    let said = client(giver.place(), &[&["give", state, &path, target], words].concat())?;
    take.wait_for_line("outcome said", PATIENCE)?;
    ensure!(said.outcome == "given", "{}", said.outcome);
    Ok((take.id(), said.pid))
}

/// Whoever writes: the evidence is of who has opened the connection. That is documented; a process can always let
/// others speak in its name.
#[test]
fn a_connection_in_other_hands_is_its_opener_s() -> Result<()> {
    let node = Node::new()?;
    let agent = node.pod("spanwarden", "agent")?;
    let (opener, speaker) = (node.pod("shop", "opener")?, node.pod("batch", "speaker")?);
    let mut server = Server::start(&node, &agent, &[opener.clone(), speaker.clone()])?;
    let target = at(agent.ipv4).parse()?;
    for (id, how) in WAYS.into_iter().enumerate() {
        let words = ["line", &opener.uid, &id.to_string()];
        in_other_hands(how, (&opener, &speaker), target, &words)?;
        let report = server.accept_right(1).with_context(|| how.to_owned())?;
        ensure!(report["connections"][0]["pod_uid"] == json!(opener.uid), "{how}: {report:#}");
    }
    Ok(())
}

/// The same of what is found, also where the other pod's own plaintext would be let through.
#[test]
fn what_is_found_in_other_hands_is_its_opener_s() -> Result<()> {
    let node = Node::new()?;
    let (opener, speaker) = (node.pod("shop", "opener")?, node.pod("batch", "speaker")?);
    let peer = node.pod("obs", "peer")?;
    let mut programs = Programs::attach(&node)?;
    let sink = Peer::start(peer.place(), &["hole", "[::]:4318"])?;
    let target = SocketAddr::new(peer.ipv4.into(), sink.port);
    let group = |pod: &Pod| cgroup_id(pod.place().cgroup.as_deref().context("a cgroup")?);
    for how in WAYS {
        let pid = in_other_hands(how, (&opener, &speaker), target, &["payload", "http1"])?;
        let event = programs.event().with_context(|| how.to_owned())?;
        ensure!((event.tgid, event.cgroup_id) == (pid, group(&opener)?), "{how}, by {pid}: {event:?}");
    }
    // The opener is who connects, wherever the socket came from.
    let (taker, _) = passed("unconnected", (&opener, &speaker), &target.to_string(), &["payload", "http1"])?;
    let event = programs.event().context("a socket that was passed before it was connected")?;
    ensure!((event.tgid, event.cgroup_id) == (taker, group(&speaker)?), "by {taker}: {event:?}");
    Ok(())
}

/// One socket, connected again: nothing of what it was before hides what it is now.
#[test]
fn a_socket_that_connects_again_starts_again() -> Result<()> {
    let node = Node::new()?;
    let (pod, peer) = (node.pod("shop", "web")?, node.pod("obs", "peer")?);
    let mut programs = Programs::attach(&node)?;
    let (first, second) = (
        Peer::start(peer.place(), &["echo", "[::]:8080"])?,
        Peer::start(peer.place(), &["hole", "[::]:8081"])?,
    );
    let one = SocketAddr::new(peer.ipv4.into(), first.port);
    let two = SocketAddr::new(peer.ipv4.into(), second.port);
    for before in ["http1-get", "binary", "tls", "http1"] {
        let arguments = ["again", &one.to_string(), before, &two.to_string(), "http1"];
        let said = client(pod.place(), &arguments)?;
        ensure!(said.outcome == "sent", "{before}: {}", said.outcome);
        let events = programs.events()?;
        let last = events.last().with_context(|| format!("nothing is found after {before}"))?;
        ensure!(last.remote == two && last.destination == two, "{before}: {events:#?}");
        ensure!(last.proof == PROOF_PATH && last.tgid == said.pid, "{before}: {events:#?}");
        ensure!(events.len() == 1 + usize::from(before == "http1"), "{before}: {events:#?}");
    }
    Ok(())
}
