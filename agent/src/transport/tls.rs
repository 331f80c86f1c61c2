//! rustls configurations from the Collector's `tls:` settings. The provider is aws-lc-rs, once for the process.

#![forbid(unsafe_code)]

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
    SupportedProtocolVersion,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    server::{VerifierBuilderError, WebPkiClientVerifier},
};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, ServerName, UnixTime,
    pem::{self, PemObject},
};

use crate::config::tls::{ClientTls, ServerTls, TlsVersion};

/// ALPN of HTTP/2.
pub const H2: &[u8] = b"h2";
/// ALPN of HTTP/1.1.
pub const HTTP11: &[u8] = b"http/1.1";

/// Why a TLS configuration could not be built.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file could not be read.
    #[error("{path}: {source}; tls needs a readable PEM file here")]
    Read {
        /// As configured.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file holds no certificate.
    #[error("{path}: no certificate in it; a PEM block `BEGIN CERTIFICATE` is expected")]
    NoCertificate {
        /// As configured.
        path: PathBuf,
    },
    /// The file is no PEM, or the wrong kind of PEM.
    #[error("{path}: {message}")]
    Pem {
        /// As configured.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// Key and certificate do not belong together, or are of a kind that TLS does not use.
    #[error("{path}: {source}; the certificate and the private key must belong together")]
    KeyPair {
        /// The certificate's path.
        path: PathBuf,
        /// What rustls said.
        source: rustls::Error,
    },
    /// A CA file cannot be used as one.
    #[error("{path}: {message}; a CA certificate is expected")]
    Authority {
        /// As configured.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// `cert_file` without `key_file`, or the other way round.
    #[error("tls: cert_file and key_file must both be set, or neither")]
    HalfPair,
    /// No system roots were found.
    #[error("no CA certificates on this system ({0}); set tls.ca_file, or install ca-certificates")]
    NoSystemRoots(String),
    /// A name that TLS cannot verify.
    #[error("`{0}` is no host name or address; set tls.server_name_override")]
    ServerName(String),
}

/// The process's crypto provider. Also installed as rustls' default, for libraries that ask for that.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        // An error means that somebody installed one before, which is then as good as ours.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        CryptoProvider::get_default().cloned().expect("a provider was just installed")
    });
    Arc::clone(&PROVIDER)
}

/// A server's configuration: certificate, key, and client certificates required where `client_ca_file` is set.
/// `alpn` in order of preference.
///
/// # Panics
/// Never: the provider is ours and has cipher suites for both versions.
pub fn server_config(tls: &ServerTls, alpn: &[&[u8]]) -> Result<Arc<ServerConfig>, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions(tls.min_version))
        .expect("the provider has cipher suites for TLS 1.2 and 1.3");
    let builder = match &tls.client_ca_file {
        Some(path) => {
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(authorities(path)?), provider())
                    .build()
                    .map_err(|e: VerifierBuilderError| TlsError::Authority {
                        path: path.clone(),
                        message: e.to_string(),
                    })?;
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder
        .with_single_cert(certificates(&tls.cert_file)?, private_key(&tls.key_file)?)
        .map_err(|source| TlsError::KeyPair { path: tls.cert_file.clone(), source })?;
    config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
    Ok(Arc::new(config))
}

/// A client's configuration; `tls.insecure` is the caller's to look at (it means no TLS at all).
/// `alpn` in order of preference.
///
/// # Panics
/// Never: the provider is ours and has cipher suites for both versions.
pub fn client_config(tls: &ClientTls, alpn: &[&[u8]]) -> Result<Arc<ClientConfig>, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions(tls.min_version))
        .expect("the provider has cipher suites for TLS 1.2 and 1.3");
    let builder = if tls.insecure_skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider())))
    } else {
        let roots = match &tls.ca_file {
            Some(path) => authorities(path)?,
            None => system_roots()?,
        };
        builder.with_root_certificates(roots)
    };
    let mut config = match (&tls.cert_file, &tls.key_file) {
        (Some(cert), Some(key)) => builder
            .with_client_auth_cert(certificates(cert)?, private_key(key)?)
            .map_err(|source| TlsError::KeyPair { path: cert.clone(), source })?,
        (None, None) => builder.with_no_client_auth(),
        _ => return Err(TlsError::HalfPair),
    };
    config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
    Ok(Arc::new(config))
}

/// The name to verify: `server_name_override`, or `host` (an address or a name, brackets of IPv6 allowed).
pub fn server_name(tls: &ClientTls, host: &str) -> Result<ServerName<'static>, TlsError> {
    let name = tls.server_name_override.as_deref().unwrap_or(host);
    let bare = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(name);
    ServerName::try_from(bare.to_owned()).map_err(|_| TlsError::ServerName(name.to_owned()))
}

fn versions(min: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    static FROM_12: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];
    match min {
        TlsVersion::V12 => &FROM_12,
        TlsVersion::V13 => &FROM_12[..1],
    }
}

fn pem_error(path: &Path, error: pem::Error) -> TlsError {
    match error {
        pem::Error::Io(source) => TlsError::Read { path: path.to_owned(), source },
        other => TlsError::Pem { path: path.to_owned(), message: other.to_string() },
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| pem_error(path, e))?;
    if chain.is_empty() { Err(TlsError::NoCertificate { path: path.to_owned() }) } else { Ok(chain) }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|e| match e {
        pem::Error::NoItemsFound => TlsError::Pem {
            path: path.to_owned(),
            message: "no private key in it; an unencrypted PEM key (PKCS#8, PKCS#1 or SEC1) is expected"
                .into(),
        },
        other => pem_error(path, other),
    })
}

fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(path)? {
        store
            .add(certificate)
            .map_err(|e| TlsError::Authority { path: path.to_owned(), message: e.to_string() })?;
    }
    Ok(store)
}

fn system_roots() -> Result<RootCertStore, TlsError> {
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
