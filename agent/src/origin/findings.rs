//! Plaintext telemetry that the kernel has found: one [`Finding`] a connection, and one more when better evidence
//! comes later.

#![forbid(unsafe_code)]

mod consumer;
mod convert;
mod event;
#[cfg(test)]
mod examples;
mod file;
mod line;
pub(super) mod places;
mod policy;
mod report;
mod table;

pub(super) use consumer::Consumer;
pub(super) use convert::Context;
pub use file::{FileError, FindingsFile};
pub(super) use line::rfc3339;
pub use table::{Noted, ROWS, ROWS_PER_SENDER, Row, Table};

pub use crate::config::extensions::{Place, PlaintextMode};

use super::{Origin, Pod, Service};
use std::{
    fmt,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// A connection that carries telemetry, or likely does, in the clear.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "flags of an event, independent of each other")]
pub struct Finding {
    /// When the telling packet was sent.
    pub time: SystemTime,
    /// By configuration, or after TLS had failed.
    pub kind: Kind,
    /// Who opened the connection; its `peer` is [`Self::local`].
    pub origin: Arc<Origin>,
    /// The sender's address, as in the packet.
    pub local: SocketAddr,
    /// The receiver's address, as in the packet.
    pub remote: SocketAddr,
    /// The address that the sender wanted to connect to, before any NAT.
    pub destination: SocketAddr,
    /// What was seen.
    pub protocol: Protocol,
    /// What is sent, as far as it could be read.
    pub signal: Signal,
    /// How it is known.
    pub proof: Proof,
    /// The connection is older than the programs: who opened it is known by the socket's cgroup only.
    pub pre_existing: bool,
    /// Better evidence than an earlier finding of the same connection had.
    pub revised: bool,
    /// Inside a proxy's `CONNECT` tunnel.
    pub tunnel: bool,
    /// The kernel dropped the packet, and what follows on this connection.
    pub blocked: bool,
    /// The policy says block, and the packet passed: no heartbeat, or the kill switch.
    pub not_enforced: bool,
    /// Where it goes.
    pub place: Place,
    /// The pod or Service at the destination, where the pod source knows it.
    pub behind: Option<Behind>,
    /// What the policy says about this sender and place.
    pub mode: PlaintextMode,
    /// The sender's network namespace, 0 where it is not known.
    pub netns_cookie: u64,
    /// The sender's socket cookie: names the connection.
    pub socket_cookie: u64,
}

impl Finding {
    /// The value of the key `proof`: for a connection that is older than the programs it says so, because nothing
    /// is known of its beginning.
    pub fn proof_word(&self) -> &'static str {
        if self.pre_existing { "pre-existing" } else { self.proof.as_str() }
    }
}

/// What is at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Behind {
    /// A pod.
    Pod(Arc<Pod>),
    /// A Service.
    Service(Arc<Service>),
}

impl fmt::Display for Behind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(pod) => write!(f, "pod {}/{}", pod.namespace, pod.name),
            Self::Service(service) => write!(f, "service {}/{}", service.namespace, service.name),
        }
    }
}

/// Why there is plaintext.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// By configuration, as far as the kernel saw.
    Plaintext,
    /// TLS had been tried before, and had failed.
    Fallback(TlsFailure),
}

impl Kind {
    /// The value of the key `finding`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Plaintext => "plaintext",
            Self::Fallback(_) => "fallback",
        }
    }
}

/// The TLS connection that failed before a fallback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFailure {
    /// When it failed.
    pub time: SystemTime,
    /// How long that was before the plaintext.
    pub before: Duration,
    /// How it failed.
    pub kind: TlsFailureKind,
    /// Its source address.
    pub local: SocketAddr,
    /// Where its opener wanted to go.
    pub destination: SocketAddr,
    /// The process that opened it, 0 where that is not known.
    pub pid: u32,
    /// Its socket.
    pub socket_cookie: u64,
    /// Only pod, namespace and port are the same as of the plaintext, and not the address.
    pub weak: bool,
}

/// How a TLS connection failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TlsFailureKind {
    /// The server sent an alert with this description (RFC 8446 section 6).
    AlertReceived(u8),
    /// The client sent one.
    AlertSent(u8),
    /// The server answered with something that is not TLS.
    PlaintextAnswer,
    /// The server closed before its `ServerHello`.
    Closed,
    /// Reset before the `ServerHello`.
    Reset,
    /// The handshake's messages went both ways, and then one side refused.
    Refused,
    /// The client gave up without an answer.
    NoAnswer,
    /// There was no answer when the plaintext came, and the client has not given up as far as was seen.
    Unanswered,
}

impl TlsFailureKind {
    /// The value of the key `tls_failure.kind`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AlertReceived(_) => "alert-received",
            Self::AlertSent(_) => "alert-sent",
            Self::PlaintextAnswer => "plaintext-answer",
            Self::Closed => "closed",
            Self::Reset => "reset",
            Self::Refused => "refused",
            Self::NoAnswer => "no-answer",
            Self::Unanswered => "unanswered",
        }
    }

    /// The alert's number.
    pub fn alert(self) -> Option<u8> {
        match self {
            Self::AlertReceived(alert) | Self::AlertSent(alert) => Some(alert),
            _ => None,
        }
    }

    /// The alert's name (RFC 8446 section 6, and what older versions had); `alert-N` for others.
    pub fn detail(self) -> Option<String> {
        let name = match self.alert()? {
            0 => "close_notify",
            10 => "unexpected_message",
            20 => "bad_record_mac",
            21 => "decryption_failed",
            22 => "record_overflow",
            30 => "decompression_failure",
            40 => "handshake_failure",
            41 => "no_certificate",
            42 => "bad_certificate",
            43 => "unsupported_certificate",
            44 => "certificate_revoked",
            45 => "certificate_expired",
            46 => "certificate_unknown",
            47 => "illegal_parameter",
            48 => "unknown_ca",
            49 => "access_denied",
            50 => "decode_error",
            51 => "decrypt_error",
            70 => "protocol_version",
            71 => "insufficient_security",
            80 => "internal_error",
            86 => "inappropriate_fallback",
            90 => "user_canceled",
            100 => "no_renegotiation",
            109 => "missing_extension",
            110 => "unsupported_extension",
            112 => "unrecognized_name",
            113 => "bad_certificate_status_response",
            115 => "unknown_psk_identity",
            116 => "certificate_required",
            120 => "no_application_protocol",
            other => return Some(format!("alert-{other}")),
        };
        Some(name.to_owned())
    }
}

/// What a connection carries in the clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.
    Http1,
    /// HTTP/2 without TLS.
    H2c,
}

impl Protocol {
    /// The value of the key and metric label `protocol`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "http/1.1",
            Self::H2c => "h2c",
        }
    }
}

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// Spans.
    Traces,
    /// Data points.
    Metrics,
    /// Log records.
    Logs,
    /// Profiles (`v1development`).
    Profiles,
    /// The path could not be read.
    Unknown,
}

impl Signal {
    /// The value of the key and metric label `signal`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Metrics => "metrics",
            Self::Logs => "logs",
            Self::Profiles => "profiles",
            Self::Unknown => "unknown",
        }
    }
}

/// How a finding is known, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Proof {
    /// The request's path: it is OTLP.
    Path,
    /// A gRPC message that is built like an OTLP request; the path could not be read.
    Grpc,
    /// HTTP in the clear towards one of OTLP's ports, no more.
    Port,
}

impl Proof {
    /// The value of the key and metric label `proof` (but see [`Finding::proof_word`]).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Grpc => "grpc",
            Self::Port => "port",
        }
    }
}
