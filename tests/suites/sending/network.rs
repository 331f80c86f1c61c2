//! What the network does to packets on their way.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use spanwarden_tests::{
    netns::Namespace,
    payload::{self, Signal, http1, http2},
};

use super::world::World;

const PORT: u16 = 4_317;

/// The receiver's first packet with data, from each of the connections, is lost: the sender's kernel sends it again.
#[test]
fn a_retransmitted_export_is_found_once() -> Result<()> {
    let mut world = World::new()?;
    world.sink(PORT, &[])?;
    let target = world.at(PORT);
    let netns = world.receiver.place().netns.clone().context("a namespace")?;
    let message = payload::message(200);
    for (way, bytes, protocol) in [
        ("write", http1::export(Signal::Traces, &message), "http/1.1"),
        ("write", http2::export(Signal::Traces, http2::Form::Huffman, &message), "h2c"),
        ("bytes", http2::export(Signal::Traces, http2::Form::Raw, &message), "h2c"),
        ("segments", http2::export(Signal::Traces, http2::Form::Raw, &payload::message(2_000)), "h2c"),
    ] {
        // Longer than a bare acknowledgement with all options (60 bytes of TCP header, 20 of IP).
        netns.nft(&format!(
            "table ip lossy
             delete table ip lossy
             table ip lossy {{
               counter lost {{ }}
               chain input {{
                 type filter hook input priority 0;
                 tcp dport {PORT} tcp flags & psh == psh limit rate 1/day burst 1 packets counter name lost drop
               }}
             }}"
        ))?;
        let case = format!("{protocol} by {way}, first packet lost");
        world.found(&case, (way, target), &[bytes], (protocol, "traces", "path"))?;
        let lost = netns.within(|| {
            std::process::Command::new("nft").args(["-j", "list", "counter", "ip", "lossy", "lost"]).output()
        })??;
        let lost: serde_json::Value = serde_json::from_slice(&lost.stdout)?;
        let packets = &lost["nftables"][1]["counter"]["packets"];
        ensure!(packets == 1, "{case}: {packets} packets were lost, not one");
    }
    world.check()
}

/// Packets of 300 bytes, each an own packet already when it leaves the socket.
#[test]
fn a_small_path_mtu_hides_nothing() -> Result<()> {
    let mut world = World::new()?;
    world.sink(PORT, &[])?;
    let target: SocketAddr = world.at(PORT);
    let netns = world.sender.place().netns.clone().context("a namespace")?;
    netns.ip("link set dev eth0 mtu 300 gso_max_segs 1")?;
    let message = payload::message(20_000);
    let long = "/gateway".repeat(8);
    for signal in Signal::ALL {
        let name = signal.as_str();
        let bytes = http2::export(signal, http2::Form::Huffman, &message);
        world.found(&format!("{name}, h2c"), ("write", target), &[bytes], ("h2c", name, "path"))?;
        let bytes = http1::post(&format!("{long}{}", signal.http_path().text), &message);
        world.found(
            &format!("{name}, http/1.1"),
            ("segments", target),
            &[bytes],
            ("http/1.1", name, "path"),
        )?;
    }
    world.check()
}

/// Whoever sets them needs `CAP_NET_RAW` for most of them; a routing header needs nothing.
#[test]
fn extension_headers_hide_nothing() -> Result<()> {
    let mut world = World::new()?;
    world.sink(PORT, &[])?;
    let target = SocketAddr::new(world.receiver.ipv6.into(), PORT);
    let netns = world.receiver.place().netns.clone().context("a namespace")?;
    // Segment routing headers are dropped otherwise.
    for device in ["all", "eth0"] {
        netns.sysctl(&format!("ipv6/conf/{device}/seg6_enabled"), "1")?;
    }
    let message = payload::message(20_000);
    for (way, headers) in [
        ("hop-by-hop", &["hbh"][..]),
        ("destination", &["dst"]),
        ("routing", &["rt"]),
        ("extensions", &["hbh", "dst", "rt"]),
    ] {
        let rule =
            |header: &&str| format!("exthdr {header} exists tcp dport {PORT} counter name seen-{header}\n");
        netns.nft(&format!(
            "table ip6 seen
             delete table ip6 seen
             table ip6 seen {{
               counter seen-hbh {{ }}
               counter seen-dst {{ }}
               counter seen-rt {{ }}
               chain incoming {{
                 type filter hook prerouting priority 0;
                 {}
               }}
             }}",
            ["hbh", "dst", "rt"].iter().map(rule).collect::<String>()
        ))?;
        for (bytes, protocol) in [
            (http1::export(Signal::Traces, &message), "http/1.1"),
            (http2::export(Signal::Traces, http2::Form::Huffman, &message), "h2c"),
        ] {
            let case = format!("{protocol} with {way}");
            world.found(&case, (way, target), &[bytes], (protocol, "traces", "path"))?;
        }
        for header in ["hbh", "dst", "rt"] {
            let packets = counted(&netns, header)?;
            let wanted = headers.contains(&header);
            ensure!(wanted == (packets > 0), "{way}: {packets} packets with {header}");
        }
    }
    world.check()
}

/// Packets that had this header when they came.
fn counted(netns: &Namespace, header: &str) -> Result<u64> {
    let listed = netns.within(|| {
        std::process::Command::new("nft")
            .args(["-j", "list", "counter", "ip6", "seen", &format!("seen-{header}")])
            .output()
    })??;
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout)?;
    listed["nftables"][1]["counter"]["packets"].as_u64().context("a number of packets")
}
