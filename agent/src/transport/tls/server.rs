//! What listeners accept with, and what an accepted connection's certificate is worth as long as it lives.

#![forbid(unsafe_code)]

use std::{
    cell::RefCell,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use rustls::{
    DigitallySignedStruct, DistinguishedName, HandshakeKind, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::{CertifiedKey, SingleCertAndKey},
};
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    TlsError,
    facts::Facts,
    files::{Fingerprint, Snapshot},
    material::{self, Expiry, Stale},
    provider,
    reload::{self, Reload},
    spiffe, versions,
};
use crate::{
    config::tls::{ClientAuth, ServerTls, Spiffe},
    transport::spiffe::{Follower, Source, Update},
};

tokio::task_local! {
    /// The certificate that the handshake of this task did not accept: rustls' errors do not hold it.
    static REFUSED: RefCell<Option<Facts>>;
}

/// The newest good configuration of a listener's `tls:`.
#[derive(Debug)]
pub struct ServerSource {
    tls: ServerTls,
    alpn: Vec<Vec<u8>>,
    files: Vec<PathBuf>,
    current: watch::Sender<Arc<State>>,
    fingerprint: Mutex<Fingerprint>,
    watched: AtomicBool,
    /// Held as long as updates are wanted.
    _workload: Option<Arc<Source>>,
}

/// One configuration.
#[derive(Debug)]
struct State {
    config: Arc<ServerConfig>,
    /// Absent: no certificate is asked for.
    trust: Option<Arc<Trust>>,
}

/// Whose certificates are believed. The same one as long as CAs and revocation lists stay the same.
#[derive(Debug)]
struct Trust {
    verifier: Arc<dyn ClientCertVerifier>,
    /// The CAs' names, for messages.
    authorities: Vec<String>,
    fingerprint: Fingerprint,
}

/// A connection whose handshake is done.
#[derive(Debug)]
pub struct Accepted<S> {
    /// To be read and written.
    pub stream: TlsStream<S>,
    /// Whom the client certificate shows; `None` where there was none, and none was required.
    pub peer: Option<Peer>,
}

/// Why a handshake failed.
#[derive(Debug)]
pub struct HandshakeError {
    /// As it happened; holds a [`rustls::Error`] unless the connection broke.
    pub error: io::Error,
    /// The certificate that was not accepted.
    pub presented: Option<Facts>,
    /// The CAs whose certificates would have been.
    pub authorities: Vec<String>,
}

/// A client certificate whose chain was verified.
#[derive(Debug)]
pub struct Peer {
    /// What it says.
    pub facts: Facts,
    chain: Vec<CertificateDer<'static>>,
    trust: Arc<Trust>,
    changes: watch::Receiver<Arc<State>>,
}

impl ServerSource {
    /// Reads the files, or waits for the first SVID. `alpn` in order of preference.
    pub fn new(tls: &ServerTls, alpn: &[&[u8]]) -> Result<Arc<Self>, TlsError> {
        let alpn: Vec<Vec<u8>> = alpn.iter().map(|p| p.to_vec()).collect();
        if let Some(spiffe) = &tls.spiffe {
            return Self::of_workload(tls, alpn, spiffe);
        }
        let files: Vec<PathBuf> =
            [&tls.cert_file, &tls.key_file].into_iter().chain(trust_files(tls)).cloned().collect();
        let snapshot = Snapshot::read(&files)?;
        let mut stale = Stale::default();
        let (first, expiries) = build(tls, &alpn, &snapshot, None, &mut stale)?;
        stale.warn();
        expiries.iter().for_each(Expiry::publish);
        Ok(Arc::new(Self {
            tls: tls.clone(),
            alpn,
            files,
            current: watch::Sender::new(Arc::new(first)),
            fingerprint: Mutex::new(snapshot.fingerprint()),
            watched: AtomicBool::new(false),
            _workload: None,
        }))
    }

    fn of_workload(tls: &ServerTls, alpn: Vec<Vec<u8>>, spiffe: &Spiffe) -> Result<Arc<Self>, TlsError> {
        let workload = Source::of(&spiffe.endpoint);
        let update = workload.newest()?;
        let (first, expiry) = of_update(tls, &alpn, spiffe, &update, None)?;
        expiry.publish();
        let source = Arc::new(Self {
            tls: tls.clone(),
            alpn,
            files: Vec::new(),
            current: watch::Sender::new(Arc::new(first)),
            fingerprint: Mutex::default(),
            watched: AtomicBool::new(false),
            _workload: Some(Arc::clone(&workload)),
        });
        let follower: Weak<Self> = Arc::downgrade(&source);
        workload.follow(follower, &update);
        Ok(source)
    }

