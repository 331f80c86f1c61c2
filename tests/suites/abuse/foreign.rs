//! Programs of others on the same hooks, attached as inconsiderate owners do it (`BPF_PROG_ATTACH`, without a link).

#![forbid(unsafe_code)]

use std::{net::SocketAddr, path::Path};

use anyhow::{Context, Result, ensure};
use spanwarden_tests::{
    bpf::{Empty, Hook, Mode},
    node::Node,
};

use crate::programs::{Peer, Programs, client};

#[test]
fn whoever_attaches_beside_or_below_changes_nothing() -> Result<()> {
    let node = Node::new()?;
    let (pod, peer) = (node.pod("shop", "web")?, node.pod("obs", "peer")?);
    let mut programs = Programs::attach(&node)?;
    let sink = Peer::start(peer.place(), &["hole", "[::]:4318"])?;
    let target = SocketAddr::new(peer.ipv4.into(), sink.port).to_string();
    let mut found = |case: &str| -> Result<()> {
        let said = client(pod.place(), &["talk", &target, "http1"])?;
        let event = programs.event().with_context(|| case.to_owned())?;
        ensure!(said.outcome == "sent" && event.tgid == said.pid, "{case}: {event:?}");
        Ok(())
    };
    let root = node.cgroups().path();
    let container = pod.place().cgroup.clone().context("a cgroup")?;
    for (place, mode) in [
        (root, Mode::Multi),
        (&container, Mode::Multi),
        // What the owner of a delegated cgroup might try: a program that runs instead of those above.
        (&container, Mode::Override),
        (&container, Mode::Exclusive),
    ] {
        let case = format!("{mode:?} at {}", place.display());
        let theirs = everywhere(place, mode).with_context(|| case.clone())?;
        found(&format!("beside {case}"))?;
        drop(theirs);
        found(&format!("after {case}"))?;
    }
    for mode in [Mode::Override, Mode::Exclusive] {
        ensure!(everywhere(root, mode).is_err(), "{mode:?} where ours are");
        found(&format!("after {mode:?} was refused"))?;
    }
    Ok(())
}

/// Somebody else's program at each of our hooks.
fn everywhere(cgroup: &Path, mode: Mode) -> Result<Vec<spanwarden_tests::bpf::Foreign>> {
    Hook::ALL.into_iter().map(|hook| Empty::load(hook, "theirs")?.attach(cgroup, mode)).collect()
}
