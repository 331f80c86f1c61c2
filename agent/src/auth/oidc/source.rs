//! Where keys come from: the issuer, by discovery or from a configured place; or a file.

#![forbid(unsafe_code)]

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    time::Duration,
};

use http::{HeaderMap, Uri, header::CACHE_CONTROL};
use serde_json::Value;

use super::{
    fault::shown,
    json,
    key_set::{KeySet, KeysError, MAX_BYTES},
};
use crate::{
    config::auth::OidcProvider,
    transport::http::{Client, ClientOptions, HttpError, is_loopback},
};

/// How long keys are fresh when the issuer does not say, and at most.
pub(super) const REFRESH: Duration = Duration::from_hours(1);
/// How long at least: an issuer does not make every agent ask all the time.
const REFRESH_LEAST: Duration = Duration::from_mins(5);

/// Of each of the two requests.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const TIMEOUT: Duration = Duration::from_secs(5);

/// Why there are no new keys. For the log: a sender learns only that there are none.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The request failed.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The keys can't be used.
    #[error("{from}: {source}")]
    Keys {
        /// The URL or path.
        from: String,
        /// What is wrong.
        source: KeysError,
    },
    /// The discovery document can't be used.
    #[error("{from}: {why}")]
    Discovery {
        /// Its URL.
        from: String,
        /// What is wrong and what to do.
        why: String,
    },
    /// The file can't be read.
    #[error("public_keys_file {path}: {why}; give a JWK Set, or PEM with public keys or certificates")]
    File {
        /// As configured.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// See the module's description.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one for each issuer")]
pub(super) enum Source {
    /// Asked over HTTP.
    Issuer {
        client: Client,
        issuer: String,
        /// Where the keys are, without discovery.
        jwks_url: Option<String>,
    },
    /// Read when it changes.
    File(PathBuf),
}

impl Source {
    pub(super) fn new(provider: &OidcProvider) -> Result<Self, SourceError> {
        if let Some(path) = &provider.public_keys_file {
            return Ok(Self::File(path.clone()));
        }
        let client = Client::new(ClientOptions {
            ca_file: provider.issuer_ca_path.clone(),
            token_file: provider.bearer_token_file.clone(),
            connect_timeout: CONNECT_TIMEOUT,
            timeout: TIMEOUT,
            body_limit: MAX_BYTES,
            ..ClientOptions::default()
        })?;
        Ok(Self::Issuer { client, issuer: provider.issuer_url.clone(), jwks_url: provider.jwks_url.clone() })
    }
}

/// Asks an issuer for its keys, and how long they are fresh.
pub(super) async fn fetch(
    client: &Client,
    issuer: &str,
    jwks_url: Option<&str>,
) -> Result<(KeySet, Duration), SourceError> {
    let url = match jwks_url {
        Some(url) => url.to_owned(),
        None => discover(client, issuer).await?,
    };
    let response = client.get(&url).await?.success()?;
    let keys =
        KeySet::of_jwks(&response.body).map_err(|source| SourceError::Keys { from: shown(&url), source })?;
    Ok((keys, fresh(&response.headers)))
}

/// `jwks_uri` of the issuer's document (OIDC Discovery 1.0, 4).
async fn discover(client: &Client, issuer: &str) -> Result<String, SourceError> {
    let from = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
    let response = client.get(&from).await?.success()?;
    let bad = |why: String| SourceError::Discovery { from: shown(&from), why };
    let document = json::object(&response.body).map_err(|why| bad(format!("the document {why}")))?;
    let text = |name: &str| document.get(name).and_then(Value::as_str);
    // 4.3: it must be the same, or one issuer could speak for another.
    if text("issuer") != Some(issuer) {
        let says = text("issuer").map_or_else(|| "no issuer".to_owned(), |name| format!("`{}`", shown(name)));
        return Err(bad(format!("the document names {says}; set `issuer_url` to exactly what it says")));
    }
    let url = text("jwks_uri").ok_or_else(|| bad("the document has no `jwks_uri`".to_owned()))?;
    same_host(issuer, url).map_err(bad)?;
    Ok(url.to_owned())
}

/// Keys come from the issuer's own host, and encrypted, unless somebody configured otherwise: the document can't send
/// us, and our token, elsewhere.
fn same_host(issuer: &str, url: &str) -> Result<(), String> {
    let parse = |text: &str| text.parse::<Uri>().ok();
    let (Some(issuer), Some(keys)) = (parse(issuer), parse(url)) else {
        return Err(format!("`jwks_uri` is no URL: `{}`", shown(url)));
    };
    let host = |uri: &Uri| uri.host().map(str::to_ascii_lowercase);
    if host(&keys).is_none() || host(&issuer) != host(&keys) {
        return Err(format!(
            "the keys are said to be on another host, `{}`; if that is right, set `jwks_url: {}`",
            shown(keys.host().unwrap_or_default()),
            shown(url)
        ));
    }
    let loopback = keys.host().is_some_and(|host| is_loopback(host.trim_matches(['[', ']'])));
    if keys.scheme_str() == Some("https") || loopback && keys.scheme_str() == Some("http") {
        return Ok(());
    }
    Err(format!("`jwks_uri` must be `https://`, but this is `{}`", shown(url)))
}

/// `max-age`, within bounds.
fn fresh(headers: &HeaderMap) -> Duration {
    let said = headers
        .get_all(CACHE_CONTROL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .find_map(|directive| directive.trim().strip_prefix("max-age=")?.parse().ok());
    said.map_or(REFRESH, |seconds| Duration::from_secs(seconds).clamp(REFRESH_LEAST, REFRESH))
}

/// A file's content.
pub(super) fn read_file(path: &Path) -> Result<Vec<u8>, SourceError> {
    let failed = |why: String| SourceError::File { path: path.to_owned(), why };
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(|e| failed(e.to_string()))?;
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(|e| failed(e.to_string()))?;
    if bytes.len() > MAX_BYTES {
        return Err(failed(format!("has more than {MAX_BYTES} bytes")));
    }
    Ok(bytes)
}

/// A file's keys.
pub(super) fn parse_file(path: &Path, bytes: &[u8]) -> Result<KeySet, SourceError> {
    KeySet::of_file(bytes).map_err(|e| SourceError::File { path: path.to_owned(), why: e.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_from_the_issuers_host() {
        for (issuer, url, fine) in [
            ("https://a.example", "https://a.example/keys", true),
            ("https://a.example/realm", "https://A.example:8443/keys", true),
            ("https://a.example", "https://b.example/keys", false),
            ("https://a.example", "https://a.example.b.example/keys", false),
            ("https://a.example", "https://a.example@b.example/keys", false),
            ("https://a.example", "http://a.example/keys", false),
            ("https://a.example", "file:///etc/passwd", false),
            ("https://a.example", "/keys", false),
            ("http://127.0.0.1:80", "http://127.0.0.1:81/keys", true),
            ("http://[::1]:80", "http://[::1]:81/keys", true),
        ] {
            assert_eq!(same_host(issuer, url).is_ok(), fine, "{url}");
        }
    }

    #[test]
    fn freshness_has_bounds() {
        for (said, seconds) in [
            (None, 3600),
            (Some("public, max-age=1200"), 1200),
            (Some("max-age=1"), 300),
            (Some("max-age=999999999"), 3600),
            (Some("max-age=-5"), 3600),
            (Some("no-store"), 3600),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(said) = said {
                headers.insert(CACHE_CONTROL, said.parse().unwrap());
            }
            assert_eq!(fresh(&headers).as_secs(), seconds, "{said:?}");
        }
    }
}