    /// From here on the files, if any, are watched, as long as somebody holds this.
    pub fn watch(self: &Arc<Self>) {
        if !self.files.is_empty() && !self.watched.swap(true, Ordering::Relaxed) {
            let source: Weak<Self> = Arc::downgrade(self);
            reload::register(source);
        }
    }

    /// Shakes hands with the newest configuration. Not bounded in time.
    pub async fn accept<S>(&self, stream: S) -> Result<Accepted<S>, HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        // Subscribed before it is read: no change is missed.
        let mut changes = self.current.subscribe();
        let state = Arc::clone(&changes.borrow_and_update());
        let accept = TlsAcceptor::from(Arc::clone(&state.config)).accept(stream);
        let (outcome, presented) = REFUSED
            .scope(RefCell::default(), async {
                let outcome = accept.await;
                (outcome, REFUSED.with(RefCell::take))
            })
            .await;
        let failed = |error, presented| HandshakeError {
            error,
            presented,
            authorities: state.trust.as_ref().map(|trust| trust.authorities.clone()).unwrap_or_default(),
        };
        let stream = outcome.map_err(|error| failed(error, presented))?;
        let session = stream.get_ref().1;
        let (Some(chain), Some(trust)) = (session.peer_certificates(), &state.trust) else {
            return Ok(Accepted { stream, peer: None });
        };
        let chain: Vec<_> = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
        let facts = chain.first().and_then(|leaf| Facts::of(leaf));
        // A resumed session brings its certificate along, which may have expired meanwhile.
        if session.handshake_kind() == Some(HandshakeKind::Resumed)
            && let Err(error) = trust.verify(&chain)
        {
            return Err(failed(io::Error::new(io::ErrorKind::InvalidData, error), facts));
        }
        let Some(facts) = facts else {
            let error = rustls::Error::InvalidCertificate(rustls::CertificateError::BadEncoding);
            return Err(failed(io::Error::new(io::ErrorKind::InvalidData, error), None));
        };
        let peer = Peer { facts, chain, trust: Arc::clone(trust), changes };
        Ok(Accepted { stream, peer: Some(peer) })
    }
}

impl Peer {
    /// Resolves when CAs or revocation lists have changed so that the certificate is not accepted any more, and says
    /// why.
    pub async fn distrusted(&mut self) -> rustls::Error {
        loop {
            if self.changes.changed().await.is_err() {
                return std::future::pending().await;
            }
            let state = Arc::clone(&self.changes.borrow_and_update());
            let Some(trust) = &state.trust else { continue };
            if Arc::ptr_eq(trust, &self.trust) {
                continue;
            }
            if let Err(error) = trust.verify(&self.chain) {
                return error;
            }
            self.trust = Arc::clone(trust);
        }
    }

    /// How long the certificate is still valid.
    pub fn left(&self) -> Duration {
        self.facts.not_after.duration_since(SystemTime::now()).unwrap_or_default()
    }

    /// When certificates between it and the CA end before it does, soonest first.
    pub fn earlier_ends(&self) -> Vec<SystemTime> {
        let others = self.chain.iter().skip(1).filter_map(|certificate| Facts::of(certificate));
        let mut ends: Vec<SystemTime> =
            others.map(|facts| facts.not_after).filter(|end| *end < self.facts.not_after).collect();
        ends.sort_unstable();
        ends
    }

    /// Verifies the chain again, as of now.
    pub fn verify(&self) -> Result<(), rustls::Error> {
        self.trust.verify(&self.chain)
    }
}

impl Trust {
    fn verify(&self, chain: &[CertificateDer<'_>]) -> Result<(), rustls::Error> {
        let (leaf, rest) = chain.split_first().ok_or(rustls::Error::NoCertificatesPresented)?;
        self.verifier.verify_client_cert(leaf, rest, UnixTime::now()).map(drop)
    }
}

impl Reload for ServerSource {
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
        let before = Arc::clone(&self.current.borrow());
        let (next, expiries) = build(&self.tls, &self.alpn, snapshot, before.trust.as_ref(), &mut stale)?;
        stale.refuse()?;
        expiries.iter().for_each(Expiry::publish);
        *self.fingerprint.lock().unwrap_or_else(PoisonError::into_inner) = snapshot.fingerprint();
        self.current.send_replace(Arc::new(next));
        Ok(())
    }
}

impl Follower for ServerSource {
    fn update(&self, update: &Update) -> Result<(), String> {
        let Some(spiffe) = &self.tls.spiffe else { return Ok(()) };
        let before = Arc::clone(&self.current.borrow());
        let (next, expiry) = of_update(&self.tls, &self.alpn, spiffe, update, before.trust.as_ref())
            .map_err(|error| error.to_string())?;
        expiry.publish();
        self.current.send_replace(Arc::new(next));
        Ok(())
    }
}

