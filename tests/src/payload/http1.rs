//! OTLP/HTTP over HTTP/1.1, and what may stand before it on a connection.

use std::net::{IpAddr, SocketAddr};

use super::Signal;

/// `POST path` with a protobuf body.
pub fn post(path: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "POST {path} HTTP/1.1\r\nHost: collector:4318\r\nUser-Agent: OTel-OTLP-Exporter-Python/1.45.2\r\n\
         Content-Type: application/x-protobuf\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// An export of `signal`.
pub fn export(signal: Signal, body: &[u8]) -> Vec<u8> {
    post(signal.http_path().text, body)
}

/// A request that is no telemetry: `GET path`.
pub fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: collector:4318\r\nAccept: */*\r\n\r\n").into_bytes()
}

/// Asks a proxy for a tunnel.
pub fn connect(authority: &str) -> Vec<u8> {
    format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n").into_bytes()
}

/// Asks for HTTP/2 on this connection (RFC 7540 section 3.2).
pub fn upgrade_to_h2c() -> Vec<u8> {
    b"GET / HTTP/1.1\r\nHost: collector:4317\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
      HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n"
        .to_vec()
}

/// The PROXY protocol's header, version 1.
pub fn proxy_v1() -> Vec<u8> {
    b"PROXY TCP4 203.0.113.7 203.0.113.8 40000 4318\r\n".to_vec()
}

/// The PROXY protocol's header, version 2, with a TLV of `padding` bytes (type NOOP) after the addresses.
///
/// # Panics
/// When the addresses are of two families.
pub fn proxy_v2(from: SocketAddr, to: SocketAddr, padding: u16) -> Vec<u8> {
    let mut body = Vec::new();
    let family = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            body.extend([from.octets(), to.octets()].concat());
            0x11
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            body.extend([from.octets(), to.octets()].concat());
            0x21
        }
        _ => panic!("addresses of two families"),
    };
    body.extend(from.port().to_be_bytes());
    body.extend(to.port().to_be_bytes());
    if padding > 0 {
        body.push(0x04);
        body.extend(padding.to_be_bytes());
        body.extend(vec![0; padding.into()]);
    }
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21".to_vec();
    bytes.push(family);
    bytes.extend(u16::try_from(body.len()).expect("the length has two bytes").to_be_bytes());
    bytes.extend(body);
    bytes
}
