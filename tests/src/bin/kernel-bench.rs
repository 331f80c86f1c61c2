//! What the kernel programs cost: per packet, per connection, and in requests a second.
//!
//! ```text
//! kernel-bench SECONDS                     everything; run by `cargo xtask bench kernel`
//! kernel-bench measure SECONDS ROOT        the same, in the cgroup and namespace made for it
//! kernel-bench peer                        the other ends of flows, outside of the watched cgroup
//! kernel-bench pair                        a server and its clients, for the load
//! ```
//!
//! Times of programs are the kernel's own run-time statistics (`BPF_ENABLE_STATS`), of many short rounds; a round's
//! packets also run an empty program at the same hook before ours and one after it, whose time (most of it the
//! statistics' own cost) is subtracted round by round; and one that only looks up the packet's socket, for comparison.
//! The load alternates between a server with its clients in the watched cgroup, a second one outside and a third one
//! with empty programs, with the statistics off; all are started anew several times, because where a process comes to lie in memory matters as much
//! as what is measured. Everything is in namespaces and in cgroups of the benchmark's own: the agent in
//! one namespace, all flows over the loopback device of another, as within a pod.

use std::{
    fs,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use aya::{
    maps::{MapFd, MapType, loaded_maps},
    programs::loaded_programs,
    sys::{Stats, enable_stats},
};
use nix::sched::{CloneFlags, unshare};
use spanwarden::origin::{
    NoPods,
    bpf::{KernelOrigins, Options},
};
use spanwarden_ebpf::abi::OTLP_PORTS;
use spanwarden_tests::{
    bpf::{Empty, Hook, programs},
    cgroup::{CgroupRoot, kubelet_path},
    cleanup,
    netns::Namespace,
    process::{Place, Process},
    requirements,
};

#[path = "kernel-bench/flows.rs"]
mod flows;
#[path = "kernel-bench/load.rs"]
mod load;
#[path = "kernel-bench/peer.rs"]
mod peer;
#[path = "kernel-bench/stats.rs"]
mod stats;

/// The cgroup that is watched, one beside it that is not, and one with empty programs.
const WATCHED: &str = "watched";
const UNWATCHED: &str = "unwatched";
const EMPTIED: &str = "emptied";

/// A port as servers have it: below those that clients get, by which the programs tell the two apart.
const SERVICE: u16 = 8_080;

/// How long a program may take to get ready or to answer.
const PATIENCE: Duration = Duration::from_mins(1);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["peer"] => peer::run(),
        ["pair"] => load::run(),
        ["measure", seconds, root] => measure(Duration::from_secs(seconds.parse()?), Path::new(root)),
        [seconds] => prepare(seconds),
        _ => bail!("usage: kernel-bench SECONDS"),
    }
}

/// Makes namespace and cgroups, and runs `measure` in them.
fn prepare(seconds: &str) -> Result<()> {
    let _: u32 = seconds.parse().context("usage: kernel-bench SECONDS")?;
    requirements::check()?;
    let root = CgroupRoot::new()?;
    let cgroup = root.make(pod(WATCHED))?;
    root.make(pod(UNWATCHED))?;
    root.make(pod(EMPTIED))?;
    let place = Place { netns: Some(Namespace::new()?), cgroup: Some(cgroup) };
    let mut command = place.command(std::env::current_exe()?)?;
    command.args(["measure", seconds]).arg(root.path());
    let status = command.status()?;
    cleanup::wait_if_interrupted();
    ensure!(status.success(), "the benchmark ended with {status}");
    Ok(())
}

/// The container's cgroup of a pod below `part`: as deep as the kubelet makes it, because the programs look at every
/// level.
fn pod(part: &str) -> PathBuf {
    Path::new(part).join(kubelet_path("5aa00001-7e57-4e57-8e57-000000000001", &"00000001".repeat(8)))
}

