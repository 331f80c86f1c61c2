//! A small OTLP client: the three ways in which an SDK sends, and what the answer was.

#![forbid(unsafe_code)]

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result};
use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpStream, time::timeout};

use crate::patience::patience;
use crate::process::Place;

/// Longest that one request may take.
const PATIENCE: Duration = Duration::from_secs(30);
const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// How a request is written and carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// OTLP/gRPC
    Grpc,
    /// OTLP/HTTP with a protobuf body
    Protobuf,
    /// OTLP/HTTP with a JSON body
    Json,
}

/// What a request was answered with.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub http: u16,
    /// `grpc-status`, from headers or trailers.
    pub grpc: Option<u16>,
    /// All headers and trailers.
    pub headers: HeaderMap,
    /// The body, or `grpc-message`.
    pub text: String,
}

impl Answer {
    /// Whether the spans were taken.
    pub fn is_accepted(&self) -> bool {
        self.http == 200 && matches!(self.grpc, None | Some(0))
    }

    /// A header or trailer.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Sends one request on a connection of its own.
pub async fn send(to: SocketAddr, protocol: Protocol, body: Bytes) -> Result<Answer> {
    let exchange = async {
        let stream = TcpStream::connect(to).await?;
        match protocol {
            Protocol::Grpc => grpc(stream, body).await,
            Protocol::Protobuf => http(stream, "application/x-protobuf", body).await,
            Protocol::Json => http(stream, "application/json", body).await,
        }
    };
    let answer =
        timeout(patience(PATIENCE), exchange).await.with_context(|| format!("{to}: no answer in time"))?;
    answer.with_context(|| format!("{protocol:?} to {to}"))
}

/// As [`send`], from a place and without a runtime.
pub fn send_from(place: &Place, to: SocketAddr, protocol: Protocol, body: Bytes) -> Result<Answer> {
    from(place, || async move { send(to, protocol, body).await })?
}

/// Runs a future in a place's network namespace; its sockets belong there.
pub fn from<F: Future>(place: &Place, work: impl FnOnce() -> F + Send) -> Result<F::Output>
where
    F::Output: Send,
{
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(runtime.block_on(work()))
    };
    match &place.netns {
        Some(netns) => netns.within(run)?,
        None => run(),
    }
}

async fn http(stream: TcpStream, content_type: &str, body: Bytes) -> Result<Answer> {
    let (mut sender, connection) = conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::post("/v1/traces")
        .header("host", "test")
        .header("content-type", content_type)
        .body(Full::new(body))?;
    let (head, body) = sender.send_request(request).await?.into_parts();
    let text = String::from_utf8_lossy(&body.collect().await?.to_bytes()).into_owned();
    Ok(Answer { http: head.status.as_u16(), grpc: None, headers: head.headers, text })
}

async fn grpc(stream: TcpStream, message: Bytes) -> Result<Answer> {
    let (mut sender, connection) = conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let mut framed = BytesMut::with_capacity(message.len() + 5);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len())?);
    framed.put(message);
    let request = Request::post(format!("http://test{EXPORT}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(framed.freeze()))?;
    let (head, body) = sender.send_request(request).await?.into_parts();
    let mut headers = head.headers;
    headers.extend(body.collect().await?.trailers().cloned().unwrap_or_default());
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (status, message) = (text("grpc-status"), text("grpc-message").unwrap_or_default());
    let grpc = Some(status.context("no grpc-status")?.parse()?);
    Ok(Answer { http: head.status.as_u16(), grpc, headers, text: message })
}
