//! What can go wrong with a request, and what the operator does about it.

use std::{error::Error as _, path::PathBuf, time::Duration};

use http::StatusCode;

use crate::transport::tls::TlsError;

/// How much of an error's body is shown.
const EXCERPT: usize = 200;

/// Why a request has no answer that can be used. Nothing of a credential is in it.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Not a URL that can be asked.
    #[error("`{url}` can't be asked: {why}")]
    Url {
        /// As given, without its query.
        url: String,
        /// What is wrong.
        why: String,
    },
    /// The CAs can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The token file can't be used.
    #[error("token file {path}: {why}; mount a service account token there, readable by this process")]
    Token {
        /// As configured.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A token would travel in plaintext.
    #[error("{url}: a token is not sent in plaintext; write `https://`")]
    PlaintextToken {
        /// Where to.
        url: String,
    },
    /// No TCP connection.
    #[error("{url}: no connection: {source}; check the address, DNS and network policies")]
    Connect {
        /// Where to.
        url: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// No TLS connection.
    #[error(
        "{url}: no TLS connection: {source}; check the CA file, and that the certificate is for this host"
    )]
    Handshake {
        /// Where to.
        url: String,
        /// What rustls said.
        source: std::io::Error,
    },
    /// TCP and TLS took too long.
    #[error("{url}: no connection within {after:?}; check the address and network policies")]
    ConnectTimeout {
        /// Where to.
        url: String,
        /// How long was waited.
        after: Duration,
    },
    /// The whole took too long.
    #[error("{url}: no complete answer within {after:?}; the server is overloaded or unreachable")]
    Timeout {
        /// Where to.
        url: String,
        /// How long was waited.
        after: Duration,
    },
    /// A stream fell silent.
    #[error("{url}: nothing came for {after:?}; the connection is given up")]
    Idle {
        /// Where from.
        url: String,
        /// How long was waited.
        after: Duration,
    },
    /// The connection broke, or what came is no HTTP.
    #[error("{url}: the answer broke off: {why}")]
    Exchange {
        /// Where from.
        url: String,
        /// What hyper said.
        why: String,
    },
    /// The body is beyond the limit.
    #[error("{url}: the answer has more than the {limit} bytes that are read; is this the right address?")]
    TooLarge {
        /// Where from.
        url: String,
        /// [`super::ClientOptions::body_limit`]
        limit: usize,
    },
    /// Any status but 2xx.
    #[error("{url}: {status}{hint}{excerpt}")]
    Status {
        /// Where from.
        url: String,
        /// Which.
        status: StatusCode,
        /// What to do about it.
        hint: &'static str,
        /// The start of the body.
        excerpt: String,
    },
}

impl HttpError {
    /// The status of an answer that was no success.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    pub(super) fn url(url: &str, why: &str) -> Self {
        Self::Url { url: url.to_owned(), why: why.to_owned() }
    }

    pub(super) fn exchange(url: &str, error: &hyper::Error) -> Self {
        let why = match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        Self::Exchange { url: url.to_owned(), why }
    }

    pub(super) fn status_of(url: &str, status: StatusCode, body: &[u8]) -> Self {
        let hint = match status.as_u16() {
            300..=399 => "; redirects are not followed, configure the final address",
            401 => "; the token is not accepted here: check the token file and its audience",
            403 => "; the service account may not do this: check its RBAC",
            404 => "; nothing is there: check the address",
            429 | 500..=599 => "; it will be tried again",
            _ => "",
        };
        let text = String::from_utf8_lossy(body);
        let mut excerpt: String = text.trim().chars().take(EXCERPT).flat_map(char::escape_debug).collect();
        if !excerpt.is_empty() {
            excerpt.insert_str(0, ": ");
        }
        Self::Status { url: url.to_owned(), status, hint, excerpt }
    }
}

/// A URL for an error: without its query, short, escaped.
pub(super) fn shown(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    url.chars().take(EXCERPT).flat_map(char::escape_debug).collect()
}
