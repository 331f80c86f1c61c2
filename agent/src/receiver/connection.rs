//! One connection, from its first byte to its end.

#![forbid(unsafe_code)]

use std::{
    convert::Infallible,
    error::Error as _,
    future::Future,
    io,
    ops::Deref,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{Request, Response};
use http_body::Body as _;
use hyper::{body::Incoming, server::conn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    sync::Notify,
    time::timeout,
};

use super::{
    Protocol, Shutdown, Transport,
    accept::Service,
    admission::Share,
    drive::{Activity, End, drive},
    grpc, http as otlp_http,
    linger::linger,
    reply::Reply,
    sniff::{self, Sniffed},
};
use crate::{origin::Origin, transport::tls};

/// HTTP/2 windows: a whole batch of the default size arrives without waiting for a window update, and a frame of
/// up to 1 MiB without being cut into pieces. A connection's unread bytes stay below its window.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
const MAX_FRAME: u32 = 1 << 20;
/// Headers of a request: gRPC's default of 16 KiB, for HTTP/1 as well.
const MAX_HEADERS: u32 = 16 << 10;
/// gRPC's `keepalive.server_parameters` where they are not configured.
const KEEPALIVE_TIME: Duration = Duration::from_hours(2);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// To send the last bytes of a connection.
const LAST_BYTES: Duration = Duration::from_secs(2);

/// What the requests of one connection share.
pub(super) struct Connection {
    service: Arc<Service>,
    pub(super) origin: Arc<Origin>,
    pub(super) share: Arc<Share>,
    pub(super) activity: Activity,
    /// Told to end the connection gracefully.
    pub(super) close: Notify,
    /// A request was answered without reading all of its body.
    unread: AtomicBool,
}

impl Deref for Connection {
    type Target = Service;

    fn deref(&self) -> &Service {
        &self.service
    }
}

impl Connection {
    /// Notes that `body` will not be read to its end.
    pub(super) fn discard(&self, body: &Incoming) {
        if !body.is_end_stream() {
            self.unread.store(true, Ordering::Relaxed);
        }
    }

    /// Whether there is such a body. The connection cannot be used again, nor closed at once, if it is of HTTP/1.
    pub(super) fn has_unread(&self) -> bool {
        self.unread.load(Ordering::Relaxed)
    }
}

/// The protocol that was agreed on.
enum Http {
    One,
    Two,
}

/// One line a connection: who opened it. The demo and whoever asks "who is that" read it.
fn log_accepted(transport: Transport, origin: &Origin) {
    let (process, pod) = (origin.process.as_ref(), origin.pod.as_deref());
    tracing::debug!(
        target: "spanwarden::receiver::connection",
        %transport,
        peer = %origin.peer,
        evidence = %origin.evidence,
        k8s.namespace.name = pod.map_or("", |pod| pod.namespace.as_str()),
        k8s.pod.name = pod.map_or("", |pod| pod.name.as_str()),
        k8s.pod.uid = origin.pod_uid.as_deref().unwrap_or_default(),
        process.pid = process.map_or(0, |process| process.pid),
        process.comm = process.map_or("", |process| process.comm.as_str()),
        "connection accepted"
    );
}

/// Serves an accepted socket to its end.
pub(super) async fn serve(service: Arc<Service>, stream: TcpStream, origin: Arc<Origin>, shutdown: Shutdown) {
    let largest = match service.protocol {
        Protocol::Grpc { max_message, .. } => max_message,
        Protocol::Http { max_body, .. } => max_body,
    };
    let connection = Arc::new(Connection {
        share: service.upstream.admission.share(largest as u64),
        service,
        origin,
        activity: Activity::default(),
        close: Notify::new(),
        unread: AtomicBool::new(false),
    });
    let patience = match connection.protocol {
        Protocol::Http { header_timeout, .. } if connection.tls.is_none() => header_timeout,
        _ => connection.limits.handshake,
    };
    let mut drain = shutdown.clone();
    let opened = tokio::select! {
        opened = timeout(patience, Sniffed::sniff(stream)) => opened,
        // Nothing was said yet, so nothing is lost.
        _ = drain.requested() => return,
    };
    let Ok(opened) = opened else {
        connection.refuse_connection(&connection.origin, "silent", "it said nothing in time");
        return;
    };
    // A reset before the first bytes, or a port probe, is no fault of anybody's.
    let Ok((stream, protocol)) = opened else { return };
    if protocol == sniff::Protocol::Nothing {
        return;
    }
    log_accepted(connection.transport, &connection.origin);
    match &connection.tls {
        Some(acceptor) if protocol == sniff::Protocol::Tls => {
            let handshake = timeout(connection.limits.handshake, acceptor.accept(stream)).await;
            let cause = match handshake {
                Ok(Ok(stream)) => return serve_tls(connection, stream, shutdown).await,
                Ok(Err(error)) => (tls_cause(&error), error.to_string()),
                Err(_) => ("tls_timeout", "the TLS handshake took too long".to_owned()),
            };
            connection.refuse_connection(&connection.origin, cause.0, &cause.1);
        }
        Some(_) => {
            let detail = "it speaks plaintext, this port speaks TLS; use https there";
            connection.refuse_connection(&connection.origin, "plaintext_on_tls_port", detail);
            if let Some(answer) = sniff::answer_to_plaintext(protocol) {
                answer_and_close(&connection, stream, &answer).await;
            }
        }
        None => serve_plain(connection, stream, protocol, shutdown).await,
    }
}

async fn serve_plain(
    connection: Arc<Connection>,
    stream: Sniffed<TcpStream>,
    protocol: sniff::Protocol,
    shutdown: Shutdown,
) {
    match (protocol, connection.transport) {
        (sniff::Protocol::Tls, _) => {
            let detail = "it speaks TLS, this port speaks plaintext; configure tls here, or `insecure` there";
            connection.refuse_connection(&connection.origin, "tls_on_plaintext_port", detail);
            answer_and_close(&connection, stream, sniff::ANSWER_TO_TLS).await;
        }
        (sniff::Protocol::Http1, Transport::Grpc) => {
            let detail = "it speaks HTTP/1 on the gRPC port; OTLP/HTTP has a port of its own";
            connection.refuse_connection(&connection.origin, "http1_on_grpc_port", detail);
            answer_and_close(&connection, stream, &sniff::answer_to_http1_on_grpc()).await;
        }
        (sniff::Protocol::Http2, _) | (_, Transport::Grpc) => {
            serve_http(connection, stream, Http::Two, shutdown).await;
        }
        (_, Transport::Http) => serve_http(connection, stream, Http::One, shutdown).await,
    }
}

async fn serve_tls(
    connection: Arc<Connection>,
    stream: tokio_rustls::server::TlsStream<Sniffed<TcpStream>>,
    shutdown: Shutdown,
) {
    // Old gRPC clients do not negotiate.
    let http = match stream.get_ref().1.alpn_protocol() {
        Some(tls::H2) => Http::Two,
        None if connection.transport == Transport::Grpc => Http::Two,
        _ => Http::One,
    };
    serve_http(connection, stream, http, shutdown).await;
}

async fn serve_http<S>(connection: Arc<Connection>, stream: S, http: Http, shutdown: Shutdown)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let handler = Handler { connection: Arc::clone(&connection) };
    match http {
        Http::Two => {
            let mut conn = Box::pin(http2(&connection).serve_connection(TokioIo::new(stream), handler));
            drive(&mut conn, &connection, shutdown).await;
        }
        Http::One => {
            let mut conn = http1(&connection).serve_connection(TokioIo::new(stream), handler);
            let end = drive(&mut conn, &connection, shutdown).await;
            let mut stream = conn.into_parts().io.into_inner();
            let sending = match end {
                End::Done => connection.has_unread(),
                End::Malformed => true,
                End::Cut => false,
            };
            match connection.protocol {
                Protocol::Http { max_body, .. } if sending => {
                    linger(&mut stream, &connection.limits, max_body).await;
                }
                _ => drop(timeout(LAST_BYTES, stream.shutdown()).await),
            }
        }
    }
}

