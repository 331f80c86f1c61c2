//! From a verified client certificate to a [`Principal`].
//!
//! One URI name that is a SPIFFE ID names a workload, by the rules of the SPIFFE-ID specification (2, 4) and of
//! X509-SVID (2, 5.2). Without one, the first DNS name does, and without that the subject's common name.

#![forbid(unsafe_code)]

use super::{Method, Principal, Refused, ServiceAccount};
use crate::transport::tls::{Facts, shown};

/// Longest SPIFFE ID, and longest trust domain (SPIFFE-ID, 2.3 and 2.1).
const LONGEST_ID: usize = 2048;
const LONGEST_DOMAIN: usize = 255;
/// Longest DNS name (RFC 1035).
const LONGEST_DNS: usize = 253;
/// Longest common name (RFC 5280, appendix A: `ub-common-name` is 64; longer ones exist).
const LONGEST_COMMON_NAME: usize = 128;

/// Whom a certificate names whose chain was verified. `trust_domains`: the SPIFFE trust domains that are believed;
/// empty for any that the CA signs.
///
/// TLS has proven the certificate by then, so a refusal says that it is not allowed (7/403): no token that a challenge
/// could ask for would help.
pub fn principal(facts: &Facts, trust_domains: &[String]) -> Result<Principal, Refused> {
    let mut principal = match facts.uris.as_slice() {
        [uri] if is_spiffe(uri) => workload(facts, uri, trust_domains)?,
        [] | [_] => Principal::named(Method::Certificate, plain_name(facts)?),
        several => {
            return Err(Refused::denied(
                "certificate_several_uris",
                format!(
                    "the client certificate has {} URI names; exactly one SPIFFE ID may be in it",
                    several.len()
                ),
            ));
        }
    };
    principal.issuer = Some(facts.issuer.clone());
    principal.not_after = Some(facts.not_after);
    Ok(principal)
}

/// In any case: one that is written wrongly must not pass for something else.
fn is_spiffe(uri: &str) -> bool {
    uri.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("spiffe:"))
}

fn workload(facts: &Facts, uri: &str, trust_domains: &[String]) -> Result<Principal, Refused> {
    let (domain, path) = parse(uri).map_err(|why| {
        let message = format!("the client certificate's SPIFFE ID `{}` is none: {why}", shown(uri));
        Refused::denied("certificate_spiffe_id", message)
    })?;
    if facts.signs {
        return Err(Refused::denied(
            "certificate_signs",
            "the client certificate may sign others; a workload's own must not (basicConstraints, keyUsage)",
        ));
    }
    if !trust_domains.is_empty() && !trust_domains.iter().any(|trusted| trusted == domain) {
        return Err(Refused::denied(
            "certificate_trust_domain",
            format!(
                "the client certificate is of the trust domain `{}`, which is not among identity.trust_domains",
                shown(domain)
            ),
        ));
    }
    let mut principal = Principal::named(Method::Certificate, uri);
    principal.trust_domain = Some(domain.to_owned());
    principal.service_account = service_account(path);
    Ok(principal)
}

/// Trust domain and path (without its first slash) of a SPIFFE ID, or why it is none.
fn parse(uri: &str) -> Result<(&str, &str), &'static str> {
    if uri.len() > LONGEST_ID {
        return Err("it is longer than 2048 bytes");
    }
    let rest = uri.strip_prefix("spiffe://").ok_or("it must start with `spiffe://`, in lower case")?;
    if rest.contains(['?', '#']) {
        return Err("it must have no query and no fragment");
    }
    let (domain, path) = rest.split_once('/').unwrap_or((rest, ""));
    if domain.contains('@') || domain.contains(':') {
        return Err("the trust domain must have no user and no port");
    }
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
    if domain.is_empty() || domain.len() > LONGEST_DOMAIN || !domain.bytes().all(allowed) {
        return Err("the trust domain must be 1 to 255 of a-z, 0-9, `.`, `-`, `_`");
    }
    if path.is_empty() {
        return Err("it has no path, so it names the trust domain and no workload");
    }
    for segment in path.split('/') {
        if matches!(segment, "" | "." | "..") {
            return Err("the path must have no empty segment, no `.` and no `..`");
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if !segment.bytes().all(allowed) {
            return Err("the path's segments must be of a-z, A-Z, 0-9, `.`, `-`, `_`");
        }
    }
    Ok((domain, path))
}

/// `ns/NAMESPACE/sa/NAME`, as Istio, SPIRE and cert-manager write it, and nothing else.
fn service_account(path: &str) -> Option<ServiceAccount> {
    let mut segments = path.split('/');
    let found = (segments.next()?, segments.next()?, segments.next()?, segments.next()?, segments.next());
    match found {
        ("ns", namespace, "sa", name, None) => {
            Some(ServiceAccount { namespace: namespace.to_owned(), name: name.to_owned(), uid: None })
        }
        _ => None,
    }
}

/// The name of a certificate without a SPIFFE ID. It cannot look like one, nor like a service account's.
fn plain_name(facts: &Facts) -> Result<String, Refused> {
    let dns = |name: &&String| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        !name.is_empty() && name.len() <= LONGEST_DNS && name.bytes().all(allowed)
    };
    if let Some(name) = facts.dns_names.iter().find(dns) {
        return Ok(name.to_ascii_lowercase());
    }
    let subject = |name: &&String| {
        (1..=LONGEST_COMMON_NAME).contains(&name.len())
            && !name.chars().any(|c| c.is_control() || c == char::REPLACEMENT_CHARACTER)
            && !is_spiffe(name)
            && !name.starts_with("system:serviceaccount:")
    };
    facts.common_name.as_ref().filter(subject).cloned().ok_or_else(|| {
        Refused::denied(
            "certificate_unnamed",
            "the client certificate names nobody: it needs a SPIFFE ID, a DNS name (no wildcard) or a common name",
        )
    })
}

#[cfg(test)]
mod tests;
