//! An OTLP server that speaks plaintext and TLS on the same ports, so that a client which gives up TLS finds what it
//! looks for.
//!
//! Each port has a list of behaviours towards connections that begin with a `ClientHello`, one after the other; the
//! last one stays:
//!
//! | behaviour | is |
//! |---|---|
//! | `tls`, `tls12`, `tls13` | TLS, of both versions or of one |
//! | `mtls12`, `mtls13` | with a client's certificate demanded |
//! | `other` | TLS with a certificate for another name |
//! | `http1`, `http2` | a server that knows no TLS |
//! | `close`, `reset`, `silent` | no answer |
//! | `only` | TLS, whatever the connection begins with |
//!
//! What comes in a `CONNECT` tunnel is served as if it had come without.
//!
//! It prints, each with the port before it, `tls PEER`, `plain PEER` and, for each request, `request PEER PATH`.

#![forbid(unsafe_code)]

use std::{
    convert::Infallible,
    net::{Ipv6Addr, SocketAddr},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use crate::{PATIENCE, tls};
use spanwarden_tests::patience::patience;

/// The first byte of a TLS handshake record (RFC 8446 section 5.1).
const HANDSHAKE: u8 = 0x16;
/// Longer than any client here waits for an answer.
const SILENCE: std::time::Duration = std::time::Duration::from_secs(20);

/// Serves `PORT=BEHAVIOUR,BEHAVIOUR…` for each of `ports`, with the certificates of `directory`.
pub(crate) fn run(directory: &str, ports: &[&str]) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        for port in ports {
            let (port, behaviours) =
                port.split_once('=').with_context(|| format!("{port}: PORT=BEHAVIOUR"))?;
            let address = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port.parse()?);
            let listener = TcpListener::bind(address).await.with_context(|| format!("binding {address}"))?;
            let server = Server {
                port: address.port(),
                behaviours: behaviours
                    .split(',')
                    .map(|name| Behaviour::read(name, Path::new(directory)))
                    .collect::<Result<_>>()?,
                next: AtomicUsize::new(0),
            };
            tokio::spawn(Arc::new(server).accept(listener));
        }
        println!("ready");
        std::future::pending::<()>().await;
        Ok(())
    })
}

#[derive(Clone)]
enum Behaviour {
    Tls(TlsAcceptor),
    Http1,
    Http2,
    Close,
    Reset,
    Silent,
    Only(TlsAcceptor),
}

impl Behaviour {
    fn read(name: &str, directory: &Path) -> Result<Self> {
        use tls::{Server, Version};
        let tls = |version, kind| tls::server(directory, version, kind).map(TlsAcceptor::from);
        Ok(match name {
            "tls" => Self::Tls(tls(Version::Any, Server::Plain)?),
            "tls12" => Self::Tls(tls(Version::Tls12, Server::Plain)?),
            "tls13" => Self::Tls(tls(Version::Tls13, Server::Plain)?),
            "mtls12" => Self::Tls(tls(Version::Tls12, Server::AsksClient)?),
            "mtls13" => Self::Tls(tls(Version::Tls13, Server::AsksClient)?),
            "other" => Self::Tls(tls(Version::Any, Server::OtherName)?),
            "only" => Self::Only(tls(Version::Any, Server::Plain)?),
            "http1" => Self::Http1,
            "http2" => Self::Http2,
            "close" => Self::Close,
            "reset" => Self::Reset,
            "silent" => Self::Silent,
            _ => bail!("no behaviour is called {name:?}"),
        })
    }
}

struct Server {
    port: u16,
    behaviours: Vec<Behaviour>,
    next: AtomicUsize,
}

impl Server {
    async fn accept(self: Arc<Self>, listener: TcpListener) {
        while let Ok((stream, peer)) = listener.accept().await {
            let server = Arc::clone(&self);
            tokio::spawn(async move {
                if let Err(error) = server.serve(stream, peer).await {
                    eprintln!("{peer}: {error:#}");
                }
            });
        }
    }

