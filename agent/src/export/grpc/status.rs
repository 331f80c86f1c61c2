//! gRPC's outcome of a call, and what OTLP says may be done about it.

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use http::{HeaderMap, StatusCode};

use super::super::{
    failure::{Failure, FailureKind},
    reply,
};
use crate::telemetry::Cause;

/// Names of the codes, as `cause` labels and in messages (<https://grpc.io/docs/guides/status-codes/>).
const NAMES: [Cause; 17] = [
    "ok",
    "cancelled",
    "unknown",
    "invalid_argument",
    "deadline_exceeded",
    "not_found",
    "already_exists",
    "permission_denied",
    "resource_exhausted",
    "failed_precondition",
    "aborted",
    "out_of_range",
    "unimplemented",
    "internal",
    "unavailable",
    "data_loss",
    "unauthenticated",
];
const UNKNOWN: usize = 2;
const RESOURCE_EXHAUSTED: usize = 8;

/// `CANCELLED`, `DEADLINE_EXCEEDED`, `ABORTED`, `OUT_OF_RANGE`, `UNAVAILABLE`, `DATA_LOSS`
/// (<https://opentelemetry.io/docs/specs/otlp/#failures>).
const RETRYABLE: [usize; 6] = [1, 4, 10, 11, 14, 15];

/// Codes whose text is about the connection or the caller, not about spans, so that a log may show it.
const EXPLAINED: [usize; 5] = [7, RESOURCE_EXHAUSTED, 12, 14, 16];

/// What to do about the codes that an operator meets.
fn hint(code: usize) -> &'static str {
    match code {
        7 | 16 => "check the exporter's headers, client certificate and the backend's rules",
        8 => "raise the backend's limits or send it less",
        12 => "the endpoint is no OTLP/gRPC trace receiver; check host and port (4317, not 4318)",
        3 => "the backend calls the spans malformed; its log says why",
        _ => "the backend's log says why",
    }
}

/// Reads `grpc-status`; `headers` are the trailers, or the headers of a response that has nothing else.
/// `None` when they hold no status.
pub(crate) fn outcome(headers: &HeaderMap, authority: &str) -> Option<Result<(), Failure>> {
    let code = headers.get("grpc-status")?;
    let code = code.to_str().ok().and_then(|c| c.parse().ok()).filter(|c| *c < NAMES.len());
    let code: usize = code.unwrap_or(UNKNOWN);
    if code == 0 {
        return Some(Ok(()));
    }
    let asked = headers
        .get("grpc-status-details-bin")
        .filter(|details| details.len() <= 8192)
        .and_then(|details| {
            let text = details.as_bytes().trim_ascii_end();
            let bare = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
            STANDARD_NO_PAD.decode(bare).ok()
        })
        .and_then(|status| reply::retry_info(&status));
    let kind = if RETRYABLE.contains(&code) {
        FailureKind::Unavailable(asked)
    } else if code == RESOURCE_EXHAUSTED && asked.is_some() {
        FailureKind::Overloaded(asked)
    } else {
        FailureKind::Permanent
    };
    if EXPLAINED.contains(&code) {
        let said = headers.get("grpc-message").map_or("", |m| m.to_str().unwrap_or(""));
        let said: String = said.chars().take(200).collect();
        tracing::debug!(backend = authority, code = NAMES[code], said, "backend refused a request");
    }
    let message = format!("{authority} answered {}: {}", NAMES[code].to_uppercase(), hint(code));
    Some(Err(Failure { kind, cause: NAMES[code], message }))
}

/// An answer that is not gRPC's, by its HTTP status (gRPC's own table, `http-grpc-status-mapping.md`).
pub(crate) fn http(status: StatusCode, authority: &str) -> Failure {
    let (kind, cause) = match status.as_u16() {
        429 | 502..=504 => (FailureKind::Unavailable(None), "http_unavailable"),
        _ => (FailureKind::Permanent, "http_status"),
    };
    let message = format!(
        "{authority} answered HTTP {} instead of gRPC: the endpoint is no OTLP/gRPC trace receiver, or a proxy \
         in front of it does not pass HTTP/2; check host and port (4317, not 4318)",
        status.as_u16()
    );
    Failure { kind, cause, message }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn answer(code: &str, details: Option<&[u8]>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-status", code.parse().unwrap());
        headers.insert("grpc-message", "span secret".parse().unwrap());
        if let Some(details) = details {
            let text = base64::engine::general_purpose::STANDARD.encode(details);
            headers.insert("grpc-status-details-bin", text.parse().unwrap());
        }
        headers
    }

    #[test]
    fn every_code_is_what_otlp_says_it_is() {
        let retryable = [1, 4, 10, 11, 14, 15];
        assert!(outcome(&answer("0", None), "gw").unwrap().is_ok());
        for code in 1..17 {
            let failure = outcome(&answer(&code.to_string(), None), "gw").unwrap().unwrap_err();
            assert_eq!(!failure.is_permanent(), retryable.contains(&code), "{code}");
            assert!(!failure.message.contains("secret"));
        }
        for odd in ["17", "-1", "x", ""] {
            assert_eq!(outcome(&answer(odd, None), "gw").unwrap().unwrap_err().cause, "unknown");
        }
        assert!(outcome(&HeaderMap::new(), "gw").is_none());
    }

    #[test]
    fn resource_exhausted_is_retryable_with_retry_info_only() {
        let any = [&[0x0a, 40][..], b"type.googleapis.com/google.rpc.RetryInfo", &[0x12, 4, 0x0a, 2, 8, 7]]
            .concat();
        let status = [&[0x08, 8, 0x1a, any.len() as u8][..], &any].concat();
        let failure = outcome(&answer("8", Some(&status)), "gw").unwrap().unwrap_err();
        assert_eq!(failure.kind, FailureKind::Overloaded(Some(Duration::from_secs(7))));
        let failure = outcome(&answer("8", None), "gw").unwrap().unwrap_err();
        assert_eq!(failure.kind, FailureKind::Permanent);
        let failure = outcome(&answer("14", Some(&status)), "gw").unwrap().unwrap_err();
        assert_eq!(failure.retry_after(), Some(Duration::from_secs(7)));
    }
}
