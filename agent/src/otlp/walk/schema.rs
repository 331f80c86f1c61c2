//! The trace protos as tables (opentelemetry-proto 1.10): what each field of a message is.

use super::super::wire::{FIXED32, FIXED64, LEN, VARINT};
use super::Kind;

/// What the walker does with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Not in the protos, or for another signal: stripped and counted.
    Unknown,
    /// A number: nothing to look at.
    Number,
    /// A string.
    Text,
    /// A `KeyValue` of the message's attributes.
    Attribute,
    /// A span's trace id: 16 bytes, not all zero.
    TraceId,
    /// A span's own id: 8 bytes, not all zero.
    SpanId,
    /// A trace id that may be missing or zero: a link to an empty span context is allowed by the
    /// specification (`trace/api.md`, "Link").
    OptionalTraceId,
    /// A span id that may be missing or zero: a parent's, a link's.
    OptionalSpanId,
    /// A message with attributes or texts of its own.
    Message(Kind),
}

/// One field of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) wire: u8,
    pub(super) repeated: bool,
    pub(super) action: Action,
}

/// One more than the highest field number that the protos use (`Span.flags`).
const FIELDS: usize = 17;

/// The fields of one message, by number.
pub(super) type Fields = [Field; FIELDS];

const fn fields<const N: usize>(known: [(usize, u8, bool, Action); N]) -> Fields {
    let mut table = [Field { wire: LEN, repeated: true, action: Action::Unknown }; FIELDS];
    let mut i = 0;
    while i < N {
        let (number, wire, repeated, action) = known[i];
        table[number] = Field { wire, repeated, action };
        i += 1;
    }
    table
}

const ONE: bool = false;
const MANY: bool = true;

static RESOURCE: Fields = fields([
    (1, LEN, MANY, Action::Attribute),
    (2, VARINT, ONE, Action::Number),
    (3, LEN, MANY, Action::Message(Kind::EntityRef)),
]);

static ENTITY_REF: Fields = fields([
    (1, LEN, ONE, Action::Text),
    (2, LEN, ONE, Action::Text),
    (3, LEN, MANY, Action::Text),
    (4, LEN, MANY, Action::Text),
]);

static SCOPE: Fields = fields([
    (1, LEN, ONE, Action::Text),
    (2, LEN, ONE, Action::Text),
    (3, LEN, MANY, Action::Attribute),
    (4, VARINT, ONE, Action::Number),
]);

static SPAN: Fields = fields([
    (1, LEN, ONE, Action::TraceId),
    (2, LEN, ONE, Action::SpanId),
    (3, LEN, ONE, Action::Text),
    (4, LEN, ONE, Action::OptionalSpanId),
    (5, LEN, ONE, Action::Text),
    (6, VARINT, ONE, Action::Number),
    (7, FIXED64, ONE, Action::Number),
    (8, FIXED64, ONE, Action::Number),
    (9, LEN, MANY, Action::Attribute),
    (10, VARINT, ONE, Action::Number),
    (11, LEN, MANY, Action::Message(Kind::Event)),
    (12, VARINT, ONE, Action::Number),
    (13, LEN, MANY, Action::Message(Kind::Link)),
    (14, VARINT, ONE, Action::Number),
    (15, LEN, ONE, Action::Message(Kind::Status)),
    (16, FIXED32, ONE, Action::Number),
]);

static EVENT: Fields = fields([
    (1, FIXED64, ONE, Action::Number),
    (2, LEN, ONE, Action::Text),
    (3, LEN, MANY, Action::Attribute),
    (4, VARINT, ONE, Action::Number),
]);

static LINK: Fields = fields([
    (1, LEN, ONE, Action::OptionalTraceId),
    (2, LEN, ONE, Action::OptionalSpanId),
    (3, LEN, ONE, Action::Text),
    (4, LEN, MANY, Action::Attribute),
    (5, VARINT, ONE, Action::Number),
    (6, FIXED32, ONE, Action::Number),
]);

static STATUS: Fields = fields([(2, LEN, ONE, Action::Text), (3, VARINT, ONE, Action::Number)]);

static RESOURCE_SPANS: Fields = fields([
    (1, LEN, ONE, Action::Message(Kind::Resource)),
    (2, LEN, MANY, Action::Message(Kind::ScopeSpans)),
    (3, LEN, ONE, Action::Text),
]);

static SCOPE_SPANS: Fields = fields([
    (1, LEN, ONE, Action::Message(Kind::Scope)),
    (2, LEN, MANY, Action::Message(Kind::Span)),
    (3, LEN, ONE, Action::Text),
]);

/// The table of a message.
#[inline]
pub(super) fn of(kind: Kind) -> &'static Fields {
    match kind {
        Kind::Resource => &RESOURCE,
        Kind::EntityRef => &ENTITY_REF,
        Kind::Scope => &SCOPE,
        Kind::Span => &SPAN,
        Kind::Event => &EVENT,
        Kind::Link => &LINK,
        Kind::Status => &STATUS,
        Kind::ResourceSpans => &RESOURCE_SPANS,
        Kind::ScopeSpans => &SCOPE_SPANS,
    }
}
