//! Certificates, keys and bundles from a Workload API: shown, renewed, withdrawn, and what is not theirs refused.

use std::{collections::HashMap, sync::Arc, time::Duration};

use rcgen::ExtendedKeyUsagePurpose;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use spanwarden::{
    config::tls::{ClientAuth, ClientTls, ServerTls, Spiffe},
    transport::tls::{ClientSource, H2},
};
use spanwarden_tests::workload_api::{Answer, WorkloadApi, X509Svid, X509SvidResponse};
use tokio::io::AsyncReadExt as _;

use super::{harness::*, pki::*};

const GATEWAY: &str = "spiffe://example.org/ns/spanwarden/sa/gateway";
const AGENT: &str = "spiffe://example.org/ns/spanwarden/sa/agent";

/// A workload's certificate of this CA: for both sides, and for loopback, so that clients can verify it by address too.
fn issue(ca: &Ca, id: &str) -> X509Svid {
    let signed = ca.sign(|params| {
        params.subject_alt_names =
            vec![uri_name(id), rcgen::SanType::IpAddress("127.0.0.1".parse().unwrap())];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    });
    X509Svid {
        spiffe_id: id.to_owned(),
        x509_svid: CertificateDer::from_pem_slice(signed.cert.as_bytes()).unwrap().to_vec(),
        x509_svid_key: PrivateKeyDer::from_pem_slice(signed.key.as_bytes()).unwrap().secret_der().to_vec(),
        bundle: der(ca),
    }
}

fn der(ca: &Ca) -> Vec<u8> {
    CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap().to_vec()
}

fn update(svids: Vec<X509Svid>, foreign: &[(&str, &Ca)]) -> Answer {
    let federated_bundles: HashMap<_, _> =
        foreign.iter().map(|(domain, ca)| (format!("spiffe://{domain}"), der(ca))).collect();
    Answer::Update(X509SvidResponse { svids, federated_bundles })
}

fn spiffe(socket: &std::path::Path, id: &str, server_ids: &[&str]) -> Spiffe {
    Spiffe {
        endpoint: socket.to_owned(),
        id: Some(id.to_owned()),
        server_ids: server_ids.iter().map(|id| (*id).to_owned()).collect(),
    }
}

fn listener(socket: &std::path::Path) -> ServerTls {
    let spiffe = Some(spiffe(socket, GATEWAY, &[]));
    ServerTls { spiffe, client_auth: ClientAuth::Required, ..ServerTls::default() }
}

fn dialler(socket: &std::path::Path, id: &str, server_ids: &[&str]) -> Arc<ClientSource> {
    let tls = ClientTls { spiffe: Some(spiffe(socket, id, server_ids)), ..ClientTls::default() };
    ClientSource::new(&tls, &[H2]).unwrap()
}

async fn export(to: std::net::SocketAddr, source: &Arc<ClientSource>) -> Result<Option<u16>, String> {
    let stream = dial(to, &source.current().config).await.map_err(|error| error.to_string())?;
    Ok(GrpcClient::over(stream).await.export(&request(1, 1)).await.status)
}

