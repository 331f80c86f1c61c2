//! Credentials and answers.

use std::time::Duration;

use http::HeaderMap;
use spanwarden::auth::{Authenticator, Judgement, Method, Principal, Refused};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{Tokens, gates, harness::*};

const FILE: &str = "# ours\nshop-secret-token-1 shop\nunnamed-secret-token-2\n";

/// What a sender shows and what it is told.
struct Row {
    headers: &'static [(&'static str, &'static str)],
    /// Its name, or the cause of the refusal and a part of the message.
    outcome: Result<&'static str, (&'static str, &'static str)>,
}

const ROWS: [Row; 12] = [
    Row { headers: &[("authorization", "Bearer shop-secret-token-1")], outcome: Ok("shop") },
    Row { headers: &[("authorization", "bearer shop-secret-token-1")], outcome: Ok("shop") },
    Row { headers: &[("authorization", "Bearer unnamed-secret-token-2")], outcome: Ok("token-") },
    Row { headers: &[], outcome: Err(("no_credentials", "send the header `authorization: Bearer TOKEN`")) },
    Row {
        headers: &[("x-api-key", "shop-secret-token-1")],
        outcome: Err(("no_credentials", "send the header")),
    },
    Row {
        headers: &[("authorization", "shop-secret-token-1")],
        outcome: Err(("token_scheme", "of the form")),
    },
    Row {
        headers: &[("authorization", "Basic c2hvcDpzaG9w")],
        outcome: Err(("token_scheme", "of the form")),
    },
    Row { headers: &[("authorization", "Bearer ")], outcome: Err(("token_scheme", "of the form")) },
    Row {
        headers: &[("authorization", "Bearer shop-secret-token")],
        outcome: Err(("token_unknown", "not one of those")),
    },
    Row { headers: &[("authorization", "Bearer shop")], outcome: Err(("token_unknown", "not one of those")) },
    Row {
        headers: &[("authorization", "Bearer shop-secret-token-1"), ("authorization", "Bearer x")],
        outcome: Err(("token_twice", "send it once")),
    },
    Row {
        headers: &[
            ("authorization", "Bearer x"),
            ("x-forwarded-authorization", "Bearer shop-secret-token-1"),
        ],
        outcome: Err(("token_unknown", "not one of those")),
    },
];

/// The header of a 401.
fn check_challenge(challenge: Option<&str>, cause: &str) {
    let challenge = challenge.expect("a 401 has a challenge");
    if cause == "no_credentials" {
        assert_eq!(challenge, "Bearer");
    } else {
        assert!(challenge.starts_with("Bearer error=\"invalid_token\", error_description=\""), "{challenge}");
    }
}

#[tokio::test]
async fn both_protocols_say_the_same_of_the_same_credentials() {
    let tokens = Tokens::new("rows", FILE);
    let receiver = Setup { gates: tokens.gates(), ..Setup::new("rows") }.start();
    let mut passed = 0;
    for (number, Row { headers, outcome }) in ROWS.iter().enumerate() {
        let before = |transport, cause| receiver.refused(transport, cause);
        let grpc_headers = [&[("content-type", "application/grpc")], *headers].concat();
        let refusals = outcome.err().map(|(cause, _)| (before("grpc", cause), before("http", cause)));
        let mut client = GrpcClient::connect(receiver.grpc).await;
        let grpc = client.call(EXPORT, &grpc_headers, framed(0, &request(1, 9))).await.unwrap();
        let protobuf = http(receiver.http, post(PROTOBUF, headers, request(1, 9))).await;
        let json = http(receiver.http, post(JSON, headers, b"{\"resourceSpans\":[]}".to_vec())).await;
        match outcome {
            Ok(name) => {
                assert_eq!((grpc.status, protobuf.status, json.status), (Some(0), 200, 200), "row {number}");
                passed += 2;
                let batches = receiver.sink.batches.lock().unwrap();
                assert_eq!(batches.len(), passed, "an empty request is no batch");
                for batch in &batches[passed - 2..] {
                    let identity = batch.context.identity.as_deref().unwrap();
                    let principal = identity.principal.as_deref().unwrap();
                    assert!(principal.name.starts_with(name), "row {number}: {principal:?}");
                    assert_eq!(principal.method, Method::BearerToken);
                    assert_eq!(identity.tenant, None);
                }
            }
            Err((cause, message)) => {
                assert_eq!((grpc.http.as_u16(), grpc.status), (200, Some(16)), "row {number}");
                assert_eq!((protobuf.status, json.status), (401, 401), "row {number}");
                assert!(grpc.message.contains(message), "row {number}: {}", grpc.message);
                assert_eq!(grpc.details, None, "it is not to be tried again");
                check_challenge(grpc.headers.get("www-authenticate").map(|v| v.to_str().unwrap()), cause);
                for reply in [&protobuf, &json] {
                    check_challenge(reply.headers.get("www-authenticate").map(String::as_str), cause);
                    assert_eq!(reply.headers.get("retry-after"), None);
                    assert!(reply.text().contains(message), "row {number}: {}", reply.text());
                    assert!(!reply.text().contains("secret"), "row {number}: {}", reply.text());
                }
                assert_eq!(protobuf.body[..2], [0x08, 16], "google.rpc.Status");
                let status: serde_json::Value = serde_json::from_slice(&json.body).unwrap();
                assert_eq!(status["code"], 16);
                let (grpc, http) = refusals.unwrap();
                assert_eq!(
                    (before("grpc", cause), before("http", cause)),
                    (grpc + 1, http + 2),
                    "row {number}"
                );
            }
        }
    }
    assert_eq!(
        receiver.sink.batches.lock().unwrap().len(),
        passed,
        "nothing came through of who was refused"
    );
    receiver.stop(PATIENCE).await;
}

