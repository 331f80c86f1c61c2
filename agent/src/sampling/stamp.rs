//! Writes onto kept spans why they were kept: attributes of their scope, under the Collector's names.

use super::wire::{self, Fields};

/// The scope attribute that names the policy.
pub const POLICY: &str = "tailsampling.policy";
/// The scope attribute of late spans that followed an earlier decision: `true`.
pub const CACHED: &str = "tailsampling.cached_decision";
/// What a sender writes under this prefix is removed.
const OURS: &[u8] = b"tailsampling.";

const RESOURCE_SPANS: u32 = 1;
const SCOPE_SPANS: u32 = 2;
const SCOPE: u32 = 1;
const SPANS: u32 = 2;
const SCOPE_ATTRIBUTES: u32 = 3;

/// The `attributes` fields of a scope that say why, serialised: `policy` decided, now or earlier.
pub fn reason(policy: &str, cached: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let mut text = Vec::new();
    wire::put_bytes(&mut text, 1, policy.as_bytes());
    attribute(&mut out, POLICY, &text);
    if cached {
        // AnyValue.bool_value is field 2.
        attribute(&mut out, CACHED, &[2 << 3, 1]);
    }
    out
}

fn attribute(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    let mut pair = Vec::new();
    wire::put_bytes(&mut pair, 1, key.as_bytes());
    wire::put_bytes(&mut pair, 2, value);
    wire::put_bytes(out, SCOPE_ATTRIBUTES, &pair);
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
    Fields(request).filter(|field| field.number == RESOURCE_SPANS).map(|field| field.value.bytes())
}

/// Appends a `ResourceSpans` field to the request `out`, with the attributes of [`reason`] on every scope.
pub fn append(out: &mut Vec<u8>, resource_spans: &[u8], reason: &[u8]) -> Appended {
    let mut appended = Appended::default();
    let len = Fields(resource_spans)
        .map(|field| match field.number {
            SCOPE_SPANS => wire::field_len(Stamped::of(field.value.bytes()).len(reason)),
            _ => field.whole.len(),
        })
        .sum();
    wire::put_header(out, RESOURCE_SPANS, len);
    for field in Fields(resource_spans) {
        if field.number == SCOPE_SPANS {
            let stamped = Stamped::of(field.value.bytes());
            stamped.write(out, reason);
            appended.spans += stamped.spans;
            appended.claims += stamped.claims;
        } else {
            out.extend_from_slice(field.whole);
        }
    }
    appended
}

/// A `ScopeSpans`, and how long its scope is without what the sender wrote under our names.
struct Stamped<'a> {
    message: &'a [u8],
    scope: &'a [u8],
    others: usize,
    scope_len: usize,
    spans: u32,
    claims: u64,
}

impl<'a> Stamped<'a> {
    fn of(message: &'a [u8]) -> Self {
        let mut this = Self { message, scope: &[], others: 0, scope_len: 0, spans: 0, claims: 0 };
        for field in Fields(message) {
            match field.number {
                SCOPE => this.scope = field.value.bytes(),
                _ => {
                    this.others += field.whole.len();
                    this.spans += u32::from(field.number == SPANS);
                }
            }
        }
        for field in Fields(this.scope) {
            if is_claim(field.number, field.value.bytes()) {
                this.claims += 1;
            } else {
                this.scope_len += field.whole.len();
            }
        }
        this
    }

    fn len(&self, reason: &[u8]) -> usize {
        self.others + wire::field_len(self.scope_len + reason.len())
    }

    fn write(&self, out: &mut Vec<u8>, reason: &[u8]) {
        wire::put_header(out, SCOPE_SPANS, self.len(reason));
        wire::put_header(out, SCOPE, self.scope_len + reason.len());
        for field in Fields(self.scope).filter(|field| !is_claim(field.number, field.value.bytes())) {
            out.extend_from_slice(field.whole);
        }
        out.extend_from_slice(reason);
        for field in Fields(self.message).filter(|field| field.number != SCOPE) {
            out.extend_from_slice(field.whole);
        }
    }
}

fn is_claim(number: u32, attribute: &[u8]) -> bool {
    number == SCOPE_ATTRIBUTES
        && Fields(attribute).any(|field| field.number == 1 && field.value.bytes().starts_with(OURS))
}
