//! Writes onto kept spans why they were kept: attributes of their scope, under the Collector's names.

use crate::otlp::{
    encode::{self, Value},
    view::{Content, Fields},
};

/// The scope attribute that names the policy.
pub const POLICY: &str = "tailsampling.policy";
/// The scope attribute of late spans that followed an earlier decision: `true`.
pub const CACHED: &str = "tailsampling.cached_decision";
/// What a sender writes under this prefix is removed.
const OURS: &[u8] = b"tailsampling.";

// Field numbers of opentelemetry/proto/trace/v1/trace.proto and common/v1/common.proto.
const RESOURCE_SPANS: u32 = 1;
const SCOPE_SPANS: u32 = 2;
const SCOPE: u32 = 1;
const SPANS: u32 = 2;
const SCOPE_ATTRIBUTES: u32 = 3;

/// The `attributes` fields of a scope that say why, serialised: `policy` decided, now or earlier.
pub fn reason(policy: &str, cached: bool) -> Vec<u8> {
    let mut out = Vec::new();
    encode::key_value(&mut out, SCOPE_ATTRIBUTES, POLICY, Value::String(policy));
    if cached {
        encode::key_value(&mut out, SCOPE_ATTRIBUTES, CACHED, Value::Bool(true));
    }
    out
}

/// What [`append`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Appended {
    /// Spans written.
    pub spans: u32,
    /// Attributes that the sender had put under our names; they are not written.
    pub claims: u64,
}

/// The `ResourceSpans` of a request.
pub fn resource_spans(request: &[u8]) -> impl Iterator<Item = &[u8]> {
    Fields::of(request).messages(RESOURCE_SPANS)
}

/// Appends a `ResourceSpans` field to the request `out`, with the attributes of [`reason`] on every scope.
pub fn append(out: &mut Vec<u8>, resource_spans: &[u8], reason: &[u8]) -> Appended {
    let mut appended = Appended::default();
    encode::field_with(out, RESOURCE_SPANS, |out| {
        for (number, content) in Fields::of(resource_spans) {
            match (number, content) {
                (SCOPE_SPANS, Content::Bytes(body)) => {
                    encode::field_with(out, SCOPE_SPANS, |out| scope_spans(out, body, reason, &mut appended));
                }
                _ => copy(out, number, content),
            }
        }
    });
    appended
}

fn scope_spans(out: &mut Vec<u8>, body: &[u8], reason: &[u8], appended: &mut Appended) {
    // A scope that is absent is written, to hold the reason.
    let scope = Fields::of(body).messages(SCOPE).next().unwrap_or_default();
    encode::field_with(out, SCOPE, |out| {
        for (number, content) in Fields::of(scope) {
            if is_claim(number, content) {
                appended.claims += 1;
            } else {
                copy(out, number, content);
            }
        }
        out.extend_from_slice(reason);
    });
    for (number, content) in Fields::of(body).filter(|(number, _)| *number != SCOPE) {
        appended.spans += u32::from(number == SPANS);
        copy(out, number, content);
    }
}

/// Numbers on the way to a span are varints (`dropped_attributes_count`); other fields are unknown, and the
/// walker has removed those.
fn copy(out: &mut Vec<u8>, number: u32, content: Content<'_>) {
    match content {
        Content::Bytes(body) => encode::field(out, number, body),
        Content::Number(value) => {
            encode::tag(out, number, 0);
            encode::varint(out, value);
        }
    }
}

fn is_claim(number: u32, content: Content<'_>) -> bool {
    let Content::Bytes(attribute) = content else { return false };
    number == SCOPE_ATTRIBUTES && Fields::of(attribute).messages(1).any(|key| key.starts_with(OURS))
}