/// Says what the header `says` asks for.
#[derive(Debug)]
struct Judge;

impl Authenticator for Judge {
    fn authenticate<'a>(&'a self, headers: &'a HeaderMap) -> Judgement<'a> {
        let says = headers.get("says").map(|value| value.to_str().unwrap());
        let proof = match says {
            Some("yes" | "later") => Ok(std::sync::Arc::new(Principal::named(Method::Oidc, "someone"))),
            Some("denied") => Err(Refused::denied("not_yours", "this is not yours; send your own")),
            _ => Err(Refused::unavailable("no_keys", Duration::from_millis(2500), "no keys yet; come again")),
        };
        if says == Some("later") {
            return Judgement::Later(Box::pin(async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                proof
            }));
        }
        Judgement::Known(proof)
    }
}

#[tokio::test]
async fn each_kind_of_refusal_has_its_status() {
    let receiver = Setup { gates: gates(std::sync::Arc::new(Judge)), ..Setup::new("kinds") }.start();
    for (says, code, status, retry) in [
        ("yes", 0, 200, None),
        ("later", 0, 200, None),
        ("denied", 7, 403, None),
        ("wait", 14, 503, Some("3")),
    ] {
        let mut client = GrpcClient::connect(receiver.grpc).await;
        let headers = [("content-type", "application/grpc"), ("says", says)];
        let grpc = client.call(EXPORT, &headers, framed(0, &request(1, 9))).await.unwrap();
        assert_eq!((grpc.status, grpc.details.is_some()), (Some(code), retry.is_some()), "{says}");
        let reply = http(receiver.http, post(PROTOBUF, &[("says", says)], request(1, 9))).await;
        assert_eq!(reply.status, status, "{says}");
        assert_eq!(reply.headers.get("retry-after").map(String::as_str), retry, "{says}");
        assert_eq!(reply.headers.get("www-authenticate"), None, "{says}");
    }
    assert_eq!((receiver.refused("grpc", "not_yours"), receiver.refused("http", "no_keys")), (1, 1));
    receiver.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_token_that_is_taken_back_ends_on_open_connections_too() {
    let tokens = Tokens::new("again", "first-secret-token-1 shop\n");
    tokens.bearer.watch();
    let receiver = Setup { gates: tokens.gates(), ..Setup::new("again") }.start();
    let mut client = GrpcClient::connect(receiver.grpc).await;
    let mut old = client.clone();
    let with = async |client: &mut GrpcClient, token: &str| {
        let value = format!("Bearer {token}");
        let headers = [("content-type", "application/grpc"), ("authorization", value.as_str())];
        client.call(EXPORT, &headers, framed(0, &request(1, 9))).await.unwrap().status
    };
    assert_eq!(with(&mut client, "first-secret-token-1").await, Some(0));
    tokens.replace("second-secret-token-2 shop\nfirst-secret-token-1 shop\n");
    soon("the second token is taken", async {
        while with(&mut client, "second-secret-token-2").await != Some(0) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    assert_eq!(with(&mut old, "first-secret-token-1").await, Some(0), "both at once: nobody has to hurry");
    tokens.replace("second-secret-token-2 shop\n");
    soon("the first token is not", async {
        while with(&mut old, "first-secret-token-1").await != Some(16) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    // A file that is wrong changes nothing; one that is empty lets nobody in.
    tokens.replace("three words here\n");
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(with(&mut client, "second-secret-token-2").await, Some(0));
    tokens.replace("");
    soon("nobody is let in", async {
        while with(&mut client, "second-secret-token-2").await != Some(16) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    assert_eq!(with(&mut client, "").await, Some(16));
    receiver.stop(PATIENCE).await;
}

/// An HTTP/2 frame (RFC 9113, 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A field that no table has (RFC 7541, 6.2.2).
fn field(name: &str, value: &str) -> Vec<u8> {
    [&[0, name.len() as u8], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat()
}

#[tokio::test]
async fn a_refused_body_is_not_waited_for() {
    let tokens = Tokens::new("unread", FILE);
    let receiver = Setup { gates: tokens.gates(), ..Setup::new("unread") }.start();
    let head = "POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n{";
    let answer = String::from_utf8(raw(receiver.http, head.as_bytes()).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains("\"code\":16"), "{answer}");

    let headers = [
        vec![0x83, 0x86],
        field(":path", EXPORT),
        field("content-type", "application/grpc"),
        field("te", "trailers"),
    ];
    let bytes = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(4, 0, 0, &[]),
        frame(1, 4, 1, &headers.concat()),
        frame(0, 0, 1, &[0; 100]),
    ];
    let mut stream = TcpStream::connect(receiver.grpc).await.unwrap();
    stream.write_all(&bytes.concat()).await.unwrap();
    // The stream is reset with NO_ERROR: what is still coming is not wanted, and nothing is wrong (RFC 9113, 8.1).
    let reset = frame(3, 0, 1, &[0; 4]);
    let mut answer = Vec::new();
    soon("the stream is reset", async {
        while !answer.windows(reset.len()).any(|window| window == reset) {
            assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "the connection stays open");
        }
    })
    .await;
    drop(stream);
    assert_eq!(receiver.refused("grpc", "no_credentials"), 1);
    assert_eq!(receiver.sink.batches.lock().unwrap().len(), 0);
    receiver.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_connection_of_refusals_is_closed() {
    let tokens = Tokens::new("guess", FILE);
    let receiver = Setup { gates: tokens.gates(), ..Setup::new("guess") }.start();
    let mut client = GrpcClient::connect(receiver.grpc).await;
    let headers = [("content-type", "application/grpc"), ("authorization", "Bearer guess")];
    let mut answered = 0;
    soon("the connection is closed", async {
        while let Ok(reply) = client.call(EXPORT, &headers, framed(0, &[])).await {
            assert_eq!(reply.status, Some(16));
            answered += 1;
        }
    })
    .await;
    // What was under way when it was told to go is still answered.
    assert!((100..=101).contains(&answered), "{answered}");
    receiver.refused_connection("grpc", "refused_requests").await;
    receiver.stop(PATIENCE).await;
}

/// 16 KiB, for both protocols and whatever they carry.
#[tokio::test]
async fn headers_are_bounded_before_anything_is_judged() {
    let tokens = Tokens::new("headers", FILE);
    let receiver = Setup { gates: tokens.gates(), ..Setup::new("headers") }.start();
    let long = format!("Bearer {}", "x".repeat(17 << 10));
    let reply = http(receiver.http, post(PROTOBUF, &[("authorization", &long)], Vec::new())).await;
    assert_eq!(reply.status, 431);
    let mut client = GrpcClient::connect(receiver.grpc).await;
    let headers = [("content-type", "application/grpc"), ("authorization", long.as_str())];
    let reply = client.call(EXPORT, &headers, framed(0, &[])).await;
    assert!(reply.is_err() || reply.is_ok_and(|reply| reply.http == 431), "a header that large is not taken");
    assert_eq!(receiver.refused("grpc", "token_unknown") + receiver.refused("http", "token_unknown"), 0);
    let fits = format!("Bearer {}", "x".repeat(9 << 10));
    let reply = http(receiver.http, post(PROTOBUF, &[("authorization", &fits)], Vec::new())).await;
    assert_eq!(reply.status, 401);
    receiver.stop(PATIENCE).await;
}
