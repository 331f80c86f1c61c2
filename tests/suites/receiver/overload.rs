//! Refusals of what comes after the receiver, and of the receiver for want of memory or evidence.

use std::time::Duration;

use spanwarden::otlp::{Refusal, RefusalKind};

use super::harness::*;

/// Unpadded base64.
fn decode(text: &str) -> Vec<u8> {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits: Vec<u8> = text
        .chars()
        .flat_map(|c| {
            let six = ALPHABET.find(c).unwrap() as u8;
            (0..6).rev().map(move |i| six >> i & 1)
        })
        .collect();
    bits.chunks_exact(8).map(|byte| byte.iter().fold(0, |b, bit| b << 1 | bit)).collect()
}

/// The seconds of the `RetryInfo` in a serialised `google.rpc.Status`.
fn retry_seconds(status: &[u8]) -> u8 {
    let name = b"type.googleapis.com/google.rpc.RetryInfo";
    let at = status.windows(name.len()).position(|w| w == name).expect("RetryInfo");
    // Any.value { RetryInfo.retry_delay { Duration.seconds } }
    let [0x12, 4, 0x0a, 2, 0x08, seconds] = status[at + name.len()..] else { panic!("{status:?}") };
    seconds
}

#[tokio::test]
async fn refusals_of_the_pipeline_become_otlp_errors() {
    let receiver = Setup::new("refusals").start();
    let mut client = GrpcClient::connect(receiver.grpc).await;
    let retry_after = Duration::from_secs(7);
    for (kind, code, status, retry) in [
        (RefusalKind::Malformed, 3, 400, false),
        (RefusalKind::TooLarge, 8, 413, false),
        (RefusalKind::Overloaded { retry_after }, 8, 429, true),
        (RefusalKind::Unavailable { retry_after }, 14, 503, true),
        (RefusalKind::Permanent, 13, 500, false),
    ] {
        receiver
            .sink
            .answer(move |_| Err(Refusal { kind, cause: "because", message: "no – 100 %".into() }));
        let reply = client.export(&request(4, 10)).await;
        assert_eq!((reply.http.as_u16(), reply.status), (200, Some(code)), "{kind:?}");
        assert_eq!(reply.message, "no %E2%80%93 100 %25");
        assert_eq!(reply.headers.get("www-authenticate"), None, "it is not about credentials");
        let http = http(receiver.http, post(PROTOBUF, &[], request(4, 10))).await;
        assert_eq!(http.status, status, "{kind:?}");
        assert_eq!(http.headers.get("retry-after").map(String::as_str), retry.then_some("7"), "{kind:?}");
        if retry {
            assert_eq!(retry_seconds(&decode(&reply.details.unwrap())), 7);
            assert_eq!(retry_seconds(&http.body), 7);
        } else {
            assert_eq!(reply.details, None, "{kind:?} is not to be tried again");
        }
    }
    for transport in ["grpc", "http"] {
        assert_eq!(receiver.refused(transport, "because"), 5);
        assert_eq!(receiver.metric("otelcol_receiver_refused_spans", transport, None), 20);
        let outcome = |o| receiver.metric("otelcol_receiver_requests", transport, Some(("outcome", o)));
        assert_eq!((outcome("refused"), outcome("failure"), outcome("success")), (4, 1, 0));
    }
    receiver.stop(PATIENCE).await;
}

#[tokio::test]
async fn memory_is_bounded_over_all_senders() {
    let receiver = Setup { budget: 1_300_000, max_body: 500_000, ..Setup::new("memory") }.start();
    receiver.sink.hold();
    let mut waiting = Vec::new();
    for arrived in 1..=2 {
        let mut client = GrpcClient::connect_as(arrived, receiver.grpc).await;
        waiting.push(tokio::spawn(async move { client.export(&request(600, 1000)).await.status }));
        receiver.sink.wait_for_arrivals(arrived.into()).await;
    }
    // 1.2 MB are held now.
    let reply = GrpcClient::connect_as(3, receiver.grpc).await.export(&request(200, 1000)).await;
    assert_eq!(reply.status, Some(8), "{reply:?}");
    assert_eq!(retry_seconds(&decode(&reply.details.unwrap())), 1);
    let reply = http(receiver.http, post(PROTOBUF, &[], request(200, 1000))).await;
    assert_eq!((reply.status, reply.headers["retry-after"].as_str()), (429, "1"));
    assert_eq!((receiver.refused("grpc", "memory"), receiver.refused("http", "memory")), (1, 1));
    // Small ones still fit, and what waited is taken.
    receiver.sink.release();
    for waiting in waiting {
        assert_eq!(soon("the held request", waiting).await.unwrap(), Some(0));
    }
    assert_eq!(GrpcClient::connect(receiver.grpc).await.export(&request(200, 1000)).await.status, Some(0));
    receiver.stop(PATIENCE).await;
}

#[tokio::test]
async fn one_sender_cannot_hold_all_memory() {
    let receiver = Setup { budget: 8 << 20, ..Setup::new("share") }.start();
    receiver.sink.hold();
    let mut greedy = GrpcClient::connect(receiver.grpc).await;
    let mut waiting = Vec::new();
    // A quarter of the budget is 2 MiB.
    for arrived in 1..=2 {
        // On another connection or the same: it is one sender.
        let mut client = if arrived == 1 { greedy.clone() } else { GrpcClient::connect(receiver.grpc).await };
        waiting.push(tokio::spawn(async move { client.export(&request(900, 1000)).await.status }));
        receiver.sink.wait_for_arrivals(arrived).await;
    }
    let reply = greedy.export(&request(900, 1000)).await;
    assert_eq!((reply.status, reply.details.is_some()), (Some(8), true), "{reply:?}");
    assert_eq!(receiver.refused("grpc", "sender_memory"), 1);
    let mut other = GrpcClient::connect_as(2, receiver.grpc).await;
    let other = tokio::spawn(async move { other.export(&request(900, 1000)).await.status });
    receiver.sink.wait_for_arrivals(3).await;
    receiver.sink.release();
    assert_eq!(soon("other", other).await.unwrap(), Some(0));
    for waiting in waiting {
        assert_eq!(soon("the held request", waiting).await.unwrap(), Some(0));
    }
    receiver.stop(PATIENCE).await;
}

#[tokio::test]
async fn without_evidence_nothing_is_accepted_and_connections_end() {
    let receiver = Setup::new("evidence").start();
    let mut client = GrpcClient::connect(receiver.grpc).await;
    assert_eq!(client.export(&request(1, 1)).await.status, Some(0));
    receiver.accepting(false);
    let reply = client.export(&request(1, 1)).await;
    assert_eq!(reply.status, Some(14));
    assert_eq!(retry_seconds(&decode(&reply.details.unwrap())), 5);
    let reply = http(receiver.http, post(PROTOBUF, &[], request(1, 1))).await;
    assert_eq!((reply.status, reply.headers["retry-after"].as_str()), (503, "5"));
    receiver.accepting(true);
    // The old connection was opened before; its client is told to come again.
    let old = soon("the old connection ends", async {
        loop {
            let call = client.call(EXPORT, &[("content-type", "application/grpc")], framed(0, &[])).await;
            if call.is_err() {
                break;
            }
        }
    });
    old.await;
    assert_eq!(GrpcClient::connect(receiver.grpc).await.export(&request(1, 1)).await.status, Some(0));
    assert_eq!(receiver.refused("grpc", "evidence_dead"), 1);
    receiver.stop(PATIENCE).await;
}
