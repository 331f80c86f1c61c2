//! TLS from files, with and without client certificates.

use std::{fs, net::SocketAddr, path::PathBuf, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use spanwarden::{
    config::{
        ComponentId,
        receivers::{HttpServer, OtlpReceiver},
        tls::{ClientAuth, ClientTls, ServerTls, TlsVersion},
    },
    receiver::Server,
    transport::tls::{H2, HTTP11, client_config, server_name},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::harness::*;

/// A CA, its files, and certificates that it signed.
struct Authority {
    dir: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let dir = TempDir::new(name);
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::write(dir.0.join("ca.pem"), issuer.pem()).unwrap();
        Self { dir, issuer }
    }

    fn ca(&self) -> PathBuf {
        self.dir.0.join("ca.pem")
    }

    /// Certificate and key for this name.
    fn sign(&self, name: &str) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        let paths = (self.dir.0.join(format!("{name}.pem")), self.dir.0.join(format!("{name}.key")));
        fs::write(&paths.0, cert.pem()).unwrap();
        fs::write(&paths.1, key.serialize_pem()).unwrap();
        paths
    }

    fn server(&self) -> ServerTls {
        let (cert_file, key_file) = self.sign("localhost");
        ServerTls { cert_file, key_file, ..ServerTls::default() }
    }

    fn client(&self) -> ClientTls {
        ClientTls { ca_file: Some(self.ca()), ..ClientTls::default() }
    }
}

async fn connect(to: SocketAddr, tls: &ClientTls, alpn: &[&[u8]]) -> std::io::Result<TlsStream<TcpStream>> {
    let connector = TlsConnector::from(client_config(tls, alpn).unwrap());
    let stream = TcpStream::connect(to).await?;
    soon("handshake", connector.connect(server_name(tls, "127.0.0.1").unwrap(), stream)).await
}

#[tokio::test]
async fn both_protocols_over_tls() {
    let authority = Authority::new("tls-both");
    let receiver = Setup { tls: Some(authority.server()), ..Setup::new("tls") }.start();
    let message = request(100, 1000);
    // Also without ALPN, as old gRPC clients.
    for alpn in [&[H2][..], &[]] {
        let stream = connect(receiver.grpc, &authority.client(), alpn).await.unwrap();
        let reply = GrpcClient::over(stream).await.export(&message).await;
        assert_eq!(reply.status, Some(0), "{reply:?}");
    }
    for alpn in [&[HTTP11][..], &[]] {
        let stream = connect(receiver.http, &authority.client(), alpn).await.unwrap();
        assert_eq!(http_over(stream, post(PROTOBUF, &[], message.clone())).await.status, 200);
    }
    let stream = connect(receiver.http, &authority.client(), &[H2, HTTP11]).await.unwrap();
    let mut client = GrpcClient::over(stream).await;
    let reply = client.call("/v1/traces", &[("content-type", PROTOBUF)], message.clone()).await.unwrap();
    assert_eq!(reply.http, 200);
    assert_eq!(receiver.sink.spans(), 500);
    // Who does not trust our CA does not get in, and is counted.
    let stranger = Authority::new("tls-stranger");
    assert!(connect(receiver.grpc, &stranger.client(), &[H2]).await.is_err());
    receiver.refused_connection("grpc", "tls_rejected_by_client").await;
    let name = ClientTls { server_name_override: Some("elsewhere".into()), ..authority.client() };
    assert!(connect(receiver.grpc, &name, &[H2]).await.is_err());
    let skip = ClientTls { insecure_skip_verify: true, ..ClientTls::default() };
    assert!(connect(receiver.grpc, &skip, &[H2]).await.is_ok());
    receiver.stop(PATIENCE).await;
}

