//! Connections that were good when they were made, and what they were proven by is gone.

use std::{sync::Arc, time::Duration};

use rustls::{
    ClientConfig, HandshakeKind,
    version::{TLS12, TLS13},
};
use spanwarden::{
    config::tls::{ClientAuth, ServerTls},
    transport::tls::{H2, HTTP11},
};
use tokio::io::AsyncReadExt as _;

use super::{harness::*, pki::*};

impl Running {
    /// Waits for a connection that was ended by this cause.
    async fn ended(&self, transport: &str, cause: &str, count: u64) {
        soon(cause, async {
            let name = "spanwarden_receiver_ended_connections";
            while self.metric(name, transport, Some(("cause", cause))) < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}

/// Waits for the end of an HTTP/2 connection, which must come without a request.
async fn closed(client: &GrpcClient) {
    soon("the connection's end", async {
        while !client.is_closed() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_revocation_ends_the_connections_of_that_certificate_only() {
    let (ca, servers) = (Ca::new("clients"), Ca::new("servers"));
    let server = servers.server();
    let (bad, good) = (ca.client("bad"), ca.client("good"));
    let files = |list: &str| {
        vec![
            ("tls.crt", server.cert.clone()),
            ("tls.key", server.key.clone()),
            ("ca.crt", ca.pem()),
            ("ca.crl", list.to_owned()),
        ]
    };
    let publish = |volume: &mut Volume, list: &str| {
        let files = files(list);
        volume.publish(&files.iter().map(|(name, text)| (*name, text.as_str())).collect::<Vec<_>>());
    };
    let first = files(&ca.crl(&[], 3600));
    let first: Vec<_> = first.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let mut volume = Volume::new("live-crl", true, &first);
    let tls = ServerTls { crl_files: vec![volume.path("ca.crl")], ..volume.server_tls(ClientAuth::Required) };
    let receiver = Setup { tls: Some(tls), ..Setup::new("live-crl") }.start();

    let (of_bad, of_good) = (client(&servers, Some(&bad), H2), client(&servers, Some(&good), H2));
    let mut bad_grpc = GrpcClient::over(dial(receiver.grpc, &of_bad).await.unwrap()).await;
    let mut good_grpc = GrpcClient::over(dial(receiver.grpc, &of_good).await.unwrap()).await;
    let mut bad_http = dial(receiver.http, &client(&servers, Some(&bad), HTTP11)).await.unwrap();
    for client in [&mut bad_grpc, &mut good_grpc] {
        assert_eq!(client.export(&request(1, 1)).await.status, Some(0));
    }
    publish(&mut volume, &ca.crl(&[&bad], 3600));
    closed(&bad_grpc).await;
    receiver.ended("grpc", "certificate_revoked", 1).await;
    // An idle HTTP/1 connection is closed as well.
    let _ = soon("http/1 end", bad_http.read_to_end(&mut Vec::new())).await;
    receiver.ended("http", "certificate_revoked", 1).await;
    assert_eq!(good_grpc.export(&request(1, 1)).await.status, Some(0), "the same connection as before");
    // Also not by the session that was agreed on before.
    if let Ok(mut stream) = dial(receiver.grpc, &of_bad).await {
        assert!(soon("alert", stream.read_to_end(&mut Vec::new())).await.is_err());
    }
    receiver.refused_connection("grpc", "tls_certificate_revoked").await;
    assert_eq!(receiver.sink.spans(), 3);

    // A list that is older than it may be is not used, and nobody is let in again by it.
    publish(&mut volume, &ca.crl(&[], -5));
    tokio::time::sleep(Duration::from_millis(500)).await;
    if let Ok(mut stream) = dial(receiver.grpc, &of_bad).await {
        assert!(soon("alert", stream.read_to_end(&mut Vec::new())).await.is_err());
    }
    assert_eq!(good_grpc.export(&request(1, 1)).await.status, Some(0));
    receiver.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_connection_ends_with_its_certificate_and_no_session_brings_it_back() {
    let (ca, servers) = (Ca::new("clients"), Ca::new("servers"));
    let server = servers.server();
    let files = [("tls.crt", server.cert.as_str()), ("tls.key", &server.key), ("ca.crt", &ca.pem())];
    let volume = Volume::new("live-expiry", false, &files);
    let receiver =
        Setup { tls: Some(volume.server_tls(ClientAuth::Required)), ..Setup::new("live-expiry") }.start();
    let own = ca.sign(|params| {
        params.not_after = at(8).into();
        params.subject_alt_names = vec![uri_name("spiffe://td/ns/shop/sa/cart")];
    });
    let dial_with = |versions| client_with(&[&servers], Some(&own), H2, versions);
    let configs = [dial_with(&[&TLS13]), dial_with(&[&TLS12])];
    let mut clients = Vec::new();
    for config in &configs {
        // The second connection resumes the session of the first.
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let stream = dial(receiver.grpc, config).await.unwrap();
            assert_eq!(stream.get_ref().1.handshake_kind(), Some(kind));
            let mut client = GrpcClient::over(stream).await;
            assert_eq!(client.export(&request(1, 1)).await.status, Some(0));
            clients.push(client);
        }
    }
    for client in &clients {
        closed(client).await;
    }
    receiver.ended("grpc", "certificate_expired", 4).await;
    // The spread may end them a moment before the certificate does.
    for config in &configs {
        soon("expiry", async {
            while !refused_by_now(&receiver, config).await {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        })
        .await;
    }
    assert_eq!(receiver.sink.spans(), 4, "nothing came over a connection without a certificate");
    receiver.stop(PATIENCE).await;
}

/// Whether a new connection is refused for its certificate's age by now.
async fn refused_by_now(receiver: &Running, config: &Arc<ClientConfig>) -> bool {
    let count = || {
        let cause = Some(("cause", "tls_certificate_expired"));
        receiver.metric("spanwarden_receiver_refused_connections", "grpc", cause)
    };
    let before = count();
    if let Ok(mut stream) = dial(receiver.grpc, config).await {
        let _ = soon("the connection's end", stream.read_to_end(&mut Vec::new())).await;
    }
    count() > before
}

#[tokio::test]
async fn a_connection_ends_with_the_authority_between_its_certificate_and_the_ca() {
    let (ca, servers) = (Ca::new("clients"), Ca::new("servers"));
    let between = ca.authority("between", 6);
    let server = servers.server();
    let files = [("tls.crt", server.cert.as_str()), ("tls.key", &server.key), ("ca.crt", &ca.pem())];
    let volume = Volume::new("live-between", true, &files);
    let receiver =
        Setup { tls: Some(volume.server_tls(ClientAuth::Required)), ..Setup::new("live-between") }.start();
    let mut own = between.client("cart");
    own.cert.push_str(&between.pem());
    let config = client(&servers, Some(&own), H2);
    let mut client = GrpcClient::over(dial(receiver.grpc, &config).await.unwrap()).await;
    assert_eq!(client.export(&request(1, 1)).await.status, Some(0));
    closed(&client).await;
    receiver.ended("grpc", "certificate_expired", 1).await;
    if let Ok(mut stream) = dial(receiver.grpc, &config).await {
        assert!(soon("alert", stream.read_to_end(&mut Vec::new())).await.is_err());
    }
    receiver.refused_connection("grpc", "tls_certificate_expired").await;
    receiver.stop(PATIENCE).await;
}

/// A write through another name of the file is no event in the directory that is watched.
#[tokio::test]
async fn what_a_directory_does_not_tell_is_found_by_looking() {
    let (before, after, servers) = (Ca::new("before"), Ca::new("after"), Ca::new("servers"));
    let server = servers.server();
    let files = [("tls.crt", server.cert.as_str()), ("tls.key", &server.key), ("ca.crt", &before.pem())];
    let volume = Volume::new("live-poll", false, &files);
    let elsewhere = TempDir::new("live-poll-elsewhere");
    let other_name = elsewhere.0.join("other-name");
    std::fs::hard_link(volume.path("ca.crt"), &other_name).unwrap();
    let tls = ServerTls {
        reload_interval: Some(Duration::from_millis(200)),
        ..volume.server_tls(ClientAuth::Required)
    };
    let receiver = Setup { tls: Some(tls), ..Setup::new("live-poll") }.start();
    let (old, new) = (before.client("cart"), after.client("cart"));
    let (old, new) = (client(&servers, Some(&old), H2), client(&servers, Some(&new), H2));
    let mut held = GrpcClient::over(dial(receiver.grpc, &old).await.unwrap()).await;
    assert_eq!(held.export(&request(1, 1)).await.status, Some(0));
    std::fs::write(&other_name, after.pem()).unwrap();
    closed(&held).await;
    receiver.ended("grpc", "certificate_ca_removed", 1).await;
    let mut next = GrpcClient::over(dial(receiver.grpc, &new).await.unwrap()).await;
    assert_eq!(next.export(&request(1, 1)).await.status, Some(0));
    receiver.stop(PATIENCE).await;
}
