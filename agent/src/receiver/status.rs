//! The errors of OTLP: gRPC status codes, `google.rpc.Status` with `RetryInfo`, and their HTTP forms.

#![forbid(unsafe_code)]

use std::{borrow::Cow, fmt::Write as _, time::Duration};

use crate::{
    auth::{NO_CREDENTIALS, Refused, RefusedKind},
    otlp::{Refusal, RefusalKind},
    telemetry::Cause,
};

/// The gRPC status codes that a receiver answers with (`grpc/status.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    Unauthenticated = 16,
}

/// Why a request was not accepted, in the terms of both protocols.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) code: Code,
    /// The HTTP status of OTLP/HTTP.
    pub(super) http: u16,
    /// For the sender: the cause and the next step, and nothing that the sender wrote.
    pub(super) message: Cow<'static, str>,
    /// Set where the request may be tried again.
    pub(super) retry_after: Option<Duration>,
    pub(super) cause: Cause,
}

impl Failure {
    pub(super) fn new(code: Code, http: u16, cause: Cause, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, http, message: message.into(), retry_after: None, cause }
    }

    /// Bad data, never to be sent again.
    pub(super) fn malformed(cause: Cause, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::InvalidArgument, 400, cause, message)
    }

    /// Beyond a size limit, never to be sent again as it is.
    pub(super) fn too_large(cause: Cause, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::ResourceExhausted, 413, cause, message)
    }

    /// Too much at once.
    pub(super) fn overloaded(
        cause: Cause,
        retry_after: Duration,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        let failure = Self::new(Code::ResourceExhausted, 429, cause, message);
        Self { retry_after: Some(retry_after), ..failure }
    }

    /// Not now.
    pub(super) fn unavailable(
        cause: Cause,
        retry_after: Duration,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        let failure = Self::new(Code::Unavailable, 503, cause, message);
        Self { retry_after: Some(retry_after), ..failure }
    }

    /// `WWW-Authenticate`, which a 401 must have (RFC 9110, 15.5.2), in the form of RFC 6750, section 3.
    pub(super) fn challenge(&self) -> Option<String> {
        if self.code != Code::Unauthenticated {
            return None;
        }
        if self.cause == NO_CREDENTIALS {
            return Some("Bearer".to_owned());
        }
        // What `error_description` may hold.
        let allowed = |c: &char| matches!(c, ' '..='~') && !matches!(c, '"' | '\\');
        let description: String = self.message.chars().filter(allowed).collect();
        Some(format!("Bearer error=\"invalid_token\", error_description=\"{description}\""))
    }

    /// Whole seconds for `Retry-After`, rounded up, at least one.
    pub(super) fn retry_after_seconds(&self) -> Option<u64> {
        self.retry_after.map(|d| (d.as_secs() + u64::from(d.subsec_nanos() > 0)).max(1))
    }

    /// `google.rpc.Status` in protobuf: code = 1, message = 2, details = 3 (`google/rpc/status.proto`).
    pub(super) fn to_protobuf(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.message.len() + 80);
        put_varint_field(&mut out, 1, self.code as u64);
        put_bytes_field(&mut out, 2, self.message.as_bytes());
        if let Some(delay) = self.retry_after {
            // google.protobuf.Duration: seconds = 1, nanos = 2; RetryInfo: retry_delay = 1; Any: type_url = 1, value = 2
            let mut duration = Vec::with_capacity(16);
            put_varint_field(&mut duration, 1, delay.as_secs());
            put_varint_field(&mut duration, 2, u64::from(delay.subsec_nanos()));
            let mut retry_info = Vec::with_capacity(18);
            put_bytes_field(&mut retry_info, 1, &duration);
            let mut any = Vec::with_capacity(64);
            put_bytes_field(&mut any, 1, RETRY_INFO.as_bytes());
            put_bytes_field(&mut any, 2, &retry_info);
            put_bytes_field(&mut out, 3, &any);
        }
        out
    }

    /// `google.rpc.Status` in protobuf's JSON.
    pub(super) fn to_json(&self) -> Vec<u8> {
        let mut status = serde_json::json!({ "code": self.code as u32, "message": self.message });
        if let Some(delay) = self.retry_after {
            let seconds = if delay.subsec_nanos() == 0 {
                format!("{}s", delay.as_secs())
            } else {
                format!("{}.{:09}s", delay.as_secs(), delay.subsec_nanos())
            };
            status["details"] = serde_json::json!([{ "@type": RETRY_INFO, "retryDelay": seconds }]);
        }
        status.to_string().into_bytes()
    }
}

