//! Client certificates: who is let in as whom, who is not, and what each side is told.

use std::sync::{Arc, Mutex, OnceLock};

use rcgen::{DnType, ExtendedKeyUsagePurpose, SanType};
use spanwarden::{
    config::tls::{ClientAuth, ServerTls},
    origin::Pod,
    telemetry::events::{self, Event, Reason},
    transport::tls::{H2, HTTP11},
};
use tokio::io::AsyncReadExt as _;

use super::{harness::*, pki::*};

/// What is expected of a client.
enum Want {
    /// It is let in, as this principal.
    In(Option<&'static str>),
    /// The handshake fails, counted by this cause.
    Handshake(&'static str),
    /// Requests are refused with this gRPC status and HTTP status, cause, and a part of the message.
    Request(u16, u16, &'static str, &'static str),
}
use Want::{Handshake, In, Request};

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn every_kind_of_client_certificate_over_both_protocols() {
    let (ca, stranger, servers) = (Ca::new("clients"), Ca::new("stranger"), Ca::new("servers"));
    // The same name as ours, and another key: a CA that was renewed on one side only.
    let namesake = Ca::new("clients");
    let good = ca.workload(&["spiffe://td/ns/shop/sa/cart"]);
    let revoked = ca.workload(&["spiffe://td/ns/shop/sa/revoked"]);
    let server = servers.server();
    let files = [
        ("tls.crt", server.cert.as_str()),
        ("tls.key", &server.key),
        ("ca.crt", &ca.pem()),
        ("ca.crl", &ca.crl(&[&revoked], 3600)),
    ];
    let volume = Volume::new("mtls-table", true, &files);
    let tls =
        |client_auth| ServerTls { crl_files: vec![volume.path("ca.crl")], ..volume.server_tls(client_auth) };
    let start = |id, auth| {
        let trust_domains = vec!["td".to_owned()];
        Setup { tls: Some(tls(auth)), trust_domains, ..Setup::new(id) }.start()
    };
    let required = start("mtls-required", ClientAuth::Required);
    let optional = start("mtls-optional", ClientAuth::Optional);

    let dated = |from, to| {
        ca.sign(|params| {
            (params.not_before, params.not_after) = (at(from).into(), at(to).into());
            params.subject_alt_names = vec![uri_name("spiffe://td/ns/shop/sa/cart")];
        })
    };
    let purpose = ca.sign(|params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.subject_alt_names = vec![uri_name("spiffe://td/ns/shop/sa/cart")];
    });
    let named = |name: &str| ca.sign(|params| params.distinguished_name.push(DnType::CommonName, name));
    let nobody = ca.sign(|params| {
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.subject_alt_names = vec![SanType::IpAddress("127.0.0.1".parse().unwrap())];
    });
    let both = [true, false];
    let rows: Vec<(&str, Option<Signed>, &[bool], Want)> = vec![
        ("none where one is required", None, &both[..1], Handshake("tls_no_client_certificate")),
        ("none where it is optional", None, &both[1..], In(None)),
        ("good", Some(good), &both, In(Some("spiffe://td/ns/shop/sa/cart"))),
        ("DNS name", Some(ca.client("Cart.Shop")), &both, In(Some("cart.shop"))),
        ("common name", Some(named("cart service")), &both, In(Some("cart service"))),
        ("expired", Some(dated(-7200, -90)), &both, Handshake("tls_certificate_expired")),
        ("not yet valid", Some(dated(300, 7200)), &both, Handshake("tls_certificate_not_yet_valid")),
        (
            "wrong CA",
            Some(stranger.workload(&["spiffe://td/ns/shop/sa/cart"])),
            &both,
            Handshake("tls_unknown_ca"),
        ),
        ("our CA's namesake", Some(namesake.client("cart")), &both, Handshake("tls_unknown_ca")),
        ("server's purpose", Some(purpose), &both, Handshake("tls_certificate_purpose")),
        ("revoked", Some(revoked), &both, Handshake("tls_certificate_revoked")),
        (
            "two SPIFFE IDs",
            Some(ca.workload(&["spiffe://td/a", "spiffe://td/b"])),
            &both,
            Request(7, 403, "certificate_several_uris", "2 URI names"),
        ),
        (
            "SPIFFE ID with a port",
            Some(ca.workload(&["spiffe://td:8443/ns/shop/sa/cart"])),
            &both,
            Request(7, 403, "certificate_spiffe_id", "no port"),
        ),
        (
            "SPIFFE ID with a query",
            Some(ca.workload(&["spiffe://td/ns/shop/sa/cart?admin"])),
            &both,
            Request(7, 403, "certificate_spiffe_id", "no query"),
        ),
        (
            "wrong trust domain",
            Some(ca.workload(&["spiffe://td.evil/ns/shop/sa/cart"])),
            &both,
            Request(7, 403, "certificate_trust_domain", "`td.evil`"),
        ),
        (
            "a common name like a SPIFFE ID",
            Some(named("spiffe://td/ns/shop/sa/cart")),
            &both,
            Request(7, 403, "certificate_unnamed", "names nobody"),
        ),
        (
            "a common name like a service account",
            Some(named("system:serviceaccount:shop:cart")),
            &both,
            Request(7, 403, "certificate_unnamed", "names nobody"),
        ),
        ("nobody's", Some(nobody), &both, Request(7, 403, "certificate_unnamed", "names nobody")),
    ];
    for (what, own, receivers, want) in &rows {
        for is_required in *receivers {
            let receiver = if *is_required { &required } else { &optional };
            for versions in [&[&rustls::version::TLS13][..], &[&rustls::version::TLS12]] {
                let what = format!("{what} {:?}", versions[0].version);
                let dialler = |alpn| client_with(&[&servers], own.as_ref(), alpn, versions);
                let grpc = dial(receiver.grpc, &dialler(H2)).await;
                let http = dial(receiver.http, &dialler(HTTP11)).await;
                match want {
                    In(name) => {
                        let reply = GrpcClient::over(grpc.expect(&what)).await.export(&request(1, 1)).await;
                        assert_eq!(reply.status, Some(0), "{what}: {reply:?}");
                        let reply = http_over(http.expect(&what), post(PROTOBUF, &[], request(1, 1))).await;
                        assert_eq!(reply.status, 200, "{what}: {reply:?}");
                        for batch in receiver.sink.batches.lock().unwrap().drain(..) {
                            let identity = batch.context.identity.expect("every batch has one");
                            let found = identity.principal.as_ref().map(|principal| principal.name.as_str());
                            assert_eq!(found, *name, "{what}");
                        }
                    }
                    Handshake(cause) => {
                        for (transport, stream) in [("grpc", grpc), ("http", http)] {
                            // In TLS 1.3 the client learns of the refusal with its first read.
                            if let Ok(mut stream) = stream {
                                let end = soon(cause, stream.read_to_end(&mut Vec::new())).await;
                                assert!(end.is_err(), "{what}: an alert is expected");
                            }
                            receiver.refused_connection(transport, cause).await;
                        }
                    }
                    Request(status, code, cause, part) => {
                        let before = (receiver.refused("grpc", cause), receiver.refused("http", cause));
                        let reply = GrpcClient::over(grpc.expect(&what)).await.export(&request(1, 1)).await;
                        assert_eq!(reply.status, Some(*status), "{what}: {reply:?}");
                        assert!(reply.message.contains(part), "{what}: {reply:?}");
                        let reply = http_over(http.expect(&what), post(JSON, &[], b"{}".to_vec())).await;
                        assert_eq!(reply.status, *code, "{what}: {reply:?}");
                        assert!(reply.text().contains(part), "{what}: {reply:?}");
                        let after = (receiver.refused("grpc", cause), receiver.refused("http", cause));
                        assert_eq!(after, (before.0 + 1, before.1 + 1), "{what}");
                    }
                }
                assert_eq!(receiver.sink.spans(), 0, "{what}: nothing else got through");
            }
        }
    }
    required.stop(PATIENCE).await;
    optional.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_list_that_covers_nothing_or_is_old_lets_nobody_in() {
    let (ca, other, servers) = (Ca::new("clients"), Ca::new("other"), Ca::new("servers"));
    let (server, own) = (servers.server(), ca.client("cart"));
    for (id, list, cause) in [
        ("crl-other", other.crl(&[], 3600), "tls_revocation_unknown"),
        ("crl-old", ca.crl(&[], -5), "tls_crl_expired"),
    ] {
        let files = [
            ("tls.crt", server.cert.as_str()),
            ("tls.key", &server.key),
            ("ca.crt", &ca.pem()),
            ("ca.crl", &list),
        ];
        let volume = Volume::new(id, false, &files);
        let tls =
            ServerTls { crl_files: vec![volume.path("ca.crl")], ..volume.server_tls(ClientAuth::Required) };
        let receiver = Setup { tls: Some(tls), ..Setup::new(id) }.start();
        if let Ok(mut stream) = dial(receiver.grpc, &client(&servers, Some(&own), H2)).await {
            assert!(soon(cause, stream.read_to_end(&mut Vec::new())).await.is_err());
        }
        receiver.refused_connection("grpc", cause).await;
        receiver.stop(PATIENCE).await;
    }
}

/// Keeps the Events of this process.
#[derive(Debug, Default)]
struct Events(Mutex<Vec<Event>>);

impl events::Sink for Events {
    fn report(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

fn events() -> &'static Arc<Events> {
    static EVENTS: OnceLock<Arc<Events>> = OnceLock::new();
    EVENTS.get_or_init(|| {
        let sink = Arc::new(Events::default());
        assert!(events::set(Arc::clone(&sink) as _), "nobody else sets a sink here");
        sink
    })
}

#[tokio::test]
async fn the_pod_is_told_of_an_expired_certificate_and_of_plaintext() {
    let (ca, servers) = (Ca::new("clients"), Ca::new("servers"));
    let server = servers.server();
    let files = [("tls.crt", server.cert.as_str()), ("tls.key", &server.key), ("ca.crt", &ca.pem())];
    let volume = Volume::new("mtls-events", true, &files);
    let tls = volume.server_tls(ClientAuth::Required);
    let receiver = Setup { tls: Some(tls), ..Setup::new("mtls-events") }.start();
    let events = events();
    *receiver.origins.pod.lock().unwrap() = Some(Arc::new(Pod {
        uid: "u-events".into(),
        name: "cart-1".into(),
        namespace: "shop".into(),
        ..Pod::default()
    }));
    let own = ca.sign(|params| {
        (params.not_before, params.not_after) = (at(-60).into(), at(-30).into());
        params.distinguished_name.push(DnType::CommonName, "sender's words");
    });
    if let Ok(mut stream) = dial(receiver.grpc, &client(&servers, Some(&own), H2)).await {
        assert!(soon("alert", stream.read_to_end(&mut Vec::new())).await.is_err());
    }
    receiver.refused_connection("grpc", "tls_certificate_expired").await;
    raw(receiver.http, b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").await;
    receiver.refused_connection("http", "plaintext_on_tls_port").await;
    // Both are reported after they are counted.
    soon("events", async {
        while events.0.lock().unwrap().iter().filter(|event| event.pod_uid == "u-events").count() < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let told: Vec<Event> =
        events.0.lock().unwrap().iter().filter(|event| event.pod_uid == "u-events").cloned().collect();
    let reasons: Vec<Reason> = told.iter().map(|event| event.reason).collect();
    assert_eq!(reasons, [Reason::CertificateExpired, Reason::PlaintextTelemetry]);
    for event in &told {
        assert_eq!((event.pod_name.as_str(), event.namespace.as_str()), ("cart-1", "shop"));
        assert!(!event.note.is_empty() && !event.note.contains("words"), "{}", event.note);
    }
    receiver.stop(PATIENCE).await;
}