#[tokio::test]
async fn both_sides_are_who_the_api_says() {
    let (ours, theirs) = (Ca::new("example.org"), Ca::new("other.org"));
    let directory = TempDir::new("spiffe-both");
    let socket = directory.0.join("api.sock");
    let svids = || vec![issue(&ours, AGENT), issue(&ours, GATEWAY)];
    let api = WorkloadApi::start(&socket, update(svids(), &[("other.org", &theirs)])).unwrap();
    let receiver = Setup { tls: Some(listener(&socket)), ..Setup::new("spiffe-both") }.start();

    let agent = dialler(&socket, AGENT, &[GATEWAY]);
    assert_eq!(export(receiver.grpc, &agent).await, Ok(Some(0)));
    let principal = receiver.sink.batches.lock().unwrap()[0].context.identity.clone();
    let principal = principal.and_then(|identity| identity.principal.as_ref().map(|p| p.name.clone()));
    assert_eq!(principal.as_deref(), Some(AGENT));

    // A server whose ID is not expected, though its chain is good.
    let wrong = dialler(&socket, AGENT, &["spiffe://example.org/ns/spanwarden/sa/other"]);
    let error = export(receiver.grpc, &wrong).await.unwrap_err();
    assert!(error.contains("server_ids"), "{error}");

    // Clients of the other trust domain, by its CA; and by its CA a name of ours.
    let signed = |id| theirs.workload(&[id]);
    for (id, good) in [("spiffe://other.org/ns/shop/sa/cart", true), (AGENT, false)] {
        let config = client(&ours, Some(&signed(id)), H2);
        let mut stream = dial(receiver.grpc, &config).await.unwrap();
        if good {
            assert_eq!(GrpcClient::over(stream).await.export(&request(1, 1)).await.status, Some(0), "{id}");
        } else {
            assert!(soon("alert", stream.read_to_end(&mut Vec::new())).await.is_err(), "{id}");
        }
    }
    receiver.refused_connection("grpc", "tls_unknown_ca").await;
    assert_eq!(api.calls(), 1, "one stream for the whole process");
    receiver.stop(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_and_a_withdrawn_bundle_ends_connections() {
    let (ours, theirs) = (Ca::new("example.org"), Ca::new("other.org"));
    let directory = TempDir::new("spiffe-renewed");
    let socket = directory.0.join("api.sock");
    let gateway = || vec![issue(&ours, GATEWAY)];
    let api = WorkloadApi::start(&socket, update(gateway(), &[("other.org", &theirs)])).unwrap();
    let receiver = Setup { tls: Some(listener(&socket)), ..Setup::new("spiffe-renewed") }.start();
    let [cart, own] = [
        client(&ours, Some(&theirs.workload(&["spiffe://other.org/cart"])), H2),
        client(&ours, Some(&ours.workload(&[AGENT])), H2),
    ];
    let shown = async || {
        let stream = dial(receiver.grpc, &own).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    };
    let first = shown().await;
    let mut of_cart = GrpcClient::over(dial(receiver.grpc, &cart).await.unwrap()).await;
    let mut of_own = GrpcClient::over(dial(receiver.grpc, &own).await.unwrap()).await;
    assert_eq!(of_cart.export(&request(1, 1)).await.status, Some(0));
    assert_eq!(of_own.export(&request(1, 1)).await.status, Some(0));

    // An update that can't be used changes nothing: here the identity that is configured is missing.
    api.answer(update(vec![issue(&ours, AGENT)], &[]));
    // Then a good one, without the other trust domain.
    api.answer(update(gateway(), &[]));
    soon("the new certificate", async {
        while shown().await == first {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    soon("the end of the withdrawn one", async {
        while !of_cart.is_closed() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(of_own.export(&request(1, 1)).await.status, Some(0), "the same connection as before");

    // The API goes and comes back: what was received last stays in use, and renewals arrive again.
    let second = shown().await;
    drop(api);
    assert_eq!(shown().await, second);
    let _api = WorkloadApi::start(&socket, update(gateway(), &[])).unwrap();
    soon("a certificate of the new API", async {
        while shown().await == second {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    receiver.stop(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_start_waits_for_its_registration() {
    let ours = Ca::new("example.org");
    let directory = TempDir::new("spiffe-refused");
    let socket = directory.0.join("api.sock");
    let api = WorkloadApi::start(&socket, Answer::Refuse(7, "no identity issued")).unwrap();
    let waiting = std::thread::spawn({
        let socket = socket.clone();
        move || dialler(&socket, AGENT, &[GATEWAY]).current().config.alpn_protocols.clone()
    });
    // It is refused and asks again.
    soon("a second call", async {
        while api.calls() < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert!(!waiting.is_finished());
    api.answer(update(vec![issue(&ours, AGENT)], &[]));
    let alpn = tokio::task::spawn_blocking(|| waiting.join().unwrap());
    assert_eq!(soon("the first SVID", alpn).await.unwrap(), [H2.to_vec()]);
}
