//! Requests to a server that answers them.

#![forbid(unsafe_code)]

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
};

use anyhow::{Context, Result, bail};
use spanwarden_tests::{client, payload, process::Place};

use crate::PATIENCE;
use spanwarden_tests::patience::patience;

/// Sends a payload, `chunk` bytes a packet.
pub(crate) fn send(target: SocketAddr, name: &str, chunk: Option<&str>) -> Result<()> {
    let bytes = payload::by_name(name).with_context(|| format!("no payload {name}"))?;
    let chunk = chunk.map_or(Ok(bytes.len()), str::parse)?;
    let mut stream = TcpStream::connect_timeout(&target, patience(PATIENCE))?;
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

/// OTLP/HTTP with the content of a file.
pub(crate) fn post(target: SocketAddr, file: &str) -> Result<()> {
    let body = std::fs::read(file).with_context(|| file.to_owned())?;
    let mut stream = TcpStream::connect_timeout(&target, patience(PATIENCE))?;
    stream.set_read_timeout(Some(patience(PATIENCE)))?;
    let authorization = std::env::var("POD_CLIENT_AUTHORIZATION")
        .map_or_else(|_| String::new(), |value| format!("Authorization: {value}\r\n"));
    write!(
        stream,
        "POST /v1/traces HTTP/1.1\r\nHost: {target}\r\nContent-Type: application/x-protobuf\r\n\
         {authorization}Content-Length: {}\r\nConnection: close\r\n\r\n",
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

/// OTLP/gRPC with the content of a file.
pub(crate) fn grpc(target: SocketAddr, file: &str) -> Result<()> {
    let body = std::fs::read(file).with_context(|| file.to_owned())?;
    let answer = client::send_from(&Place::default(), target, client::Protocol::Grpc, body.into())?;
    if !answer.is_accepted() {
        bail!("{target}: {answer:?}");
    }
    println!("pid {}", std::process::id());
    Ok(())
}
