//! `configtls`: the Collector's TLS settings.

use std::time::Duration;

use super::FilePath;

/// Lowest TLS version that is spoken. Nothing below 1.2 exists here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersion {
    /// `"1.2"`, the default of the Collector and ours.
    #[default]
    V12,
    /// `"1.3"`
    V13,
}

/// `spiffe`, ours: certificate, key and CAs from the SPIFFE Workload API in place of files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spiffe {
    /// The API's Unix socket; default `SPIFFE_ENDPOINT_SOCKET` of the environment.
    pub endpoint: FilePath,
    /// Which identity, where there are several; default the first.
    pub id: Option<String>,
    /// Of a client: the SPIFFE IDs that a server may show. Never empty there.
    pub server_ids: Vec<String>,
}

/// `tls:` of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerTls {
    /// `spiffe`: then the files are empty.
    pub spiffe: Option<Spiffe>,
    /// Certificate chain, PEM.
    pub cert_file: FilePath,
    /// Private key, PEM.
    pub key_file: FilePath,
    /// The CAs that clients' certificates are signed by.
    pub client_ca_file: Option<FilePath>,
    /// `client_auth`, ours. Default: required where `client_ca_file` is set, else off.
    pub client_auth: ClientAuth,
    /// `crl_files`, ours: revocation lists, PEM; with them every certificate below the CA must be covered by one.
    pub crl_files: Vec<FilePath>,
    /// `reload_interval`: how often files are looked at besides being watched. Default 30 s, at least 100 ms.
    pub reload_interval: Option<Duration>,
    /// `min_version`
    pub min_version: TlsVersion,
}

/// Whether clients must show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// None is asked for.
    #[default]
    Off,
    /// One that is shown must be good; without one the client is anonymous.
    Optional,
    /// One must be shown.
    Required,
}

/// `tls:` of a client. Absent in the file means TLS with the system's roots, as in the Collector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientTls {
    /// Plaintext. The default is `false`.
    pub insecure: bool,
    /// Accept any certificate. Logged as a warning at start.
    pub insecure_skip_verify: bool,
    /// `spiffe`: then there are no files.
    pub spiffe: Option<Spiffe>,
    /// CAs to trust instead of the system's.
    pub ca_file: Option<FilePath>,
    /// Client certificate.
    pub cert_file: Option<FilePath>,
    /// Client key.
    pub key_file: Option<FilePath>,
    /// Name to verify instead of the endpoint's host.
    pub server_name_override: Option<String>,
    /// `reload_interval`, as of a server
    pub reload_interval: Option<Duration>,
    /// `min_version`
    pub min_version: TlsVersion,
}