fn of_update(
    tls: &ServerTls,
    alpn: &[Vec<u8>],
    spiffe: &Spiffe,
    update: &Update,
    before: Option<&Arc<Trust>>,
) -> Result<(State, Expiry), TlsError> {
    let (pair, expiry) = spiffe::key_pair(&provider(), update.svid(spiffe.id.as_deref())?, "server")?;
    let fingerprint = spiffe::fingerprint(update);
    let trust = match before.filter(|before| before.fingerprint == fingerprint) {
        _ if tls.client_auth == ClientAuth::Off => None,
        Some(same) => Some(Arc::clone(same)),
        None => {
            let required = tls.client_auth == ClientAuth::Required;
            let verifier = spiffe::Clients::new(update, &provider(), required)?;
            let verifier: Arc<dyn ClientCertVerifier> = Arc::new(Remembering(Arc::new(verifier)));
            Some(Arc::new(Trust { verifier, authorities: spiffe::authorities(update), fingerprint }))
        }
    };
    Ok((state(tls, alpn, trust, pair), expiry))
}

/// A new configuration has a session store of its own and no tickets (rustls gives none unless told to): nothing that
/// an old one agreed on is resumed.
fn state(tls: &ServerTls, alpn: &[Vec<u8>], trust: Option<Arc<Trust>>, pair: Arc<CertifiedKey>) -> State {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions(tls.min_version))
        .expect("the provider has cipher suites for TLS 1.2 and 1.3");
    let builder = match &trust {
        Some(trust) => builder.with_client_cert_verifier(Arc::clone(&trust.verifier)),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
    config.alpn_protocols = alpn.to_vec();
    State { config: Arc::new(config), trust }
}

/// What decides about clients' certificates.
fn trust_files(tls: &ServerTls) -> impl Iterator<Item = &PathBuf> {
    let asked = tls.client_auth != ClientAuth::Off;
    tls.client_ca_file.iter().chain(&tls.crl_files).filter(move |_| asked)
}

fn build(
    tls: &ServerTls,
    alpn: &[Vec<u8>],
    snapshot: &Snapshot,
    before: Option<&Arc<Trust>>,
    stale: &mut Stale,
) -> Result<(State, Vec<Expiry>), TlsError> {
    let mut expiries = Vec::new();
    let trust = match (tls.client_auth, &tls.client_ca_file) {
        (ClientAuth::Off, _) => None,
        (_, None) => return Err(TlsError::NoClientCa),
        (_, Some(ca)) => {
            let (trust, expiry) = trust(tls, ca, snapshot, stale)?;
            expiries.push(expiry);
            Some(
                before
                    .filter(|before| before.fingerprint == trust.fingerprint)
                    .cloned()
                    .unwrap_or(Arc::new(trust)),
            )
        }
    };
    let files: (&Path, &Path) = (&tls.cert_file, &tls.key_file);
    let (pair, expiry) = material::key_pair(&provider(), snapshot, files, "server", stale)?;
    expiries.push(expiry);
    Ok((state(tls, alpn, trust, pair), expiries))
}

fn trust(
    tls: &ServerTls,
    ca: &Path,
    snapshot: &Snapshot,
    stale: &mut Stale,
) -> Result<(Trust, Expiry), TlsError> {
    let (roots, authorities, expiry) = material::authorities(snapshot, ca, "client_ca", stale)?;
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    if tls.client_auth == ClientAuth::Optional {
        builder = builder.allow_unauthenticated();
    }
    let mut lists = Vec::new();
    for path in &tls.crl_files {
        lists.extend(material::revocation_lists(snapshot, path, stale)?);
    }
    if !lists.is_empty() {
        // A certificate that no list covers is refused, which is rustls' default.
        builder = builder.with_crls(lists).enforce_revocation_expiration();
    }
    let inner = builder.build().map_err(|e| match tls.crl_files.first() {
        Some(path) => TlsError::Crl { path: path.clone(), message: e.to_string() },
        None => TlsError::Authority { path: ca.to_owned(), message: e.to_string() },
    })?;
    let fingerprint = snapshot.fingerprint_of(trust_files(tls).map(PathBuf::as_path));
    Ok((Trust { verifier: Arc::new(Remembering(inner)), authorities, fingerprint }, expiry))
}

/// Leaves the certificate that it refuses for whoever says why.
#[derive(Debug)]
struct Remembering(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Remembering {
    fn offer_client_auth(&self) -> bool {
        self.0.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.0.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.0.verify_client_cert(end_entity, intermediates, now).inspect_err(|_| {
            // Outside of a handshake nobody asks.
            let _ = REFUSED.try_with(|refused| refused.replace(Facts::of(end_entity)));
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests;
