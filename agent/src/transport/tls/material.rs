//! Certificates, keys, CAs and revocation lists from a [`Snapshot`], checked before anybody uses them.

#![forbid(unsafe_code)]

use std::{
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
    time::SystemTime,
};

use rustls::{RootCertStore, crypto::CryptoProvider, sign::CertifiedKey};
use rustls_pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer,
    pem::{self, PemObject},
};

use super::{
    TlsError,
    facts::{self, Facts, span},
    files::Snapshot,
};
use crate::telemetry::metrics::{Gauges, gauge};

static EXPIRY: LazyLock<Gauges> = LazyLock::new(|| {
    gauge(
        "spanwarden_tls_certificate_expiry_seconds",
        "When the certificates in use expire, in seconds since 1970; of a file of CAs, the last one of them.",
        &["use", "file"],
    )
});

/// What is wrong with a file's dates: an error on a reload, where the old one is kept, and a warning at the start,
/// where there is no other.
#[derive(Debug, Default)]
pub(super) struct Stale(Option<TlsError>);

impl Stale {
    fn note(&mut self, path: &Path, message: String) {
        self.0.get_or_insert(TlsError::Time { path: path.to_owned(), message });
    }

    /// An error, if anything was noted.
    pub(super) fn refuse(self) -> Result<(), TlsError> {
        self.0.map_or(Ok(()), Err)
    }

    /// A warning, if anything was noted.
    pub(super) fn warn(self) {
        if let Some(error) = self.0 {
            tracing::warn!(%error, "tls: a file is used that others will refuse");
        }
    }
}

/// When what is in use ends, for the gauge.
#[derive(Debug)]
pub(super) struct Expiry {
    pub(super) used: &'static str,
    /// The file, or the SPIFFE ID.
    pub(super) path: PathBuf,
    pub(super) at: SystemTime,
}

impl Expiry {
    /// Shows it in the gauge.
    pub(super) fn publish(&self) {
        let seconds = self.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let path = self.path.display().to_string();
        EXPIRY.with_label_values(&[self.used, &path]).set(i64::try_from(seconds).unwrap_or(i64::MAX));
    }
}

/// Certificate chain and key that belong together.
pub(super) fn key_pair(
    provider: &CryptoProvider,
    snapshot: &Snapshot,
    (cert, key): (&Path, &Path),
    used: &'static str,
    stale: &mut Stale,
) -> Result<(Arc<CertifiedKey>, Expiry), TlsError> {
    let chain = certificates(snapshot, cert)?;
    let expiry = validity(&chain, cert, stale)?;
    let pair = CertifiedKey::from_der(chain, private_key(snapshot, key)?, provider)
        .map_err(|source| TlsError::KeyPair { path: cert.to_owned(), source })?;
    Ok((Arc::new(pair), Expiry { used, path: cert.to_owned(), at: expiry }))
}

/// The end of a chain's first certificate, which must have begun. The others are not looked at: chains hold expired
/// cross-signed roots for old clients.
fn validity(chain: &[CertificateDer<'_>], path: &Path, stale: &mut Stale) -> Result<SystemTime, TlsError> {
    let leaf = chain.first().ok_or_else(|| TlsError::NoCertificate { path: path.to_owned() })?;
    let (facts, now) = (facts(leaf, path)?, SystemTime::now());
    if let Ok(ago) = now.duration_since(facts.not_after) {
        stale.note(path, format!("the certificate of `{}` expired {} ago", facts.subject, span(ago)));
    } else if let Ok(ahead) = facts.not_before.duration_since(now) {
        let message = format!("the certificate of `{}` is not valid for {} yet", facts.subject, span(ahead));
        stale.note(path, message);
    }
    Ok(facts.not_after)
}

/// CAs to trust, and their names for messages.
pub(super) fn authorities(
    snapshot: &Snapshot,
    path: &Path,
    used: &'static str,
    stale: &mut Stale,
) -> Result<(RootCertStore, Vec<String>, Expiry), TlsError> {
    let mut store = RootCertStore::empty();
    let (mut names, mut last) = (Vec::new(), SystemTime::UNIX_EPOCH);
    for certificate in certificates(snapshot, path)? {
        let facts = facts(&certificate, path)?;
        last = last.max(facts.not_after);
        names.push(facts.subject);
        store
            .add(certificate)
            .map_err(|e| TlsError::Authority { path: path.to_owned(), message: e.to_string() })?;
    }
    if let Ok(ago) = SystemTime::now().duration_since(last) {
        stale.note(path, format!("every CA in it is expired, the last one {} ago", span(ago)));
    }
    Ok((store, names, Expiry { used, path: path.to_owned(), at: last }))
}

/// The revocation lists of one file.
pub(super) fn revocation_lists(
    snapshot: &Snapshot,
    path: &Path,
    stale: &mut Stale,
) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let error = |message: String| TlsError::Crl { path: path.to_owned(), message };
    let lists = CertificateRevocationListDer::pem_slice_iter(snapshot.content(path))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| error(e.to_string()))?;
    if lists.is_empty() {
        return Err(error("no revocation list in it".to_owned()));
    }
    for list in &lists {
        let next = facts::next_update(list).map_err(|_| error("it is no revocation list".to_owned()))?;
        if let Some(next) = next
            && let Ok(ago) = SystemTime::now().duration_since(next)
        {
            stale.note(path, format!("the revocation list should have been renewed {} ago", span(ago)));
        }
    }
    Ok(lists)
}

/// The CAs of the system.
pub(super) fn system_roots() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    // Some bundles hold certificates that are no valid anchors; the others are still good.
    store.add_parsable_certificates(found.certs);
    if store.is_empty() {
        let why = found.errors.first().map_or_else(|| "none found".to_owned(), ToString::to_string);
        return Err(TlsError::NoSystemRoots(why));
    }
    Ok(store)
}

fn facts(certificate: &CertificateDer<'_>, path: &Path) -> Result<Facts, TlsError> {
    Facts::of(certificate).ok_or_else(|| TlsError::Pem {
        path: path.to_owned(),
        message: "a block in it says CERTIFICATE and holds none".to_owned(),
    })
}

fn certificates(snapshot: &Snapshot, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain = CertificateDer::pem_slice_iter(snapshot.content(path))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| pem_error(path, &e))?;
    if chain.is_empty() { Err(TlsError::NoCertificate { path: path.to_owned() }) } else { Ok(chain) }
}

fn private_key(snapshot: &Snapshot, path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(snapshot.content(path)).map_err(|e| match e {
        pem::Error::NoItemsFound => TlsError::Pem {
            path: path.to_owned(),
            message: "no private key in it; an unencrypted PEM key (PKCS#8, PKCS#1 or SEC1) is expected"
                .into(),
        },
        other => pem_error(path, &other),
    })
}

fn pem_error(path: &Path, error: &pem::Error) -> TlsError {
    TlsError::Pem { path: path.to_owned(), message: error.to_string() }
}
