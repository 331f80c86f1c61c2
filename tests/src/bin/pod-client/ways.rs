//! The same bytes by every way in which Linux sends them.
//!
//! | way | is |
//! |---|---|
//! | `write`, `send`, `sendto`, `sendmsg`, `sendmmsg`, `writev` | the system call; the last three in pieces |
//! | `sendfile`, `splice`, `vmsplice` | from a file, from a pipe, from a pipe that holds the process's own pages |
//! | `zerocopy` | `MSG_ZEROCOPY` |
//! | `uring-send`, `uring-write`, `uring-writev`, `uring-send-zc` | by `io_uring` |
//! | `more`, `cork` | pieces that the kernel puts together (`MSG_MORE`, `TCP_CORK`) |
//! | `bytes`, `pieces` | one byte, seven bytes a packet |
//! | `segments` | segments of 64 bytes, so that one write is many packets |
//! | `fastopen` | twice: with a request for a cookie, then with data in the SYN |
//! | `mptcp` | an MPTCP socket |
//! | `hop-by-hop`, `destination`, `routing`, `extensions` | IPv6 with an extension header in each packet; with all of them |
//! | `ktls`, `ktls-sendfile` | the last file by the kernel's TLS, those before it as they are; nothing where there is no such TLS |

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
};

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest as _, Sha256};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{PATIENCE, sink::hex};
use spanwarden_tests::patience::patience;

mod calls;
mod extensions;
mod files;
mod ktls;
mod options;
mod uring;

/// Sends the content of `files` one after the other; between two of them an answer's head must come. Prints pid and
/// source address of each connection.
pub(crate) fn send(way: &str, target: SocketAddr, files: &[&str]) -> Result<()> {
    let turns: Vec<Vec<u8>> =
        files.iter().map(|file| fs::read(file).with_context(|| (*file).to_owned())).collect::<Result<_>>()?;
    match way {
        "fastopen" => {
            let whole = turns.concat();
            for in_syn in [false, true] {
                let stream = options::fastopen(target, &whole, in_syn)?;
                introduce(&stream)?;
                finish(stream, &whole)?;
            }
            return Ok(());
        }
        "ktls" | "ktls-sendfile" => return ktls::send(target, &turns, way == "ktls-sendfile"),
        _ => {}
    }
    let mut stream = connect(way, target)?;
    introduce(&stream)?;
    for (number, turn) in turns.iter().enumerate() {
        if number > 0 {
            await_head(&mut stream)?;
        }
        write_by(way, &mut stream, turn)?;
    }
    if way == "mptcp" {
        options::ensure_mptcp(&stream)?;
    }
    finish(stream, &turns.concat())
}

fn connect(way: &str, target: SocketAddr) -> Result<TcpStream> {
    let protocol = if way == "mptcp" { Protocol::MPTCP } else { Protocol::TCP };
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(protocol))?;
    if way == "segments" {
        socket.set_tcp_mss(88)?; // the least that Linux takes, TCP_MIN_MSS
    }
    for header in extensions::of(way) {
        header.set(&socket, target)?;
    }
    socket
        .connect_timeout(&target.into(), patience(PATIENCE))
        .with_context(|| format!("connecting to {target}"))?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(patience(PATIENCE)))?;
    Ok(stream)
}

fn introduce(stream: &TcpStream) -> Result<()> {
    println!("pid {} local {}", std::process::id(), stream.local_addr()?);
    Ok(())
}

fn write_by(way: &str, stream: &mut TcpStream, bytes: &[u8]) -> Result<()> {
    let done = match way {
        "write" | "segments" | "mptcp" | "hop-by-hop" | "destination" | "routing" | "extensions" => {
            stream.write_all(bytes).map_err(Into::into)
        }
        "send" => calls::send(stream, bytes),
        "sendto" => calls::sendto(stream, bytes),
        "sendmsg" => calls::sendmsg(stream, bytes),
        "sendmmsg" => calls::sendmmsg(stream, bytes),
        "writev" => calls::writev(stream, bytes),
        "sendfile" => files::sendfile(stream, bytes),
        "splice" => files::splice(stream, bytes, false),
        "vmsplice" => files::splice(stream, bytes, true),
        "zerocopy" => calls::zerocopy(stream, bytes),
        "more" => calls::more(stream, bytes),
        "cork" => options::cork(stream, bytes),
        "bytes" => pieces(stream, bytes, 1),
        "pieces" => pieces(stream, bytes, 7),
        "uring-send" => uring::send(stream, bytes, uring::Operation::Send),
        "uring-write" => uring::send(stream, bytes, uring::Operation::Write),
        "uring-writev" => uring::send(stream, bytes, uring::Operation::Writev),
        "uring-send-zc" => uring::send(stream, bytes, uring::Operation::SendZc),
        _ => bail!("no way of sending is called {way:?}"),
    };
    done.with_context(|| format!("sending by {way}"))
}

/// A packet for each piece, as far as the receiver keeps up.
fn pieces(stream: &mut TcpStream, bytes: &[u8], size: usize) -> Result<()> {
    stream.set_nodelay(true)?;
    for piece in bytes.chunks(size) {
        stream.write_all(piece)?;
    }
    Ok(())
}

/// What the server answers in between: up to an empty line.
fn await_head(stream: &mut TcpStream) -> Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        ensure!(head.len() < 4_096, "an answer without an end");
        stream.read_exact(&mut byte).context("the server's answer")?;
        head.extend(byte);
    }
    Ok(())
}

/// The server has got exactly `sent`.
fn finish(mut stream: TcpStream, sent: &[u8]) -> Result<()> {
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("the digest from the server")?;
    let expected = hex(&Sha256::digest(sent));
    ensure!(
        answer == expected,
        "the server got something else than the {} bytes sent: {answer:?}",
        sent.len()
    );
    Ok(())
}

/// How much a system call has taken.
fn taken(result: isize) -> Result<usize> {
    if result < 0 { Err(std::io::Error::last_os_error().into()) } else { Ok(result.unsigned_abs()) }
}
