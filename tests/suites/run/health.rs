//! `/livez` and `/readyz` through a life: starting, ready, draining.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    thread,
};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use spanwarden_tests::{
    agent::{Directory, Start, binary},
    client::{Protocol, send_from},
    process::Process,
};

use super::common::*;

const CONFIG: &str = "
extensions:
  health_check: {endpoint: '127.0.0.1:13133'}
receivers:
  otlp: {protocols: {http: {endpoint: '127.0.0.1:4318'}}}
processors:
  batch: {timeout: 60s, send_batch_size: 100000}
exporters:
  otlphttp: {endpoint: 'http://127.0.0.1:14318', compression: none}
service:
  extensions: [health_check]
  pipelines:
    traces: {receivers: [otlp], processors: [batch], exporters: [otlphttp]}
";

/// Takes one request, says so, and answers it when told to.
fn slow_backend(
    listener: &TcpListener,
    arrived: &mpsc::Sender<()>,
    answer: &mpsc::Receiver<()>,
) -> Result<()> {
    let (mut stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    while !complete(&seen) {
        let read = stream.read(&mut buffer)?;
        anyhow::ensure!(read > 0, "the exporter went away");
        seen.extend_from_slice(&buffer[..read]);
    }
    arrived.send(())?;
    answer.recv_timeout(PATIENCE)?;
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n";
    Ok(stream.write_all(head.as_bytes())?)
}

/// Whether a request with a `Content-Length` is all there.
fn complete(seen: &[u8]) -> bool {
    let text = String::from_utf8_lossy(seen).to_ascii_lowercase();
    let Some(end) = seen.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    length.is_some_and(|length: usize| seen.len() >= end + 4 + length)
}

/// A soft limit as a shell or container runtime sets it would end the receiver at some hundred connections.
#[test]
fn the_limit_of_descriptors_is_raised() -> Result<()> {
    let (place, directory) = (place()?, Directory::new()?);
    fs::write(directory.path().join("config.yaml"), CONFIG)?;
    let mut command = place.command("sh")?;
    command.args(["-c", "ulimit -S -n 128; exec \"$0\" run --config config.yaml"]).arg(binary()?);
    command.current_dir(directory.path());
    let mut process = Process::spawn("spanwarden", command)?;
    process
        .wait_until("readiness", PATIENCE, |_| Ok((status(&place, "/readyz") == Some(200)).then_some(())))?;
    let limits = fs::read_to_string(format!("/proc/{}/limits", process.id()))?;
    let line =
        limits.lines().find_map(|line| line.strip_prefix("Max open files")).context("no such limit")?;
    let mut columns = line.split_whitespace();
    let (soft, hard) = (columns.next(), columns.next());
    assert!(soft.is_some_and(|soft| soft != "128") && soft == hard, "{line}");
    assert!(process.stop(PATIENCE)?.success(), "{}", process.output());
    Ok(())
}

#[test]
fn ready_from_the_first_listener_to_the_drain_and_live_throughout() -> Result<()> {
    let place = place()?;
    let netns = place.netns.clone().context("a namespace")?;
    let listener = netns.within(|| TcpListener::bind(local(14318)))??;
    let (arrived, arrival) = mpsc::channel();
    let (release, released) = mpsc::channel();
    let backend = thread::spawn(move || slow_backend(&listener, &arrived, &released));

    let mut agent = Start::new(CONFIG).place(&place).start()?;
    wait_ready(&place)?;
    netns.within(|| TcpStream::connect(HTTP))?.context("ready, and nobody listens")?;
    assert_eq!((status(&place, "/livez"), status(&place, "/")), (Some(200), Some(200)));
    assert_eq!(status(&place, "/elsewhere"), Some(404));
    let answer = send_from(&place, HTTP, Protocol::Protobuf, request(Vec::new(), vec![span(1, 0, true)]))?;
    assert!(answer.is_accepted(), "{answer:?}");

    agent.process().signal(Signal::SIGTERM)?;
    arrival.recv_timeout(PATIENCE).context("the drain sends what `batch` holds")?;
    // The backend holds the drain up now.
    assert_eq!((status(&place, "/readyz"), status(&place, "/livez")), (Some(503), Some(200)));
    let refused = netns.within(|| TcpStream::connect(HTTP))?;
    assert!(refused.is_err(), "a draining program takes no new connections");
    release.send(())?;
    backend.join().expect("the backend does not panic")?;
    let exit = agent.process().wait(PATIENCE)?;
    assert!(exit.success(), "{exit}\n{}", agent.logs());
    Ok(())
}
