//! Exports in the steps of a case, as applications do it that give up TLS: by hyper and rustls.
//!
//! A case is one element of a JSON list: `name`, `protocol` (`http`, `grpc`), `target` and `steps`. A step is
//! `plain`, `pause`, or `tls`, `tls12`, `tls13`, with `/foreign` for a client that does not trust the server's
//! authority and `/late` for one that looks at the name after the handshake and then goes, and with
//! `/resumed` for a second connection that resumes the session of a first. For each step a line
//! `CASE STEP ok` or `CASE STEP failed: WHY` is printed. The Python and Go clients of the tests do the same.

#![forbid(unsafe_code)]

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use spanwarden_tests::payload::{self, Signal};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::tls;
use spanwarden_tests::patience::patience;

/// Longest that one step may take: less than the silent server is silent.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a `pause` is.
const PAUSE: Duration = Duration::from_millis(2_500);

/// Cases at the same time: what a slow processor still does of handshakes within one step's time.
const AT_ONCE: usize = 4;

/// Runs all cases, some at the same time, and the steps of each one after the other.
pub(crate) fn run(directory: &str, file: &str) -> Result<()> {
    let cases: Value = serde_json::from_str(&fs::read_to_string(file)?)?;
    let cases = cases.as_array().context("a list of cases")?;
    println!("pid {}", std::process::id());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let all = stream::iter(cases).map(|case| run_case(Path::new(directory), case));
    runtime.block_on(all.buffer_unordered(AT_ONCE).try_collect())
}

async fn run_case(directory: &Path, case: &Value) -> Result<()> {
    let text = |key: &str| case[key].as_str().with_context(|| format!("{key} of {case}"));
    let (name, grpc, target) = (text("name")?, text("protocol")? == "grpc", text("target")?.parse()?);
    for step in case["steps"].as_array().context("steps")? {
        let step = step.as_str().context("a step")?;
        if step == "pause" {
            tokio::time::sleep(patience(PAUSE)).await;
            continue;
        }
        let done = timeout(patience(PATIENCE), run_step(directory, step, grpc, target)).await;
        match done.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer in time"))) {
            Ok(()) => println!("{name} {step} ok"),
            Err(error) => println!("{name} {step} failed: {error:#}"),
        }
    }
    Ok(())
}

async fn run_step(directory: &Path, step: &str, grpc: bool, target: SocketAddr) -> Result<()> {
    let stream = TcpStream::connect(target).await?;
    if step == "plain" {
        return export(stream, grpc, target).await;
    }
    let (version, how) = step.split_once('/').unwrap_or((step, ""));
    let version = match version {
        "tls" => tls::Version::Any,
        "tls12" => tls::Version::Tls12,
        "tls13" => tls::Version::Tls13,
        other => bail!("no step is called {other:?}"),
    };
    let alpn: &[u8] = if grpc { b"h2" } else { b"http/1.1" };
    let connector = TlsConnector::from(tls::client(directory, version, how == "foreign", alpn)?);
    let name = if how == "late" { "elsewhere.example".try_into()? } else { target.ip().into() };
    let stream = connector.connect(name, stream).await?;
    if how == "resumed" {
        // After an answer the server's tickets have come.
        export(stream, grpc, target).await?;
        let second = connector.connect(target.ip().into(), TcpStream::connect(target).await?).await?;
        let kind = second.get_ref().1.handshake_kind();
        ensure!(kind == Some(rustls::HandshakeKind::Resumed), "the handshake was {kind:?}");
        return export(second, grpc, target).await;
    }
    ensure!(how != "late", "the certificate is for another name than {target}");
    export(stream, grpc, target).await
}

async fn export<S>(stream: S, grpc: bool, target: SocketAddr) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let message = payload::message(100);
    let request = |kind: &str, path: &str, body: Vec<u8>| {
        Request::post(format!("http://{target}{path}"))
            .header("host", target.to_string())
            .header("content-type", kind)
            .body(Full::new(Bytes::from(body)))
    };
    let stream = TokioIo::new(stream);
    if grpc {
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
        tokio::spawn(connection);
        let framed = [&[0], u32::try_from(message.len())?.to_be_bytes().as_slice(), &message].concat();
        let request = request("application/grpc", Signal::Traces.grpc_path().text, framed)?;
        accepted(sender.send_request(request).await?).await
    } else {
        let (mut sender, connection) = http1::handshake(stream).await?;
        tokio::spawn(connection);
        let request = request("application/x-protobuf", Signal::Traces.http_path().text, message)?;
        accepted(sender.send_request(request).await?).await
    }
}

async fn accepted(answer: Response<Incoming>) -> Result<()> {
    let status = answer.status();
    answer.into_body().collect().await?;
    ensure!(status.is_success(), "{status}");
    Ok(())
}
