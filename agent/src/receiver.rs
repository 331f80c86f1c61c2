//! Where spans come in: OTLP over gRPC and over HTTP.
//!
//! [`Server::bind`] opens one listener a worker and protocol; each [`Worker`] then serves on a current-thread
//! runtime of its own. The origin of a connection is asked for straight after `accept()`, before a byte is read,
//! and travels beside every batch of that connection. Whatever a sender controls is bounded: connections, header
//! sizes, streams, time to say something, bytes in flight ([`Admission`]), sizes before and after unpacking.

#![forbid(unsafe_code)]

use std::{
    fmt, io,
    net::{SocketAddr, TcpListener},
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use crate::{
    auth::gate::Gate,
    config::{
        ComponentId,
        receivers::{GrpcServer, HttpServer, Keepalive, OtlpReceiver},
        tls::ServerTls,
    },
    origin::OriginSource,
    otlp::Consumer,
    transport::tls::{self, ServerSource, TlsError},
};

mod accept;
mod admission;
mod body;
mod connection;
mod count;
mod decompress;
mod drive;
mod grpc;
mod handshake;
mod http;
mod linger;
mod listen;
mod metrics;
mod places;
mod reply;
mod refusals;
mod request;
pub mod shutdown;
mod sniff;
mod source;
mod status;

pub use admission::Admission;
use places::Places;
pub use shutdown::{Shutdown, Trigger};

/// Why a receiver could not be started.
#[derive(Debug, thiserror::Error)]
pub enum ReceiverError {
    /// The endpoint is no `host:port`.
    #[error("receiver endpoint `{endpoint}`: {message}; write host:port")]
    Endpoint {
        /// As configured.
        endpoint: String,
        /// What is wrong.
        message: String,
    },
    /// The port could not be opened.
    #[error("receiver endpoint `{endpoint}`: {source}; is something else listening there?")]
    Listen {
        /// As configured.
        endpoint: String,
        /// What the system said.
        source: io::Error,
    },
    /// The certificate, key or CA could not be used.
    #[error("receiver endpoint `{endpoint}`: {source}")]
    Tls {
        /// As configured.
        endpoint: String,
        /// What is wrong.
        source: TlsError,
    },
    /// The listener could not be given to the runtime.
    #[error("receiver: the runtime does not take the listener: {0}")]
    Runtime(io::Error),
}

/// The two protocols of OTLP; the label `transport`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// OTLP/gRPC
    Grpc,
    /// OTLP/HTTP
    Http,
}

impl Transport {
    /// The value of the metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "http",
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Bounds that the Collector's configuration has no key for.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Open connections of one receiver, all protocols and workers together; one sender may have a quarter of
    /// them.
    pub connections: usize,
    /// Connections a second that one sender may open in the long run, with ten seconds' worth at once. Who is faster
    /// waits; who would wait longer than for a handshake is refused.
    pub connections_per_second: u32,
    /// TLS handshakes that one sender may have under way in one receiver; further ones wait for their turn.
    pub handshakes: usize,
    /// Requests a second with credentials that are refused, of one sender over all its connections, with ten seconds'
    /// worth at once. Beyond that its requests are refused without a look at them.
    pub refusals_per_second: u32,
    /// From `accept()` to the end of the TLS handshake; without TLS to the first byte on the gRPC port.
    pub handshake: Duration,
    /// The longest pause inside a request's body.
    pub body_idle: Duration,
    /// From the first pause to the end of a request's body.
    pub body: Duration,
    /// How long an HTTP/1 connection may stay open after an answer that came before the end of its request, so that a
    /// client that is still sending reads it. The connection counts as open meanwhile; its request has ended.
    pub linger: Duration,
    /// What is thrown away in that time, beyond what a request's body may have.
    pub linger_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 8192,
            connections_per_second: 100,
            handshakes: 64,
            refusals_per_second: 100,
            handshake: Duration::from_secs(10),
            body_idle: Duration::from_secs(10),
            body: Duration::from_mins(1),
            linger: Duration::from_secs(5),
            linger_bytes: 16 << 20,
        }
    }
}

/// What a worker serves with.
#[derive(Clone)]
pub struct Upstream {
    /// Takes the batches. Each worker may have one of its own.
    pub consumer: Arc<dyn Consumer>,
    /// Tells who opened a connection.
    pub origins: Arc<dyn OriginSource>,
    /// While `false`, requests are answered UNAVAILABLE / 503 with retry information and their connections are
    /// closed: set it when kernel evidence is required and dead. Reconnecting then gets new evidence.
    pub accepting: Arc<AtomicBool>,
    /// The byte budget, shared by all workers and receivers.
    pub admission: Arc<Admission>,
    /// What stands in front of each protocol.
    pub gates: Gates,
}

/// The gates of a receiver. By default no token is asked for.
#[derive(Clone, Debug, Default)]
pub struct Gates {
    /// `protocols.grpc`
    pub grpc: Arc<Gate>,
    /// `protocols.http`
    pub http: Arc<Gate>,
    /// `identity.trust_domains`: whose SPIFFE IDs are believed; empty for any that the client CA signs.
    pub trust_domains: Arc<[String]>,
}

impl Gates {
    fn of(&self, transport: Transport) -> &Arc<Gate> {
        match transport {
            Transport::Grpc => &self.grpc,
            Transport::Http => &self.http,
        }
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("accepting", &self.accepting)
            .field("admission", &self.admission)
            .field("gates", &self.gates)
            .finish_non_exhaustive()
    }
}

