//! Bytes that are no request: the wrong protocol, garbage, and nothing at all.

use std::time::Duration;

use spanwarden::receiver::Limits;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::harness::*;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const GOAWAY: u8 = 7;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The types of the frames in what a receiver sent.
fn frame_types(mut bytes: &[u8]) -> Vec<u8> {
    let mut types = Vec::new();
    while let Some((head, rest)) = bytes.split_at_checked(9) {
        types.push(head[3]);
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        bytes = rest.get(length..).unwrap_or_default();
    }
    types
}

#[tokio::test]
async fn broken_http2_ends_its_connection_only() {
    let receiver = Setup::new("h2-garbage").start();
    let mut bystander = GrpcClient::connect(receiver.grpc).await;
    let settings = frame(4, 0, 0, &[]);
    // :method POST, :scheme http, :path /x, :authority a
    let headers = b"\x83\x86\x04\x02/x\x01\x01a";
    let opened = [&settings[..], &frame(1, 4, 1, headers)].concat();
    for (what, frames) in [
        ("garbage", b"\xff\xfe garbage that is no frame at all \x00\x01\x02".to_vec()),
        ("data on an unopened stream", [&settings[..], &frame(0, 0, 5, b"x")].concat()),
        ("frame too long", [&settings[..], &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]].concat()),
        ("bad header block", [&settings[..], &frame(1, 4, 1, &[0xff; 20])].concat()),
        ("even stream", [&settings[..], &frame(1, 4, 2, headers)].concat()),
        ("window overflow", [&opened[..], &frame(8, 0, 0, &[0x7f, 0xff, 0xff, 0xff])].concat()),
        ("bad setting", frame(4, 0, 0, &[0, 4, 0xff, 0xff, 0xff, 0xff])),
        ("short ping", [&settings[..], &frame(6, 0, 0, b"short")].concat()),
    ] {
        let name = "spanwarden_receiver_refused_connections";
        let count = || receiver.metric(name, "grpc", Some(("cause", "malformed_http2")));
        let before = count();
        let answer = raw(receiver.grpc, &[PREFACE, &frames].concat()).await;
        assert!(frame_types(&answer).contains(&GOAWAY), "{what}: {answer:?}");
        soon(what, async {
            while count() == before {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        assert_eq!(bystander.export(&request(1, 9)).await.status, Some(0), "{what}: others go on");
    }
    receiver.stop(PATIENCE).await;
}

#[tokio::test]
async fn floods_of_resets_and_continuations_are_cut() {
    let receiver = Setup::new("h2-flood").start();
    let headers = b"\x83\x86\x04\x02/x\x01\x01a";
    let mut resets = [PREFACE, &frame(4, 0, 0, &[])].concat();
    for stream in 0..3000u32 {
        resets.extend(frame(1, 4, stream * 2 + 1, headers));
        resets.extend(frame(3, 0, stream * 2 + 1, &[0, 0, 0, 8]));
    }
    let answer = raw(receiver.grpc, &resets).await;
    assert!(frame_types(&answer).contains(&GOAWAY), "rapid reset");
    let mut continuations = [PREFACE, &frame(4, 0, 0, &[]), &frame(1, 0, 1, headers)].concat();
    for _ in 0..5000 {
        continuations.extend(frame(9, 0, 1, b"\x00\x01a\x01b"));
    }
    let answer = raw(receiver.grpc, &continuations).await;
    assert!(frame_types(&answer).contains(&GOAWAY), "continuation flood");
    assert_eq!(GrpcClient::connect(receiver.grpc).await.export(&request(1, 9)).await.status, Some(0));
    receiver.stop(PATIENCE).await;
}

#[tokio::test]
async fn the_wrong_protocol_gets_a_clear_answer() {
    let receiver = Setup::new("wrong-protocol").start();
    let hello = b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00";
    for (transport, to) in [("grpc", receiver.grpc), ("http", receiver.http)] {
        let answer = raw(to, hello).await;
        assert_eq!(answer[..1], [0x15], "a TLS alert");
        receiver.refused_connection(transport, "tls_on_plaintext_port").await;
    }
    let answer =
        raw(receiver.grpc, b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").await;
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("4318"), "{answer}");
    receiver.refused_connection("grpc", "http1_on_grpc_port").await;
    raw(receiver.grpc, b"\x00\x01\x02\x03garbage that no protocol starts with").await;
    receiver.refused_connection("grpc", "malformed_http2").await;
    let answer = raw(receiver.http, b"GARBAGE\r\n\r\n").await;
    assert!(answer.starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&answer));
    receiver.refused_connection("http", "malformed_http1").await;
    let large = format!("POST /v1/traces HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "a".repeat(64 << 10));
    let answer = raw(receiver.http, large.as_bytes()).await;
    assert!(answer.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&answer));
    receiver.refused_connection("http", "header_too_large").await;
    assert_eq!(http(receiver.http, post(PROTOBUF, &[], request(1, 1))).await.status, 200);
    receiver.stop(PATIENCE).await;
}

#[tokio::test]
async fn slow_senders_are_cut_and_hold_nobody_up() {
    let short = Duration::from_millis(300);
    let limits = Limits { handshake: short, body_idle: short, body: 4 * short, ..Limits::default() };
    let receiver = Setup { limits, header_timeout: short, ..Setup::new("slow") }.start();
    let mut slow = Vec::new();
    let head = b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nContent-Length: 1000\r\n\r\nabc";
    for (to, bytes) in [
        (receiver.grpc, &b""[..]),
        (receiver.grpc, &PREFACE[..10]),
        (receiver.http, b""),
        (receiver.http, b"POST /v1/traces HTTP/1.1\r\nHo"),
        (receiver.http, head),
    ] {
        for _ in 0..20 {
            let mut stream = TcpStream::connect(to).await.unwrap();
            stream.write_all(bytes).await.unwrap();
            slow.push(stream);
        }
    }
    assert_eq!(GrpcClient::connect(receiver.grpc).await.export(&request(1, 9)).await.status, Some(0));
    assert_eq!(http(receiver.http, post(PROTOBUF, &[], request(1, 1))).await.status, 200);
    for stream in &mut slow {
        let mut answer = Vec::new();
        let _ = soon("a slow connection is cut", stream.read_to_end(&mut answer)).await;
    }
    receiver.refused_connection("grpc", "silent").await;
    receiver.refused_connection("http", "silent").await;
    receiver.refused_connection("http", "header_timeout").await;
    assert_eq!(receiver.refused("http", "slow_body"), 20);
    // One byte at a time keeps the pauses short, but not the whole.
    let mut stream = TcpStream::connect(receiver.http).await.unwrap();
    stream.write_all(head).await.unwrap();
    let drip = soon("a dripping body is cut", async {
        while stream.write_all(b"x").await.is_ok() && receiver.refused("http", "slow_body") < 21 {
            tokio::time::sleep(short / 10).await;
        }
    });
    drip.await;
    assert_eq!(receiver.refused("http", "slow_body"), 21);
    receiver.stop(PATIENCE).await;
}

#[tokio::test]
async fn connections_are_limited_and_given_back() {
    let limits = Limits { connections: 8, ..Limits::default() };
    // One sender may have a quarter.
    let receiver = Setup { limits, ..Setup::new("limit") }.start();
    let mut first = GrpcClient::connect(receiver.grpc).await;
    let second = TcpStream::connect(receiver.http).await.unwrap();
    assert_eq!(first.export(&request(1, 1)).await.status, Some(0));
    soon("both are open", async {
        let open = |t| receiver.metric("spanwarden_receiver_open_connections", t, None);
        while open("grpc") + open("http") < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(raw(receiver.grpc, PREFACE).await, b"", "closed at once");
    receiver.refused_connection("grpc", "sender_connection_limit").await;
    drop(second);
    soon("a place is free again", async {
        while receiver.metric("spanwarden_receiver_open_connections", "http", None) > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(http(receiver.http, post(PROTOBUF, &[], request(1, 1))).await.status, 200);
    receiver.stop(PATIENCE).await;
}
