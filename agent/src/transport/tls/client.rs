//! What exporters dial with.

#![forbid(unsafe_code)]

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rustls::{
    ClientConfig, ConfigBuilder, DigitallySignedStruct, SignatureScheme, WantsVerifier,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    sign::SingleCertAndKey,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::sync::watch;

use super::{
    TlsError,
    files::{Fingerprint, Snapshot},
    material::{self, Expiry, Stale},
    provider,
    reload::{self, Reload},
    spiffe, versions,
};
use crate::{
    config::tls::{ClientTls, Spiffe},
    transport::spiffe::{Follower, Source, Update},
};

/// The newest good configuration of an exporter's `tls:`.
#[derive(Debug)]
pub struct ClientSource {
    tls: ClientTls,
    alpn: Vec<Vec<u8>>,
    files: Vec<PathBuf>,
    current: watch::Sender<Arc<ClientConfig>>,
    fingerprint: Mutex<Fingerprint>,
    watched: AtomicBool,
    /// Held as long as updates are wanted.
    _workload: Option<Arc<Source>>,
}

/// A configuration, and whether it still is the newest one.
#[derive(Clone, Debug)]
pub struct Current {
    /// To dial with.
    pub config: Arc<ClientConfig>,
    changes: watch::Receiver<Arc<ClientConfig>>,
}

impl Current {
    /// Whether there is a newer one.
    pub fn outdated(&self) -> bool {
        self.changes.has_changed().unwrap_or(false)
    }

    /// Resolves when there is a newer one; never, where there can't be one any more.
    pub async fn replaced(&mut self) {
        if self.changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl ClientSource {
    /// Reads the files, or waits for the first SVID; `tls.insecure` is the caller's to look at (it means no TLS at all). `alpn` in order of
    /// preference.
    pub fn new(tls: &ClientTls, alpn: &[&[u8]]) -> Result<Arc<Self>, TlsError> {
        let alpn: Vec<Vec<u8>> = alpn.iter().map(|p| p.to_vec()).collect();
        if let Some(spiffe) = &tls.spiffe {
            return Self::of_workload(tls, alpn, spiffe);
        }
        let files: Vec<PathBuf> =
            [&tls.ca_file, &tls.cert_file, &tls.key_file].into_iter().flatten().cloned().collect();
        let snapshot = Snapshot::read(&files)?;
        let mut stale = Stale::default();
        let (config, expiries) = build(tls, &alpn, &snapshot, &mut stale)?;
        stale.warn();
        expiries.iter().for_each(Expiry::publish);
        Ok(Arc::new(Self {
            tls: tls.clone(),
            alpn,
            files,
            current: watch::Sender::new(config),
            fingerprint: Mutex::new(snapshot.fingerprint()),
            watched: AtomicBool::new(false),
            _workload: None,
        }))
    }

    fn of_workload(tls: &ClientTls, alpn: Vec<Vec<u8>>, spiffe: &Spiffe) -> Result<Arc<Self>, TlsError> {
        let workload = Source::of(&spiffe.endpoint);
        let update = workload.newest()?;
        let (config, expiry) = of_update(tls, &alpn, spiffe, &update)?;
        expiry.publish();
        let source = Arc::new(Self {
            tls: tls.clone(),
            alpn,
            files: Vec::new(),
            current: watch::Sender::new(config),
            fingerprint: Mutex::default(),
            watched: AtomicBool::new(false),
            _workload: Some(Arc::clone(&workload)),
        });
        let follower: Weak<Self> = Arc::downgrade(&source);
        workload.follow(follower, &update);
        Ok(source)
    }

    /// The newest configuration. From the first call on, the files are watched.
    pub fn current(self: &Arc<Self>) -> Current {
        if !self.watched.swap(true, Ordering::Relaxed) && !self.files.is_empty() {
            let source: Weak<Self> = Arc::downgrade(self);
            reload::register(source);
        }
        let mut changes = self.current.subscribe();
        let config = Arc::clone(&changes.borrow_and_update());
        Current { config, changes }
    }
}

impl Reload for ClientSource {
    fn files(&self) -> &[PathBuf] {
        &self.files
    }

    fn interval(&self) -> Option<Duration> {
        self.tls.reload_interval
    }

    fn fingerprint(&self) -> Fingerprint {
        *self.fingerprint.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reload(&self, snapshot: &Snapshot) -> Result<(), TlsError> {
        let mut stale = Stale::default();
        let (config, expiries) = build(&self.tls, &self.alpn, snapshot, &mut stale)?;
        stale.refuse()?;
        expiries.iter().for_each(Expiry::publish);
        *self.fingerprint.lock().unwrap_or_else(PoisonError::into_inner) = snapshot.fingerprint();
        self.current.send_replace(config);
        Ok(())
    }
}

impl Follower for ClientSource {
    fn update(&self, update: &Update) -> Result<(), String> {
        let Some(spiffe) = &self.tls.spiffe else { return Ok(()) };
        let (config, expiry) =
            of_update(&self.tls, &self.alpn, spiffe, update).map_err(|error| error.to_string())?;
        expiry.publish();
        self.current.send_replace(config);
        Ok(())
    }
}

fn of_update(
    tls: &ClientTls,
    alpn: &[Vec<u8>],
    spiffe: &Spiffe,
    update: &Update,
) -> Result<(Arc<ClientConfig>, Expiry), TlsError> {
    let (pair, expiry) = spiffe::key_pair(&provider(), update.svid(spiffe.id.as_deref())?, "client")?;
    let verifier = spiffe::Servers::new(update, &spiffe.server_ids, provider())?;
    let mut config = builder(tls)
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
    config.alpn_protocols = alpn.to_vec();
    Ok((Arc::new(config), expiry))
}

fn builder(tls: &ClientTls) -> ConfigBuilder<ClientConfig, WantsVerifier> {
    ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions(tls.min_version))
        .expect("the provider has cipher suites for TLS 1.2 and 1.3")
}

/// A client's configuration from what its files hold now; `tls.insecure` is the caller's to look at (it means no TLS
/// at all). `alpn` in order of preference.
pub fn client_config(tls: &ClientTls, alpn: &[&[u8]]) -> Result<Arc<ClientConfig>, TlsError> {
    ClientSource::new(tls, alpn).map(|source| source.current.borrow().clone())
}

/// A new configuration also has a session store of its own: nothing resumes what the old one agreed on.
fn build(
    tls: &ClientTls,
    alpn: &[Vec<u8>],
    snapshot: &Snapshot,
    stale: &mut Stale,
) -> Result<(Arc<ClientConfig>, Vec<Expiry>), TlsError> {
    let mut expiries = Vec::new();
    let builder = builder(tls);
    let builder = if tls.insecure_skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider())))
    } else {
        let roots = match &tls.ca_file {
            Some(path) => {
                let (roots, _, expiry) = material::authorities(snapshot, path, "server_ca", stale)?;
                expiries.push(expiry);
                roots
            }
            None => material::system_roots()?,
        };
        builder.with_root_certificates(roots)
    };
    let mut config = match (&tls.cert_file, &tls.key_file) {
        (Some(cert), Some(key)) => {
            let files: (&Path, &Path) = (cert, key);
            let (pair, expiry) = material::key_pair(&provider(), snapshot, files, "client", stale)?;
            expiries.push(expiry);
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair)))
        }
        (None, None) => builder.with_no_client_auth(),
        _ => return Err(TlsError::HalfPair),
    };
    config.alpn_protocols = alpn.to_vec();
    Ok((Arc::new(config), expiries))
}

/// `insecure_skip_verify`: any certificate, but the handshake's signatures are still checked.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
