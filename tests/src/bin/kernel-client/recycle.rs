//! Sockets that get an earlier one's address in the kernel's memory, and its ports.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read as _, Write as _},
    net::SocketAddr,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use socket2::{Domain, Protocol, Socket, Type};

/// The kernel walks through all its connections to name one.
const SAMPLE: u32 = 20;

/// Connects `count` times from one port, each connection reset so that port and memory are free at once. In turns one
/// carries a protocol of its own, long enough to be decided and beyond, and one `payload`. The peer answers the first
/// bytes. Says at how many addresses one socket in [`SAMPLE`] was.
pub(crate) fn recycle(source: SocketAddr, target: SocketAddr, payload: &[u8], count: u32) -> Result<String> {
    let mut addresses = BTreeSet::new();
    for number in 0..count {
        let mut socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_tcp_nodelay(true)?;
        socket.set_linger(Some(Duration::ZERO))?;
        socket.set_read_timeout(Some(super::PATIENCE))?;
        socket.bind(&source.into())?;
        socket.connect(&target.into()).with_context(|| format!("connection {number} of {count}"))?;
        if number % SAMPLE == 1 {
            addresses.insert(address(source.port())?);
        }
        if number % 2 == 0 {
            socket.write_all(b"SSH-2.0-recycled\r\n")?;
            ensure!(socket.read(&mut [0; 64])? > 0, "no answer to connection {number}");
            for _ in 0..3 {
                socket.write_all(b"something else\r\n")?;
            }
        } else {
            socket.write_all(payload)?;
            ensure!(socket.read(&mut [0; 64])? > 0, "no answer to connection {number}");
        }
    }
    Ok(format!("recycled {count} {}", addresses.len()))
}

/// The address of the socket with this local port, as far as the kernel tells it: `%pK` gives one text for one address.
fn address(port: u16) -> Result<String> {
    let table = fs::read_to_string("/proc/self/net/tcp")?;
    let local = format!(":{port:04X}");
    let line =
        table.lines().find(|line| line.split_whitespace().nth(1).is_some_and(|at| at.ends_with(&local)));
    Ok(line.and_then(|line| line.split_whitespace().nth(11)).context("no socket with this port")?.to_owned())
}
