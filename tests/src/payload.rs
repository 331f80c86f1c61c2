//! What clients send: first bytes of connections, and whole OTLP exports as they stand on the wire.

#![forbid(unsafe_code)]

use prost::Message as _;

use crate::proto::v1::{
    AnyValue, ExportTraceServiceRequest, KeyValue, Resource, ResourceSpans, ScopeSpans, Span, any_value,
};

pub mod http1;
pub mod http2;

/// The HTTP/2 connection preface (RFC 9113 section 3.4) and an empty SETTINGS frame.
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// `/opentelemetry.proto.collector.metrics.v1.MetricsService/Export` (RFC 7541 appendix B).
const METRICS_HUFFMAN: &[u8] =
    b"\x60\xf5\x96\xa4\x96\x82\xd2\x54\xd9\xe9\x7a\xec\x3a\x4e\xb9\x0f\x45\x05\x22\x4f\
    \x62\xf4\x95\x36\x18\x88\x5f\xb8\x57\xd0\x54\xd8\x62\x23\x71\x6c\xee\x62\x15\x8c\x1e\x6b\x3d\x89";

/// The start of a TLS 1.3 `ClientHello`: record header, handshake header, legacy version, random.
const CLIENT_HELLO: &[u8] =
    b"\x16\x03\x01\x00\xf4\x01\x00\x00\xf0\x03\x030123456789abcdef0123456789abcdef\x20";

/// The preface, and a request whose `:path` is represented by these bytes.
fn h2_request(kind: &[u8], path: &[u8]) -> Vec<u8> {
    let block = [b"\x83\x86", kind, path, b"\x5f\x10application/grpc"].concat();
    let headers = [&[0, 0, block.len() as u8, 1, 4, 0, 0, 0, 1], &block[..]].concat();
    [H2_PREFACE, &headers, b"\0\0\x05\0\x01\0\0\0\x01\0\0\0\0\0"].concat()
}

/// The payload of this name:
///
/// | name | is |
/// |---|---|
/// | `http1` | OTLP/HTTP: `POST /v1/traces` |
/// | `http1-prefixed` | the same below a path, as a gateway in front wants it |
/// | `http1-metrics`, `http1-logs`, `http1-profiles` | the other signals |
/// | `proxied` | a PROXY header before OTLP/HTTP |
/// | `h2c` | the HTTP/2 preface, and no request |
/// | `h2c-traces` | OTLP/gRPC |
/// | `h2c-metrics` | the same, with the path in HPACK's Huffman code |
/// | `h2c-logs` | OTLP/HTTP over HTTP/2 |
/// | `h2c-health` | another gRPC service |
/// | `tls` | a `ClientHello` |
/// | `http1-get`, `http1-other` | HTTP that is no OTLP |
/// | `redis`, `binary`, `short` | nothing of HTTP |
/// | `post-in-tls` | a `ClientHello` followed by what would be OTLP if it stood first |
pub fn by_name(name: &str) -> Option<Vec<u8>> {
    let http = |method: &str, path: &str| {
        format!(
            "{method} {path} HTTP/1.1\r\nHost: collector\r\nContent-Type: application/x-protobuf\r\n\
             Content-Length: 4\r\n\r\n\0\0\0\0"
        )
        .into_bytes()
    };
    Some(match name {
        "http1" => http("POST", "/v1/traces"),
        "http1-prefixed" => http("POST", "/otlp/v1/traces"),
        "http1-metrics" => http("POST", "/v1/metrics"),
        "http1-logs" => http("POST", "/v1/logs"),
        "http1-profiles" => http("POST", "/v1development/profiles"),
        "proxied" => {
            [b"PROXY TCP4 192.0.2.1 192.0.2.2 4000 4318\r\n", &http("POST", "/v1/logs")[..]].concat()
        }
        "h2c" => H2_PREFACE.to_vec(),
        "h2c-traces" => {
            h2_request(b"\x44", b"\x3b/opentelemetry.proto.collector.trace.v1.TraceService/Export")
        }
        "h2c-metrics" => h2_request(b"\x44\xac", METRICS_HUFFMAN),
        "h2c-logs" => h2_request(b"\x04", b"\x0f/tenant/v1/logs"),
        "h2c-health" => h2_request(b"\x44", b"\x1c/grpc.health.v1.Health/Check"),
        "tls" => CLIENT_HELLO.to_vec(),
        "http1-get" => http("GET", "/v1/traces"),
        "http1-other" => http("POST", "/api/orders"),
        "redis" => b"*1\r\n$4\r\nPING\r\n".to_vec(),
        "binary" => (0..=255).rev().collect(),
        "short" => b"P".to_vec(),
        "post-in-tls" => [CLIENT_HELLO, &http("POST", "/v1/traces")].concat(),
        _ => return None,
    })
}

