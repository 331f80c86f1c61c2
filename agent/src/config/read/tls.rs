//! `configtls`.

use std::{env, path::PathBuf, time::Duration};

use crate::config::{
    fields::Fields,
    tls::{ClientAuth, ClientTls, ServerTls, Spiffe, TlsVersion},
};

/// What the Collector has beyond this.
const NOT_BUILT: [&str; 8] = [
    "ca_pem",
    "cert_pem",
    "key_pem",
    "include_system_ca_certs_pool",
    "cipher_suites",
    "include_insecure_cipher_suites",
    "curve_preferences",
    "tpm",
];

/// `tls:` of a server. Written but empty is refused: the Collector would listen in plaintext.
pub(super) fn server(parent: &mut Fields<'_>) -> Option<ServerTls> {
    let node = parent.present("tls")?;
    let report = parent.report();
    if node.is_null() {
        report.error(&node.at, "`tls` is empty; give `cert_file` and `key_file`, or remove it for plaintext");
        return None;
    }
    let mut fields = Fields::new(report, node);
    let spiffe = spiffe(&mut fields, &["cert_file", "key_file", "client_ca_file", "crl_files"], false);
    let cert_file = path(&mut fields, "cert_file");
    let key_file = path(&mut fields, "key_file");
    let client_ca_file = path(&mut fields, "client_ca_file");
    let client_auth = client_auth(&mut fields, client_ca_file.is_some() || spiffe.is_some());
    let crl_files = crl_files(&mut fields, client_auth);
    let reload_interval = reload_interval(&mut fields);
    // The Collector reloads this file only where it is told to; here all of them are.
    fields.boolean("client_ca_file_reload");
    let min_version = versions(&mut fields);
    fields.not_built(&NOT_BUILT);
    fields.ignored(&["ca_file"], "a server verifies its clients with `client_ca_file`");
    if fields.present("insecure").is_some() {
        fields.error_at("insecure", "a server has no `insecure`; without `tls` it listens in plaintext");
    }
    let (cert_file, key_file) = match (cert_file, key_file) {
        _ if spiffe.is_some() => Default::default(),
        (Some(cert_file), Some(key_file)) => (cert_file, key_file),
        _ => {
            fields.error("a server's `tls` needs both `cert_file` and `key_file`, or `spiffe`");
            return None;
        }
    };
    Some(ServerTls {
        spiffe,
        cert_file,
        key_file,
        client_ca_file,
        client_auth,
        crl_files,
        reload_interval,
        min_version,
    })
}

/// `client_auth`: required where there is a CA to judge by, unless it says otherwise.
fn client_auth(fields: &mut Fields<'_>, has_ca: bool) -> ClientAuth {
    let words =
        [("off", ClientAuth::Off), ("optional", ClientAuth::Optional), ("required", ClientAuth::Required)];
    let chosen = fields.choice("client_auth", &words);
    match (chosen, has_ca) {
        (Some(ClientAuth::Optional | ClientAuth::Required), false) => {
            let message = "`client_auth` needs `client_ca_file`: the CAs that sign the clients' certificates";
            fields.error_at("client_auth", message);
            ClientAuth::Off
        }
        (Some(ClientAuth::Off), true) => {
            fields
                .warn_at("client_auth", "`client_ca_file` is not used: no client is asked for a certificate");
            ClientAuth::Off
        }
        (Some(chosen), _) => chosen,
        (None, true) => ClientAuth::Required,
        (None, false) => ClientAuth::Off,
    }
}

fn crl_files(fields: &mut Fields<'_>, client_auth: ClientAuth) -> Vec<PathBuf> {
    let files: Vec<PathBuf> = fields.strings("crl_files").into_iter().map(PathBuf::from).collect();
    if files.iter().any(|file| file.as_os_str().is_empty()) {
        fields.error_at("crl_files", "an empty path; name a PEM file, or leave it out");
    }
    if !files.is_empty() && client_auth == ClientAuth::Off {
        fields.error_at(
            "crl_files",
            "revocation lists are for clients' certificates: set `client_ca_file` as well",
        );
    }
    files
}

/// `reload_interval`: `0` is the Collector's default, and here means ours.
fn reload_interval(fields: &mut Fields<'_>) -> Option<Duration> {
    fields.duration("reload_interval").filter(|interval| !interval.is_zero())
}

