//! `bearertokenauth`: tokens that both sides know.
//!
//! A listener takes any of them; an exporter sends the first. A file of them is read again when it changes; one that
//! can't be read, or is wrong, leaves those that were there.

#![forbid(unsafe_code)]

mod file;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, Mutex, PoisonError, Weak},
    time::Duration,
};

use arc_swap::ArcSwap;
use aws_lc_rs::{constant_time::verify_slices_are_equal, hmac, rand::SystemRandom};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Authenticator, Judgement, Method, NO_CREDENTIALS, Principal, Proof, Refused};
use crate::{
    config::auth::{BearerTokenExtension, BearerTokens},
    telemetry::{
        Cause,
        metrics::{Counters, Gauges, counter, gauge},
    },
};
use file::{Line, Stamp};

/// How often a file is looked at.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// How often it is read although it looks the same: time stamps are coarse on some file systems.
const READ_EVERY: u32 = 30;
/// Tokens below this length can be guessed; said at start.
const SHORT: usize = 16;

static RELOADS: LazyLock<Counters> = LazyLock::new(|| {
    counter(
        "spanwarden_auth_token_reloads",
        "Times a file of tokens was read, by result.",
        &["authenticator", "result"],
    )
});
static TOKENS: LazyLock<Gauges> =
    LazyLock::new(|| gauge("spanwarden_auth_tokens", "Shared tokens that are taken.", &["authenticator"]));

/// Why tokens can't be used.
#[derive(Debug, thiserror::Error)]
pub enum BearerError {
    /// The file can't be read.
    #[error("{path}: {source}; it must be readable and hold one token a line")]
    Read {
        /// As configured.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not what it should be. Lines are named, never quoted.
    #[error("{path}: {message}")]
    Content {
        /// As configured.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// No header of that name can be sent.
    #[error("`{0}` is no header's name")]
    Header(String),
    /// The system has no random bytes.
    #[error("no random bytes from the system")]
    Random,
}

/// One token: a keyed hash of it, and whom it proves.
struct Token {
    tag: hmac::Tag,
    principal: Arc<Principal>,
}

/// All tokens at one time.
#[derive(Default)]
struct Known {
    tokens: Vec<Token>,
    /// What clients send: scheme and first token.
    first: Option<HeaderValue>,
}

/// Where the tokens come from, and what it looked like when they were last read.
struct Watched {
    path: PathBuf,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    stamp: Option<Stamp>,
    /// SHA-256 of the text that the tokens are of.
    text: [u8; 32],
    /// Looks since it was read.
    looks: u32,
    /// The last error, so that it is logged once.
    error: Option<String>,
}

/// Takes and sends shared tokens.
pub struct Bearer {
    /// The extension's id, for log and metrics.
    id: String,
    header: HeaderName,
    scheme: String,
    /// Of this process only: hashes under it can't be precomputed, and comparing them tells nothing of tokens.
    key: hmac::Key,
    known: ArcSwap<Known>,
    watched: Option<Watched>,
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.known.load().tokens.len();
        f.debug_struct("Bearer").field("id", &self.id).field("tokens", &count).finish_non_exhaustive()
    }
}

impl Bearer {
    /// Reads the tokens for the first time; this time a fault is an error. [`Bearer::watch`] reads them again.
    pub fn new(id: impl Into<String>, config: &BearerTokenExtension) -> Result<Self, BearerError> {
        let header = config.header.parse().map_err(|_| BearerError::Header(config.header.clone()))?;
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        let mut bearer = Self {
            id: id.into(),
            header,
            scheme: config.scheme.clone(),
            key: key.map_err(|_| BearerError::Random)?,
            known: ArcSwap::default(),
            watched: None,
        };
        match &config.tokens {
            BearerTokens::Inline(tokens) => {
                let lines: Vec<_> =
                    tokens.iter().map(|token| Line { token: token.as_str(), name: None }).collect();
                bearer.set(&lines);
            }
            BearerTokens::File(path) => {
                let (stamp, text) = file::read(path)?;
                bearer.set(&lines(path, &text)?);
                RELOADS.with_label_values(&[bearer.id.as_str(), "ok"]).inc();
                let seen =
                    Mutex::new(Seen { stamp: Some(stamp), text: file::hash(&text), ..Seen::default() });
                bearer.watched = Some(Watched { path: path.clone(), seen });
            }
        }
        Ok(bearer)
    }

