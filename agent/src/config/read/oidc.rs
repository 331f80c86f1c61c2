//! `oidc`: the Collector's `oidcauthextension`, with keys of ours.

use std::{path::PathBuf, time::Duration};

use super::{auth::is_loopback, endpoint, extensions::pods};
use crate::config::{
    Located,
    auth::{OidcExtension, OidcProvider},
    extensions::ApiClient,
    fields::Fields,
    yaml::Value,
};

/// Of clocks that are kept by NTP.
const LEEWAY: Duration = Duration::from_secs(10);
const MOST_LEEWAY: Duration = Duration::from_mins(5);
/// The kubelet renews a projected token after 24 h at the latest.
const LIFETIME: Duration = Duration::from_hours(24);

pub(super) fn read(mut fields: Fields<'_>) -> OidcExtension {
    let attribute = fields.located("attribute").filter(|name| !name.value.is_empty());
    if let Some(name) = &attribute
        && http::HeaderName::from_bytes(name.value.as_bytes()).is_err()
    {
        fields.report().error(&name.at, "must be the name of a header, such as `authorization`");
    }
    // Often meant for what `username_claim` is.
    if attribute.as_ref().is_some_and(|name| CLAIMS.contains(&name.value.as_str())) {
        fields.warn_at(
            "attribute",
            "is the header that carries the token, which nobody sends under this name: remove it for \
             `authorization`; who a token is for is its `username_claim`",
        );
    }
    let token_review = token_review(&mut fields);
    let mut providers: Vec<OidcProvider> = fields
        .list("providers")
        .iter()
        .filter_map(|node| provider(&mut Fields::new(fields.report(), node)))
        .collect();
    // As before there was a list; the fields' order is the Collector's.
    if FLAT.iter().filter(|key| fields.get(key).is_some()).count() > 0 {
        providers.splice(0..0, provider(&mut fields));
    } else if fields.list("providers").is_empty() {
        fields.error("needs `providers`: a list of `{issuer_url: https://…, audience: …}`");
    }
    for (at, one) in providers.iter().enumerate() {
        if providers[..at].iter().any(|other| other.issuer_url == one.issuer_url) {
            let issuer = one.issuer_url.escape_debug();
            fields.error(format!("the issuer `{issuer}` is there twice; a token is checked by one provider"));
        }
    }
    OidcExtension {
        attribute: attribute
            .map_or_else(|| "authorization".to_owned(), |name| name.value.to_ascii_lowercase()),
        providers,
        token_review,
    }
}

/// Claims that hold names (OIDC Core 5.1), and no headers.
const CLAIMS: [&str; 6] = ["sub", "email", "name", "preferred_username", "groups", "upn"];

/// What of a provider may stand in the extension itself.
const FLAT: [&str; 12] = [
    "issuer_url",
    "audience",
    "ignore_audience",
    "issuer_ca_path",
    "public_keys_file",
    "username_claim",
    "groups_claim",
    "jwks_url",
    "leeway",
    "max_token_lifetime",
    "allow_multiple_audiences",
    "bearer_token_file",
];

fn provider(fields: &mut Fields<'_>) -> Option<OidcProvider> {
    if fields.boolean("ignore_audience") == Some(true) {
        fields.error_at(
            "ignore_audience",
            "any token of the issuer, made for anybody, would be accepted: set `audience`, and ask for tokens with it",
        );
    }
    let path =
        |fields: &mut Fields<'_>, key| fields.string(key).filter(|path| !path.is_empty()).map(PathBuf::from);
    let public_keys_file = path(fields, "public_keys_file");
    let issuer_ca_path = path(fields, "issuer_ca_path");
    let bearer_token_file = path(fields, "bearer_token_file");
    let jwks_url = fields.located("jwks_url").filter(|url| !url.value.is_empty());
    let issuer = fields.required("issuer_url");
    if public_keys_file.is_some() {
        let fetching = [
            ("issuer_ca_path", issuer_ca_path.is_some()),
            ("bearer_token_file", bearer_token_file.is_some()),
        ];
        for key in fetching
            .iter()
            .filter(|(_, set)| *set)
            .map(|(key, _)| *key)
            .chain(jwks_url.as_ref().map(|_| "jwks_url"))
        {
            fields.error_at(key, "with `public_keys_file` nothing is fetched: remove one of the two");
        }
    } else if let Some(url) = jwks_url.as_ref().or(issuer.as_ref()) {
        fetched_from(fields, url, jwks_url.is_some());
    }
    let audience = fields.required("audience");
    let claim = |fields: &mut Fields<'_>, key| fields.string(key).filter(|name| !name.is_empty());
    let provider = OidcProvider {
        jwks_url: jwks_url.map(|url| url.value),
        issuer_ca_path,
        public_keys_file,
        username_claim: claim(fields, "username_claim").unwrap_or_else(|| "sub".to_owned()),
        groups_claim: claim(fields, "groups_claim"),
        leeway: duration(fields, "leeway", LEEWAY, Duration::ZERO..=MOST_LEEWAY),
        max_token_lifetime: duration(
            fields,
            "max_token_lifetime",
            LIFETIME,
            Duration::from_mins(1)..=Duration::from_hours(24 * 366),
        ),
        allow_multiple_audiences: fields.boolean("allow_multiple_audiences").unwrap_or(false),
        bearer_token_file,
        issuer_url: issuer?.value,
        audience: audience?.value,
    };
    if provider.allow_multiple_audiences {
        fields
            .warn_at("allow_multiple_audiences", "whoever else a token is for can use it here, and we there");
    }
    Some(provider)
}

/// Whoever can change what comes from there makes tokens: it must be encrypted.
fn fetched_from(fields: &Fields<'_>, url: &Located<String>, direct: bool) {
    let text = url.value.as_str();
    endpoint::url(fields, url);
    if !direct && text.contains(['?', '#']) {
        fields
            .report()
            .error(&url.at, "an issuer has no query and no fragment (OpenID Connect Discovery 1.0, 3)");
    }
    let Some(rest) = text.strip_prefix("http://") else { return };
    let authority = rest.split('/').next().unwrap_or_default();
    if is_loopback(authority) {
        fields.report().warn(&url.at, "keys are fetched in plaintext, which is for tests only");
    } else {
        fields.report().error(
            &url.at,
            "keys fetched over `http://` can be anybody's: write `https://`, or give the keys in `public_keys_file`",
        );
    }
}

fn duration(
    fields: &mut Fields<'_>,
    key: &'static str,
    default: Duration,
    range: std::ops::RangeInclusive<Duration>,
) -> Duration {
    let value = fields.duration(key).unwrap_or(default);
    if !range.contains(&value) {
        fields.error_at(
            key,
            format!("must be from {:?} to {:?}, but this is {value:?}", range.start(), range.end()),
        );
    }
    value
}

/// `true`, or how the API server is reached.
fn token_review(fields: &mut Fields<'_>) -> Option<ApiClient> {
    let node = fields.get("token_review")?;
    if matches!(node.value, Value::Scalar(_)) {
        return fields.boolean("token_review")?.then(ApiClient::default);
    }
    let mut api = fields.table("token_review")?;
    let client = pods::client(&mut api);
    if client.insecure_skip_verify {
        api.error_at("insecure_skip_verify", "whoever is in between could accept any token: set `ca_file`");
    }
    Some(client)
}

#[cfg(test)]
mod tests;
