//! A sender: four connections, four requests in flight on each, the same prepared bodies over and over.

use std::{
    io::stdin,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use http::{Request, Uri};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

const CONNECTIONS: usize = 4;
const IN_FLIGHT: usize = 4;
/// Enough that the bodies (20 MB) do not stay in the processor's caches.
const BODIES: usize = 64;

/// The variable with the token that is shown; empty for none.
pub(crate) const TOKEN: &str = "SPANWARDEN_BENCH_TOKEN";

/// Sends for so many seconds and prints how many spans were acknowledged.
pub(crate) fn run(address: &str, zstd: bool, seconds: u64) -> Result<()> {
    let token = std::env::var(TOKEN).unwrap_or_default();
    println!("{}", offer(address, &bodies(zstd)?, zstd, Duration::from_secs(seconds), &token)?);
    Ok(())
}

/// Reads `TARGET MILLISECONDS` from standard input, line by line, where the target is the first or the second of
/// these; offers load to it for that time and prints how many spans were acknowledged. Only the second is shown
/// the token.
pub(crate) fn turns(addresses: &[&str; 2]) -> Result<()> {
    let bodies = bodies(false)?;
    let token = std::env::var(TOKEN).unwrap_or_default();
    for line in stdin().lines() {
        let line = line?;
        let (target, time) = line.split_once(' ').context("TARGET MILLISECONDS")?;
        let target: usize = target.parse()?;
        let token = if target == 1 { token.as_str() } else { "" };
        let address = addresses.get(target).context("0 or 1")?;
        println!("{}", offer(address, &bodies, false, Duration::from_millis(time.parse()?), token)?);
    }
    Ok(())
}

fn bodies(zstd: bool) -> Result<Vec<Bytes>> {
    let bodies = spanwarden_tests::load::requests(BODIES, super::SPANS, 7);
    bodies.into_iter().map(|body| frame(&body, zstd)).collect()
}

fn offer(address: &str, bodies: &[Bytes], zstd: bool, time: Duration, token: &str) -> Result<u64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let end = Instant::now() + time;
        let mut senders = Vec::new();
        for number in 0..CONNECTIONS {
            let sender = connect(address).await?;
            for lane in 0..IN_FLIGHT {
                let first = (number * IN_FLIGHT + lane) * BODIES / (CONNECTIONS * IN_FLIGHT);
                senders.push(send(sender.clone(), address, bodies, first, zstd, end, token));
            }
        }
        let counts = futures_util::future::try_join_all(senders).await?;
        anyhow::Ok(counts.iter().sum::<u64>())
    })
}

/// The gRPC length prefix: one byte of flags, four of length.
fn frame(body: &[u8], zstd: bool) -> Result<Bytes> {
    let body = if zstd { zstd::bulk::compress(body, 1)? } else { body.to_vec() };
    let mut framed = BytesMut::with_capacity(body.len() + 5);
    framed.put_u8(u8::from(zstd));
    framed.put_u32(body.len() as u32);
    framed.put_slice(&body);
    Ok(framed.freeze())
}

async fn connect(address: &str) -> Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(1 << 20)
        .handshake(TokioIo::new(stream))
        .await?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn send(
    mut sender: SendRequest<Full<Bytes>>,
    address: &str,
    bodies: &[Bytes],
    first: usize,
    zstd: bool,
    end: Instant,
    token: &str,
) -> Result<u64> {
    let path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    let uri: Uri = format!("http://{address}{path}").parse()?;
    let mut acknowledged = 0;
    let bearer = format!("Bearer {token}");
    for body in bodies.iter().cycle().skip(first) {
        if Instant::now() >= end {
            break;
        }
        let mut request =
            Request::post(uri.clone()).header("content-type", "application/grpc").header("te", "trailers");
        if !token.is_empty() {
            request = request.header("authorization", &bearer);
        }
        if zstd {
            request = request.header("grpc-encoding", "zstd");
        }
        sender.ready().await?;
        let mut response = sender.send_request(request.body(Full::new(body.clone()))?).await?;
        let mut status = response.headers().get("grpc-status").cloned();
        while let Some(frame) = response.body_mut().frame().await {
            if let Ok(trailers) = frame?.into_trailers() {
                status = trailers.get("grpc-status").cloned();
            }
        }
        ensure!(status.as_ref().is_some_and(|s| s == "0"), "a request was refused: {status:?}");
        acknowledged += super::SPANS as u64;
    }
    Ok(acknowledged)
}