    /// Looks at the file now and then, on the current runtime, until this is dropped.
    pub fn watch(self: &Arc<Self>) {
        if self.watched.is_none() {
            return;
        }
        let bearer = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(CHECK_EVERY).await;
                let Some(bearer) = Weak::upgrade(&bearer) else { return };
                // A file system may hang; the runtime must not.
                let _read = tokio::task::spawn_blocking(move || bearer.reload()).await;
            }
        });
    }

    /// Reads the file again if it has changed.
    pub fn reload(&self) {
        let Some(Watched { path, seen }) = &self.watched else { return };
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = Stamp::of(path);
        seen.looks += 1;
        if stamp.is_some() && stamp == seen.stamp && seen.looks < READ_EVERY {
            return;
        }
        seen.looks = 0;
        let read = file::read(path).and_then(|(stamp, text)| {
            let hash = file::hash(&text);
            let changed = hash != seen.text;
            if changed {
                self.set(&lines(path, &text)?);
            }
            Ok((stamp, hash, changed))
        });
        match read {
            Ok((stamp, text, changed)) => {
                *seen = Seen { stamp: Some(stamp), text, looks: 0, error: None };
                if !changed {
                    return;
                }
                RELOADS.with_label_values(&[self.id.as_str(), "ok"]).inc();
                tracing::info!(
                    authenticator = self.id,
                    tokens = self.known.load().tokens.len(),
                    "tokens read again"
                );
            }
            Err(error) => {
                seen.stamp = stamp;
                let error = error.to_string();
                if seen.error.as_ref() != Some(&error) {
                    RELOADS.with_label_values(&[self.id.as_str(), "error"]).inc();
                    tracing::error!(authenticator = self.id, %error, "the tokens stay as they were");
                    seen.error = Some(error);
                }
            }
        }
    }

    /// Replaces the tokens. A principal that stays is the same object: what is remembered of it stays too.
    fn set(&self, lines: &[Line<'_>]) {
        let before = self.known.load();
        let token = |line: &Line<'_>| {
            let name = line.name.map_or_else(|| file::fingerprint(line.token), str::to_owned);
            if line.token.len() < SHORT {
                tracing::warn!(
                    authenticator = self.id,
                    token = name,
                    "a token of fewer than {SHORT} characters can be guessed"
                );
            }
            let tag = hmac::sign(&self.key, line.token.as_bytes());
            let same = |old: &&Token| old.tag.as_ref() == tag.as_ref() && old.principal.name == name;
            let principal = match before.tokens.iter().find(same) {
                Some(old) => Arc::clone(&old.principal),
                None => Arc::new(Principal::named(Method::BearerToken, name)),
            };
            Token { tag, principal }
        };
        let tokens: Vec<Token> = lines.iter().map(token).collect();
        if tokens.is_empty() {
            tracing::warn!(authenticator = self.id, "there is no token: nobody is let in");
        }
        TOKENS.with_label_values(&[self.id.as_str()]).set(i64::try_from(tokens.len()).unwrap_or(i64::MAX));
        let first = lines.first().and_then(|line| self.value(line.token));
        self.known.store(Arc::new(Known { tokens, first }));
    }

    fn value(&self, token: &str) -> Option<HeaderValue> {
        let text = if self.scheme.is_empty() { token.to_owned() } else { format!("{} {token}", self.scheme) };
        let mut value = HeaderValue::from_str(&text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// What a client sends; `None` while there is no token.
    pub fn credentials(&self) -> Option<(HeaderName, HeaderValue)> {
        Some((self.header.clone(), self.known.load().first.clone()?))
    }

    fn judge(&self, headers: &HeaderMap) -> Proof {
        let mut values = headers.get_all(&self.header).iter();
        let Some(value) = values.next() else { return Err(self.nothing()) };
        if values.next().is_some() {
            let message = format!("`{}` is there twice; send it once", self.header);
            return Err(Refused::unauthenticated("token_twice", message));
        }
        let token = self.token(value.as_bytes()).ok_or_else(|| self.other_scheme())?;
        let tag = hmac::sign(&self.key, token);
        let known = self.known.load();
        let mut found = None;
        // All of them, whichever matches: time tells nothing of which or where.
        for token in &known.tokens {
            if verify_slices_are_equal(token.tag.as_ref(), tag.as_ref()).is_ok() {
                found = Some(&token.principal);
            }
        }
        found.cloned().ok_or_else(|| {
            let message = "this token is not one of those that are taken here, or not any more; ask who runs the receiver for a new one";
            refuse("token_unknown", message)
        })
    }

    /// What follows the scheme, whose case does not matter (RFC 9110, 11.1).
    fn token<'v>(&self, value: &'v [u8]) -> Option<&'v [u8]> {
        if self.scheme.is_empty() {
            return Some(value.trim_ascii());
        }
        let (scheme, rest) = value.split_at_checked(self.scheme.len())?;
        let fits = scheme.eq_ignore_ascii_case(self.scheme.as_bytes()) && rest.first() == Some(&b' ');
        fits.then(|| rest.trim_ascii()).filter(|token| !token.is_empty())
    }

    fn nothing(&self) -> Refused {
        let space = if self.scheme.is_empty() { "" } else { " " };
        let message = format!(
            "this receiver wants a token: send the header `{}: {}{space}TOKEN`, with OTEL_EXPORTER_OTLP_HEADERS for one",
            self.header, self.scheme
        );
        refuse(NO_CREDENTIALS, message)
    }

    fn other_scheme(&self) -> Refused {
        let message =
            format!("`{}` is not of the form `{} TOKEN` that is asked for here", self.header, self.scheme);
        refuse("token_scheme", message)
    }
}

fn refuse(cause: Cause, message: impl Into<String>) -> Refused {
    Refused::unauthenticated(cause, message)
}

fn lines<'t>(path: &Path, text: &'t str) -> Result<Vec<Line<'t>>, BearerError> {
    file::parse(text).map_err(|message| BearerError::Content { path: path.to_owned(), message })
}

impl Authenticator for Bearer {
    fn authenticate<'a>(&'a self, headers: &'a HeaderMap) -> Judgement<'a> {
        Judgement::Known(self.judge(headers))
    }
}

#[cfg(test)]
mod tests;
