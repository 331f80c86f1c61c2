//! First bytes of connections, as real clients send them.

#![forbid(unsafe_code)]

/// The HTTP/2 connection preface (RFC 9113 section 3.4) and an empty SETTINGS frame.
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// The start of a TLS 1.3 `ClientHello`: record header, handshake header, legacy version, random.
const CLIENT_HELLO: &[u8] =
    b"\x16\x03\x01\x00\xf4\x01\x00\x00\xf0\x03\x030123456789abcdef0123456789abcdef\x20";

/// The payload of this name:
///
/// | name | is |
/// |---|---|
/// | `http1` | OTLP/HTTP: `POST /v1/traces` |
/// | `http1-prefixed` | the same below a path, as a gateway in front wants it |
/// | `h2c` | the HTTP/2 preface |
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
        "h2c" => H2_PREFACE.to_vec(),
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
