//! Authorities, certificates, revocation lists, and volumes that publish them, for tests of mTLS.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType,
    SerialNumber,
};
use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use spanwarden::{
    config::tls::{ClientAuth, ServerTls},
    transport::tls::provider,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::harness::*;

const HOUR: Duration = Duration::from_hours(1);
static SERIAL: AtomicU64 = AtomicU64::new(1000);

/// A time from now, in seconds.
pub(crate) fn at(seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 { SystemTime::now() - distance } else { SystemTime::now() + distance }
}

/// An authority.
pub(crate) struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, PEM.
#[derive(Clone)]
pub(crate) struct Signed {
    pub(crate) cert: String,
    pub(crate) key: String,
    serial: u64,
}

impl Ca {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer }
    }

    /// An authority below this one, for so many seconds.
    pub(crate) fn authority(&self, name: &str, seconds: i64) -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        (params.not_before, params.not_after) = (at(-60).into(), at(seconds).into());
        let key = KeyPair::generate().unwrap();
        Self { issuer: CertifiedIssuer::signed_by(params, key, &self.issuer).unwrap() }
    }

    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for an hour, changed as the test wants it.
    pub(crate) fn sign(&self, change: impl FnOnce(&mut CertificateParams)) -> Signed {
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.serial_number = Some(SerialNumber::from(serial));
        (params.not_before, params.not_after) = (at(-60).into(), (SystemTime::now() + HOUR).into());
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let cert = params.signed_by(&key, &self.issuer).unwrap().pem();
        Signed { cert, key: key.serialize_pem(), serial }
    }

    /// A workload's, by these URIs.
    pub(crate) fn workload(&self, uris: &[&str]) -> Signed {
        self.sign(|params| params.subject_alt_names = uris.iter().map(|uri| uri_name(uri)).collect())
    }

    /// A client's, by this DNS name.
    pub(crate) fn client(&self, name: &str) -> Signed {
        self.sign(|params| params.subject_alt_names = vec![SanType::DnsName(name.try_into().unwrap())])
    }

    /// A server's, for loopback.
    pub(crate) fn server(&self) -> Signed {
        self.sign(|params| {
            params.subject_alt_names = vec![SanType::IpAddress("127.0.0.1".parse().unwrap())];
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        })
    }

    /// A revocation list that is to be renewed in so many seconds.
    pub(crate) fn crl(&self, revoked: &[&Signed], seconds: i64) -> String {
        let params = CertificateRevocationListParams {
            this_update: at(-60).into(),
            next_update: at(seconds).into(),
            crl_number: SerialNumber::from(SERIAL.fetch_add(1, Ordering::Relaxed)),
            issuing_distribution_point: None,
            revoked_certs: revoked
                .iter()
                .map(|signed| RevokedCertParams {
                    serial_number: SerialNumber::from(signed.serial),
                    revocation_time: at(-30).into(),
                    reason_code: None,
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

pub(crate) fn uri_name(uri: &str) -> SanType {
    SanType::URI(uri.try_into().unwrap())
}

/// What a client dials with; a session that it keeps is resumed with the next connection of the same configuration.
pub(crate) fn client_with(
    roots: &[&Ca],
    own: Option<&Signed>,
    alpn: &[u8],
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(CertificateDer::from_pem_slice(root.pem().as_bytes()).unwrap()).unwrap();
    }
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(store);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some(signed) => {
            let chain = CertificateDer::pem_slice_iter(signed.cert.as_bytes()).map(Result::unwrap).collect();
            let key = PrivateKeyDer::from_pem_slice(signed.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    Arc::new(config)
}

pub(crate) fn client(root: &Ca, own: Option<&Signed>, alpn: &[u8]) -> Arc<ClientConfig> {
    client_with(&[root], own, alpn, rustls::ALL_VERSIONS)
}

pub(crate) async fn dial(
    to: SocketAddr,
    config: &Arc<ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(to).await?;
    let name = "127.0.0.1".try_into().unwrap();
    soon("handshake", TlsConnector::from(Arc::clone(config)).connect(name, stream)).await
}

/// Files that are replaced as Kubernetes does it, by swapping `..data`, or one after the other in place.
pub(crate) struct Volume {
    dir: TempDir,
    swapped: bool,
    version: u32,
}

impl Volume {
    pub(crate) fn new(name: &str, swapped: bool, files: &[(&str, &str)]) -> Self {
        let mut volume = Self { dir: TempDir::new(name), swapped, version: 0 };
        volume.publish(files);
        volume
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.dir.0.join(file)
    }

    /// These files instead of those before.
    pub(crate) fn publish(&mut self, files: &[(&str, &str)]) {
        if self.swapped {
            self.swap(files);
        } else {
            for (name, content) in files {
                fs::write(self.path(name), content).unwrap();
            }
        }
    }

    /// As `pkg/volume/util/atomic_writer.go` of Kubernetes: a new directory, then one rename of a link.
    fn swap(&mut self, files: &[(&str, &str)]) {
        let root: &Path = &self.dir.0;
        let before = fs::read_link(root.join("..data")).ok();
        self.version += 1;
        let next = format!("..v{}", self.version);
        fs::create_dir(root.join(&next)).unwrap();
        for (name, content) in files {
            fs::write(root.join(&next).join(name), content).unwrap();
        }
        symlink(&next, root.join("..data_tmp")).unwrap();
        fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
        for (name, _) in files {
            if fs::symlink_metadata(root.join(name)).is_err() {
                symlink(Path::new("..data").join(name), root.join(name)).unwrap();
            }
        }
        if let Some(before) = before {
            fs::remove_dir_all(root.join(before)).unwrap();
        }
    }

    /// A server's settings, with `tls.crt`, `tls.key`, `ca.crt`.
    pub(crate) fn server_tls(&self, client_auth: ClientAuth) -> ServerTls {
        ServerTls {
            cert_file: self.path("tls.crt"),
            key_file: self.path("tls.key"),
            client_ca_file: Some(self.path("ca.crt")),
            client_auth,
            ..ServerTls::default()
        }
    }
}