/// `tls:` of a client; absent means TLS with the system's roots.
pub(super) fn client(parent: &mut Fields<'_>) -> ClientTls {
    let Some(mut fields) = parent.table("tls") else { return ClientTls::default() };
    let spiffe = spiffe(&mut fields, &["ca_file", "cert_file", "key_file", "insecure_skip_verify"], true);
    let tls = ClientTls {
        spiffe,
        insecure: fields.boolean("insecure").unwrap_or(false),
        insecure_skip_verify: fields.boolean("insecure_skip_verify").unwrap_or(false),
        ca_file: path(&mut fields, "ca_file"),
        cert_file: path(&mut fields, "cert_file"),
        key_file: path(&mut fields, "key_file"),
        server_name_override: fields.string("server_name_override").filter(|name| !name.is_empty()),
        reload_interval: reload_interval(&mut fields),
        min_version: versions(&mut fields),
    };
    fields.not_built(&NOT_BUILT);
    if tls.cert_file.is_some() != tls.key_file.is_some() {
        fields.error("a client certificate needs both `cert_file` and `key_file`");
    }
    if tls.insecure_skip_verify {
        fields.warn_at(
            "insecure_skip_verify",
            "any certificate is accepted: whoever is in between reads the spans",
        );
    }
    tls
}

/// `spiffe`: `None` where it is not written, or wrongly. What it replaces must not stand beside it.
fn spiffe(parent: &mut Fields<'_>, replaces: &[&'static str], client: bool) -> Option<Spiffe> {
    let mut fields = parent.table("spiffe")?;
    let endpoint = fields.string("endpoint").filter(|endpoint| !endpoint.is_empty());
    let endpoint = endpoint.or_else(|| env::var("SPIFFE_ENDPOINT_SOCKET").ok()).unwrap_or_default();
    let socket = endpoint.strip_prefix("unix:").unwrap_or(&endpoint);
    // `unix:///run/x.sock`, `unix:/run/x.sock`, `/run/x.sock` (SPIFFE Workload Endpoint, 4).
    let socket = socket.strip_prefix("//").filter(|path| path.starts_with('/')).unwrap_or(socket);
    if !socket.starts_with('/') {
        let message = "`endpoint` must be the Workload API's socket, `unix:///run/spire/agent-sockets/api.sock` or so; \
                       or set SPIFFE_ENDPOINT_SOCKET";
        fields.error(message);
    }
    let id = fields.string("id").filter(|id| !id.is_empty());
    let server_ids = if client { fields.strings("server_ids") } else { Vec::new() };
    if client && server_ids.is_empty() {
        fields.error(
            "`server_ids` is needed: the SPIFFE IDs that the server may show, or every workload of the trust domain \
             could pass for it",
        );
    }
    if id.iter().chain(&server_ids).any(|id| !id.starts_with("spiffe://")) {
        fields.error("a SPIFFE ID begins with `spiffe://`");
    }
    for key in replaces {
        if parent.present(key).is_some() {
            parent.error_at(
                key,
                format!("`{key}` and `spiffe` exclude each other: the Workload API gives all of it"),
            );
        }
    }
    Some(Spiffe { endpoint: socket.into(), id, server_ids })
}

fn path(fields: &mut Fields<'_>, key: &'static str) -> Option<PathBuf> {
    fields.string(key).filter(|path| !path.is_empty()).map(PathBuf::from)
}

fn versions(fields: &mut Fields<'_>) -> TlsVersion {
    for key in ["min_version", "max_version"] {
        if let Some(version) = fields.string(key)
            && matches!(version.as_str(), "1.0" | "1.1")
        {
            fields.error_at(key, format!("TLS {version} is not spoken; the lowest is `\"1.2\"`"));
            return TlsVersion::V12;
        }
    }
    let words = [("1.2", TlsVersion::V12), ("1.3", TlsVersion::V13), ("", TlsVersion::V12)];
    let max = fields
        .choice("max_version", &[("1.3", TlsVersion::V13), ("1.2", TlsVersion::V12), ("", TlsVersion::V13)]);
    if max == Some(TlsVersion::V12) {
        fields.error_at("max_version", "`max_version: \"1.2\"` is known but not built yet");
    }
    fields.choice("min_version", &words).unwrap_or_default()
}
