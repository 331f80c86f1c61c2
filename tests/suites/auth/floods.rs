//! One sender floods in every way it can; the requests of another all pass. The two are told apart by address here, as
//! they are by pod and cgroup where the kernel's evidence is there.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use http::Request;
use http_body_util::Full;
use spanwarden::{
    config::tls::{ClientTls, ServerTls},
    receiver::Limits,
    transport::tls::{H2, client_config, server_name},
};
use spanwarden_tests::certificates;
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpSocket, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsConnector;

use super::{Tokens, harness::*};

const FILE: &str = "shop-secret-token-1 shop\n";
const GOOD: &str = "Bearer shop-secret-token-1";
/// The sender that behaves; the flood comes from 127.0.0.1.
const OTHER: [u8; 4] = [127, 0, 0, 2];
/// How many requests of the other have to pass while the flood goes on.
const REQUESTS: u32 = 40;

async fn connect_from(from: [u8; 4], to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    socket.connect(to).await
}

/// One request of the sender that behaves, by each protocol, on connections of their own.
async fn passes(receiver: &Running) {
    let stream = connect_from(OTHER, receiver.grpc).await.unwrap();
    let headers = [("content-type", "application/grpc"), ("authorization", GOOD)];
    let reply = GrpcClient::over(stream).await.call(EXPORT, &headers, framed(0, &request(3, 100))).await;
    let reply = reply.unwrap();
    assert_eq!(reply.status, Some(0), "{}", reply.message);
    let stream = connect_from(OTHER, receiver.http).await.unwrap();
    let reply = http_over(stream, post(PROTOBUF, &[("authorization", GOOD)], request(3, 100))).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
}

