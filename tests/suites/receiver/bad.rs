//! Bad requests: each gets its OTLP error and its counter, and nobody else notices.

use std::{
    io::{Read as _, Write as _},
    net::SocketAddr,
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use spanwarden::receiver::Limits;
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use super::{
    good::{gzip, zstd},
    harness::*,
};

const GRPC: (&str, &str) = ("content-type", "application/grpc");

struct GrpcCase {
    what: &'static str,
    path: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    body: Vec<u8>,
    /// `grpc-status`, or the HTTP status where it is no gRPC call.
    status: Result<u16, u16>,
    cause: &'static str,
}

fn case(
    what: &'static str,
    body: Vec<u8>,
    encoding: Option<&'static str>,
    status: u16,
    cause: &'static str,
) -> GrpcCase {
    let mut headers = vec![GRPC];
    headers.extend(encoding.map(|e| ("grpc-encoding", e)));
    GrpcCase { what, path: EXPORT, headers, body, status: Ok(status), cause }
}

fn grpc_cases() -> Vec<GrpcCase> {
    let good = request(2, 20);
    let zeros = vec![0; 8 << 20];
    let claim = |length: u32| [&[0], &length.to_be_bytes()[..], b"few bytes"].concat();
    let mut cut = gzip(&good);
    cut.truncate(cut.len() - 1);
    let mut cases = vec![
        case("oversized", framed(0, &request(3000, 500)), None, 8, "request_too_large"),
        case("one byte too long", framed(0, &vec![0; (1 << 20) + 1]), None, 8, "request_too_large"),
        case("huge claimed length", claim(u32::MAX), None, 8, "request_too_large"),
        case("claimed length never comes", claim(1 << 20), None, 3, "truncated_message"),
        case("gzip bomb", framed(1, &gzip(&zeros)), Some("gzip"), 8, "decompressed_too_large"),
        case("zstd bomb", framed(1, &zstd(&zeros)), Some("zstd"), 8, "decompressed_too_large"),
        case("unknown encoding", framed(1, &good), Some("snappy"), 12, "encoding"),
        case("compressed without encoding", framed(1, &good), None, 13, "compressed_flag"),
        case("compressed as identity", framed(1, &good), Some("identity"), 13, "compressed_flag"),
        case("undefined flag", framed(2, &good), Some("gzip"), 13, "compressed_flag"),
        case("no message", Vec::new(), None, 12, "cardinality"),
        case("two messages", [framed(0, &good), framed(0, &good)].concat(), None, 12, "cardinality"),
        case("cut in the prefix", vec![0, 0, 0], None, 3, "truncated_message"),
        case("cut in the message", framed(0, &good)[..40].to_vec(), None, 3, "truncated_message"),
        case("no gzip", framed(1, &good), Some("gzip"), 3, "corrupt_gzip"),
        case("cut gzip", framed(1, &cut), Some("gzip"), 3, "corrupt_gzip"),
        case("no zstd", framed(1, &good), Some("zstd"), 3, "corrupt_zstd"),
        case("no protobuf", framed(0, b"\x0a\xff\xff\xff\xff"), None, 3, "malformed_protobuf"),
        case("a group", framed(0, b"\x0b\x0c"), None, 3, "malformed_protobuf"),
    ];
    let metrics = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
    for (what, path, cause) in
        [("another signal", metrics, "signal"), ("another service", "/grpc.Foo/Bar", "method")]
    {
        cases.push(GrpcCase { path, ..case(what, framed(0, &good), None, 12, cause) });
    }
    for content_type in ["application/x-protobuf", "application/grpc+json", "application/grpc-web"] {
        let headers = vec![("content-type", content_type)];
        let wrong = case("content type", framed(0, &good), None, 0, "content_type");
        cases.push(GrpcCase { headers, status: Err(415), ..wrong });
    }
    cases.push(GrpcCase {
        headers: vec![],
        status: Err(415),
        ..case("no type", vec![], None, 0, "content_type")
    });
    cases
}

#[tokio::test]
async fn grpc_errors() {
    let receiver = Setup::new("grpc-bad").start();
    let mut bystander = GrpcClient::connect(receiver.grpc).await;
    for GrpcCase { what, path, headers, body, status, cause } in grpc_cases() {
        let before = receiver.refused("grpc", cause);
        let mut client = GrpcClient::connect(receiver.grpc).await;
        let reply = client.call(path, &headers, body).await.unwrap();
        match status {
            Ok(status) => {
                assert_eq!((reply.http.as_u16(), reply.status), (200, Some(status)), "{what}: {reply:?}");
            }
            Err(status) => {
                assert_eq!((reply.http.as_u16(), reply.status), (status, None), "{what}: {reply:?}");
            }
        }
        assert!(status.is_err() || !reply.message.is_empty(), "{what}: names its cause");
        assert_eq!(reply.details, None, "{what}: not to be tried again");
        assert_eq!(receiver.refused("grpc", cause), before + 1, "{what}: counted as {cause}");
        assert_eq!(bystander.export(&request(1, 9)).await.status, Some(0), "{what}: others go on");
        assert_eq!(client.export(&request(1, 9)).await.status, Some(0), "{what}: so does the connection");
    }
    let get = Request::get(format!("http://test{EXPORT}")).header(GRPC.0, GRPC.1);
    let reply = bystander.send(get.body(Full::from(Bytes::new())).unwrap()).await.unwrap();
    assert_eq!(reply.http, 405);
    assert_eq!(receiver.metric("otelcol_receiver_refused_spans", "grpc", None), 0);
    receiver.stop(PATIENCE).await;
}

/// Protobuf's `google.rpc.Status` begins with its code; its message follows.
fn protobuf_status(reply: &HttpReply) -> (u8, String) {
    assert_eq!(reply.body[0], 0x08, "{reply:?}");
    assert_eq!(reply.body[2], 0x12, "{reply:?}");
    let length = usize::from(reply.body[3]);
    (reply.body[1], String::from_utf8(reply.body[4..4 + length].to_vec()).unwrap())
}

#[tokio::test]
async fn http_errors() {
    let receiver = Setup { max_body: 20 << 20, ..Setup::new("http-bad") }.start();
    let good = request(2, 20);
    let zeros = vec![0; 8 << 20];
    let gz = ("content-encoding", "gzip");
    let zs = ("content-encoding", "zstd");
    for (what, headers, body, status, code, cause) in [
        ("oversized", vec![], vec![0; (20 << 20) + 1], 413, 8, "request_too_large"),
        ("gzip bomb", vec![gz], gzip(&zeros), 413, 8, "decompression_ratio"),
        ("zstd bomb", vec![zs], zstd(&zeros), 413, 8, "decompression_ratio"),
        ("no gzip", vec![gz], good.clone(), 400, 3, "corrupt_gzip"),
        ("empty gzip", vec![gz], vec![], 400, 3, "corrupt_gzip"),
        ("no zstd", vec![zs], good.clone(), 400, 3, "corrupt_zstd"),
        ("encoding", vec![("content-encoding", "br")], good.clone(), 415, 3, "encoding"),
        ("no protobuf", vec![], b"{}".to_vec(), 400, 3, "malformed_protobuf"),
    ] {
        let before = receiver.refused("http", cause);
        let reply = http(receiver.http, post(PROTOBUF, &headers, body)).await;
        assert_eq!(
            (reply.status, reply.headers["content-type"].as_str()),
            (status, PROTOBUF),
            "{what}: {reply:?}"
        );
        let (found, message) = protobuf_status(&reply);
        assert!(found == code && !message.is_empty(), "{what}: {reply:?}");
        assert!(!reply.headers.contains_key("retry-after"), "{what}: not to be tried again");
        assert_eq!(receiver.refused("http", cause), before + 1, "{what}: counted as {cause}");
        assert_eq!(http(receiver.http, post(PROTOBUF, &[], good.clone())).await.status, 200, "{what}");
    }
    receiver.stop(PATIENCE).await;
}

#[tokio::test]
async fn http_targets() {
    let receiver = Setup::new("http-targets").start();
    let body = || Full::from(Bytes::from(request(1, 1)));
    let at = |method: &str, path: &str, content_type: &str| {
        let request = Request::builder().method(method).uri(path).header("host", "x");
        request.header("content-type", content_type).body(body()).unwrap()
    };
    for path in ["/", "/v1/traces/", "/v1/metrics", "/v1/logs", EXPORT] {
        let reply = http(receiver.http, at("POST", path, PROTOBUF)).await;
        assert_eq!(reply.status, 404, "{path}");
        assert!(protobuf_status(&reply).1.contains("/v1/traces"), "{reply:?}");
    }
    assert_eq!(receiver.refused("http", "path"), 5);
    for method in ["GET", "PUT", "DELETE", "OPTIONS"] {
        let reply = http(receiver.http, at(method, "/v1/traces", PROTOBUF)).await;
        assert_eq!((reply.status, reply.headers["allow"].as_str()), (405, "POST"), "{method}");
    }
    for content_type in ["text/plain", "application/grpc", "application/x-protobuffer", ""] {
        let reply = http(receiver.http, at("POST", "/v1/traces", content_type)).await;
        assert_eq!(reply.status, 415, "{content_type}");
        assert!(reply.text().contains("application/x-protobuf"), "{reply:?}");
    }
    // In JSON's form for who speaks JSON.
    let reply = http(receiver.http, at("POST", "/nowhere", JSON)).await;
    let status: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!((reply.status, status["code"].as_u64()), (404, Some(12)));
    assert_eq!(receiver.sink.spans(), 0);
    receiver.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_chunked_body_is_cut_at_the_limit_and_the_answer_arrives() {
    let receiver = Setup { max_body: 100_000, ..Setup::new("http-chunked") }.start();
    let mut body = b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    // Far more than socket buffers hold: the sender is still sending when the answer comes.
    for _ in 0..800 {
        body.extend_from_slice(b"2000\r\n");
        body.extend_from_slice(&[0; 0x2000]);
        body.extend_from_slice(b"\r\n");
    }
    let answer = raw(receiver.http, &body).await;
    assert!(answer.starts_with(b"HTTP/1.1 413"), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(receiver.refused("http", "request_too_large"), 1);
    let bad_chunk = b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n";
    let answer = raw(receiver.http, bad_chunk).await;
    assert!(answer.starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(receiver.refused("http", "malformed_body"), 1);
    receiver.stop(PATIENCE).await;
}

/// A head that is refused at once, of a body that is then written whole before the answer is looked for: blocking, as
/// clients without concurrency do it. What the client reads is the answer, not the reset that it could be.
fn write_all_then_read(to: SocketAddr, head: &str, body: usize) -> (std::io::Result<()>, Vec<u8>) {
    let mut stream = std::net::TcpStream::connect(to).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let chunk = vec![0; 64 << 10];
    let mut written = stream.write_all(head.as_bytes());
    let mut left = body;
    while left > 0 && written.is_ok() {
        let n = left.min(chunk.len());
        written = stream.write_all(&chunk[..n]);
        left -= n;
    }
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    (written.and(read.map(drop)), answer)
}

fn head(path: &str, headers: &str, length: usize) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {length}\r\n\r\n")
}

#[tokio::test]
async fn a_client_that_writes_first_and_reads_then_reads_the_answer() {
    const MAX: usize = 20 << 20;
    let receiver = Setup { max_body: MAX as u64, ..Setup::new("http-linger") }.start();
    let protobuf = "Content-Type: application/x-protobuf\r\n";
    let brotli = format!("{protobuf}Content-Encoding: br\r\n");
    let huge = format!("X-Huge: {}\r\n", "a".repeat(8 << 20));
    for (what, head, body, status) in [
        ("too large", head("/v1/traces", protobuf, MAX + 1), MAX + 1, 413),
        ("much too large", head("/v1/traces", protobuf, MAX + (15 << 20)), MAX + (15 << 20), 413),
        ("no encoding of ours", head("/v1/traces", &brotli, MAX), MAX, 415),
        ("no type of ours", head("/v1/traces", "Content-Type: text/plain\r\n", MAX), MAX, 415),
        ("no path of ours", head("/v1/nothing", protobuf, MAX), MAX, 404),
        ("no HTTP", "POST\r\n\r\n".to_owned(), MAX, 400),
        ("headers too large", head("/v1/traces", &huge, MAX), MAX, 431),
    ] {
        let to = receiver.http;
        let exchange = tokio::task::spawn_blocking(move || write_all_then_read(to, &head, body));
        let (whole, answer) = soon(what, exchange).await.unwrap();
        let answer = String::from_utf8_lossy(&answer);
        assert!(whole.is_ok(), "{what}: {whole:?}: {answer}");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{what}: {answer}");
        // The connection cannot be used again, and the answer says so.
        assert!(answer.to_ascii_lowercase().contains("connection: close\r\n"), "{what}: {answer}");
    }
    receiver.stop(PATIENCE).await;
}

/// What is still sent after an answer is thrown away within bounds, and holds up nobody: not the memory for requests,
/// not a draining receiver.
#[tokio::test]
async fn a_client_that_never_stops_is_cut_and_holds_nothing() {
    const MAX: usize = 100_000;
    let limits = Limits { linger: Duration::from_millis(500), linger_bytes: 1 << 20, ..Limits::default() };
    let receiver = Setup { max_body: MAX as u64, limits, ..Setup::new("http-endless") }.start();
    let open = || receiver.metric("spanwarden_receiver_open_connections", "http", None);
    let mut endless = Vec::new();
    for _ in 0..4 {
        let mut stream = TcpStream::connect(receiver.http).await.unwrap();
        let head = head("/v1/traces", "Content-Type: application/x-protobuf\r\n", 1 << 40);
        stream.write_all(head.as_bytes()).await.unwrap();
        endless.push(tokio::spawn(async move {
            let mut sent = 0_u64;
            while let Ok(n) = stream.write(&[0; 16 << 10]).await {
                sent += n as u64;
            }
            sent
        }));
    }
    assert_eq!(http(receiver.http, post(PROTOBUF, &[], request(1, 1))).await.status, 200);
    for sender in endless {
        let sent = soon("an endless body is cut", sender).await.unwrap();
        // Beyond what is thrown away only what the socket buffers of both ends take.
        assert!(sent < 64 << 20, "{sent} bytes were taken");
    }
    soon("their places are free", async {
        while open() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(receiver.refused("http", "request_too_large"), 4);
    receiver.stop(PATIENCE).await;
}
