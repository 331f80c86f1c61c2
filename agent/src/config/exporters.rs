//! `exporters:`

use std::time::Duration;

use super::{FilePath, Located, auth::Auth, tls::ClientTls};

/// An exporter.
#[derive(Clone, Debug)]
pub enum Exporter {
    /// `otlp`, `otlp_grpc`
    Otlp(OtlpExporter),
    /// `otlphttp`, `otlp_http`
    OtlpHttp(OtlpHttpExporter),
    /// `file`: one `ExportTraceServiceRequest` in OTLP JSON a line
    File(FileExporter),
    /// `debug`: counts to the log, never span content
    Debug(DebugExporter),
    /// `loadbalancing`, `load_balancing`
    LoadBalancing(LoadBalancing),
}

impl Exporter {
    /// The `auth` of those that can have one.
    pub fn auth(&self) -> Option<&Auth> {
        match self {
            Self::Otlp(otlp) => otlp.auth.as_ref(),
            Self::OtlpHttp(http) => http.auth.as_ref(),
            Self::LoadBalancing(balanced) => balanced.protocol.auth.as_ref(),
            Self::File(_) | Self::Debug(_) => None,
        }
    }
}

/// `compression`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// `none` or empty
    None,
    /// `gzip`: the Collector's default
    Gzip,
    /// `zstd`
    Zstd,
}

/// `otlp`
#[derive(Clone, Debug)]
pub struct OtlpExporter {
    /// `host:port`, `http://…` (plaintext) or `https://…`. Empty under `loadbalancing.protocol.otlp`.
    pub endpoint: Located<String>,
    /// `tls`
    pub tls: ClientTls,
    /// Default gzip.
    pub compression: Compression,
    /// `headers`
    pub headers: Vec<(String, String)>,
    /// `auth`
    pub auth: Option<Auth>,
    /// What a request may take; default 5 s.
    pub timeout: Duration,
    /// `retry_on_failure`
    pub retry: Retry,
    /// `sending_queue`
    pub queue: Option<SendingQueue>,
}

/// `otlphttp`
#[derive(Clone, Debug)]
pub struct OtlpHttpExporter {
    /// Base URL; `/v1/traces` is appended.
    pub endpoint: Located<String>,
    /// Whole URL, used as it is.
    pub traces_endpoint: Option<Located<String>>,
    /// JSON instead of protobuf (`encoding: json`).
    pub json: bool,
    /// `tls`
    pub tls: ClientTls,
    /// Default gzip.
    pub compression: Compression,
    /// `headers`
    pub headers: Vec<(String, String)>,
    /// `auth`
    pub auth: Option<Auth>,
    /// Default 30 s.
    pub timeout: Duration,
    /// `retry_on_failure`
    pub retry: Retry,
    /// `sending_queue`
    pub queue: Option<SendingQueue>,
}

/// `retry_on_failure`
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// Default true.
    pub enabled: bool,
    /// Default 5 s.
    pub initial_interval: Duration,
    /// Default 0.5.
    pub randomization_factor: f64,
    /// Default 1.5.
    pub multiplier: f64,
    /// Default 30 s.
    pub max_interval: Duration,
    /// Default 5 min; 0 = for ever.
    pub max_elapsed_time: Duration,
}

/// `sending_queue`, in memory. Ours is off unless it is written: without one a batch is acknowledged when it is
/// delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendingQueue {
    /// Default 10.
    pub num_consumers: u32,
    /// Requests; default 1000.
    pub queue_size: u64,
}

/// `file`
#[derive(Clone, Debug)]
pub struct FileExporter {
    /// Created with mode 0600 where it is not yet.
    pub path: FilePath,
    /// Append instead of truncating at start.
    pub append: bool,
    /// Default 1 s.
    pub flush_interval: Duration,
}

/// `debug`
#[derive(Clone, Debug)]
pub struct DebugExporter {
    /// `verbosity: basic | normal | detailed`: detailed is refused, for it would log span content.
    pub normal: bool,
}

/// `loadbalancing`
#[derive(Clone, Debug)]
pub struct LoadBalancing {
    /// `protocol.otlp`, without an endpoint
    pub protocol: OtlpExporter,
    /// `resolver`: exactly one
    pub resolver: Resolver,
    /// `routing: rendezvous`, ours; otherwise the Collector's ring
    pub rendezvous: bool,
}

/// `resolver`
#[derive(Clone, Debug)]
pub enum Resolver {
    /// `static.hostnames`
    Static {
        /// As written; the ring hashes these strings, sorted, before a default port is added.
        hostnames: Vec<String>,
    },
    /// `dns`
    Dns {
        /// A name that resolves to all replicas (a headless Service).
        hostname: String,
        /// A string or a number in the file; absent: the ring hashes bare addresses and 4317 is dialled.
        port: Option<String>,
        /// Default 5 s.
        interval: Duration,
        /// Default 1 s.
        timeout: Duration,
    },
}