const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        let Refused { kind, cause, message, .. } = refused;
        match kind {
            RefusedKind::Unauthenticated => Self::new(Code::Unauthenticated, 401, cause, message),
            RefusedKind::PermissionDenied => Self::new(Code::PermissionDenied, 403, cause, message),
            RefusedKind::Unavailable { retry_after } => Self::unavailable(cause, retry_after, message),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let Refusal { kind, cause, message } = refusal;
        match kind {
            RefusalKind::Malformed => Self::malformed(cause, message),
            RefusalKind::TooLarge => Self::too_large(cause, message),
            RefusalKind::Overloaded { retry_after } => Self::overloaded(cause, retry_after, message),
            RefusalKind::Unavailable { retry_after } => Self::unavailable(cause, retry_after, message),
            RefusalKind::Denied => Self::new(Code::PermissionDenied, 403, cause, message),
            RefusalKind::Permanent => Self::new(Code::Internal, 500, cause, message),
        }
    }
}

/// `ExportTraceServiceResponse` in protobuf: `partial_success = 1 { rejected_spans = 1, error_message = 2 }`.
pub(super) fn partial_success(rejected_spans: u32, message: &str) -> Vec<u8> {
    let mut partial = Vec::with_capacity(message.len() + 12);
    put_varint_field(&mut partial, 1, u64::from(rejected_spans));
    put_bytes_field(&mut partial, 2, message.as_bytes());
    let mut out = Vec::with_capacity(partial.len() + 6);
    put_bytes_field(&mut out, 1, &partial);
    out
}

/// The same in JSON; 64-bit integers are strings there.
pub(super) fn partial_success_json(rejected_spans: u32, message: &str) -> Vec<u8> {
    serde_json::json!({
        "partialSuccess": { "rejectedSpans": rejected_spans.to_string(), "errorMessage": message }
    })
    .to_string()
    .into_bytes()
}

/// `grpc-message`: everything but printable ASCII, and `%`, percent-encoded (gRPC over HTTP/2, "Percent-Encoded").
pub(super) fn percent_encode(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(char::from(byte)),
            _ => write!(out, "%{byte:02X}").expect("a string takes everything"),
        }
    }
    out
}

/// Base64 without padding, as gRPC wants binary metadata to be sent.
pub(super) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |w, &b| w << 8 | u32::from(b)) << (8 * (3 - chunk.len()));
        for i in 0..=chunk.len() {
            out.push(char::from(ALPHABET[(word >> (18 - 6 * i)) as usize & 63]));
        }
    }
    out
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_varint_field(out: &mut Vec<u8>, number: u8, value: u64) {
    if value != 0 {
        out.push(number << 3);
        put_varint(out, value);
    }
}

fn put_bytes_field(out: &mut Vec<u8>, number: u8, value: &[u8]) {
    out.push(number << 3 | 2);
    put_varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_vectors_of_rfc_4648_without_padding() {
        for (plain, encoded) in [
            ("", ""),
            ("f", "Zg"),
            ("fo", "Zm8"),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg"),
            ("fooba", "Zm9vYmE"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
        assert_eq!(base64(&[0xfb, 0xff]), "+/8");
    }

    #[test]
    fn grpc_message_is_percent_encoded() {
        assert_eq!(percent_encode("100 % of é\n"), "100 %25 of %C3%A9%0A");
    }

    #[test]
    fn retry_after_is_whole_seconds_rounded_up() {
        for (millis, seconds) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (30_000, 30)] {
            let failure = Failure::overloaded("x", Duration::from_millis(millis), "");
            assert_eq!(failure.retry_after_seconds(), Some(seconds));
        }
        assert_eq!(Failure::malformed("x", "").retry_after_seconds(), None);
    }

    #[test]
    fn a_challenge_asks_for_a_token_or_says_what_is_wrong_with_it() {
        let challenge = |cause, message| Failure::from(Refused::unauthenticated(cause, message)).challenge();
        assert_eq!(challenge(NO_CREDENTIALS, "no token").as_deref(), Some("Bearer"));
        assert_eq!(
            challenge("expired", "the \"token\" é\n\\expired").as_deref(),
            Some("Bearer error=\"invalid_token\", error_description=\"the token expired\"")
        );
        assert_eq!(Failure::from(Refused::denied("x", "no")).challenge(), None);
    }

    #[test]
    fn json_status_carries_retry_info() {
        let failure = Failure::unavailable("x", Duration::from_millis(1500), "away");
        let json: serde_json::Value = serde_json::from_slice(&failure.to_json()).unwrap();
        assert_eq!(json["code"], 14);
        assert_eq!(json["details"][0]["retryDelay"], "1.500000000s");
    }
}
