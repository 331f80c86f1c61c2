//! Loopback, veth, DNAT, DNAT with masquerade; IPv4 and IPv6; processes that stay and processes that are gone.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use spanwarden_tests::{
    node::{Node, Pod},
    process::Process,
    requirements::connections,
};

use super::server::{CLIENT, CLUSTER_IP, MASQUERADED, PATIENCE, Server, all_right, at};

/// Connections of all paths and families together, if the environment does not say otherwise: with the first eight of
/// the paths more than 10,000, a tenth of them one-shot.
const CONNECTIONS: u64 = 15_240;
const PATHS: u64 = 12;
/// The agent keeps no state of a half-open connection.
const SYN_COOKIES: &str = "SYN cookies";
/// Processes that connect at the same time, each as another user.
const CLIENTS: u64 = 3;

#[test]
fn ten_thousand_connections_none_missing_none_wrong() -> Result<()> {
    let node = Node::new()?;
    let agent = node.pod("spanwarden", "agent")?;
    let web: Vec<Pod> = (0..CLIENTS).map(|n| node.pod("shop", &format!("web-{n}"))).collect::<Result<_>>()?;
    let sidecars: Vec<Pod> = (0..CLIENTS)
        .map(|n| node.pod_in_network_of(&agent, "spanwarden", &format!("sidecar-{n}")))
        .collect::<Result<_>>()?;
    let host: Vec<Pod> = (0..CLIENTS)
        .map(|n| node.host_network_pod("kube-system", &format!("host-{n}")))
        .collect::<Result<_>>()?;
    node.service(CLUSTER_IP.0, CLUSTER_IP.1, &agent, false)?;
    node.service(MASQUERADED.0, MASQUERADED.1, &agent, true)?;
    let all: Vec<Pod> = web.iter().chain(&sidecars).chain(&host).cloned().collect();
    let mut server = Server::start(&node, &agent, &all)?;

    let wanted = connections(CONNECTIONS)?;
    let (stay, one_shot) = (wanted * 9 / 10 / PATHS / CLIENTS, wanted.div_ceil(10 * PATHS * CLIENTS));
    let mut next_id = 1;
    let mut gone = 0;
    let paths: [_; PATHS as usize] = [
        ("loopback, IPv4", &sidecars, at(Ipv4Addr::LOCALHOST)),
        ("loopback, IPv6", &sidecars, at(Ipv6Addr::LOCALHOST)),
        ("veth, IPv4", &web, at(agent.ipv4)),
        ("veth, IPv6", &web, at(agent.ipv6)),
        ("DNAT, IPv4", &web, at(CLUSTER_IP.0)),
        ("DNAT, IPv6", &web, at(CLUSTER_IP.1)),
        ("DNAT and masquerade, IPv4", &web, at(MASQUERADED.0)),
        ("DNAT and masquerade, IPv6", &web, at(MASQUERADED.1)),
        ("DNAT of the host's own, IPv4", &host, at(CLUSTER_IP.0)),
        ("DNAT of the host's own, IPv6", &host, at(CLUSTER_IP.1)),
        (SYN_COOKIES, &web, at(agent.ipv4)),
        (SYN_COOKIES, &web, at(MASQUERADED.1)),
    ];
    for (path, pods, target) in paths {
        if path == SYN_COOKIES {
            // 2: always, not only when the queue of half-open connections is full.
            agent.place().netns.as_ref().context("a namespace")?.sysctl("ipv4/tcp_syncookies", "2")?;
        }
        let path_first = next_id;
        let (first, count) = (next_id, CLIENTS * stay);
        server.ask(&format!("accept {count}"))?;
        run_clients("stay", pods, &target, &mut next_id, stay)?;
        let report = server.answer()?;
        all_right(&report, count).map_err(|error| error.context(path))?;
        ensure!(report["ids"] == json!([[first, next_id - 1]]), "{path}: {}", report["ids"]);

        // These wait in the listener's queue until every one of their openers has gone.
        let (first, count) = (next_id, CLIENTS * one_shot);
        run_clients("one-shot", pods, &target, &mut next_id, one_shot)?;
        let report =
            server.accept_right(count).map_err(|error| error.context(format!("{path}, one-shot")))?;
        ensure!(report["ids"] == json!([[first, next_id - 1]]), "{path}, one-shot: {}", report["ids"]);
        ensure!(report["gone"] == json!(count), "{path}: {} of {count} openers had gone", report["gone"]);
        gone += count;
        // Read by `cargo xtask kernels`.
        println!("measured: {path}: {} connections", next_id - path_first);
    }
    let connections = next_id - 1;
    ensure!(
        connections * 10 >= wanted * 9 && gone * 11 >= connections,
        "{connections} of {wanted} connections, {gone} of them one-shot"
    );
    Ok(())
}