fn measure(seconds: Duration, root: &Path) -> Result<()> {
    machine()?;
    let watched = root.join(WATCHED);
    let options = Options::new(watched.clone(), std::sync::Arc::new(NoPods));
    let before = empty(&watched)?;
    // As the agent does: it tells the programs on which ports it receives.
    let kernel =
        KernelOrigins::attach(Options { ports: OTLP_PORTS.map(|port| port as u16).to_vec(), ..options })?;
    kernel.watch_findings(|_| {})?;
    elsewhere()?;
    let outside = Place { netns: None, cgroup: Some(root.join(pod(UNWATCHED))) };
    {
        let mut links = empty(&watched)?;
        let sockets = storage(&watched)?;
        let look_ups =
            [Hook::Egress, Hook::Ingress].map(|hook| Empty::look_up(hook, stats::LOOK_UP, sockets.as_fd()));
        for look_up in &look_ups {
            let look_up = look_up.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))?;
            links.push(look_up.link(&watched)?);
        }
        let statistics = enable_stats(Stats::RunTime).context("BPF_ENABLE_STATS")?;
        flows::packets(seconds, &watched, start("peer", &outside)?)?;
        flows::connections(seconds, &watched)?;
        drop((before, links, statistics));
    }
    let inside = Place { netns: None, cgroup: Some(root.join(pod(WATCHED))) };
    let beside = root.join(EMPTIED);
    let links = empty(&beside)?;
    let beside = Place { netns: None, cgroup: Some(root.join(pod(EMPTIED))) };
    load::compare(seconds, || {
        Ok([start("pair", &outside)?, start("pair", &beside)?, start("pair", &inside)?])
    })?;
    drop((kernel, links));
    Ok(())
}

/// Attaches an empty program to each hook.
fn empty(cgroup: &Path) -> Result<Vec<OwnedFd>> {
    Hook::ALL.iter().map(|hook| Empty::load(*hook, stats::EMPTY)?.link(cgroup)).collect()
}

/// Moves this thread, and what it starts, into a network namespace other than the one that the agent is in, as pods are.
fn elsewhere() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).context("a network namespace")?;
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().context("ip")?;
    ensure!(up.success(), "`ip link set lo up` ended with {up}");
    Ok(())
}

/// The map of socket storage that our egress program has.
fn storage(watched: &Path) -> Result<MapFd> {
    let ours: Vec<u32> = programs(watched, Hook::Egress)?;
    let infos: Vec<_> =
        loaded_programs().filter_map(Result::ok).filter(|info| ours.contains(&info.id())).collect();
    let mut maps = Vec::new();
    for info in infos {
        maps.extend(info.map_ids()?.unwrap_or_default());
    }
    let mut storages = loaded_maps()
        .filter_map(Result::ok)
        .filter(|map| maps.contains(&map.id()) && matches!(map.map_type(), Ok(MapType::SkStorage)));
    Ok(storages.next().context("the egress program has no socket storage")?.fd()?)
}

/// This program again, as something else.
fn start(role: &str, place: &Place) -> Result<Process> {
    let mut command = place.command(std::env::current_exe()?)?;
    command.arg(role);
    Process::spawn(role, command)
}

/// What the figures are of.
fn machine() -> Result<()> {
    let line = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned());
    let cpu = line("/proc/cpuinfo")?;
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    println!(
        "Linux {}, {} × {}, load average {}\n",
        line("/proc/sys/kernel/osrelease")?,
        std::thread::available_parallelism()?,
        model.trim_start_matches([' ', '\t', ':']),
        line("/proc/loadavg")?
    );
    Ok(())
}

/// The value in the middle, and those at a quarter and three quarters.
fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [1, 2, 3]
        .map(|quarter| values.get(values.len().saturating_sub(1) * quarter / 4).copied().unwrap_or(f64::NAN))
}

/// The value in the middle.
fn median(values: Vec<f64>) -> f64 {
    quartiles(values)[1]
}