fn http2(connection: &Connection) -> conn::http2::Builder<TokioExecutor> {
    let keepalive = &connection.keepalive;
    let mut builder = conn::http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(MAX_FRAME)
        .max_header_list_size(MAX_HEADERS)
        .keep_alive_interval(keepalive.time.unwrap_or(KEEPALIVE_TIME))
        .keep_alive_timeout(keepalive.timeout.unwrap_or(KEEPALIVE_TIMEOUT))
        .auto_date_header(false);
    if let Protocol::Grpc { max_streams, .. } = connection.protocol {
        builder.max_concurrent_streams(max_streams);
    }
    builder
}

fn http1(connection: &Connection) -> conn::http1::Builder {
    let mut builder = conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).max_header_size(MAX_HEADERS as usize);
    if let Protocol::Http { header_timeout, .. } = connection.protocol {
        builder.header_read_timeout(header_timeout);
    }
    builder
}

/// The service that hyper calls.
pub(super) struct Handler {
    connection: Arc<Connection>,
}

impl hyper::service::Service<Request<Incoming>> for Handler {
    type Response = Response<Reply>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let connection = Arc::clone(&self.connection);
        Box::pin(async move {
            let _busy = connection.activity.enter();
            Ok(match &connection.protocol {
                Protocol::Grpc { max_message, .. } => grpc::handle(&connection, request, *max_message).await,
                Protocol::Http { path, max_body, .. } => {
                    otlp_http::handle(&connection, request, path, *max_body).await
                }
            })
        })
    }
}

/// Sends a last word to a client that speaks the wrong protocol.
async fn answer_and_close(connection: &Connection, mut stream: Sniffed<TcpStream>, answer: &[u8]) {
    if let Ok(Ok(())) = timeout(LAST_BYTES, stream.get_mut().write_all(answer)).await {
        linger(&mut stream, &connection.limits, 0).await;
    }
}

/// Why a handshake failed, as far as an operator can act on it.
fn tls_cause(error: &io::Error) -> &'static str {
    let rustls = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    match rustls {
        Some(rustls::Error::NoCertificatesPresented) => "tls_no_client_certificate",
        Some(rustls::Error::InvalidCertificate(_)) => "tls_client_certificate",
        Some(rustls::Error::AlertReceived(_)) => "tls_rejected_by_client",
        Some(rustls::Error::PeerIncompatible(_)) => "tls_incompatible",
        Some(_) => "tls_malformed",
        None => "tls_aborted",
    }
}

/// Whether the peer went away, as against having broken the protocol.
pub(super) fn is_disconnect(error: &hyper::Error) -> bool {
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        return true;
    }
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(h2) = error.downcast_ref::<h2::Error>() {
            return h2.is_io() || h2.is_remote();
        }
        if let Some(io) = error.downcast_ref::<io::Error>() {
            // Framing that hyper could not parse is an `io::Error` of these kinds.
            return !matches!(
                io.kind(),
                io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::Other
            );
        }
        source = error.source();
    }
    false
}
