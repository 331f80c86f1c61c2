//! What the claims of a verified token must say, and whom they name.

#![forbid(unsafe_code)]

use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};

use super::{
    fault::{Fault, shown},
    kubernetes,
};
use crate::{
    auth::{Method, Principal},
    config::auth::OidcProvider,
};

/// The longest name (`sub`, username), in bytes. RFC 7519 leaves it open; OIDC Core 2 says 255 characters.
const MAX_NAME: usize = 1024;
/// The most audiences that are looked at.
const MAX_AUDIENCES: usize = 16;
/// The most groups.
const MAX_GROUPS: usize = 256;
/// The most claims that are kept for rules, and their longest value in bytes.
const MAX_KEPT: usize = 64;
const MAX_VALUE: usize = 256;
/// Later than any token: the year 9999.
const MAX_TIME: f64 = 253_402_300_799.0;

/// Checks everything but the signature and the issuer's keys. `now` is since 1970.
pub fn check(
    claims: &Map<String, Value>,
    provider: &OidcProvider,
    now: Duration,
) -> Result<Principal, Fault> {
    if required(claims, "iss")? != provider.issuer_url {
        return Err(Fault::Contradiction("`iss` is another issuer's"));
    }
    audience(claims, provider)?;
    let not_after = times(claims, provider, now)?;
    let sub = required(claims, "sub")?;
    let name = match provider.username_claim.as_str() {
        "sub" => sub,
        other => required(claims, other)?,
    };
    // As in Kubernetes: an address that nobody has checked is a claim of the user's.
    if provider.username_claim == "email"
        && claims.get("email_verified").is_some_and(|v| *v != Value::Bool(true))
    {
        return Err(Fault::BadClaim("email_verified".to_owned(), "`true`"));
    }
    let bound = kubernetes::read(claims, sub)?;
    // What Kubernetes reserves only an API server's own token is called; rules go by names.
    if name.starts_with("system:") && (bound.service_account.is_none() || name != sub) {
        return Err(Fault::Contradiction("it is called `system:…` without being a service account's"));
    }
    Ok(Principal {
        method: Method::Oidc,
        name: name.to_owned(),
        issuer: Some(provider.issuer_url.clone()),
        service_account: bound.service_account,
        pod: bound.pod,
        node: bound.node,
        trust_domain: None,
        groups: groups(claims, provider)?,
        claims: kept(claims),
        not_after: Some(not_after),
    })
}

/// A claim that must be there as text.
pub(super) fn required<'c>(claims: &'c Map<String, Value>, name: &str) -> Result<&'c str, Fault> {
    match claims.get(name) {
        None => Err(Fault::NoClaim(shown(name))),
        Some(Value::String(text)) if is_name(text, MAX_NAME) => Ok(text),
        Some(_) => Err(Fault::BadClaim(shown(name), "a text of 1 to 1024 bytes without control characters")),
    }
}

fn is_name(text: &str, longest: usize) -> bool {
    !text.is_empty() && text.len() <= longest && !text.chars().any(char::is_control)
}

/// RFC 7519 4.1.3: a text or a list of them.
fn audience(claims: &Map<String, Value>, provider: &OidcProvider) -> Result<(), Fault> {
    const WRONG: &str = "a text or a list of 1 to 16 texts";
    let bad = || Fault::BadClaim("aud".to_owned(), WRONG);
    let mut have: Vec<&str> = match claims.get("aud").ok_or_else(|| Fault::NoClaim("aud".to_owned()))? {
        Value::String(one) => vec![one],
        Value::Array(list) if (1..=MAX_AUDIENCES).contains(&list.len()) => {
            list.iter().map(Value::as_str).collect::<Option<_>>().ok_or_else(bad)?
        }
        _ => return Err(bad()),
    };
    have.sort_unstable();
    have.dedup();
    let listed = || {
        let mut text =
            have.iter().take(4).map(|name| format!("`{}`", shown(name))).collect::<Vec<_>>().join(", ");
        if have.len() > 4 {
            text.push_str(", …");
        }
        text
    };
    let want = || shown(&provider.audience);
    if !have.contains(&provider.audience.as_str()) {
        return Err(Fault::Audience { have: listed(), want: want() });
    }
    if have.len() > 1 && !provider.allow_multiple_audiences {
        return Err(Fault::SeveralAudiences { have: listed(), want: want() });
    }
    Ok(())
}