#[tokio::test]
async fn client_certificates_are_required_where_a_client_ca_is_set() {
    let (authority, stranger) = (Authority::new("tls-client-ca"), Authority::new("tls-client-stranger"));
    let tls = ServerTls {
        client_ca_file: Some(authority.ca()),
        client_auth: ClientAuth::Required,
        min_version: TlsVersion::V13,
        ..authority.server()
    };
    let receiver = Setup { tls: Some(tls), ..Setup::new("mtls") }.start();
    let with = |(cert, key): (PathBuf, PathBuf)| ClientTls {
        cert_file: Some(cert),
        key_file: Some(key),
        ..authority.client()
    };
    let stream = connect(receiver.grpc, &with(authority.sign("client")), &[H2]).await.unwrap();
    assert_eq!(GrpcClient::over(stream).await.export(&request(2, 2)).await.status, Some(0));
    // In TLS 1.3 the client learns of the refusal with its first read.
    for (tls, cause) in
        [(authority.client(), "tls_no_client_certificate"), (with(stranger.sign("client")), "tls_unknown_ca")]
    {
        if let Ok(mut stream) = connect(receiver.grpc, &tls, &[H2]).await {
            use tokio::io::AsyncReadExt as _;
            assert!(soon(cause, stream.read_to_end(&mut Vec::new())).await.is_err(), "{cause}");
        }
        receiver.refused_connection("grpc", cause).await;
    }
    assert_eq!(receiver.sink.spans(), 2);
    receiver.stop(PATIENCE).await;
}

#[tokio::test]
async fn plaintext_on_a_tls_port_is_told_so() {
    let authority = Authority::new("tls-plain");
    let receiver = Setup { tls: Some(authority.server()), ..Setup::new("plain-on-tls") }.start();
    let answer =
        raw(receiver.http, b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello").await;
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("https"), "{answer}");
    receiver.refused_connection("http", "plaintext_on_tls_port").await;
    let answer = raw(receiver.grpc, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert!(String::from_utf8_lossy(&answer).contains("This port speaks TLS"), "{answer:?}");
    // An HTTP/2 client makes an error of it, not a hang.
    let mut client = GrpcClient::connect(receiver.grpc).await;
    let call = client.call(EXPORT, &[("content-type", "application/grpc")], framed(0, &request(1, 1))).await;
    assert!(call.is_err());
    receiver.refused_connection("grpc", "plaintext_on_tls_port").await;
    assert_eq!(receiver.sink.spans(), 0);
    receiver.stop(PATIENCE).await;
}

#[test]
fn wrong_files_and_ports_are_errors_that_name_them() {
    let authority = Authority::new("tls-files");
    let good = authority.server();
    let other_key = authority.sign("other").1;
    let empty = authority.dir.0.join("empty.pem");
    fs::write(&empty, "no pem").unwrap();
    let bind = |endpoint: &str, tls: Option<ServerTls>| {
        let http = HttpServer {
            endpoint: endpoint.into(),
            tls,
            auth: None,
            max_request_body_size: 1,
            traces_url_path: "/v1/traces".into(),
            read_header_timeout: PATIENCE,
            idle_timeout: PATIENCE,
        };
        let id = ComponentId { kind: "otlp".into(), name: None };
        Server::bind(&OtlpReceiver { grpc: None, http: Some(http) }, &id, 2)
    };
    for (tls, wanted) in [
        (ServerTls { cert_file: "/nowhere/tls.pem".into(), ..good.clone() }, "/nowhere/tls.pem"),
        (ServerTls { cert_file: empty.clone(), ..good.clone() }, "no certificate"),
        (ServerTls { key_file: empty.clone(), ..good.clone() }, "no private key"),
        (ServerTls { key_file: other_key, ..good.clone() }, "belong together"),
        (
            ServerTls { client_ca_file: Some(empty), client_auth: ClientAuth::Optional, ..good.clone() },
            "no certificate",
        ),
        (ServerTls { client_auth: ClientAuth::Required, ..good.clone() }, "client_ca_file"),
    ] {
        let error = bind("127.0.0.1:0", Some(tls)).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
    for endpoint in ["localhost", "localhost:port", "localhost:70000", "no.such.host.invalid:1"] {
        let error = bind(endpoint, None).unwrap_err().to_string();
        assert!(error.contains(endpoint), "{error}");
    }
    let first = bind("127.0.0.1:0", None).unwrap();
    let taken = first.local_addrs()[0].1.to_string();
    let error = bind(&taken, None).unwrap_err().to_string();
    assert!(error.contains(&taken) && error.contains("in use"), "{error}");
    drop(first);
    bind(&taken, None).unwrap();
    let local = bind("localhost:0", None).unwrap();
    assert!(
        local
            .local_addrs()
            .iter()
            .all(|(_, a)| a.ip().is_loopback() && a.port() == local.local_addrs()[0].1.port())
    );
    let _: Arc<rustls::ClientConfig> = client_config(&ClientTls::default(), &[H2]).unwrap();
}
