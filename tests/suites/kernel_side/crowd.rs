//! More handshakes under way than there is room for.

#![forbid(unsafe_code)]

use std::{
    fs,
    mem::size_of,
    net::{IpAddr, SocketAddr},
};

use anyhow::{Context, Result, ensure};
use aya::{
    maps::{HashMap, Map, MapData, MapInfo},
    programs::loaded_programs,
};
use serde_json::json;
use spanwarden_ebpf::abi::{JOIN_ENTRIES, OriginRecord};
use spanwarden_tests::node::{Node, Pod};

use super::programs::{CLIENT, PATIENCE};
use crate::server::{self, Server, at};

/// Connections of a process of the crowd: below the usual limit of open files.
const EACH: u16 = 15_000;
/// Processes over IPv4 and over IPv6, each with ports of its own: more than [`JOIN_ENTRIES`].
const PROCESSES: [u16; 2] = [3, 2];
/// Connections of the other pod in a round.
const OTHERS: u64 = 30;

/// From now on no acknowledgement leaves the pod. Its handshakes are finished for its own kernel, which has the
/// server's answer, and not for the server, which never takes what is left for it.
fn leave_handshakes_open(pod: &Pod) -> Result<()> {
    let netns = pod.place().netns.as_ref().context("a namespace")?;
    netns.nft(
        "table inet silent {
           chain output { type filter hook output priority 0; tcp flags & (syn | ack) == ack drop; }
         }",
    )
}

/// Held open, not merely made: an entry goes when its client's connection ends.
#[test]
fn handshakes_that_one_pod_leaves_open_cost_another_nothing() -> Result<()> {
    let node = Node::new()?;
    let agent = node.pod("spanwarden", "agent")?;
    let (crowd, web, late) =
        (node.pod("batch", "crowd")?, node.pod("shop", "web")?, node.pod("shop", "late")?);
    let mut server = Server::start(&node, &agent, &[crowd.clone(), web.clone(), late.clone()])?;
    let mut next = 0;
    let mut connect = |server: &mut Server| -> Result<()> {
        let arguments = ["stay", &web.uid, &at(agent.ipv4), &next.to_string(), &OTHERS.to_string()];
        web.spawn(server::CLIENT, &arguments)?.wait_success(PATIENCE)?;
        next += OTHERS;
        server.accept_right(OTHERS).map(drop)
    };
    connect(&mut server)?;

    // One that is under way while the others come. By SYN cookies (2: always), or its half at the server is pushed out
    // before anything of ours is.
    let netns = agent.place().netns.as_ref().context("a namespace")?;
    netns.sysctl("ipv4/tcp_syncookies", "2")?;
    leave_handshakes_open(&late)?;
    let mut held = late.spawn(server::CLIENT, &["hold", &late.uid, &at(agent.ipv4), "1000"])?;
    held.wait_for_line("open", PATIENCE)?;
    let before = entries(&server)?;
    ensure!(before == 1, "{before} entries for one handshake under way");

    leave_handshakes_open(&crowd)?;
    let mut processes = Vec::new();
    let families = [(crowd.ipv4.into(), at(agent.ipv4)), (IpAddr::from(crowd.ipv6), at(agent.ipv6))];
    for ((source, target), count) in families.iter().zip(PROCESSES) {
        for number in 0..count {
            let source = SocketAddr::new(*source, 1_024 + number * EACH).to_string();
            processes.push(crowd.spawn(CLIENT, &["crowd", &source, target, &EACH.to_string()])?);
        }
    }
    connect(&mut server)?;
    for process in &mut processes {
        process.wait_for_line("open", PATIENCE)?;
    }
    ensure!(
        PROCESSES.map(usize::from).iter().sum::<usize>() * usize::from(EACH) > JOIN_ENTRIES,
        "not enough of a crowd"
    );
    // The kernel keeps some back for each CPU.
    let full = entries(&server)?;
    ensure!((JOIN_ENTRIES * 9 / 10..=JOIN_ENTRIES).contains(&full), "{full} of {JOIN_ENTRIES} entries");
    connect(&mut server)?;

    // What is lost: who was under way for longer than so many others took. It has its address for evidence, nobody
    // else's name, and is counted as such.
    let netns = late.place().netns.as_ref().context("a namespace")?;
    netns.nft("delete table inet silent")?;
    server.ask("accept 1")?;
    let report = server.answer()?;
    let connection = &report["connections"][0];
    ensure!(report["missing"] == json!(1) && connection["evidence"] == json!("address"), "{report:#}");
    drop(held);

    // And what was left for nobody goes with who has left it.
    drop(processes);
    super::programs::eventually("the crowd's entries go", || Ok(entries(&server)? == 0))?;
    connect(&mut server)
}

/// How many handshakes are under way, as the map of the server's programs has them.
fn entries(server: &Server) -> Result<usize> {
    let map = Map::LruHashMap(MapData::from_id(join_map(server)?)?);
    let map: HashMap<MapData, u64, [u64; size_of::<OriginRecord>() / 8]> = map.try_into()?;
    Ok(map.keys().try_fold(0, |count, key| key.map(|_| count + 1))?)
}

/// The process holds its programs' links, and the programs hold their maps.
fn join_map(server: &Server) -> Result<u32> {
    let mut programs = Vec::new();
    for file in fs::read_dir(format!("/proc/{}/fdinfo", server.id()))? {
        let text = fs::read_to_string(file?.path())?;
        let ids = text.lines().filter_map(|line| line.strip_prefix("prog_id:"));
        programs.extend(ids.filter_map(|id| id.trim().parse::<u32>().ok()));
    }
    for program in loaded_programs() {
        let program = program?;
        if !programs.contains(&program.id()) {
            continue;
        }
        for map in program.map_ids()?.context("a kernel that tells a program's maps")? {
            if MapInfo::from_id(map)?.name_as_str() == Some("JOIN") {
                return Ok(map);
            }
        }
    }
    anyhow::bail!("none of the server's programs {programs:?} has a map JOIN")
}