/// Seconds since 1970, with or without a fraction (RFC 7519 2, `NumericDate`).
fn time(claims: &Map<String, Value>, name: &str) -> Result<Option<Duration>, Fault> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    match value.as_f64() {
        Some(seconds) if (0.0..=MAX_TIME).contains(&seconds) => Ok(Some(Duration::from_secs_f64(seconds))),
        _ => Err(Fault::BadClaim(name.to_owned(), "a number of seconds since 1970")),
    }
}

/// `exp`, `nbf`, `iat` and `warnafter`; until when the token is good, leeway included.
fn times(claims: &Map<String, Value>, provider: &OidcProvider, now: Duration) -> Result<SystemTime, Fault> {
    let needed = |name: &str| time(claims, name)?.ok_or_else(|| Fault::NoClaim(name.to_owned()));
    let (expires, issued) = (needed("exp")?, needed("iat")?);
    let leeway = provider.leeway;
    if now >= expires + leeway {
        return Err(Fault::Expired { by: now.saturating_sub(expires) });
    }
    if let Some(begins) = time(claims, "nbf")?
        && begins > now + leeway
    {
        return Err(Fault::NotYetValid { by: begins.saturating_sub(now) });
    }
    if issued > now + leeway {
        return Err(Fault::FromTheFuture { by: issued.saturating_sub(now) });
    }
    let is = expires.saturating_sub(issued);
    if is > provider.max_token_lifetime {
        return Err(too_long(claims, provider, is));
    }
    if let Some(renew) = kubernetes::warn_after(claims)?
        && now > renew + leeway
    {
        return Err(Fault::WarnAfter { by: now.saturating_sub(renew), audience: shown(&provider.audience) });
    }
    Ok(SystemTime::UNIX_EPOCH + expires + leeway)
}

fn too_long(claims: &Map<String, Value>, provider: &OidcProvider, is: Duration) -> Fault {
    let advice = if claims.contains_key(kubernetes::CLAIM) {
        format!(
            "this looks like the default token of a pod; mount a projected one: `serviceAccountToken: {{audience: {}, expirationSeconds: 3600}}`",
            shown(&provider.audience)
        )
    } else {
        "ask the issuer for one that lives shorter".to_owned()
    };
    Fault::Lifetime { is, max: provider.max_token_lifetime, advice }
}

fn groups(claims: &Map<String, Value>, provider: &OidcProvider) -> Result<Vec<String>, Fault> {
    let Some(name) = &provider.groups_claim else { return Ok(Vec::new()) };
    let listed: Option<Vec<String>> = match claims.get(name) {
        None => Some(Vec::new()),
        Some(Value::String(one)) if is_name(one, MAX_VALUE) => Some(vec![one.clone()]),
        Some(Value::Array(list)) if list.len() <= MAX_GROUPS => list
            .iter()
            .map(|item| item.as_str().filter(|text| is_name(text, MAX_VALUE)).map(str::to_owned))
            .collect(),
        Some(_) => None,
    };
    listed.ok_or_else(|| Fault::BadClaim(shown(name), "a list of up to 256 names of up to 256 bytes"))
}

/// What rules may ask for: claims that are short texts. Dates and ids of the token itself are none of their business.
fn kept(claims: &Map<String, Value>) -> Vec<(String, String)> {
    claims
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "jti" | "nonce" | "at_hash" | "c_hash"))
        .filter_map(|(name, value)| Some((name, value.as_str()?)))
        .filter(|(name, value)| is_name(name, MAX_VALUE) && is_name(value, MAX_VALUE))
        .take(MAX_KEPT)
        .map(|(name, value)| (name.clone(), value.to_owned()))
        .collect()
}
