//! What belongs together: the same pod's processes and the same destination, within the window.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use spanwarden_tests::{patience::patience, process::Place};

use super::world::{Case, Verdict, World, outcomes, rust};

/// Shorter than the clients' pause, which is scaled as well.
const WINDOW: Duration = Duration::from_secs(2);

fn case(name: &str, target: SocketAddr, steps: &'static [&'static str]) -> Case {
    Case { name: name.to_owned(), grpc: false, target, steps }
}

/// Name, servers, steps, how they end, what is found of each connection in the clear.
type Row = (&'static str, &'static str, &'static [&'static str], &'static [bool], &'static [Verdict]);

/// A Service in front of the receiver.
const CLUSTER_IP: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(10, 96, 0, 7), Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 7));

const CLOSED: Verdict = Verdict::Fallback("closed", false);

const ROWS: [Row; 10] = [
    ("by-configuration", "tls", &["plain"], &[true], &[Verdict::Plaintext]),
    ("tls-and-no-plaintext", "http1", &["tls", "tls"], &[false, false], &[]),
    ("tls-then-plaintext", "tls", &["tls", "plain"], &[true, true], &[Verdict::Plaintext]),
    ("plaintext-to-a-tls-server", "only", &["plain"], &[false], &[Verdict::Plaintext]),
    ("after-the-window", "close", &["tls", "pause", "plain"], &[false, true], &[Verdict::Plaintext]),
    (
        "certificate-rotation",
        "close,tls",
        &["tls", "tls", "plain"],
        &[false, true, true],
        &[Verdict::Plaintext],
    ),
    (
        "refused-and-then-accepted",
        "tls13",
        &["tls13/foreign", "tls13", "plain"],
        &[false, true, true],
        &[Verdict::Plaintext],
    ),
    ("retries", "close", &["tls", "tls", "tls", "plain"], &[false, false, false, true], &[CLOSED]),
    ("again-and-again", "close", &["tls", "plain", "plain"], &[false, true, true], &[CLOSED, CLOSED]),
    ("plaintext-before", "close", &["plain", "tls"], &[true, false], &[Verdict::Plaintext]),
];

#[test]
fn one_destination() -> Result<()> {
    let first = 5_000;
    let ports: Vec<String> =
        ROWS.iter().enumerate().map(|(number, row)| format!("{}={}", first + number, row.1)).collect();
    let window = patience(WINDOW).as_secs();
    let plaintext = format!("{{mode: observe, fallback_window: {window}s}}");
    let mut world = World::new(&plaintext, &ports)?;
    let cases: Vec<Case> = ROWS
        .iter()
        .enumerate()
        .map(|(number, row)| case(row.0, world.at(first as u16 + number as u16), row.2))
        .collect();
    let (pid, said) = world.run(&rust(), &cases)?;
    let outcomes = outcomes(&said);
    let sender = world.sender.clone();
    for (case, (name, _, _, ends, verdicts)) in cases.iter().zip(&ROWS) {
        let ended = outcomes.get(*name).map(Vec::as_slice).unwrap_or_default();
        let ended: Vec<bool> = ended.iter().map(|outcome| outcome.ends_with(" ok")).collect();
        ensure!(ended == *ends, "{name}: {ended:?}\n{said}");
        world.expect(case, &sender, pid, verdicts)?;
    }
    world.check()
}

#[test]
fn one_sender_and_one_destination() -> Result<()> {
    let ports: Vec<String> = (5_000..5_010).map(|port| format!("{port}=close")).collect();
    let mut world = World::new("{mode: observe, fallback_window: 1m}", &ports)?;
    let web = world.sender.clone();
    // The sender's network, another pod's cgroup.
    let sidecar = world.node.pod_in_network_of(&web, "shop", "web-sidecar")?;
    let elsewhere = world.node.pod("shop", "other")?;
    // The sender's network, a cgroup below its own.
    let below = web.sub_cgroup("worker.scope")?;
    let tls_to = |world: &World, place: &Place, target| {
        world.run_in(place, &rust(), &[case("tls", target, &["tls"])], &[]).map(drop)
    };
    let plain_to = |world: &World, place: &Place, name: &str, target| -> Result<(u32, Case)> {
        let case = case(name, target, &["plain"]);
        let (pid, said) = world.run_in(place, &rust(), std::slice::from_ref(&case), &[])?;
        ensure!(said.contains(" plain ok"), "{said}");
        Ok((pid, case))
    };

    // Another process of the same container: the same.
    let target = world.at(5_000);
    tls_to(&world, web.place(), target)?;
    let (pid, case) = plain_to(&world, web.place(), "another process", target)?;
    world.expect(&case, &web, pid, &[Verdict::Fallback("closed", false)])?;

    // Another pod, another pod in the same network, another cgroup of the pod, another port: others.
    for (name, place, pod, port, plain_port) in [
        ("another pod", elsewhere.place(), &elsewhere, 5_001, 5_001),
        ("another pod in the same network", sidecar.place(), &sidecar, 5_002, 5_002),
        ("another cgroup", &below, &web, 5_003, 5_003),
        ("another port", web.place(), &web, 5_004, 5_005),
    ] {
        let target = world.at(port);
        tls_to(&world, web.place(), target)?;
        let target = world.at(plain_port);
        let (pid, case) = plain_to(&world, place, name, target)?;
        world.expect(&case, pod, pid, &[Verdict::Plaintext]).context(name)?;
    }

    // IPv6, an IPv4 address in both notations, a Service.
    world.node.service(CLUSTER_IP.0, CLUSTER_IP.1, &world.receiver, false)?;
    for (name, port, tried, used) in [
        ("IPv6", 5_000, world.receiver.ipv6.into(), world.receiver.ipv6.into()),
        (
            "IPv4-mapped, then IPv4",
            5_007,
            world.receiver.ipv4.to_ipv6_mapped().into(),
            IpAddr::V4(world.receiver.ipv4),
        ),
        ("a Service", 5_008, CLUSTER_IP.0.into(), CLUSTER_IP.0.into()),
        ("a Service over IPv6", 5_009, CLUSTER_IP.1.into(), CLUSTER_IP.1.into()),
    ] {
        tls_to(&world, elsewhere.place(), SocketAddr::new(tried, port))?;
        let (pid, case) = plain_to(&world, elsewhere.place(), name, SocketAddr::new(used, port))?;
        world.expect(&case, &elsewhere, pid, &[CLOSED]).context(name)?;
    }

    // Another address, the same port: the weaker key.
    let target = world.at(5_006);
    tls_to(&world, web.place(), target)?;
    let target = SocketAddr::new(IpAddr::V4(world.other.ipv4), 5_006);
    let (pid, case) = plain_to(&world, web.place(), "another address", target)?;
    world.expect(&case, &web, pid, &[Verdict::Fallback("closed", true)])?;
    world.check()
}
