//! What a process does to be taken for somebody else, or for nobody; and that the comparison notices.

use std::{net::Ipv4Addr, path::Path};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use spanwarden_tests::{
    node::Node,
    process::{Place, Process},
};

use super::server::{CLIENT, PATIENCE, Server, at};

fn one_connection(place: &Place, arguments: &[&str]) -> Result<()> {
    let mut command = place.command(CLIENT)?;
    command.args(arguments);
    Process::spawn("pod-client", command)?.wait_success(PATIENCE)
}

#[test]
fn names_of_sub_cgroups_change_nothing() -> Result<()> {
    let node = Node::new()?;
    let (agent, victim, thief) =
        (node.pod("spanwarden", "agent")?, node.pod("shop", "victim")?, node.pod("shop", "thief")?);
    let mut server = Server::start(&node, &agent, &[victim.clone(), thief.clone()])?;
    let (uid, id) = (victim.uid.replace('-', "_"), &victim.container_id);
    let target = at(agent.ipv4);
    let forged = [
        format!("cri-containerd-{id}.scope"),
        format!("kubepods.slice/kubepods-pod{uid}.slice/cri-containerd-{id}.scope"),
        format!(
            "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{uid}.slice/cri-containerd-{id}.scope"
        ),
        format!("kubepods/burstable/pod{}/{id}", victim.uid),
        format!("system.slice/containerd.service/kubepods-burstable-pod{uid}.slice:cri-containerd:{id}"),
        format!("crio-conmon-{id}.scope"),
        // Deeper than the ancestors that the kernel's record has room for.
        format!("a/b/c/d/e/f/g/h/kubepods.slice/kubepods-pod{uid}.slice/cri-containerd-{id}.scope"),
    ];
    for (number, name) in forged.iter().enumerate() {
        let place = thief.sub_cgroup(name)?;
        // What must come out is the thief's own uid; the client says it, and the server compares.
        one_connection(&place, &["stay", &thief.uid, &target, &number.to_string(), "1"])?;
        let report = server.accept_right(1).with_context(|| name.clone())?;
        let connection = &report["connections"][0];
        ensure!(connection["container_id"] == json!(thief.container_id), "{name}: {connection:#}");
    }
    Ok(())
}

#[test]
fn a_cgroup_that_is_gone_still_names_its_pod() -> Result<()> {
    let node = Node::new()?;
    let (agent, pod) = (node.pod("spanwarden", "agent")?, node.pod("shop", "job")?);
    let mut server = Server::start(&node, &agent, std::slice::from_ref(&pod))?;
    let target = at(agent.ipv4);
    // Only the innermost: what a container's own process manager makes and removes.
    let leaf = pod.sub_cgroup("worker.scope")?;
    one_connection(&leaf, &["stay", &pod.uid, &target, "1", "1"])?;
    std::fs::remove_dir(leaf.cgroup.as_deref().context("a cgroup")?)?;
    let report = server.accept_right(1)?;
    ensure!(report["connections"][0]["container_id"] == json!(pod.container_id), "{report:#}");
    // The container's as well: a job that has ended, its pod not yet removed.
    one_connection(pod.place(), &["stay", &pod.uid, &target, "2", "1"])?;
    std::fs::remove_dir(pod.place().cgroup.as_deref().map(Path::new).context("a cgroup")?)?;
    server.accept_right(1)?;
    Ok(())
}

/// Three connections that are not what the first line claims: the tally must say so, or it proves nothing.
#[test]
fn evidence_is_never_more_than_what_was_seen() -> Result<()> {
    let node = Node::new()?;
    let (agent, web, other) =
        (node.pod("spanwarden", "agent")?, node.pod("shop", "web")?, node.pod("shop", "other")?);
    let relay = Ipv4Addr::new(10, 96, 0, 99);
    node.service(relay, "fd00:10:96::99".parse()?, &agent, false)?;
    let mut server = Server::start(&node, &agent, &[web.clone(), other.clone()])?;
    let mut connect = |place: &Place, uid: &str, target: &str| {
        one_connection(place, &["stay", uid, target, "1", "1"])?;
        server.ask("accept 1")?;
        server.answer()
    };
    let target = at(agent.ipv4);

    // A client that says it is in another pod.
    let report = connect(web.place(), &other.uid, &target)?;
    ensure!(report["wrong"] == json!(1) && report["right"] == json!(0), "{report:#}");
    ensure!(report["connections"][0]["pod_uid"] == json!(web.uid), "{report:#}");

    // One that no program watches: its address is all there is.
    let unwatched = Place { netns: web.place().netns.clone(), cgroup: None };
    let report = connect(&unwatched, &web.uid, &target)?;
    ensure!(report["missing"] == json!(1), "{report:#}");
    ensure!(report["connections"][0]["evidence"] == json!("address"), "{report:#}");

    // One that wanted to reach an address which is not known as the agent's, and was brought here.
    let report = connect(web.place(), &web.uid, &at(relay))?;
    ensure!(report["missing"] == json!(1), "{report:#}");
    ensure!(report["connections"][0]["evidence"] == json!("conflict"), "{report:#}");
    ensure!(report["connections"][0]["pod_uid"] == json!(null), "{report:#}");
    Ok(())
}
