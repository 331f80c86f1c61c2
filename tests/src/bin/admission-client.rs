//! Sends OTLP from the pod that it runs in, with the credentials that it is told: one order a line on standard input, one
//! answer a line on standard output.
//!
//! ```text
//! {"to": "10.244.1.1:4317", "protocol": "grpc", "headers": [["authorization", "Bearer …"]], "body": "0a0b…",
//!  "tls": {"ca": FILE, "cert": FILE, "key": FILE}}              answer {"status": 16, "text": "…"}
//! {…, "repeat": 100, "per_second": 50, "token_file": FILE}      answer {"counts": {"0": 100}, "texts": {"0": ""}}
//! {…, "tokens_file": FILE}                                      the same with each line of it as a token, once
//! ```
//!
//! `status` is gRPC's or HTTP's. Where there is none, `text` says how the connection broke. What is repeated goes over one
//! connection as long as it lasts; the token file is read anew for each request, as SDKs that follow a projected volume do.

#![forbid(unsafe_code)]

use std::{collections::BTreeMap, fs, io::BufRead as _, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, sleep_until, timeout},
};
use tokio_rustls::TlsConnector;

/// Longest that one request may take.
const PATIENCE: Duration = Duration::from_mins(1);
const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// One order.
struct Order {
    to: SocketAddr,
    grpc: bool,
    headers: Vec<(String, String)>,
    body: Bytes,
    tls: Option<Arc<ClientConfig>>,
}

enum Link {
    Grpc(http2::SendRequest<Full<Bytes>>),
    Http(http1::SendRequest<Full<Bytes>>),
}

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        let order: Value = serde_json::from_str(&line?)?;
        let answer = runtime.block_on(obey(&order)).unwrap_or_else(|error| broken(&error));
        println!("answer {answer}");
    }
    Ok(())
}

async fn obey(value: &Value) -> Result<Value> {
    let order = read(value)?;
    if let Some(file) = value["tokens_file"].as_str() {
        let tokens: Vec<String> = fs::read_to_string(file)?.lines().map(str::to_owned).collect();
        let count = tokens.len() as u64;
        return repeat(&order, value, count, |number| Ok(tokens[number as usize].clone())).await;
    }
    if let (Some(count), Some(file)) = (value["repeat"].as_u64(), value["token_file"].as_str()) {
        return repeat(&order, value, count, |_| Ok(fs::read_to_string(file)?)).await;
    }
    let (status, text) = timeout(PATIENCE, async {
        let mut link = dial(&order).await?;
        send(&mut link, &order, None).await
    })
    .await
    .context("no answer in time")??;
    Ok(json!({"status": status, "text": text}))
}

async fn repeat(
    order: &Order,
    value: &Value,
    count: u64,
    token: impl Fn(u64) -> Result<String>,
) -> Result<Value> {
    let (mut counts, mut texts) = (BTreeMap::<String, u64>::new(), BTreeMap::<String, String>::new());
    let every = Duration::from_secs(1) / u32::try_from(value["per_second"].as_u64().unwrap_or(1_000_000))?;
    let (mut link, mut next) = (None, Instant::now());
    for number in 0..count {
        sleep_until(next).await;
        next = (next + every).max(Instant::now() - Duration::from_secs(1));
        let token = token(number)?;
        let one = async {
            // A connection that ends gracefully is no answer: as SDKs do, once more over a new one.
            if let Some(old) = link.as_mut()
                && let Ok(answer) = send(old, order, Some(&token)).await
            {
                return Ok(answer);
            }
            send(link.insert(dial(order).await?), order, Some(&token)).await
        };
        let one = timeout(PATIENCE, one).await.context("no answer in time").and_then(|answer| answer);
        let (status, text) = match one {
            Ok((status, text)) => (status.to_string(), text),
            Err(error) => {
                link = None;
                ("broken".to_owned(), format!("{error:#}"))
            }
        };
        *counts.entry(status.clone()).or_default() += 1;
        texts.entry(status).or_insert(text);
    }
    Ok(json!({"counts": counts, "texts": texts}))
}

