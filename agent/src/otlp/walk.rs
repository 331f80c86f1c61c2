//! The walker: one pass over the bytes of an `ExportTraceServiceRequest`.
//!
//! It checks the whole message (tags, lengths, depth, UTF-8, ids, duplicates), finds its parts, and shows each
//! part that can hold text to a [`Rewrite`].

use super::edit::Edits;

/// A range of the request's bytes. Requests are bounded far below 4 GiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

/// The messages of the trace protos that hold attributes or text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `resource.v1.Resource`, shown once for every `ResourceSpans`, also where the field is absent.
    Resource,
    /// `common.v1.InstrumentationScope`
    Scope,
    /// `trace.v1.Span`
    Span,
    /// `trace.v1.Span.Event`
    Event,
    /// `trace.v1.Span.Link`
    Link,
    /// `trace.v1.Status`, inside a span
    Status,
    /// `trace.v1.ResourceSpans` itself: its `schema_url`
    ResourceSpans,
    /// `trace.v1.ScopeSpans` itself: its `schema_url`
    ScopeSpans,
}

/// What an `AnyValue` holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    /// No member of the oneof is set.
    Empty,
    /// `string_value`: the slice is its text.
    String,
    /// `bool_value`: the slice is its varint.
    Bool,
    /// `int_value`: the slice is its varint.
    Int,
    /// `double_value`: the slice is its eight bytes.
    Double,
    /// `array_value`: the slice is the `ArrayValue` message.
    Array,
    /// `kvlist_value`: the slice is the `KeyValueList` message.
    KvList,
    /// `bytes_value`: the slice is its bytes.
    Bytes,
}

/// One `KeyValue` of an attribute list, in wire order. A key that occurs twice is two of these.
#[derive(Clone, Copy, Debug)]
pub struct Attribute {
    /// The whole field, tag and length included: the range to delete or to replace.
    pub field: Slice,
    /// The key's text.
    pub key: Slice,
    /// What kind of value `value` is.
    pub kind: ValueKind,
    /// The value's content; see [`ValueKind`].
    pub value: Slice,
}

/// A string field of a message that is not an attribute (`Span.name`, `Status.message`, `schema_url`, …).
#[derive(Clone, Copy, Debug)]
pub struct Text {
    /// The field's number in its message.
    pub number: u32,
    /// The whole field, tag and length included.
    pub field: Slice,
    /// The text.
    pub value: Slice,
}

/// One message, with what a rewrite can touch in it.
#[derive(Debug)]
pub struct Part<'a> {
    /// Which message this is.
    pub kind: Kind,
    /// The whole request.
    pub buf: &'a [u8],
    /// Its attributes, in wire order.
    pub attributes: &'a [Attribute],
    /// Its other strings, in wire order.
    pub texts: &'a [Text],
    /// Where a new field of this message may be inserted.
    pub insert_at: u32,
}

/// Looks at every part of a request and may edit it.
///
/// Order of calls: innermost first within a span (events, links, status, then the span), a scope before its
/// spans and a resource before its scopes wherever the wire has them in that order; where it has not, the walker
/// finds the resource and scope first, so that a span's rewrite always knows them.
pub trait Rewrite {
    /// Shows one part. Edits must lie inside it; they may be given in any order, but must not overlap.
    fn part(&mut self, part: &Part<'_>, edits: &mut Edits);
}
