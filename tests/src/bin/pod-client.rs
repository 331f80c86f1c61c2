//! What runs in the pods of the tests: opens connections and says on each of them who it is, so that the
//! receiving side can compare that with what the kernel says.
//!
//! ```text
//! pod-client stay     POD-UID TARGET FIRST COUNT [SOURCE]   COUNT connections, one after the other
//! pod-client one-shot POD-UID TARGET FIRST COUNT            each from a process that exits at once
//! pod-client hold     POD-UID TARGET ID [SOURCE]            one connection, open until standard input ends
//! pod-client send     TARGET PAYLOAD [CHUNK]                a payload (see `payload`), CHUNK bytes a packet
//! pod-client post     TARGET FILE                           an OTLP/HTTP request with FILE as body
//! pod-client grpc     TARGET FILE                           the same over OTLP/gRPC
//! pod-client drain    ADDRESS                               accepts connections and reads them to their end
//! ```
//!
//! With `POD_CLIENT_UID` in the environment it becomes that user first.

use std::{
    env,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::{
        prctl::set_name,
        wait::{WaitStatus, waitpid},
    },
    unistd::{ForkResult, Uid, fork, getuid, setuid},
};
use socket2::{Domain, Protocol, Socket, Type};
use spanwarden_tests::{client, payload, process::Place};

const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let Some(uid) = env::var_os("POD_CLIENT_UID") {
        let uid = uid.to_str().and_then(|uid| uid.parse().ok()).context("POD_CLIENT_UID is no number")?;
        setuid(Uid::from_raw(uid))?;
    }
    match arguments.as_slice() {
        ["stay", uid, target, first, count, source @ ..] => {
            let (target, source) = (target.parse()?, address(source)?);
            for id in ids(first, count)? {
                introduce(uid, target, id, source)?;
            }
        }
        ["one-shot", uid, target, first, count] => {
            let target = target.parse()?;
            for id in ids(first, count)? {
                in_own_process(|| introduce(uid, target, id, None).map(|_| ()))?;
            }
        }
        ["hold", uid, target, id, source @ ..] => {
            let stream = introduce(uid, target.parse()?, id.parse()?, address(source)?)?;
            println!("open {}", stream.local_addr()?);
            std::io::stdin().read_to_end(&mut Vec::new())?;
        }
        ["send", target, name, chunk @ ..] => send(target.parse()?, name, chunk.first().copied())?,
        ["post", target, file] => post(target.parse()?, file)?,
        ["grpc", target, file] => grpc(target.parse()?, file)?,
        ["drain", address] => drain(address.parse()?)?,
        _ => bail!("unknown arguments: {arguments:?}"),
    }
    Ok(())
}

fn ids(first: &str, count: &str) -> Result<std::ops::Range<u64>> {
    let (first, count): (u64, u64) = (first.parse()?, count.parse()?);
    Ok(first..first + count)
}

fn address(arguments: &[&str]) -> Result<Option<SocketAddr>> {
    arguments.first().map(|text| text.parse()).transpose().context("the source address")
}

/// Connects and says id, pid, pod, own address, uid and name in one line.
fn introduce(pod: &str, target: SocketAddr, id: u64, source: Option<SocketAddr>) -> Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
    if let Some(source) = source {
        socket.set_reuse_address(true)?;
        socket.bind(&source.into()).with_context(|| format!("binding {source}"))?;
    }
    socket.connect_timeout(&target.into(), PATIENCE).with_context(|| format!("connecting to {target}"))?;
    let mut stream = TcpStream::from(socket);
    let comm = std::fs::read_to_string("/proc/self/comm")?;
    let (pid, uid, local) = (std::process::id(), getuid(), stream.local_addr()?);
    stream.write_all(format!("{id} {pid} {pod} {local} {uid} {}\n", comm.trim_end()).as_bytes())?;
    Ok(stream)
}

/// Runs `work` in a forked process and waits until that is gone.
fn in_own_process(work: impl FnOnce() -> Result<()>) -> Result<()> {
    // SAFETY: this process has one thread, so the child may do all that its parent may (fork(2)).
    match unsafe { fork() }? {
        ForkResult::Child => {
            let result = set_name(c"one-shot").map_err(Into::into).and_then(|()| work());
            if let Err(error) = &result {
                eprintln!("{error:#}");
            }
            // SAFETY: _exit(2) has no preconditions; it skips the exit handlers, which are the parent's.
            unsafe { libc::_exit(i32::from(result.is_err())) }
        }
        ForkResult::Parent { child } => match waitpid(child, None)? {
            WaitStatus::Exited(_, 0) => Ok(()),
            other => bail!("the process of one connection failed: {other:?}"),
        },
    }
}

fn send(target: SocketAddr, name: &str, chunk: Option<&str>) -> Result<()> {
    let bytes = payload::by_name(name).with_context(|| format!("no payload {name}"))?;
    let chunk = chunk.map_or(Ok(bytes.len()), str::parse)?;
    let mut stream = TcpStream::connect_timeout(&target, PATIENCE)?;
    stream.set_nodelay(true)?;
    println!("pid {} local {}", std::process::id(), stream.local_addr()?);
    for part in bytes.chunks(chunk.max(1)) {
        stream.write_all(part)?;
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    // The other side closes when it has read all.
    stream.read_to_end(&mut Vec::new())?;
    Ok(())
}

fn post(target: SocketAddr, file: &str) -> Result<()> {
    let body = std::fs::read(file).with_context(|| file.to_owned())?;
    let mut stream = TcpStream::connect_timeout(&target, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "POST /v1/traces HTTP/1.1\r\nHost: {target}\r\nContent-Type: application/x-protobuf\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    stream.write_all(&body)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if !answer.starts_with("HTTP/1.1 200 ") {
        bail!("{target}: {answer}");
    }
    println!("pid {}", std::process::id());
    Ok(())
}

fn grpc(target: SocketAddr, file: &str) -> Result<()> {
    let body = std::fs::read(file).with_context(|| file.to_owned())?;
    let answer = client::send_from(&Place::default(), target, client::Protocol::Grpc, body.into())?;
    if !answer.is_accepted() {
        bail!("{target}: {answer:?}");
    }
    println!("pid {}", std::process::id());
    Ok(())
}

fn drain(address: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(address)?;
    println!("ready {}", listener.local_addr()?);
    for stream in listener.incoming() {
        let mut stream = stream?;
        thread::spawn(move || {
            let _ = stream.set_read_timeout(Some(PATIENCE));
            let mut buffer = [0; 4096];
            while matches!(stream.read(&mut buffer), Ok(1..)) {}
        });
    }
    Ok(())
}
