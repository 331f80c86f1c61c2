//! TLS by rustls, with certificates as files (see `certificates::authority`).

#![forbid(unsafe_code)]

use std::{path::Path, sync::Arc};

use anyhow::Result;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
    version::{TLS12, TLS13},
};

/// Which versions of TLS are spoken.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Version {
    Any,
    Tls12,
    Tls13,
}

impl Version {
    fn list(self) -> Vec<&'static SupportedProtocolVersion> {
        match self {
            Self::Any => vec![&TLS13, &TLS12],
            Self::Tls12 => vec![&TLS12],
            Self::Tls13 => vec![&TLS13],
        }
    }
}

/// What kind of server.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Server {
    Plain,
    /// Demands a certificate of the client's.
    AsksClient,
    /// Has one for another name.
    OtherName,
}

/// A server's configuration, for HTTP/2 and HTTP/1.
pub(crate) fn server(directory: &Path, version: Version, kind: Server) -> Result<Arc<ServerConfig>> {
    let builder = ServerConfig::builder_with_protocol_versions(&version.list());
    let builder = match kind {
        Server::AsksClient => {
            let roots = Arc::new(roots(directory)?);
            builder.with_client_cert_verifier(WebPkiClientVerifier::builder(roots).build()?)
        }
        Server::Plain | Server::OtherName => builder.with_no_client_auth(),
    };
    let name = if matches!(kind, Server::OtherName) { "other" } else { "tls" };
    let certificate = CertificateDer::from_pem_file(directory.join(format!("{name}.crt")))?;
    let key = PrivateKeyDer::from_pem_file(directory.join(format!("{name}.key")))?;
    let mut config = builder.with_single_cert(vec![certificate], key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// A client's configuration that trusts the authority, or with `foreign` another one.
pub(crate) fn client(
    directory: &Path,
    version: Version,
    foreign: bool,
    alpn: &[u8],
) -> Result<Arc<ClientConfig>> {
    let roots = if foreign { one_root(&directory.join("foreign-ca.crt"))? } else { roots(directory)? };
    let builder = ClientConfig::builder_with_protocol_versions(&version.list());
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    Ok(Arc::new(config))
}

fn roots(directory: &Path) -> Result<RootCertStore> {
    one_root(&directory.join("ca.crt"))
}

fn one_root(file: &Path) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(file)?)?;
    Ok(roots)
}
