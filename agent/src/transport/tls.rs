//! rustls configurations from the Collector's `tls:` settings, kept as new as their files. The provider is aws-lc-rs,
//! once for the process.
//!
//! [`ServerSource`] and [`ClientSource`] hold the newest good configuration: one thread of the process watches the
//! files' directories (and looks at the files every `reload_interval`), builds a configuration from what changed and
//! swaps it in only when all of it is good. Connections subscribe, and end when what they were proven by is gone.

#![forbid(unsafe_code)]

mod client;
mod error;
mod facts;
mod files;
mod material;
mod reload;
mod server;
mod spiffe;

use std::sync::{Arc, LazyLock};

use rustls::{SupportedProtocolVersion, crypto::CryptoProvider};
use rustls_pki_types::ServerName;

pub use client::{ClientSource, Current, client_config};
pub use error::TlsError;
pub use facts::{Facts, shown, span};
pub use server::{Accepted, HandshakeError, Peer, ServerSource};

use crate::config::tls::{ClientTls, TlsVersion};

/// ALPN of HTTP/2.
pub const H2: &[u8] = b"h2";
/// ALPN of HTTP/1.1.
pub const HTTP11: &[u8] = b"http/1.1";

/// The process's crypto provider. Also installed as rustls' default, for libraries that ask for that.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        // An error means that somebody installed one before, which is then as good as ours.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        CryptoProvider::get_default().cloned().expect("a provider was just installed")
    });
    Arc::clone(&PROVIDER)
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