/// What is particular to a protocol.
#[derive(Clone, Debug)]
enum Protocol {
    Grpc { max_message: usize, max_streams: u32 },
    Http { max_body: usize, path: Arc<str>, header_timeout: Duration },
}

/// One protocol of a receiver, ready to serve.
#[derive(Clone, Debug)]
struct Endpoint {
    transport: Transport,
    protocol: Protocol,
    tls: Option<Arc<ServerSource>>,
    keepalive: Keepalive,
}

/// An `otlp` receiver whose ports are open.
#[derive(Debug)]
pub struct Server {
    workers: Vec<Worker>,
    addresses: Vec<(Transport, SocketAddr)>,
}

/// The part of a receiver that one thread serves.
#[derive(Debug)]
pub struct Worker {
    id: Arc<str>,
    limits: Arc<Limits>,
    places: Arc<Places>,
    listeners: Vec<(Endpoint, TcpListener)>,
}

impl Server {
    /// Whether [`Server::bind`] would accept the configuration: certificates are read, no port is opened.
    pub fn check(receiver: &OtlpReceiver) -> Result<(), ReceiverError> {
        receiver.grpc.as_ref().map(grpc_endpoint).transpose()?;
        receiver.http.as_ref().map(http_endpoint).transpose()?;
        Ok(())
    }

    /// Opens the ports of `receiver` for `workers` threads (at least one). They listen from here on: load and
    /// attach the kernel programs first.
    pub fn bind(receiver: &OtlpReceiver, id: &ComponentId, workers: usize) -> Result<Self, ReceiverError> {
        Self::bind_with(receiver, id, workers, Limits::default())
    }

    /// [`Server::bind`] with other limits.
    pub fn bind_with(
        receiver: &OtlpReceiver,
        id: &ComponentId,
        workers: usize,
        limits: Limits,
    ) -> Result<Self, ReceiverError> {
        let (id, limits) = (Arc::<str>::from(id.to_string()), Arc::new(limits));
        let places = Places::new(&limits);
        let mut server = Self { workers: Vec::new(), addresses: Vec::new() };
        server.workers.extend((0..workers.max(1)).map(|_| Worker {
            id: Arc::clone(&id),
            limits: Arc::clone(&limits),
            places: Arc::clone(&places),
            listeners: Vec::new(),
        }));
        if let Some(grpc) = &receiver.grpc {
            server.add(&grpc.endpoint, &grpc_endpoint(grpc)?)?;
        }
        if let Some(http) = &receiver.http {
            server.add(&http.endpoint, &http_endpoint(http)?)?;
        }
        Ok(server)
    }

    fn add(&mut self, address: &str, endpoint: &Endpoint) -> Result<(), ReceiverError> {
        let listeners = listen::listen(address, self.workers.len())?;
        for listener in &listeners[0] {
            let at = listener.local_addr().map_err(ReceiverError::Runtime)?;
            self.addresses.push((endpoint.transport, at));
        }
        for (worker, listeners) in self.workers.iter_mut().zip(listeners) {
            worker.listeners.extend(listeners.into_iter().map(|l| (endpoint.clone(), l)));
        }
        Ok(())
    }

    /// Where it listens: with port 0 configured, the port that the kernel chose.
    pub fn local_addrs(&self) -> &[(Transport, SocketAddr)] {
        &self.addresses
    }

    /// One part for each worker.
    pub fn into_workers(self) -> Vec<Worker> {
        self.workers
    }
}

fn server_tls(
    tls: Option<&ServerTls>,
    endpoint: &str,
    alpn: &[&[u8]],
) -> Result<Option<Arc<ServerSource>>, ReceiverError> {
    tls.map(|tls| ServerSource::new(tls, alpn))
        .transpose()
        .map_err(|source| ReceiverError::Tls { endpoint: endpoint.to_owned(), source })
}

fn grpc_endpoint(config: &GrpcServer) -> Result<Endpoint, ReceiverError> {
    let max = config.max_recv_msg_size_mib.saturating_mul(1 << 20);
    Ok(Endpoint {
        transport: Transport::Grpc,
        protocol: Protocol::Grpc {
            // A gRPC length is 32 bits, and a batch's offsets are too.
            max_message: usize::try_from(max).unwrap_or(usize::MAX).min(u32::MAX as usize),
            max_streams: config.max_concurrent_streams,
        },
        tls: server_tls(config.tls.as_ref(), &config.endpoint, &[tls::H2])?,
        keepalive: config.keepalive.clone(),
    })
}

fn http_endpoint(config: &HttpServer) -> Result<Endpoint, ReceiverError> {
    Ok(Endpoint {
        transport: Transport::Http,
        protocol: Protocol::Http {
            max_body: usize::try_from(config.max_request_body_size)
                .unwrap_or(usize::MAX)
                .min(u32::MAX as usize),
            path: config.traces_url_path.as_str().into(),
            header_timeout: config.read_header_timeout,
        },
        tls: server_tls(config.tls.as_ref(), &config.endpoint, &[tls::H2, tls::HTTP11])?,
        keepalive: Keepalive { max_connection_idle: Some(config.idle_timeout), ..Keepalive::default() },
    })
}
