//! TLS by the kernel: the system call has plaintext, the wire has not.

use std::fs;

use anyhow::{Result, ensure};
use spanwarden_tests::payload::{self, Signal, http1, http2};

use super::world::World;

/// One of OTLP's own, where plaintext would be noticed first.
const PORT: u16 = 4_318;

/// Whether the kernel has it: by its own list, once its module was asked for by the first socket.
fn is_listed() -> Result<bool> {
    let protocols = fs::read_to_string("/proc/sys/net/ipv4/tcp_available_ulp")?;
    Ok(protocols.split_whitespace().any(|name| name == "tls"))
}

/// A kernel without `CONFIG_TLS` has nothing to be shown here but that it has none: `cargo xtask kernels` runs this on
/// kernels that have it.
#[test]
fn tls_by_the_kernel_is_no_plaintext() -> Result<()> {
    let mut world = World::new()?;
    world.sink(PORT, &[])?;
    let target = world.at(PORT);
    let export = http1::export(Signal::Traces, &payload::message(200));
    let large = http1::export(Signal::Traces, &payload::message(40_000));
    let grpc = http2::export(Signal::Logs, http2::Form::Huffman, &payload::message(200));
    let hello = payload::by_name("tls").unwrap_or_default();
    // What goes in plaintext is found, also where TLS follows. First: after the handshake below, which nobody finishes, it
    // would be a fallback.
    for way in ["ktls", "ktls-sendfile"] {
        for (before, protocol, signal) in [(&export, "http/1.1", "traces"), (&grpc, "h2c", "logs")] {
            let case = format!("{protocol} in plaintext, then {way}");
            let turns = [before.clone(), export.clone()];
            world.found(&case, (way, target), &turns, (protocol, signal, "path"))?;
        }
    }
    for (case, turns) in [
        ("from the first byte", vec![export.clone()]),
        ("more than a record", vec![large]),
        ("gRPC", vec![grpc.clone()]),
        // What a library does that leaves its records to the kernel.
        ("after a handshake's first bytes", vec![hello, export.clone()]),
        ("after the words of another protocol", vec![b"EHLO shop\r\nSTARTTLS\r\n".to_vec(), export.clone()]),
        ("after other requests", vec![http1::get("/health"), http1::get("/metrics"), export.clone()]),
        ("in a tunnel", vec![http1::connect("collector.example:4317"), grpc.clone()]),
    ] {
        for way in ["ktls", "ktls-sendfile"] {
            let made = world.send(way, target, &turns).map_err(|error| error.context(case))?;
            let is_there = is_listed()?;
            ensure!(
                made.len() == usize::from(is_there),
                "{case}: {} connections, TLS: {is_there}",
                made.len()
            );
        }
    }
    ensure!(world.expected.len() == if is_listed()? { 4 } else { 0 }, "{:#?}", world.expected);
    world.check()
}
