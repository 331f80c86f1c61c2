//! `receivers:`

use std::time::Duration;

use super::{auth::Auth, tls::ServerTls};

/// A receiver.
#[derive(Clone, Debug)]
pub enum Receiver {
    /// `otlp`
    Otlp(OtlpReceiver),
}

/// `otlp`: a protocol that is absent is off; at least one must be there.
#[derive(Clone, Debug)]
pub struct OtlpReceiver {
    /// `protocols.grpc`
    pub grpc: Option<GrpcServer>,
    /// `protocols.http`
    pub http: Option<HttpServer>,
}

/// `configgrpc` of a server.
#[derive(Clone, Debug)]
pub struct GrpcServer {
    /// `host:port`; default `localhost:4317`.
    pub endpoint: String,
    /// Absent: plaintext.
    pub tls: Option<ServerTls>,
    /// `auth`
    pub auth: Option<Auth>,
    /// Largest message, compressed and decompressed alike; default 4 MiB as gRPC's.
    pub max_recv_msg_size_mib: u64,
    /// `max_concurrent_streams`; default 200.
    pub max_concurrent_streams: u32,
    /// `keepalive.server_parameters`
    pub keepalive: Keepalive,
}

/// `keepalive.server_parameters`; `None` is gRPC's infinity.
#[derive(Clone, Debug, Default)]
pub struct Keepalive {
    /// `max_connection_idle`
    pub max_connection_idle: Option<Duration>,
    /// `max_connection_age`
    pub max_connection_age: Option<Duration>,
    /// `max_connection_age_grace`
    pub max_connection_age_grace: Option<Duration>,
    /// `time`; gRPC's default is 2 h
    pub time: Option<Duration>,
    /// `timeout`; default 20 s
    pub timeout: Option<Duration>,
}

/// `confighttp` of a server.
#[derive(Clone, Debug)]
pub struct HttpServer {
    /// `host:port`; default `localhost:4318`.
    pub endpoint: String,
    /// Absent: plaintext.
    pub tls: Option<ServerTls>,
    /// `auth`
    pub auth: Option<Auth>,
    /// Bytes, of the compressed and of the decompressed body; default 20 MiB.
    pub max_request_body_size: u64,
    /// Default `/v1/traces`.
    pub traces_url_path: String,
    /// Default 1 min.
    pub read_header_timeout: Duration,
    /// Default 1 min.
    pub idle_timeout: Duration,
}