/// One client in each pod, all at the same time.
fn run_clients(mode: &str, pods: &[Pod], target: &str, next_id: &mut u64, each: u64) -> Result<()> {
    let mut clients = Vec::new();
    for (number, pod) in pods.iter().enumerate() {
        let mut command = pod.command(CLIENT)?;
        command.args([mode, &pod.uid, target, &next_id.to_string(), &each.to_string()]);
        command.env("POD_CLIENT_UID", (1000 + number).to_string());
        clients.push(Process::spawn(&pod.name, command)?);
        *next_id += each;
    }
    clients.iter_mut().try_for_each(|client| client.wait_success(PATIENCE))
}

/// The agent sees both connections from the same address and port, at the same time.
#[test]
fn two_pods_with_the_same_address_and_port_are_told_apart() -> Result<()> {
    let node = Node::new()?;
    let shared: (Ipv4Addr, Ipv6Addr) = (Ipv4Addr::new(10, 9, 0, 5), "fd00:9::5".parse()?);
    let agent = node.host_network_pod("spanwarden", "agent")?;
    let mut pods = Vec::new();
    let mut targets = Vec::new();
    for number in [1_u16, 2] {
        let device = format!("overlap{number}");
        let pod = node.unrouted_pod(&format!("twin-{number}"), &device, shared.0, shared.1)?;
        // An address of the node for each twin; answers from it go to that twin.
        let own = (Ipv4Addr::new(10, 9, 1, number as u8), Ipv6Addr::new(0xfd00, 9, 1, 0, 0, 0, 0, number));
        let table = 100 + number;
        node.netns().ip(&format!(
            "addr add {}/32 dev uplink\nrule add from {} lookup {table}
             route add {}/32 dev {device} table {table}",
            own.0, own.0, shared.0
        ))?;
        node.netns().ip6(&format!(
            "addr add {}/128 dev uplink nodad\nrule add from {} lookup {table}
             route add {}/128 dev {device} table {table}",
            own.1, own.1, shared.1
        ))?;
        targets.push(own);
        pods.push(pod);
    }
    let mut server = Server::start(&node, &agent, &pods)?;
    for (family, id) in [("IPv4", 10), ("IPv6", 20)] {
        let v4 = family == "IPv4";
        let source = if v4 { "10.9.0.5:40000".to_owned() } else { "[fd00:9::5]:40000".to_owned() };
        let mut clients = Vec::new();
        for (number, (pod, own)) in pods.iter().zip(&targets).enumerate() {
            let target = if v4 { at(own.0) } else { at(own.1) };
            let id = (id + number).to_string();
            let mut client = pod.spawn(CLIENT, &["hold", &pod.uid, &target, &id, &source])?;
            client.wait_for_line("open", PATIENCE)?;
            clients.push(client);
        }
        let report = server.accept_right(2)?;
        let connections = report["connections"].as_array().map(Vec::as_slice).unwrap_or_default();
        ensure!(
            connections.iter().all(|connection| connection["peer"] == json!(source)),
            "{family}: not the same peer: {report:#}"
        );
    }
    Ok(())
}
