//! What must be taken, and how it is answered.

use std::io::Write as _;

use spanwarden::otlp::Accepted;

use super::harness::*;

pub(crate) fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zstd(data: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(data, 3).unwrap()
}

#[tokio::test]
async fn grpc_takes_every_encoding_and_knows_the_sender() {
    let receiver = Setup::new("grpc-good").start();
    let mut client = GrpcClient::connect(receiver.grpc).await;
    // Small enough for one frame, and large enough for many.
    for message in [request(3, 50), request(500, 1000), request(0, 0), Vec::new()] {
        for (encoding, flag, packed) in [
            ("identity", 0, message.clone()),
            ("gzip", 1, gzip(&message)),
            ("zstd", 1, zstd(&message)),
            ("gzip", 0, message.clone()),
        ] {
            let headers = [("content-type", "application/grpc+proto"), ("grpc-encoding", encoding)];
            let reply = client.call(EXPORT, &headers, framed(flag, &packed)).await.unwrap();
            assert_eq!((reply.http.as_u16(), reply.status), (200, Some(0)), "{encoding}: {reply:?}");
            assert_eq!(reply.data, framed(0, b""));
            let last = receiver.sink.batches.lock().unwrap().pop();
            assert_eq!(last.as_ref().map_or(0, |b| b.data.len()), message.len());
            let Some(last) = last else { continue };
            assert_eq!(last.data, message);
            let origin = last.context.origin.unwrap();
            assert_eq!(origin.process.as_ref().unwrap().pid, std::process::id());
        }
    }
    assert_eq!(receiver.metric("otelcol_receiver_accepted_spans", "grpc", None), 4 * 503);
    assert_eq!(receiver.metric("otelcol_receiver_refused_spans", "grpc", None), 0);
    assert_eq!(receiver.metric("spanwarden_receiver_connections", "grpc", Some(("evidence", "kernel"))), 1);
    assert_eq!(receiver.origins.asked.lock().unwrap().len(), 1, "once a connection");
    receiver.stop(PATIENCE).await;
}

#[tokio::test]
async fn http_takes_every_encoding() {
    let receiver = Setup::new("http-good").start();
    let message = request(300, 1000);
    for (encoding, packed) in
        [("identity", message.clone()), ("gzip", gzip(&message)), ("zstd", zstd(&message))]
    {
        let request = post(PROTOBUF, &[("content-encoding", encoding)], packed);
        let reply = http(receiver.http, request).await;
        assert_eq!(reply.status, 200, "{encoding}: {reply:?}");
        assert_eq!((reply.headers["content-type"].as_str(), &reply.body[..]), (PROTOBUF, &b""[..]));
        assert_eq!(receiver.sink.batches.lock().unwrap().pop().unwrap().data, message);
    }
    assert_eq!(receiver.metric("otelcol_receiver_accepted_spans", "http", None), 900);
    receiver.stop(PATIENCE).await;
}

#[tokio::test]
async fn http_takes_chunks_and_http2_with_prior_knowledge() {
    let receiver = Setup::new("http-forms").start();
    let message = request(1, 10);
    let head = b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf; a=b\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut chunked = head.to_vec();
    for byte in &message {
        chunked.extend_from_slice(&[b'1', b'\r', b'\n', *byte, b'\r', b'\n']);
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    let answer = raw(receiver.http, &chunked).await;
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    let mut client = GrpcClient::connect(receiver.http).await;
    let reply = client.call("/v1/traces", &[("content-type", PROTOBUF)], message.clone()).await.unwrap();
    assert_eq!(reply.http, 200);
    let batches = std::mem::take(&mut *receiver.sink.batches.lock().unwrap());
    assert_eq!(batches.iter().map(|b| b.data.clone()).collect::<Vec<_>>(), [message.clone(), message]);
    receiver.stop(PATIENCE).await;
}

#[tokio::test]
async fn partial_success_reaches_the_sender_in_both_protocols() {
    let receiver = Setup::new("partial").start();
    receiver.sink.answer(|_| Ok(Accepted { rejected_spans: 2, message: "two \"bad\" spans".into() }));
    // partial_success = 1 { rejected_spans = 1: 2, error_message = 2 }
    let wanted = [&[0x0a, 19, 0x08, 2, 0x12, 15], &b"two \"bad\" spans"[..]].concat();
    let reply = GrpcClient::connect(receiver.grpc).await.export(&request(5, 10)).await;
    assert_eq!((reply.status, &reply.data[..]), (Some(0), &framed(0, &wanted)[..]));
    let reply = http(receiver.http, post(PROTOBUF, &[], request(5, 10))).await;
    assert_eq!((reply.status, &reply.body[..]), (200, &wanted[..]));
    for transport in ["grpc", "http"] {
        assert_eq!(receiver.metric("otelcol_receiver_accepted_spans", transport, None), 3);
        assert_eq!(receiver.metric("otelcol_receiver_refused_spans", transport, None), 2);
    }
    receiver.stop(PATIENCE).await;
}

#[tokio::test]
async fn workers_share_a_port_and_the_load() {
    let receiver = Setup { workers: 3, ..Setup::new("workers") }.start();
    for _ in 0..40 {
        assert_eq!(GrpcClient::connect(receiver.grpc).await.export(&request(1, 1)).await.status, Some(0));
    }
    assert_eq!(receiver.sink.spans(), 40);
    receiver.stop(PATIENCE).await;
}

#[tokio::test]
async fn http_takes_json_and_answers_in_json() {
    let receiver = Setup::new("http-json").start();
    receiver.sink.answer(|batch| Ok(Accepted { rejected_spans: batch.spans - 1, message: String::new() }));
    let json = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"01010101010101010101010101010101","spanId":"0101010101010101","name":"GET /0/abc"}]}]}],"later":1}"#;
    for body in [json.as_bytes().to_vec(), gzip(json.as_bytes())] {
        let encoding = if body[0] == b'{' { "identity" } else { "gzip" };
        let reply = http(
            receiver.http,
            post("application/json; charset=utf-8", &[("content-encoding", encoding)], body),
        )
        .await;
        assert_eq!((reply.status, reply.headers["content-type"].as_str()), (200, JSON), "{reply:?}");
        assert_eq!(reply.text(), "{}");
        assert_eq!(receiver.sink.batches.lock().unwrap().pop().unwrap().data, request(1, 10));
    }
    // Partial success is JSON too, with its 64-bit integer as text.
    receiver.sink.answer(|_| Ok(Accepted { rejected_spans: 1, message: "one".into() }));
    let reply = http(receiver.http, post(JSON, &[], json.into())).await;
    let answer: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(answer["partialSuccess"], serde_json::json!({"rejectedSpans": "1", "errorMessage": "one"}));
    for (bad, cause) in [
        ("", "json_syntax"),
        (r#"{"resourceSpans":["#, "json_syntax"),
        (r#"{"resourceSpans":7}"#, "field_type"),
        (r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"AQEBAQEBAQEBAQEBAQEBAQ=="}]}]}]}"#, "id"),
    ] {
        let before = receiver.refused("http", cause);
        let reply = http(receiver.http, post(JSON, &[], bad.into())).await;
        let status: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!((reply.status, status["code"].as_u64()), (400, Some(3)), "{bad}: {reply:?}");
        assert_eq!(receiver.refused("http", cause), before + 1, "{bad}: counted as {cause}");
    }
    receiver.stop(PATIENCE).await;
}