/// Floods with several tasks until the other's requests have passed.
async fn flood<F>(receiver: &Arc<Running>, work: impl Fn(Arc<Running>) -> F + Send + Sync + Clone + 'static)
where
    F: Future<Output = ()> + Send,
{
    let ended = Arc::new(AtomicBool::new(false));
    let mut tasks = JoinSet::new();
    for _ in 0..4 {
        let (receiver, ended, work) = (Arc::clone(receiver), Arc::clone(&ended), work.clone());
        tasks.spawn(async move {
            while !ended.load(Ordering::Relaxed) {
                work(Arc::clone(&receiver)).await;
            }
        });
    }
    for _ in 0..REQUESTS {
        passes(receiver).await;
    }
    ended.store(true, Ordering::Relaxed);
    soon("the flood ends", async { while tasks.join_next().await.is_some() {} }).await;
}

fn start(id: &'static str, tokens: &Tokens, limits: Limits) -> Arc<Running> {
    let setup = Setup { gates: tokens.gates(), limits, workers: 2, budget: 8 << 20, ..Setup::new(id) };
    Arc::new(setup.start())
}

async fn stop(receiver: Arc<Running>) {
    let sent = u64::from(REQUESTS) * 3;
    for transport in ["grpc", "http"] {
        let passed = receiver.metric("otelcol_receiver_accepted_spans", transport, None);
        assert!(passed >= sent, "{transport}: {passed} of {sent}");
    }
    Arc::into_inner(receiver).expect("all tasks have ended").stop(PATIENCE).await;
}

fn refused_connections(receiver: &Running, cause: &str) -> u64 {
    let name = "spanwarden_receiver_refused_connections";
    ["grpc", "http"].iter().map(|transport| receiver.metric(name, transport, Some(("cause", cause)))).sum()
}

#[tokio::test]
async fn connections() {
    let tokens = Tokens::new("connections", FILE);
    let limits = Limits { connections: 64, connections_per_second: 50, ..Limits::default() };
    let receiver = start("flood-connections", &tokens, limits);
    let held = Arc::new(std::sync::Mutex::new(Vec::new()));
    let keep = Arc::clone(&held);
    flood(&receiver, move |receiver| {
        let keep = Arc::clone(&keep);
        async move {
            if let Ok(stream) = TcpStream::connect(receiver.grpc).await {
                let mut kept = keep.lock().unwrap();
                if kept.len() > 200 {
                    kept.clear();
                }
                kept.push(stream);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    assert!(refused_connections(&receiver, "sender_connection_limit") > 0, "a quarter of the places");
    held.lock().unwrap().clear();
    stop(receiver).await;
}

#[tokio::test]
async fn connections_that_come_and_go() {
    let tokens = Tokens::new("rate", FILE);
    let limits =
        Limits { connections_per_second: 20, handshake: Duration::from_secs(1), ..Limits::default() };
    let receiver = start("flood-rate", &tokens, limits);
    // The flood is past its burst before it is looked at what it does to others.
    for _ in 0..260 {
        drop(TcpStream::connect(receiver.http).await);
    }
    flood(&receiver, |receiver| async move {
        drop(TcpStream::connect(receiver.http).await);
        tokio::time::sleep(Duration::from_millis(1)).await;
    })
    .await;
    let slowed = receiver.metric("spanwarden_receiver_slowed_connections", "http", None);
    assert!(slowed > 0, "who is too fast waits");
    assert!(refused_connections(&receiver, "sender_connection_rate") > 0, "and is refused then");
    stop(receiver).await;
}

#[tokio::test]
async fn bodies_that_do_not_end() {
    let tokens = Tokens::new("bodies", FILE);
    let short = Duration::from_millis(500);
    let limits = Limits { connections: 64, body_idle: short, body: 2 * short, ..Limits::default() };
    let receiver = start("flood-bodies", &tokens, limits);
    let head = format!(
        "POST /v1/traces HTTP/1.1\r\nHost: x\r\nAuthorization: {GOOD}\r\nContent-Type: {PROTOBUF}\r\nContent-Length: 500000\r\n\r\n"
    );
    let bytes: Arc<[u8]> = [head.as_bytes(), &vec![0; 200_000]].concat().into();
    flood(&receiver, move |receiver| {
        let bytes = Arc::clone(&bytes);
        async move {
            let mut open = Vec::new();
            for _ in 0..8 {
                let Ok(mut stream) = TcpStream::connect(receiver.http).await else { continue };
                if stream.write_all(&bytes).await.is_ok() {
                    open.push(stream);
                }
            }
            tokio::time::sleep(short).await;
        }
    })
    .await;
    let cut = ["slow_body", "sender_memory"].map(|cause| receiver.refused("http", cause));
    assert!(cut.iter().any(|count| *count > 0), "{cut:?}");
    assert_eq!(receiver.refused("http", "memory") + receiver.refused("grpc", "memory"), 0, "never all of it");
    stop(receiver).await;
}

#[tokio::test]
async fn large_bodies_that_are_held() {
    let tokens = Tokens::new("large", FILE);
    let receiver = start("flood-large", &tokens, Limits::default());
    // Whoever comes after us is slow with large batches.
    *receiver.sink.slow.lock().unwrap() = (100_000, Duration::from_millis(200));
    let large = request(900, 1000);
    let seen = Arc::new(AtomicU64::new(0));
    let overloaded = Arc::clone(&seen);
    flood(&receiver, move |receiver| {
        let (large, overloaded) = (large.clone(), Arc::clone(&overloaded));
        async move {
            let client = GrpcClient::connect(receiver.grpc).await;
            let mut calls = JoinSet::new();
            for _ in 0..4 {
                let (mut client, body) = (client.clone(), framed(0, &large));
                calls.spawn(async move {
                    let headers = [("content-type", "application/grpc"), ("authorization", GOOD)];
                    client
                        .call(EXPORT, &headers, body)
                        .await
                        .map(|reply| (reply.status, reply.details.is_some()))
                });
            }
            while let Some(call) = calls.join_next().await {
                match call.unwrap() {
                    Ok((Some(8), retry)) => {
                        assert!(retry, "it is told when to come again");
                        overloaded.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok((status, _)) => assert_eq!(status, Some(0)),
                    Err(_) => {}
                }
            }
        }
    })
    .await;
    assert!(seen.load(Ordering::Relaxed) > 0, "the flood was more than its share");
    assert!(receiver.refused("grpc", "sender_memory") >= seen.load(Ordering::Relaxed));
    assert_eq!(receiver.refused("http", "memory") + receiver.refused("grpc", "memory"), 0, "never all of it");
    stop(receiver).await;
}

#[tokio::test]
async fn refused_credentials() {
    let tokens = Tokens::new("refused", FILE);
    let limits = Limits { refusals_per_second: 20, ..Limits::default() };
    let receiver = start("flood-refused", &tokens, limits);
    let guess = |receiver: Arc<Running>| async move {
        let mut client = GrpcClient::connect(receiver.grpc).await;
        for _ in 0..50 {
            let headers = [("content-type", "application/grpc"), ("authorization", "Bearer guess")];
            match client.call(EXPORT, &headers, framed(0, &[])).await {
                Ok(reply) => assert!(matches!(reply.status, Some(8 | 16)), "{reply:?}"),
                Err(_) => break,
            }
        }
        let request = Request::post("/v1/traces").header("content-type", JSON).body(Full::default()).unwrap();
        let reply = http(receiver.http, request).await;
        assert!(matches!(reply.status, 401 | 429), "{reply:?}");
    };
    // Past the burst, however slow this machine is.
    for _ in 0..8 {
        guess(Arc::clone(&receiver)).await;
    }
    flood(&receiver, guess).await;
    assert!(receiver.refused("grpc", "sender_refusals") > 0, "no look at any more of them");
    stop(receiver).await;
}

/// Who has as many handshakes under way as it may waits for them; nobody else does.
#[tokio::test]
async fn handshakes_that_do_not_end() {
    let files = certificates::authority(&[]).unwrap();
    let file = |name: &str| files.path().join(name);
    let tls = ServerTls { cert_file: file("tls.crt"), key_file: file("tls.key"), ..ServerTls::default() };
    let limits = Limits { handshakes: 4, handshake: PATIENCE, ..Limits::default() };
    let receiver = Setup { tls: Some(tls), limits, ..Setup::new("flood-handshakes") }.start();
    let client = ClientTls { ca_file: Some(file("ca.crt")), ..ClientTls::default() };
    let (to, connector) = (receiver.grpc, TlsConnector::from(client_config(&client, &[H2]).unwrap()));
    let name = server_name(&client, "127.0.0.1").unwrap();
    let connect = move |from: [u8; 4]| {
        let (connector, name) = (connector.clone(), name.clone());
        async move { connector.connect(name, connect_from(from, to).await.unwrap()).await.unwrap() }
    };
    let mut stalled = Vec::new();
    for _ in 0..4 {
        let mut stream = TcpStream::connect(to).await.unwrap();
        // The beginning of a ClientHello of 512 bytes.
        stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await.unwrap();
        stalled.push(stream);
    }
    // One that came before those that stall proves nothing; a later one waits.
    let mut waiting = None;
    for _ in 0..10 {
        let mut own = tokio::spawn(connect([127, 0, 0, 1]));
        if tokio::time::timeout(Duration::from_secs(2), &mut own).await.is_err() {
            waiting = Some(own);
            break;
        }
    }
    let own = waiting.expect("the sender's own handshake waits");
    for _ in 0..10 {
        let stream = soon("another's handshake", connect(OTHER)).await;
        assert_eq!(GrpcClient::over(stream).await.export(&request(1, 9)).await.status, Some(0));
    }
    assert!(!own.is_finished());
    drop(stalled);
    let stream = soon("its turn comes", own).await.unwrap();
    assert_eq!(GrpcClient::over(stream).await.export(&request(1, 9)).await.status, Some(0));
    receiver.stop(PATIENCE).await;
}
