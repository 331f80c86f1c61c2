//! Ports, pids and descriptors that somebody else had before.

#![forbid(unsafe_code)]

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use spanwarden_ebpf::abi::PROOF_PATH;
use spanwarden_tests::node::{Node, Pod};

use crate::{
    programs::{self, PATIENCE, Peer, Programs, client},
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

/// Whoever writes: the evidence is of who has opened the connection. That is documented; a process can always let
/// others speak in its name.
#[test]
fn a_connection_in_other_hands_is_its_opener_s() -> Result<()> {
    let node = Node::new()?;
    let agent = node.pod("spanwarden", "agent")?;
    let (opener, speaker) = (node.pod("shop", "opener")?, node.pod("batch", "speaker")?);
    let mut server = Server::start(&node, &agent, &[opener.clone(), speaker.clone()])?;
    let cgroup = speaker.place().cgroup.clone().context("a cgroup")?;
    for (id, how) in ["fork", "pidfd"].into_iter().enumerate() {
        let arguments =
            ["heir", how, &cgroup.display().to_string(), &at(agent.ipv4), &opener.uid, &id.to_string()];
        let said = client(opener.place(), &arguments)?;
        ensure!(said.outcome == "said", "{how}: {}", said.outcome);
        let report = server.accept_right(1).with_context(|| how.to_owned())?;
        ensure!(report["connections"][0]["pod_uid"] == json!(opener.uid), "{how}: {report:#}");
    }
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
