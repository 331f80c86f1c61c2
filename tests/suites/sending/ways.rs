//! The same two exports by every way of sending.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use spanwarden_tests::payload::{self, Signal, http1, http2};

use super::world::World;

const WAYS: [&str; 20] = [
    "write",
    "send",
    "sendto",
    "sendmsg",
    "sendmmsg",
    "writev",
    "sendfile",
    "splice",
    "vmsplice",
    "zerocopy",
    "uring-send",
    "uring-write",
    "uring-writev",
    "uring-send-zc",
    "more",
    "cork",
    "bytes",
    "pieces",
    "segments",
    "mptcp",
];

/// A port that nobody would suspect.
const PORT: u16 = 8_443;

/// Small, and larger than a GSO packet for the ways that take their bytes in large pieces.
fn sizes(way: &str) -> &'static [usize] {
    match way {
        "bytes" | "pieces" | "more" | "cork" | "segments" => &[200],
        _ => &[200, 200_000],
    }
}

#[test]
fn every_way_of_sending_is_found_once() -> Result<()> {
    let mut world = World::new()?;
    world.sink(PORT, &["mptcp"])?;
    let v4 = world.at(PORT);
    let v6 = SocketAddr::new(IpAddr::V6(world.receiver.ipv6), PORT);
    for way in WAYS {
        for &size in sizes(way) {
            let message = payload::message(size);
            let http1 = http1::export(Signal::Traces, &message);
            let h2c = http2::export(Signal::Traces, http2::Form::Huffman, &message);
            for (target, bytes, protocol) in [(v4, http1, "http/1.1"), (v6, h2c, "h2c")] {
                let case = format!("{way}, {size} bytes, to {target}");
                world.found(&case, (way, target), &[bytes], (protocol, "traces", "path"))?;
            }
        }
    }
    world.check()
}

#[test]
fn every_kind_of_address_is_found_under_its_own_name() -> Result<()> {
    let mut world = World::new()?;
    world.sink(PORT, &[])?;
    let own = world.sender.clone();
    world.sink_in(&own, PORT, &[])?;
    let (v4, v6) = (world.receiver.ipv4, world.receiver.ipv6);
    let bytes = http2::export(Signal::Logs, http2::Form::Raw, &payload::message(200));
    for address in [
        IpAddr::V4(v4),
        v6.into(),
        v4.to_ipv6_mapped().into(),
        own.ipv4.into(),
        "127.0.0.1".parse()?,
        "127.9.9.9".parse()?,
        "::1".parse()?,
        "::ffff:127.0.0.1".parse()?,
    ] {
        let target = SocketAddr::new(address, PORT);
        world.found(
            &target.to_string(),
            ("write", target),
            std::slice::from_ref(&bytes),
            ("h2c", "logs", "path"),
        )?;
        let place = if address.to_canonical().is_loopback() { "pod" } else { "cluster" };
        if address != IpAddr::V4(own.ipv4) {
            let last = world.expected.pop().context("one connection")?;
            world.expected.push(last.with("where", place).with("destination", target_text(target)));
        }
    }
    world.check()
}

fn target_text(target: SocketAddr) -> String {
    spanwarden_tests::detector::canonical(target).to_string()
}

#[test]
fn data_in_the_syn_is_found() -> Result<()> {
    let mut world = World::new()?;
    // 3: as a client and as a server (ip-sysctl, tcp_fastopen); each namespace has its own.
    for pod in [&world.sender, &world.receiver] {
        pod.place().netns.as_ref().context("a namespace")?.sysctl("ipv4/tcp_fastopen", "3")?;
    }
    // A port each: cookies are kept by address, so the second pair finds one in the client's memory and forgets it.
    world.sink(PORT, &["fastopen"])?;
    let message = payload::message(200);
    let v4 = world.at(PORT);
    let v6 = SocketAddr::new(IpAddr::V6(world.receiver.ipv6), PORT);
    for (target, bytes, protocol) in [
        (v4, http1::export(Signal::Metrics, &message), "http/1.1"),
        (v6, http2::export(Signal::Metrics, http2::Form::Huffman, &message), "h2c"),
    ] {
        let before = world.expected.len();
        let case = format!("TCP Fast Open to {target}");
        world.found(&case, ("fastopen", target), &[bytes], (protocol, "metrics", "path"))?;
        ensure!(world.expected.len() == before + 2, "{case}: not two connections");
    }
    world.check()
}
