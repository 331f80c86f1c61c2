//! What the kernel programs cost: per packet, per connection, and in requests a second.
//!
//! ```text
//! kernel-bench SECONDS                     everything; run by `cargo xtask bench kernel`
//! kernel-bench measure SECONDS ROOT        the same, in the cgroup and namespace made for it
//! kernel-bench peer                        the other ends of flows, outside of the watched cgroup
//! kernel-bench pair CGROUP...              servers and their clients, for the load
//! kernel-bench load SECONDS ROOT           the load alone, in the cgroup and namespace made for it
//! kernel-bench SECONDS load                the same with all that it needs
//! ```
//!
//! Times of programs are the kernel's own run-time statistics (`BPF_ENABLE_STATS`), of many short rounds; a round's
//! packets also run an empty program at the same hook before ours and one after it, whose time (most of it the
//! statistics' own cost) is subtracted round by round; and one that only looks up the packet's socket, for comparison.
//! A load is one process (or a client and a server) with sockets in several cgroups: one without programs, some with
//! empty programs at one hook or several, and the one that is watched. Both ends of a connection are in the same cgroup,
//! so each packet meets both hooks of packets. Turns without and with alternate, with the statistics off. There are two
//! loads: one that takes hardly more than the kernel's time, and one of net/http and JSON. Everything is in namespaces
//! and in cgroups of the benchmark's own: the agent in one namespace, all flows over the loopback device of another, as
//! within a pod.

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
    cleanup, clients,
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
#[path = "kernel-bench/turns.rs"]
mod turns;

/// The cgroup that is watched, and one beside it that is not.
const WATCHED: &str = "watched";
const UNWATCHED: &str = "unwatched";

/// Cgroups with empty programs at these hooks, and what they are called.
const EMPTIED: [(&str, &str, &[Hook]); 5] = [
    ("egress", "an empty program at egress", &[Hook::Egress]),
    ("ingress", "an empty program at ingress", &[Hook::Ingress]),
    ("packets", "empty programs at both", &[Hook::Egress, Hook::Ingress]),
    ("events", "an empty program at sock_ops", &[Hook::SockOps]),
    ("emptied", "empty programs at all of our hooks", &Hook::ALL),
];

/// A port as servers have it: below those that clients get, by which the programs tell the two apart.
const SERVICE: u16 = 8_080;

/// How long a program may take to get ready or to answer.
const PATIENCE: Duration = Duration::from_mins(1);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["peer"] => peer::run(),
        ["pair", ref cgroups @ ..] => load::run(cgroups),
        ["measure", seconds, root] => measure(Duration::from_secs(seconds.parse()?), Path::new(root), true),
        ["load", seconds, root] => measure(Duration::from_secs(seconds.parse()?), Path::new(root), false),
        [seconds] => prepare(seconds, "measure"),
        [seconds, "load"] => prepare(seconds, "load"),
        _ => bail!("usage: kernel-bench SECONDS [load]"),
    }
}

/// Makes namespace and cgroups, and runs `what` in them.
fn prepare(seconds: &str, what: &str) -> Result<()> {
    let _: u32 = seconds.parse().context("usage: kernel-bench SECONDS [load]")?;
    requirements::check()?;
    let root = CgroupRoot::new()?;
    let cgroup = root.make(pod(WATCHED))?;
    root.make(pod(UNWATCHED))?;
    for (part, ..) in EMPTIED {
        root.make(pod(part))?;
    }
    let place = Place { netns: Some(Namespace::new()?), cgroup: Some(cgroup) };
    let mut command = place.command(std::env::current_exe()?)?;
    command.args([what, seconds]).arg(root.path());
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

fn measure(seconds: Duration, root: &Path, all: bool) -> Result<()> {
    machine()?;
    let watched = root.join(WATCHED);
    let options = Options::new(watched.clone(), std::sync::Arc::new(NoPods));
    let before = if all { empty(&watched, &Hook::ALL)? } else { Vec::new() };
    // As the agent does: it tells the programs on which ports it receives.
    let kernel =
        KernelOrigins::attach(Options { ports: OTLP_PORTS.map(|port| port as u16).to_vec(), ..options })?;
    kernel.watch_findings(|_| {})?;
    elsewhere()?;
    if all {
        programs_alone(seconds, root, before)?;
    }
    loads(seconds, root)?;
    drop(kernel);
    Ok(())
}

/// What the programs take by the kernel's statistics; `before` are the empty ones that run before ours.
fn programs_alone(seconds: Duration, root: &Path, before: Vec<OwnedFd>) -> Result<()> {
    let watched = root.join(WATCHED);
    let outside = Place { netns: None, cgroup: Some(root.join(pod(UNWATCHED))) };
    let mut links = empty(&watched, &Hook::ALL)?;
    let sockets = storage(&watched)?;
    for hook in [Hook::Egress, Hook::Ingress] {
        links.push(Empty::look_up(hook, stats::LOOK_UP, sockets.as_fd())?.link(&watched)?);
    }
    let statistics = enable_stats(Stats::RunTime).context("BPF_ENABLE_STATS")?;
    flows::packets(seconds, &watched, start("peer", &outside)?)?;
    flows::connections(seconds, &watched)?;
    flows::load(seconds, &watched, pair(&[root.join(pod(WATCHED))])?)?;
    drop((before, links, statistics));
    Ok(())
}

/// What a load pays for the programs.
fn loads(seconds: Duration, root: &Path) -> Result<()> {
    let mut links = Vec::new();
    for (part, _, hooks) in EMPTIED {
        links.push(empty(&root.join(part), hooks)?);
    }
    let parts = [UNWATCHED].into_iter().chain(EMPTIED.map(|(part, ..)| part)).chain([WATCHED]);
    let cgroups: Vec<PathBuf> = parts.map(|part| root.join(pod(part))).collect();
    let sides: Vec<&str> =
        ["no program"].into_iter().chain(EMPTIED.map(|(_, name, _)| name)).chain(["ours"]).collect();
    let bare = turns::Load {
        name: "a load of the kernel alone, 2 clients",
        sides: &sides,
        turn: Duration::from_millis(30),
    };
    turns::compare(&bare, seconds * 2, || pair(&cgroups))?;
    let go = clients::go_load()?;
    // The last two with programs: all hooks empty, and ours.
    let picked = |all: usize| [0, all - 2, all - 1];
    let real = turns::Load {
        name: "net/http and 1 KiB of JSON, 2 clients on one processor",
        sides: &picked(sides.len()).map(|at| sides[at]),
        turn: Duration::from_millis(100),
    };
    let cgroups = picked(cgroups.len()).map(|at| &cgroups[at]);
    turns::compare(&real, seconds * 2, || {
        let mut command = first();
        command.args(["taskset", "--cpu-list", &load::processor()?.to_string()]);
        command.arg(&go.program).args(cgroups);
        Process::spawn("net/http", command)
    })?;
    drop(links);
    Ok(())
}

/// The load that this program is itself, with sockets in these cgroups.
fn pair(cgroups: &[PathBuf]) -> Result<Process> {
    let mut command = first();
    command.arg(std::env::current_exe()?).arg("pair").args(cgroups);
    Process::spawn("pair", command)
}

/// Runs what its arguments say before whatever else the machine has to do.
fn first() -> Command {
    let mut command = Command::new("nice");
    command.args(["-n", "-15"]);
    command
}

/// Attaches an empty program to each of these hooks.
fn empty(cgroup: &Path, hooks: &[Hook]) -> Result<Vec<OwnedFd>> {
    hooks.iter().map(|hook| Empty::load(*hook, stats::EMPTY)?.link(cgroup)).collect()
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
