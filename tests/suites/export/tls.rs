use std::{path::PathBuf, sync::Arc, time::Duration};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use spanwarden::{
    config::{exporters::Exporter as Config, tls::ClientTls},
    export::Exporter,
    otlp::RefusalKind,
};
use tokio_rustls::TlsAcceptor;

use super::{
    configs::{grpc, http, started},
    load::batch,
    servers::Server,
};

/// A CA that signs for these names, its certificate in a file, and a server with what it signed.
struct Authority {
    file: PathBuf,
    directory: PathBuf,
    acceptor: TlsAcceptor,
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn authority(test: &str, names: &[&str]) -> Authority {
    let mut ca = CertificateParams::new([]).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let leaf = CertificateParams::new(names).unwrap().signed_by(&key, &ca).unwrap();
    let directory = std::env::temp_dir().join(format!("spanwarden-export-{test}-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let file = directory.join("ca.pem");
    std::fs::write(&file, ca.pem()).unwrap();
    let chain: Vec<CertificateDer<'static>> = vec![leaf.der().clone()];
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let mut config = rustls::ServerConfig::builder_with_provider(spanwarden::transport::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Authority { file, directory, acceptor: TlsAcceptor::from(Arc::new(config)) }
}

async fn send(name: &str, endpoint: &str, tls: ClientTls) -> Result<(), spanwarden::otlp::Refusal> {
    let mut config = grpc(endpoint);
    config.tls = tls;
    config.retry.enabled = false;
    let exporter = started("otlp", name, Config::Otlp(config)).await;
    exporter.consume(batch(1, 3, 2)).await.map(|_| ())
}

fn trusting(authority: &Authority) -> ClientTls {
    ClientTls { ca_file: Some(authority.file.clone()), ..ClientTls::default() }
}

#[tokio::test]
async fn a_trusted_server_gets_the_spans_and_no_other_does() {
    let (ours, other) = (authority("ours", &["localhost", "127.0.0.1"]), authority("other", &["localhost"]));
    let server = Server::grpc_tls(ours.acceptor.clone()).await;
    let port = server.endpoint.rsplit_once(':').unwrap().1;
    send("tls", &format!("127.0.0.1:{port}"), trusting(&ours)).await.unwrap();
    // The scheme beats `insecure`.
    let tls = ClientTls { insecure: true, ..trusting(&ours) };
    send("tls", &format!("https://127.0.0.1:{port}"), tls).await.unwrap();
    assert_eq!(server.requests(), 2);

    let refusal = send("tls", &server.endpoint, trusting(&other)).await.unwrap_err();
    assert_eq!(refusal.cause, "tls");
    assert!(matches!(refusal.kind, RefusalKind::Unavailable { .. }));
    assert!(refusal.message.contains("set tls.ca_file"), "{}", refusal.message);

    let tls = ClientTls { server_name_override: Some("gateway.example".into()), ..trusting(&ours) };
    let refusal = send("tls", &server.endpoint, tls).await.unwrap_err();
    assert!(refusal.message.contains("server_name_override"), "{}", refusal.message);
    assert_eq!(server.requests(), 2, "nothing was sent to a server that is not trusted");

    let tls = ClientTls { insecure_skip_verify: true, ..ClientTls::default() };
    send("tls", &server.endpoint, tls).await.unwrap();
}

#[tokio::test]
async fn tls_never_falls_back_to_plaintext() {
    let ours = authority("plain", &["127.0.0.1"]);
    let server = Server::grpc([]).await;
    let refusal = send("fallback", &server.endpoint, trusting(&ours)).await.unwrap_err();
    assert_eq!(refusal.cause, "tls");
    assert!(refusal.message.contains("plaintext"), "{}", refusal.message);
    assert_eq!(server.requests(), 0);
}

#[tokio::test]
async fn a_new_ca_file_closes_what_grpc_dialled_with_the_old_one() {
    let ours = authority("reload-grpc", &["127.0.0.1"]);
    let server = Server::grpc_tls(ours.acceptor.clone()).await;
    let mut config = grpc(&server.endpoint);
    config.tls = renewed(&ours);
    config.retry.enabled = false;
    let exporter = started("otlp", "reload", Config::Otlp(config)).await;
    dials_anew(&ours, &server, &exporter).await;
}

#[tokio::test]
async fn a_new_ca_file_closes_what_http_dialled_with_the_old_one() {
    let ours = authority("reload-http", &["127.0.0.1"]);
    let server = Server::http_tls(ours.acceptor.clone()).await;
    let mut config = http(&format!("https://{}", server.endpoint));
    config.tls = renewed(&ours);
    config.retry.enabled = false;
    let exporter = started("otlphttp", "reload", Config::OtlpHttp(config)).await;
    dials_anew(&ours, &server, &exporter).await;
}

/// Looked at every second, in place of inotify where that is exhausted.
fn renewed(authority: &Authority) -> ClientTls {
    ClientTls { reload_interval: Some(Duration::from_secs(1)), ..trusting(authority) }
}

async fn dials_anew(ours: &Authority, server: &Server, exporter: &Arc<dyn Exporter>) {
    let other = authority(&format!("other-{}", server.endpoint), &["127.0.0.1"]);
    let send = || async { exporter.consume(batch(1, 3, 2)).await.map(|_| ()) };
    send().await.unwrap();
    send().await.unwrap();
    assert_eq!((server.requests(), server.connections()), (2, 1));

    // Both CAs: the connection is replaced, also where nothing is sent that would notice.
    let own = std::fs::read_to_string(&ours.file).unwrap();
    let stranger = std::fs::read_to_string(&other.file).unwrap();
    std::fs::write(&ours.file, format!("{own}{stranger}")).unwrap();
    soon("the idle connection is closed", || server.open_connections() == 0).await;
    send().await.unwrap();
    assert_eq!((server.requests(), server.connections()), (3, 2));

    // Half a file changes nothing; a CA that did not sign the server's certificate ends it.
    std::fs::write(&ours.file, &own[..own.len() / 2]).unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    send().await.unwrap();
    assert_eq!((server.requests(), server.connections()), (4, 2));
    std::fs::write(&ours.file, stranger).unwrap();
    let what = "the connection to a server that is not trusted any more is closed";
    soon(what, || server.open_connections() == 0).await;
    let refusal = send().await.unwrap_err();
    assert_eq!(refusal.cause, "tls", "{}", refusal.message);
    assert_eq!(server.requests(), 4);
}

/// Bounds a wait.
async fn soon(what: &str, mut done: impl FnMut() -> bool) {
    let wait = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait)
        .await
        .unwrap_or_else(|_| panic!("{what}: not within 30 s"));
}
