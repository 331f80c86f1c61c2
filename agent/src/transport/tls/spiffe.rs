//! Verification by SPIFFE ID: a chain counts by the bundle of the trust domain that its leaf names, and by no other
//! (X509-SVID, 5.1), so that a federated domain's CA can't speak for ours.

#![forbid(unsafe_code)]

use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    server::{
        ParsedCertificate, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest as _, Sha256};

use super::{
    TlsError,
    facts::{Facts, shown},
    files::Fingerprint,
    material::Expiry,
};
use crate::transport::spiffe::{Svid, Update, domain};

/// Why a workload's certificate does not count.
#[derive(thiserror::Error)]
enum Unproven {
    #[error("it must have exactly one URI name, a SPIFFE ID")]
    NoId,
    #[error("`{0}` is of a trust domain whose bundle the SPIFFE Workload API does not give")]
    Domain(String),
    #[error("`{0}` is not among tls.spiffe.server_ids")]
    NotExpected(String),
    #[error("`{0}` may sign certificates, which a workload's own must not")]
    Signs(String),
}

/// rustls shows another crate's errors by this, to both logs.
impl fmt::Debug for Unproven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Unproven> for Error {
    fn from(why: Unproven) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(why))))
    }
}

/// Certificate and key to be shown.
pub(super) fn key_pair(
    provider: &CryptoProvider,
    svid: &Svid,
    used: &'static str,
) -> Result<(Arc<CertifiedKey>, Expiry), TlsError> {
    let bad = |message: String| TlsError::Svid { id: svid.id.clone(), message };
    let pair = CertifiedKey::from_der(svid.chain.clone(), svid.key.clone_key().into(), provider)
        .map_err(|error| bad(error.to_string()))?;
    let facts = svid.chain.first().and_then(|leaf| Facts::of(leaf));
    let facts = facts.ok_or_else(|| bad("its certificate is none".to_owned()))?;
    Ok((Arc::new(pair), Expiry { used, path: PathBuf::from(&svid.id), at: facts.not_after }))
}

/// Distinguishes bundles.
pub(super) fn fingerprint(update: &Update) -> Fingerprint {
    let mut hash = Sha256::new();
    for (domain, bundle) in &update.bundles {
        hash.update(domain);
        for certificate in bundle {
            hash.update((certificate.len() as u64).to_le_bytes());
            hash.update(certificate);
        }
    }
    hash.finalize().into()
}

fn roots(update: &Update) -> impl Iterator<Item = Result<(&String, Arc<RootCertStore>), TlsError>> {
    update.bundles.iter().map(|(domain, bundle)| {
        let mut store = RootCertStore::empty();
        for certificate in bundle {
            let bad = |error: Error| TlsError::Svid { id: domain.clone(), message: error.to_string() };
            store.add(certificate.clone()).map_err(bad)?;
        }
        Ok((domain, Arc::new(store)))
    })
}

/// The names of all CAs, for messages.
pub(super) fn authorities(update: &Update) -> Vec<String> {
    let certificates = update.bundles.values().flatten();
    certificates.filter_map(|certificate| Facts::of(certificate)).map(|facts| facts.subject).collect()
}

/// The SPIFFE ID that a certificate claims.
fn claimed(leaf: &CertificateDer<'_>) -> Result<(String, Facts), Error> {
    let facts = Facts::of(leaf).ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))?;
    match facts.uris.as_slice() {
        [id] if id.starts_with("spiffe://") => Ok((id.clone(), facts)),
        _ => Err(Unproven::NoId.into()),
    }
}

fn unknown(id: &str) -> Error {
    Unproven::Domain(shown(id)).into()
}

/// Verifies clients.
#[derive(Debug)]
pub(super) struct Clients {
    domains: BTreeMap<String, Arc<dyn ClientCertVerifier>>,
    any: Arc<dyn ClientCertVerifier>,
    hints: Vec<DistinguishedName>,
    mandatory: bool,
}

impl Clients {
    /// By these bundles. Not `mandatory`: a client without a certificate is anonymous.
    pub(super) fn new(
        update: &Update,
        provider: &Arc<CryptoProvider>,
        mandatory: bool,
    ) -> Result<Self, TlsError> {
        let (mut domains, mut hints) = (BTreeMap::new(), Vec::new());
        for entry in roots(update) {
            let (domain, roots) = entry?;
            hints.extend(roots.subjects());
            let verifier =
                WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider))
                    .build()
                    .map_err(|error| TlsError::Svid { id: domain.clone(), message: error.to_string() })?;
            domains.insert(domain.clone(), verifier);
        }
        let any = domains.values().next().cloned().ok_or(TlsError::NoClientCa)?;
        Ok(Self { domains, any, hints, mandatory })
    }
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let (id, _) = claimed(end_entity)?;
        let verifier = domain(&id).ok().and_then(|domain| self.domains.get(domain));
        verifier.ok_or_else(|| unknown(&id))?.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.any.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.any.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.any.supported_verify_schemes()
    }
}

/// Verifies a server: by its SPIFFE ID, not by the name that was dialled.
#[derive(Debug)]
pub(super) struct Servers {
    domains: BTreeMap<String, Arc<RootCertStore>>,
    ids: Vec<String>,
    provider: Arc<CryptoProvider>,
}

impl Servers {
    /// By these bundles, one of these IDs.
    pub(super) fn new(
        update: &Update,
        ids: &[String],
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, TlsError> {
        let domains = roots(update)
            .map(|entry| entry.map(|(domain, roots)| (domain.clone(), roots)))
            .collect::<Result<_, _>>()?;
        Ok(Self { domains, ids: ids.to_vec(), provider })
    }
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let (id, facts) = claimed(end_entity)?;
        if !self.ids.contains(&id) {
            return Err(Unproven::NotExpected(shown(&id)).into());
        }
        if facts.signs {
            return Err(Unproven::Signs(shown(&id)).into());
        }
        let roots = domain(&id).ok().and_then(|domain| self.domains.get(domain));
        let roots = roots.ok_or_else(|| unknown(&id))?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        let parsed = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, now, algorithms)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
