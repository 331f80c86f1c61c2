//! Certificates, keys and CAs that are replaced while requests run.

use std::{
    fs,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use rustls::ClientConfig;
use spanwarden::{
    config::tls::{ClientAuth, ServerTls},
    telemetry::metrics,
    transport::tls::{H2, HTTP11},
};
use tokio::{io::AsyncReadExt as _, sync::RwLock};

use super::{harness::*, pki::*};

/// Each replaces certificate, key and CAs; two make a generation: first the new CA is added, then the old one removed.
const ROTATIONS: usize = 50;
/// Senders, and their pause after each request: 200 requests a second and more where the machine has the time.
const SENDERS: usize = 16;
const PACE: Duration = Duration::from_millis(50);

fn reloads(result: &str) -> u64 {
    let wanted = format!("spanwarden_tls_reload{{result=\"{result}\"}} ");
    metrics::render().lines().find_map(|line| line.strip_prefix(&wanted)?.parse().ok()).unwrap_or(0)
}

/// What a client of one generation dials with.
#[derive(Clone)]
struct Dialler {
    grpc: Arc<ClientConfig>,
    http: Arc<ClientConfig>,
}

impl Dialler {
    fn new(servers: &Ca, own: &Signed) -> Self {
        Self { grpc: client(servers, Some(own), H2), http: client(servers, Some(own), HTTP11) }
    }
}

/// What the senders share.
struct Senders {
    grpc: SocketAddr,
    http: SocketAddr,
    /// Whose requests must pass, always.
    good: RwLock<Dialler>,
    /// Whose must not.
    bad: RwLock<Option<Dialler>>,
    stop: AtomicBool,
    passed: AtomicUsize,
    /// Of those, sent again over a new connection.
    again: AtomicUsize,
    refused: AtomicUsize,
}

impl Senders {
    /// New connections, and one that is kept for as long as it works, whatever was rotated meanwhile. As an SDK does,
    /// a request on a connection that is being closed is sent again over a new one.
    async fn good(self: Arc<Self>) {
        let mut kept: Option<GrpcClient> = None;
        let mut turn = 0usize;
        while !self.stop.load(Ordering::Relaxed) {
            turn += 1;
            // Held for the length of the request: no CA is removed under a handshake that was to be accepted.
            let dialler = self.good.read().await;
            match turn % 16 {
                0 => {
                    let stream = dial(self.http, &dialler.http).await.expect("a good client's handshake");
                    let reply = http_over(stream, post(PROTOBUF, &[], request(1, 10))).await;
                    assert_eq!(reply.status, 200, "{reply:?}");
                }
                8 => {
                    let stream = dial(self.grpc, &dialler.grpc).await.expect("a good client's handshake");
                    let reply = GrpcClient::over(stream).await.export(&request(1, 10)).await;
                    assert_eq!(reply.status, Some(0), "{reply:?}");
                }
                _ => {
                    let over_kept = match &mut kept {
                        Some(client) => client.try_export(&request(1, 10)).await,
                        None => None,
                    };
                    if over_kept != Some(0) {
                        let put_off = matches!(over_kept, None | Some(14));
                        assert!(put_off, "a request may be put off, not refused: {over_kept:?}");
                        self.again.fetch_add(1, Ordering::Relaxed);
                        let stream = dial(self.grpc, &dialler.grpc).await.expect("a good client's handshake");
                        let mut client = GrpcClient::over(stream).await;
                        assert_eq!(client.export(&request(1, 10)).await.status, Some(0));
                        kept = Some(client);
                    }
                }
            }
            drop(dialler);
            self.passed.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(PACE).await;
        }
    }

    /// Sends with what was retired; also resumes its sessions.
    async fn bad(self: Arc<Self>) {
        while !self.stop.load(Ordering::Relaxed) {
            let dialler = self.bad.read().await.clone();
            if let Some(dialler) = dialler {
                assert!(!passes(self.grpc, &dialler).await, "a retired certificate passed");
                self.refused.fetch_add(1, Ordering::Relaxed);
            }
            tokio::time::sleep(PACE).await;
        }
    }
}

/// Whether a new connection is let in.
async fn passes(to: SocketAddr, dialler: &Dialler) -> bool {
    let Ok(mut stream) = dial(to, &dialler.grpc).await else { return false };
    // A server's HTTP/2 starts with its settings: it speaks first. TLS 1.3's refusal is an alert here.
    let mut first = [0; 9];
    soon("first frame or alert", stream.read_exact(&mut first)).await.is_ok()
}

async fn until(what: &str, to: SocketAddr, dialler: &Dialler, wanted: bool) {
    soon(what, async {
        while passes(to, dialler).await != wanted {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

async fn rotate(id: &'static str, swapped: bool) {
    let servers = Ca::new("servers");
    let mut current = Ca::new("clients-0");
    let server = servers.server();
    let files = [("tls.crt", server.cert.as_str()), ("tls.key", &server.key), ("ca.crt", &current.pem())];
    let mut volume = Volume::new(id, swapped, &files);
    let tls = ServerTls {
        // In place of inotify where that is exhausted.
        reload_interval: Some(Duration::from_secs(1)),
        ..volume.server_tls(ClientAuth::Required)
    };
    let receiver = Setup { tls: Some(tls), workers: 2, ..Setup::new(id) }.start();
    let mut dialler = Dialler::new(&servers, &current.client("cart"));
    let senders = Arc::new(Senders {
        grpc: receiver.grpc,
        http: receiver.http,
        good: RwLock::new(dialler.clone()),
        bad: RwLock::new(None),
        stop: AtomicBool::new(false),
        passed: AtomicUsize::new(0),
        again: AtomicUsize::new(0),
        refused: AtomicUsize::new(0),
    });
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..SENDERS {
        tasks.spawn(Arc::clone(&senders).good());
    }
    tasks.spawn(Arc::clone(&senders).bad());
    let (errors, started) = (reloads("error"), Instant::now());
    for generation in 1..=ROTATIONS / 2 {
        let next = Ca::new(&format!("clients-{generation}"));
        let (both, only) = (format!("{}{}", current.pem(), next.pem()), next.pem());
        let replacement = Dialler::new(&servers, &next.client("cart"));
        publish(&mut volume, swapped, &servers, &both, generation).await;
        until("the new CA is believed", receiver.grpc, &replacement, true).await;
        // A connection of the old CA that nobody uses.
        let parked = GrpcClient::over(dial(receiver.grpc, &dialler.grpc).await.unwrap()).await;
        // Waits for the requests that are under way with the old one.
        *soon("requests end", senders.good.write()).await = replacement.clone();
        publish(&mut volume, swapped, &servers, &only, 0).await;
        until("the old CA is not believed", receiver.grpc, &dialler, false).await;
        *soon("requests end", senders.bad.write()).await = Some(dialler);
        soon("the idle connection ends", async {
            while !parked.is_closed() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        (current, dialler) = (next, replacement);
        if let Some(ended) = tasks.try_join_next() {
            ended.expect("a sender failed");
        }
    }
    senders.stop.store(true, Ordering::Relaxed);
    while let Some(ended) = soon("senders end", tasks.join_next()).await {
        ended.expect("a sender failed");
    }
    let (passed, refused) = (senders.passed.load(Ordering::Relaxed), senders.refused.load(Ordering::Relaxed));
    let again = senders.again.load(Ordering::Relaxed);
    println!(
        "{id}: {ROTATIONS} rotations in {:.1} s, {passed} requests passed ({again} of them over a new connection after \
         the kept one had ended), {refused} connections refused as they should",
        started.elapsed().as_secs_f64()
    );
    assert!(again > ROTATIONS / 2, "kept connections of old CAs were ended: {again}");
    assert!(passed > ROTATIONS && refused > ROTATIONS / 2, "{passed} {refused}");
    // A request that was put off may have been taken as well: at least once is OTLP's promise.
    assert!(receiver.sink.spans() as usize >= passed);
    if !swapped {
        assert!(reloads("error") > errors, "half a pair was seen where files are written one by one");
    }
    receiver.stop(PATIENCE).await;
}

/// A new certificate and key, and these CAs; in place, now and then a half-written pair lies there for a while.
async fn publish(volume: &mut Volume, swapped: bool, servers: &Ca, authorities: &str, generation: usize) {
    let server = servers.server();
    if !swapped && generation % 5 == 1 {
        fs::write(volume.path("tls.key"), &server.key).unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        fs::write(volume.path("tls.crt"), &server.cert[..server.cert.len() / 2]).unwrap();
        fs::write(volume.path("ca.crt"), &authorities[..authorities.len() / 3]).unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    volume.publish(&[("tls.crt", &server.cert), ("tls.key", &server.key), ("ca.crt", authorities)]);
}

#[tokio::test]
async fn under_load_by_swapping_a_link_as_kubernetes_does() {
    rotate("rotation-swapped", true).await;
}

#[tokio::test]
async fn under_load_by_writing_in_place() {
    rotate("rotation-in-place", false).await;
}
