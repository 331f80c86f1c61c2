//! Reads connections to their end and answers with the SHA-256 of what came, so that a client knows that its way
//! of sending has sent what it meant to.
//!
//! Heads that ask for something are answered: `CONNECT` with 200 (the tunnel ends here), `Upgrade: h2c` with 101.

use std::{
    fmt::Write as _,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd as _,
    thread,
};

use anyhow::{Context, Result, bail};
use sha2::{Digest as _, Sha256};
use socket2::{Domain, Protocol, Socket, Type};

use crate::PATIENCE;
use spanwarden_tests::patience::patience;

/// Connections that may wait for the kernel's handshake with data in the SYN (tcp(7), `TCP_FASTOPEN`).
const FASTOPEN_QUEUE: libc::c_int = 16;

/// Accepts connections until the process is ended.
pub(crate) fn run(address: SocketAddr, options: &[&str]) -> Result<()> {
    let mut protocol = Protocol::TCP;
    let mut fastopen = false;
    for option in options {
        match *option {
            "fastopen" => fastopen = true,
            "mptcp" => protocol = Protocol::MPTCP,
            other => bail!("unknown option {other:?}"),
        }
    }
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(protocol))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into()).with_context(|| format!("binding {address}"))?;
    if fastopen {
        accept_data_in_syn(&socket)?;
    }
    socket.listen(128)?;
    let listener = TcpListener::from(socket);
    println!("ready {}", listener.local_addr()?);
    for stream in listener.incoming() {
        let stream = stream?;
        thread::spawn(move || {
            // A client that goes away is what some tests are about.
            let _ = read_to_end(stream);
        });
    }
    Ok(())
}

fn accept_data_in_syn(socket: &Socket) -> io::Result<()> {
    let queue = FASTOPEN_QUEUE;
    // SAFETY: setsockopt(2) reads `size_of::<c_int>()` bytes from the pointer; the socket is open.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_FASTOPEN,
            (&raw const queue).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn read_to_end(mut stream: TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(patience(PATIENCE)))?;
    let mut digest = Sha256::new();
    // What came since the last answer, as long as it may be a head that wants one.
    let mut head = Vec::new();
    let mut buffer = vec![0; 65_536];
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            break;
        }
        digest.update(&buffer[..length]);
        // Of much, the beginning and the end.
        head.truncate(head.len().min(1_024));
        head.extend_from_slice(&buffer[..length]);
        if let Some(answer) = answer_to(&head) {
            stream.write_all(answer)?;
            head.clear();
        }
    }
    stream.write_all(hex(&digest.finalize()).as_bytes())
}

fn answer_to(head: &[u8]) -> Option<&'static [u8]> {
    if !head.ends_with(b"\r\n\r\n") {
        return None;
    }
    if head.starts_with(b"CONNECT ") {
        return Some(b"HTTP/1.1 200 Connection established\r\n\r\n");
    }
    let upgrade = head.windows(12).any(|window| window == b"Upgrade: h2c");
    upgrade.then_some(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
}

/// Hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
