//! What the tests of the kernel side run in pods. Each client says `outcome …` in one line.
//!
//! ```text
//! kernel-client talk  TARGET PAYLOAD         one connection: `sent`, or `refused ERRNO` by connect(2)
//! kernel-client await TARGET PAYLOAD         the same once there is a line on standard input
//! kernel-client probe TARGET PAYLOAD MILLIS  the same, and whether the peer answered: `answered`, `silent`, `lost`
//! kernel-client flood TARGET PAYLOAD COUNT   so many, one after the other, each reset at once: `flooded COUNT`
//! kernel-client churn PORT COUNT             a `ClientHello` and a reset, to so many loopback addresses: `churned COUNT`
//! kernel-client again FIRST PAYLOAD SECOND PAYLOAD   two connections of one socket, one after the other: `sent`
//! kernel-client recycle SOURCE TARGET PAYLOAD COUNT   one after the other from one port, every other one of a
//!                                            foreign protocol: `recycled COUNT ADDRESSES`
//! kernel-client claim SOURCE TARGET POD ID   one connection, reset when standard input ends: `held`
//! kernel-client heir  fork|pidfd CGROUP TARGET WORDS...   connects; a process in CGROUP speaks: `said`
//! kernel-client give  connected|unconnected PATH TARGET WORDS...   gives a socket and the words away at PATH: `given`
//! kernel-client take  PATH [TARGET]          takes a socket at PATH, connects it, says the words: `said`
//! kernel-client crowd SOURCE TARGET COUNT    so many connections from SOURCE's port on, held until standard input ends: `held COUNT`
//! kernel-client as-pid PID                   a process with this id until standard input ends
//! kernel-client raw   LOCAL TARGET LINE      a handshake and LINE by raw packets: `shaken`
//! kernel-client relay LOCAL:PORT TARGET LINE the same with the numbers of a handshake that comes to PORT: `relayed`
//! kernel-client sink  ADDRESS                accepts, reads to the end, says `got BYTES` of each connection
//! kernel-client hole  ADDRESS                accepts and closes
//! kernel-client echo  ADDRESS                accepts, answers the first bytes with one line, reads to the end
//! ```
//!
//! WORDS are `line POD ID`, which says who has opened the connection, or `payload NAME`.

use std::{
    env,
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Protocol, Socket, Type};
use spanwarden_tests::patience::patience;
use spanwarden_tests::payload;

#[path = "kernel-client/hand.rs"]
mod hand;
#[path = "kernel-client/raw.rs"]
mod raw;
#[path = "kernel-client/recycle.rs"]
mod recycle;
#[path = "kernel-client/tricks.rs"]
mod tricks;

use tricks::Words;

const PATIENCE: Duration = Duration::from_secs(30);
/// Peers of a flood must not be what limits it.
const BACKLOG: i32 = 4096;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments.as_slice() {
        ["talk", target, payload] => talk(target.parse()?, &bytes(payload)?)?,
        ["await", target, payload] => {
            io::stdin().read_line(&mut String::new())?;
            talk(target.parse()?, &bytes(payload)?)?
        }
        ["probe", target, payload, millis] => {
            probe(target.parse()?, &bytes(payload)?, Duration::from_millis(millis.parse()?))?
        }
        ["flood", target, payload, count] => flood(target.parse()?, &bytes(payload)?, count.parse()?)?,
        ["churn", port, count] => churn(port.parse()?, &bytes("tls")?, count.parse()?)?,
        ["again", first, one, second, two] => {
            tricks::again(first.parse()?, &bytes(one)?, second.parse()?, &bytes(two)?)?
        }
        ["recycle", source, target, payload, count] => {
            recycle::recycle(source.parse()?, target.parse()?, &bytes(payload)?, count.parse()?)?
        }
        ["claim", source, target, pod, id] => tricks::claim(source.parse()?, target.parse()?, pod, id)?,
        ["heir", how, cgroup, target, words @ ..] => {
            tricks::heir(how, cgroup, target.parse()?, &Words::parse(words)?)?
        }
        ["give", state @ ("connected" | "unconnected"), path, target, words @ ..] => {
            hand::give(path, *state == "connected", target.parse()?, &Words::parse(words)?)?
        }
        ["take", path, target @ ..] => {
            hand::take(path, target.first().map(|target| target.parse()).transpose()?)?
        }
        ["crowd", source, target, count] => crowd(source.parse()?, target.parse()?, count.parse()?)?,
        ["as-pid", pid] => return tricks::as_pid(pid.parse()?),
        ["raw", local, target, line] => raw::shake(local.parse()?, target.parse()?, line)?,
        ["relay", local, target, line] => raw::relay(local.parse()?, target.parse()?, line)?,
        ["sink", address] => return serve(address.parse()?, sink),
        ["hole", address] => return serve(address.parse()?, drop),
        ["echo", address] => return serve(address.parse()?, echo),
        _ => bail!("unknown arguments: {arguments:?}"),
    };
    println!("outcome {outcome}");
    Ok(())
}