/// What an export carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Spans.
    Traces,
    /// Metrics.
    Metrics,
    /// Logs.
    Logs,
    /// Profiles, whose path is still that of a development version.
    Profiles,
}

impl Signal {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Traces, Self::Metrics, Self::Logs, Self::Profiles];

    /// As a finding writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Metrics => "metrics",
            Self::Logs => "logs",
            Self::Profiles => "profiles",
        }
    }

    /// The path of OTLP/HTTP.
    pub fn http_path(self) -> http2::Path {
        // Huffman forms by the Python package hpack 4.1, from the table of RFC 7541 appendix B.
        match self {
            Self::Traces => http2::Path { text: "/v1/traces", huffman: "63b8584d832151" },
            Self::Metrics => http2::Path { text: "/v1/metrics", huffman: "63b858a4a9b0c447" },
            Self::Logs => http2::Path { text: "/v1/logs", huffman: "63b858a0f323" },
            Self::Profiles => {
                http2::Path { text: "/v1development/profiles", huffman: "63b8642f72d07ae92d4962bb0f29a82a3f" }
            }
        }
    }

    /// The path of OTLP/gRPC.
    pub fn grpc_path(self) -> http2::Path {
        match self {
            Self::Traces => http2::Path {
                text: "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
                huffman: "60f596a49682d254d9e97aec3a4eb90f4505224f62e9b0642afdc2befb0642ee2d9dcc42b183cd67b13f",
            },
            Self::Metrics => http2::Path {
                text: "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
                huffman: "60f596a49682d254d9e97aec3a4eb90f4505224f62f4953618885fb857d054d86223716cee62158c1e6b3d89",
            },
            Self::Logs => http2::Path {
                text: "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
                huffman: "60f596a49682d254d9e97aec3a4eb90f4505224f62f41e642fdc2be73cc8dc5b3b988563079acf627f",
            },
            Self::Profiles => http2::Path {
                text: "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export",
                huffman: "60f596a49682d254d9e97aec3a4eb90f4505224f62f5d8794d4150bf70c85ee5a0f5d25a92bebb0f29a82a3716cee6\
                          2158c1e6b3d89f",
            },
        }
    }
}

/// A request of one span, a little over `size` bytes of protobuf. Requests of the other signals have the same
/// outer fields.
pub fn message(size: usize) -> Vec<u8> {
    let text = |key: &str, value: String| KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(any_value::Value::StringValue(value)) }),
        ..KeyValue::default()
    };
    let span = Span {
        trace_id: b"0123456789abcdef".to_vec(),
        span_id: b"01234567".to_vec(),
        name: "checkout".to_owned(),
        start_time_unix_nano: 1_780_000_000_000_000_000,
        end_time_unix_nano: 1_780_000_000_001_000_000,
        attributes: vec![text("db.statement", "SELECT 1;".repeat(size / 9))],
        ..Span::default()
    };
    let request = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource {
                attributes: vec![text("service.name", "shop".to_owned())],
                ..Resource::default()
            }),
            scope_spans: vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }],
            ..ResourceSpans::default()
        }],
    };
    request.encode_to_vec()
}
