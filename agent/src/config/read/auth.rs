//! `auth:` of servers and clients.

use super::{checks::Defined, endpoint, parse_id};
use crate::config::{
    Component, ComponentId, Config, Located, Location,
    auth::Auth,
    exporters::{Exporter, LoadBalancing, Resolver},
    extensions::Extension,
    fields::{Fields, Report, nearest},
    receivers::Receiver,
};

/// `auth: {authenticator: ID}`; that the extension is there and of the right kind is checked later.
pub(super) fn read(parent: &mut Fields<'_>) -> Option<Auth> {
    let mut fields = parent.table("auth")?;
    fields.not_built(&["request_params"]);
    let name = fields.required("authenticator")?;
    let value = parse_id(fields.report(), &name.value, &name.at)?;
    Some(Auth { authenticator: Located { value, at: name.at } })
}

/// Checks every `auth` of the configuration: that it names an enabled extension which can do what is asked of it, and
/// that no token goes in the clear over a network.
pub(super) fn check(report: &Report, config: &Config, defined: &Defined) {
    let checks = Checks { report, config, defined };
    for receiver in &config.receivers {
        let Receiver::Otlp(otlp) = &receiver.config;
        let grpc = otlp.grpc.as_ref().map(|grpc| (&grpc.auth, &grpc.endpoint, grpc.tls.is_none()));
        let http = otlp.http.as_ref().map(|http| (&http.auth, &http.endpoint, http.tls.is_none()));
        for (auth, endpoint, plaintext) in grpc.into_iter().chain(http) {
            let Some(auth) = auth else { continue };
            checks.authenticator(auth);
            if plaintext && !is_loopback(endpoint) {
                report.warn(
                    &auth.authenticator.at,
                    format!("`{endpoint}` is plaintext: whoever is in between reads the tokens; add `tls`"),
                );
            }
        }
    }
    for exporter in &config.exporters {
        checks.exporter(exporter);
    }
}

struct Checks<'a> {
    report: &'a Report,
    config: &'a Config,
    defined: &'a Defined,
}

impl Checks<'_> {
    /// The extension that an `auth` names; says why where there is none that can be used.
    fn authenticator(&self, auth: &Auth) -> Option<&Extension> {
        let Located { value: id, at } = &auth.authenticator;
        let found = self.config.extensions.iter().find(|extension| extension.id == *id);
        let Some(found) = found else {
            self.unknown(id, at);
            return None;
        };
        if !matches!(found.config, Extension::Oidc(_) | Extension::BearerToken(_)) {
            let message = format!("`{id}` is no authenticator; `oidc` and `bearertokenauth` are");
            self.report.error(at, message);
            return None;
        }
        if !self.config.service.extensions.contains(id) {
            let message = format!("the extension `{id}` is off: add it to `service::extensions`");
            self.report.error(at, message);
            return None;
        }
        Some(&found.config)
    }

    fn unknown(&self, id: &ComponentId, at: &Location) {
        let (Some(defined), name) = (&self.defined.extensions, id.to_string()) else { return };
        // It is there and could not be read, which is said there.
        if defined.contains(&name) {
            return;
        }
        let authenticators =
            self.config.extensions.iter().filter(|extension| {
                matches!(extension.config, Extension::Oidc(_) | Extension::BearerToken(_))
            });
        let known: Vec<String> = authenticators.map(|extension| extension.id.to_string()).collect();
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let message = match nearest::nearest(&name, &known) {
            Some(near) => format!("no extension `{name}` is defined; did you mean `{near}`?"),
            None => format!("no extension `{name}` is defined under `extensions`"),
        };
        self.report.error(at, message);
    }

    fn exporter(&self, exporter: &Component<Exporter>) {
        let Some(auth) = exporter.config.auth() else { return };
        let plaintext = match &exporter.config {
            Exporter::Otlp(otlp) => is_plaintext(&otlp.endpoint.value, otlp.tls.insecure),
            Exporter::OtlpHttp(http) => {
                let endpoint = http.traces_endpoint.as_ref().unwrap_or(&http.endpoint);
                is_plaintext(&endpoint.value, false)
            }
            Exporter::LoadBalancing(balanced) => balanced.protocol.tls.insecure && !is_local(balanced),
            Exporter::File(_) | Exporter::Debug(_) => false,
        };
        if let Some(Extension::Oidc(_)) = self.authenticator(auth) {
            let message = "`oidc` checks tokens of others and has none to send; an exporter sends one with `bearertokenauth: {filename: …}`";
            self.report.error(&auth.authenticator.at, message);
        }
        if plaintext {
            let message = "a token is not sent in plaintext over a network: use TLS (`https://`, without `tls: {insecure: true}`)";
            self.report.error(&auth.authenticator.at, message);
        }
    }
}

/// Whether a client would speak plaintext over a network.
fn is_plaintext(endpoint: &str, insecure: bool) -> bool {
    let (plaintext, address) = match endpoint.split_once("://") {
        Some((scheme, address)) => (scheme == "http", address),
        None => (insecure, endpoint),
    };
    let authority = address.split(['/', '?', '#']).next().unwrap_or_default();
    plaintext && !is_loopback(authority)
}

/// Whether all members are on this machine.
fn is_local(balanced: &LoadBalancing) -> bool {
    match &balanced.resolver {
        Resolver::Static { hostnames } => hostnames.iter().all(|host| is_loopback(host)),
        Resolver::Dns { .. } => false,
    }
}

/// `localhost`, `127.0.0.0/8` or `::1`, with or without a port.
pub(super) fn is_loopback(authority: &str) -> bool {
    let host = endpoint::split(authority).map_or(authority, |(host, _)| host);
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    bare.eq_ignore_ascii_case("localhost")
        || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}