    async fn serve(&self, stream: TcpStream, peer: SocketAddr) -> Result<()> {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let mut stream = stream;
        let mut first = first_bytes(&stream).await?;
        if first == *b"CON" {
            stream = open_tunnel(stream).await?;
            println!("{} tunnel {peer}", self.port);
            first = first_bytes(&stream).await?;
        }
        if first[0] == 0 {
            return Ok(());
        }
        let only = matches!(self.behaviours[0], Behaviour::Only(_));
        if first[0] != HANDSHAKE && !only {
            println!("{} plain {peer}", self.port);
            return if first == *b"PRI" {
                http2(self.port, stream, peer).await
            } else {
                http1(self.port, stream, peer).await
            };
        }
        println!("{} {} {peer}", self.port, if first[0] == HANDSHAKE { "tls" } else { "plain" });
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        match &self.behaviours[number.min(self.behaviours.len() - 1)] {
            Behaviour::Tls(acceptor) | Behaviour::Only(acceptor) => self.tls(stream, peer, acceptor).await,
            Behaviour::Http1 => http1(self.port, stream, peer).await,
            Behaviour::Http2 => http2(self.port, stream, peer).await,
            Behaviour::Close => read_some(stream).await.map(drop),
            Behaviour::Reset => {
                let stream = read_some(stream).await?;
                stream.set_zero_linger()?;
                Ok(())
            }
            Behaviour::Silent => {
                let stream = read_some(stream).await?;
                tokio::time::sleep(patience(SILENCE)).await;
                drop(stream);
                Ok(())
            }
        }
    }

    async fn tls(&self, stream: TcpStream, peer: SocketAddr, acceptor: &TlsAcceptor) -> Result<()> {
        let stream = timeout(patience(PATIENCE), acceptor.accept(stream)).await??;
        match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => http2(self.port, stream, peer).await,
            _ => http1(self.port, stream, peer).await,
        }
    }
}

async fn http1(port: u16, stream: impl AsyncRead + AsyncWrite + Unpin, peer: SocketAddr) -> Result<()> {
    let serve = service_fn(move |request| answer(port, request, peer));
    Ok(http1::Builder::new().serve_connection(TokioIo::new(stream), serve).await?)
}

async fn http2(port: u16, stream: impl AsyncRead + AsyncWrite + Unpin, peer: SocketAddr) -> Result<()> {
    let serve = service_fn(move |request| answer(port, request, peer));
    Ok(http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), serve).await?)
}

/// Success, without a message: every field of the answer has its default.
async fn answer(
    port: u16,
    request: Request<Incoming>,
    peer: SocketAddr,
) -> Result<Response<impl hyper::body::Body<Data = Bytes, Error = Infallible>>> {
    let path = request.uri().path().to_owned();
    let kind = request.headers().get(header::CONTENT_TYPE).cloned();
    let grpc = kind.as_ref().is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    request.into_body().collect().await?;
    println!("{port} request {peer} {path}");
    let mut frames = Vec::new();
    if grpc {
        frames.push(Ok(Frame::data(Bytes::from_static(&[0; 5]))));
        let trailers = [(header::HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))];
        frames.push(Ok(Frame::trailers(HeaderMap::from_iter(trailers))));
    }
    let kind = kind.unwrap_or(HeaderValue::from_static("application/x-protobuf"));
    let body = StreamBody::new(futures_util::stream::iter(frames));
    Ok(Response::builder().header(header::CONTENT_TYPE, kind).body(body)?)
}

/// The first three, which the clients here send at once; zeroes when the connection ends before.
async fn first_bytes(stream: &TcpStream) -> Result<[u8; 3]> {
    let mut first = [0; 3];
    timeout(patience(PATIENCE), stream.peek(&mut first)).await??;
    Ok(first)
}

/// Reads the head of the request for a tunnel and says that it is there.
async fn open_tunnel(mut stream: TcpStream) -> Result<TcpStream> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        ensure!(head.len() < 4_096, "a request for a tunnel without an end");
        head.push(timeout(patience(PATIENCE), stream.read_u8()).await??);
    }
    stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    Ok(stream)
}

/// The `ClientHello`, or most of it.
async fn read_some(mut stream: TcpStream) -> Result<TcpStream> {
    let mut buffer = vec![0; 16_384];
    timeout(patience(PATIENCE), stream.read(&mut buffer)).await??;
    Ok(stream)
}