fn bytes(name: &str) -> Result<Vec<u8>> {
    payload::by_name(name).with_context(|| format!("no payload {name}"))
}

/// The connection, or what to say of the refusal.
fn connect(target: SocketAddr) -> Result<Result<TcpStream, String>> {
    match TcpStream::connect_timeout(&target, patience(PATIENCE)) {
        Ok(stream) => {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(patience(PATIENCE)))?;
            Ok(Ok(stream))
        }
        Err(error) => Ok(Err(format!("refused {}", error.raw_os_error().context("an error number")?))),
    }
}

fn talk(target: SocketAddr, payload: &[u8]) -> Result<String> {
    let mut stream = match connect(target)? {
        Ok(stream) => stream,
        Err(refused) => return Ok(refused),
    };
    stream.write_all(payload)?;
    Ok("sent".to_owned())
}

fn probe(target: SocketAddr, payload: &[u8], wait: Duration) -> Result<String> {
    let mut stream = match connect(target)? {
        Ok(stream) => stream,
        Err(refused) => return Ok(refused),
    };
    stream.write_all(payload)?;
    stream.set_read_timeout(Some(wait))?;
    Ok(match stream.read(&mut [0; 64]) {
        Ok(1..) => "answered".to_owned(),
        Ok(0) => "closed".to_owned(),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            // Nothing of what waits to be sent again is worth waiting for.
            reset_at_close(&stream)?;
            "silent".to_owned()
        }
        Err(error) => format!("lost {}", error.raw_os_error().context("an error number")?),
    })
}

/// Resets, so that no port of a long flood stays in `TIME_WAIT`.
fn flood(target: SocketAddr, payload: &[u8], count: u64) -> Result<String> {
    for number in 0..count {
        let mut stream = TcpStream::connect_timeout(&target, patience(PATIENCE))
            .with_context(|| format!("connection {number} of {count}"))?;
        stream.set_nodelay(true)?;
        stream.write_all(payload).with_context(|| format!("connection {number} of {count}"))?;
        reset_at_close(&stream)?;
    }
    Ok(format!("flooded {count}"))
}

/// As many destinations as connections, all of them ours.
fn churn(port: u16, payload: &[u8], count: u32) -> Result<String> {
    for number in 1..=count {
        let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 1, 0, 0)) + number);
        let mut stream = TcpStream::connect_timeout(&(address, port).into(), patience(PATIENCE))?;
        stream.write_all(payload)?;
        reset_at_close(&stream)?;
    }
    Ok(format!("churned {count}"))
}

/// Says `open` when they are all there. A port for each is chosen here: the kernel would look for a free one longer and
/// longer.
fn crowd(source: SocketAddr, target: SocketAddr, count: u16) -> Result<String> {
    let files = u64::from(count) + 64;
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, files, most.max(files)).context("as many files as connections")?;
    let mut held = Vec::new();
    for number in 0..count {
        let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
        socket.bind(&SocketAddr::new(source.ip(), source.port() + number).into())?;
        socket
            .connect_timeout(&target.into(), patience(PATIENCE))
            .with_context(|| format!("connection {number}"))?;
        socket.set_linger(Some(Duration::ZERO))?;
        held.push(socket);
    }
    println!("open");
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(format!("held {count}"))
}

fn reset_at_close(stream: &TcpStream) -> Result<()> {
    Ok(socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO))?)
}

fn serve(address: SocketAddr, each: impl Fn(TcpStream)) -> Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into()).with_context(|| format!("binding {address}"))?;
    socket.listen(BACKLOG)?;
    let listener = TcpListener::from(socket);
    println!("ready {}", listener.local_addr()?);
    loop {
        // A connection that was reset while it waited is none.
        let Ok((stream, _)) = listener.accept() else { continue };
        stream.set_read_timeout(Some(patience(PATIENCE)))?;
        each(stream);
    }
}

fn sink(mut stream: TcpStream) {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    println!("got {}", bytes.len());
}

fn echo(mut stream: TcpStream) {
    let mut buffer = [0; 4096];
    if matches!(stream.read(&mut buffer), Ok(1..)) {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        while matches!(stream.read(&mut buffer), Ok(1..)) {}
    }
}
