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
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, Ordering},
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
    grpc, handshake, http as otlp_http,
    linger::linger,
    places::Standing,
    refusals,
    reply::Reply,
    sniff::{self, Sniffed},
    source::Source,
};
use crate::{
    auth::{
        Principal, Refused, certificate,
        gate::{Remembered, Seat},
    },
    origin::Origin,
    telemetry::events::Reason,
    transport::tls::{self, Accepted},
};

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
    /// As it was known when the connection was accepted; see [`Self::origin`].
    pub(super) origin: Arc<Origin>,
    /// What became known of its pod later, and of its container later still.
    late: [OnceLock<Arc<Origin>>; 2],
    pub(super) share: Arc<Share>,
    /// How its sender behaves, over all its connections.
    pub(super) standing: Arc<Standing>,
    pub(super) activity: Activity,
    /// Told to end the connection gracefully.
    pub(super) close: Notify,
    /// Who the client certificate proves; `None`: anonymous.
    pub(super) certificate: Option<Arc<Principal>>,
    /// Why nothing more is believed of what comes over this connection, once that is so.
    pub(super) distrusted: OnceLock<Refused>,
    pub(super) remembered: Remembered,
    /// Requests whose sender was not believed.
    pub(super) disbelieved: AtomicU32,
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
    /// Who opened it, with what is known of the pod by now.
    pub(super) fn origin(&self) -> &Arc<Origin> {
        self.late.iter().rev().find_map(OnceLock::get).unwrap_or(&self.origin)
    }

    /// Looks whether metadata that were late have come.
    pub(super) fn renew_origin(&self) {
        let Some(free) = self.late.iter().find(|late| late.get().is_none()) else { return };
        if let Some(renewed) = self.upstream.origins.renewed(self.origin()) {
            // Another request of this connection may have been faster with the same.
            let _ = free.set(renewed);
        }
    }

    /// All that the gate wants to know of this connection.
    pub(super) fn seat(&self) -> Seat<'_> {
        Seat {
            origin: self.origin(),
            certificate: self.certificate.as_ref(),
            remembered: &self.remembered,
            lookups: &self.standing.lookups,
        }
    }

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
pub(super) async fn serve(
    service: Arc<Service>,
    stream: TcpStream,
    origin: Arc<Origin>,
    standing: Arc<Standing>,
    shutdown: Shutdown,
) {
    let largest = match service.protocol {
        Protocol::Grpc { max_message, .. } => max_message,
        Protocol::Http { max_body, .. } => max_body,
    };
    let connection = Connection {
        share: service.upstream.admission.share(&Source::from(&*origin), largest as u64),
        standing,
        service,
        origin,
        late: Default::default(),
        activity: Activity::default(),
        close: Notify::new(),
        certificate: None,
        distrusted: OnceLock::new(),
        remembered: Remembered::default(),
        disbelieved: AtomicU32::new(0),
        unread: AtomicBool::new(false),
    };
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
        Some(source) if protocol == sniff::Protocol::Tls => {
            // Who has many handshakes under way waits for its own, and takes nothing from others.
            let standing = Arc::clone(&connection.standing);
            let handshake = async {
                let _turn = standing.handshakes.acquire().await;
                source.accept(stream).await
            };
            match timeout(connection.limits.handshake, handshake).await {
                Ok(Ok(accepted)) => serve_tls(connection, accepted, shutdown).await,
                Ok(Err(failed)) => {
                    let verdict = handshake::explain(&failed);
                    connection.refuse_connection(&connection.origin, verdict.cause, &verdict.detail);
                    if let Some(reason) = verdict.event {
                        refusals::report(&connection.origin, reason);
                    }
                }
                Err(_) => {
                    let detail = "the TLS handshake took too long";
                    connection.refuse_connection(&connection.origin, "tls_timeout", detail);
                }
            }
        }
        Some(_) => {
            let detail = "it speaks plaintext, this port speaks TLS; use https there";
            connection.refuse_connection(&connection.origin, "plaintext_on_tls_port", detail);
            refusals::report(&connection.origin, Reason::PlaintextTelemetry);
            if let Some(answer) = sniff::answer_to_plaintext(protocol) {
                answer_and_close(&connection, stream, &answer).await;
            }
        }
        None => serve_plain(connection, stream, protocol, shutdown).await,
    }
}

async fn serve_plain(
    connection: Connection,
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
            serve_http(Arc::new(connection), stream, Http::Two, shutdown).await;
        }
        (_, Transport::Http) => serve_http(Arc::new(connection), stream, Http::One, shutdown).await,
    }
}

/// Who is named by a certificate in a way that is not understood is not anonymous: the requests are refused, and told
/// why.
async fn serve_tls(mut connection: Connection, accepted: Accepted<Sniffed<TcpStream>>, shutdown: Shutdown) {
    let Accepted { stream, peer } = accepted;
    // Old gRPC clients do not negotiate.
    let http = match stream.get_ref().1.alpn_protocol() {
        Some(tls::H2) => Http::Two,
        None if connection.transport == Transport::Grpc => Http::Two,
        _ => Http::One,
    };
    let trust_domains = &connection.upstream.gates.trust_domains;
    match peer.as_ref().map(|peer| certificate::principal(&peer.facts, trust_domains)) {
        Some(Ok(principal)) => {
            tracing::debug!(
                target: "spanwarden::receiver::connection",
                transport = %connection.transport,
                peer = %connection.origin.peer,
                principal = tls::shown(&principal.name),
                "client certificate accepted"
            );
            connection.certificate = Some(Arc::new(principal));
        }
        Some(Err(refused)) => drop(connection.distrusted.set(refused)),
        None => {}
    }
    let connection = Arc::new(connection);
    let serving = serve_http(Arc::clone(&connection), stream, http, shutdown);
    match peer {
        Some(peer) => tokio::select! {
            () = serving => {}
            () = handshake::guard(&connection, peer) => {}
        },
        None => serving.await,
    }
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
