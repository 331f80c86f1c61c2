//! Why a TLS configuration could not be built.

#![forbid(unsafe_code)]

use std::{io, path::PathBuf};

use crate::transport::spiffe::SpiffeError;

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
    /// The file is larger than any of its kind.
    #[error("{path}: larger than {limit} bytes; is it the right file?")]
    TooLarge {
        /// As configured.
        path: PathBuf,
        /// What is read at most.
        limit: u64,
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
    /// A certificate, CA or revocation list that is not valid now.
    #[error("{path}: {message}; renew it, or set the clock")]
    Time {
        /// As configured.
        path: PathBuf,
        /// What is wrong, with the times.
        message: String,
    },
    /// A CA file cannot be used as one.
    #[error("{path}: {message}; a CA certificate is expected")]
    Authority {
        /// As configured.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A revocation list cannot be used.
    #[error("{path}: {message}; a PEM block `BEGIN X509 CRL` of a complete list (version 2) is expected")]
    Crl {
        /// As configured.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// An SVID, or a bundle of its trust domains, cannot be used.
    #[error("`{id}` of the SPIFFE Workload API: {message}")]
    Svid {
        /// The SPIFFE ID, or the trust domain.
        id: String,
        /// What is wrong.
        message: String,
    },
    /// There is no SVID.
    #[error(transparent)]
    Spiffe(#[from] SpiffeError),
    /// `client_auth` without `client_ca_file`.
    #[error("tls: client_auth needs client_ca_file, the CAs that sign the clients' certificates")]
    NoClientCa,
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