fn broken(error: &anyhow::Error) -> Value {
    json!({"status": null, "text": format!("{error:#}")})
}

fn read(value: &Value) -> Result<Order> {
    let text = |value: &Value| value.as_str().map(str::to_owned).context("no text");
    let headers = value["headers"].as_array().context("no headers")?;
    let headers = headers.iter().map(|pair| Ok((text(&pair[0])?, text(&pair[1])?)));
    let body = text(&value["body"])?;
    let byte = |at: usize| Ok(u8::from_str_radix(body.get(at..at + 2).context("half a byte")?, 16)?);
    let body: Vec<u8> = (0..body.len()).step_by(2).map(byte).collect::<Result<_>>()?;
    let grpc = value["protocol"] == "grpc";
    Ok(Order {
        to: text(&value["to"])?.parse()?,
        grpc,
        headers: headers.collect::<Result<_>>()?,
        body: body.into(),
        tls: value["tls"].as_object().map(|_| tls(&value["tls"], grpc)).transpose()?,
    })
}

fn tls(value: &Value, grpc: bool) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(value["ca"].as_str().context("no CA")?)?)?;
    let builder = ClientConfig::builder_with_provider(spanwarden::transport::tls::provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let mut config = match (value["cert"].as_str(), value["key"].as_str()) {
        (Some(cert), Some(key)) => {
            let chain = CertificateDer::pem_file_iter(cert)?.collect::<Result<Vec<_>, _>>()?;
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key)?)?
        }
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![if grpc { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
    Ok(Arc::new(config))
}

async fn dial(order: &Order) -> Result<Link> {
    let stream = TcpStream::connect(order.to).await?;
    stream.set_nodelay(true)?;
    match &order.tls {
        None => shake(stream, order.grpc).await,
        Some(config) => {
            let name = ServerName::IpAddress(order.to.ip().into());
            shake(TlsConnector::from(Arc::clone(config)).connect(name, stream).await?, order.grpc).await
        }
    }
}

async fn shake<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(stream: S, grpc: bool) -> Result<Link> {
    if grpc {
        let (link, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Link::Grpc(link))
    } else {
        let (link, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Link::Http(link))
    }
}

async fn send(link: &mut Link, order: &Order, token: Option<&str>) -> Result<(u16, String)> {
    let mut request = match link {
        Link::Grpc(_) => Request::post(format!("http://test{EXPORT}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers"),
        Link::Http(_) => Request::post("/v1/traces")
            .header("host", "test")
            .header("content-type", "application/x-protobuf"),
    };
    for (name, value) in &order.headers {
        request = request.header(name, value);
    }
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {}", token.trim()));
    }
    match link {
        Link::Grpc(link) => {
            let mut framed = BytesMut::with_capacity(order.body.len() + 5);
            framed.put_u8(0);
            framed.put_u32(u32::try_from(order.body.len())?);
            framed.put(order.body.clone());
            link.ready().await?;
            let answer = link.send_request(request.body(Full::new(framed.freeze()))?).await?;
            let (_, headers, _) = parts(answer).await?;
            let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
            let status = text("grpc-status").context("no grpc-status")?.parse()?;
            Ok((status, text("grpc-message").unwrap_or_default().to_owned()))
        }
        Link::Http(link) => {
            link.ready().await?;
            let answer = link.send_request(request.body(Full::new(order.body.clone()))?).await?;
            let (status, _, body) = parts(answer).await?;
            // The protobuf around the message is not looked at.
            Ok((status, String::from_utf8_lossy(&body).into_owned()))
        }
    }
}

/// Status, headers with trailers, body.
async fn parts(answer: Response<Incoming>) -> Result<(u16, HeaderMap, Bytes)> {
    let (head, body) = answer.into_parts();
    let mut headers = head.headers;
    let body = body.collect().await?;
    headers.extend(body.trailers().cloned().unwrap_or_default());
    Ok((head.status.as_u16(), headers, body.to_bytes()))
}
