//! Sends bytes, under any name: what the suite of findings runs in pods.
//!
//! ```text
//! raw-client send  TARGET HEX [COMM-HEX]   one connection; says `pid P local ADDRESS` first
//! raw-client parts TARGET HEX...           the same, each part in a packet of its own
//! raw-client flood TARGET HEX COUNT        COUNT connections, each reset after the bytes; says `flooded COUNT`
//! ```

#![forbid(unsafe_code)]

use std::{
    env,
    ffi::CString,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::sys::prctl::set_name;
use socket2::{Domain, Protocol, Socket, Type};
use spanwarden_tests::patience::patience;

const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["send", target, payload, comm @ ..] => {
            if let Some(comm) = comm.first() {
                set_name(&CString::new(bytes(comm)?)?)?;
            }
            send(target.parse()?, &[bytes(payload)?])
        }
        ["parts", target, parts @ ..] => {
            let parts: Vec<Vec<u8>> = parts.iter().map(|part| bytes(part)).collect::<Result<_>>()?;
            send(target.parse()?, &parts)
        }
        ["flood", target, payload, count] => flood(target.parse()?, &bytes(payload)?, count.parse()?),
        _ => bail!("unknown arguments: {arguments:?}"),
    }
}

fn bytes(hex: &str) -> Result<Vec<u8>> {
    let digits = |at: usize| hex.get(at..at + 2).context("an odd number of digits");
    (0..hex.len()).step_by(2).map(|at| Ok(u8::from_str_radix(digits(at)?, 16)?)).collect()
}

fn send(target: SocketAddr, parts: &[Vec<u8>]) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&target, patience(PATIENCE))?;
    println!("pid {} local {}", std::process::id(), stream.local_addr()?);
    stream.set_read_timeout(Some(patience(PATIENCE)))?;
    // What is written next does not wait for what was written before.
    stream.set_nodelay(true)?;
    for part in parts {
        stream.write_all(part)?;
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    // The other side closes when it has read all.
    stream.read_to_end(&mut Vec::new())?;
    Ok(())
}

fn flood(target: SocketAddr, payload: &[u8], count: u32) -> Result<()> {
    for _ in 0..count {
        let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
        // A reset leaves no TIME_WAIT, or the ports would be used up.
        socket.set_linger(Some(Duration::ZERO))?;
        socket.connect_timeout(&target.into(), patience(PATIENCE))?;
        (&socket).write_all(payload)?;
    }
    println!("flooded {count}");
    Ok(())
}
