//! The walker: one pass over the bytes of an `ExportTraceServiceRequest`.
//!
//! It checks the whole message (tags, lengths, depth, UTF-8, ids, duplicates), finds its parts, and shows each
//! part that can hold text to a [`Rewrite`]. It then fixes the length prefixes around what was edited.
//!
//! Stricter than protobuf decoders, because what one reader takes and another does not is where a value hides:
//! a field that may occur once must not occur twice, ids have their lengths, and fields that the protos do not
//! know are stripped and counted.

#![forbid(unsafe_code)]

use std::ops::Range;

use super::edit::Edits;
pub use super::wire::{Malformed, What};

mod fix;
mod leaves;
mod scan;
mod schema;
mod value;

pub use leaves::{Leaf, leaves};

/// A range of the request's bytes. Requests are bounded far below 4 GiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Slice {
    /// The range, for indexing the request.
    #[inline]
    pub fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// How many bytes it has.
    #[inline]
    pub fn len(self) -> u32 {
        self.end - self.start
    }

    /// Whether it has no bytes.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }

    #[inline]
    pub(crate) fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end as u32 }
    }
}

/// The messages of the trace protos that hold attributes or text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `resource.v1.Resource`, shown once for every `ResourceSpans`, also where the field is absent.
    Resource,
    /// `common.v1.EntityRef`, inside a resource, shown before it
    EntityRef,
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
    /// The key's text. 0..0 when the key is not on the wire: then only the whole field can be replaced.
    pub key: Slice,
    /// What kind of value `value` is.
    pub kind: ValueKind,
    /// The value's content; see [`ValueKind`]. Replacing it keeps its type; to change the type, replace the
    /// whole field (`otlp::encode::key_value`). 0..0 when there is no value.
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
    /// Where a new field of this message may be inserted: where its body begins.
    pub insert_at: u32,
}

/// Looks at every part of a request and may edit it.
///
/// Order of calls: innermost first within a span (events, links, status, then the span), a scope before its
/// spans and a resource before its scopes wherever the wire has them in that order; where it has not, the walker
/// finds the resource and scope first, so that a span's rewrite always knows them.
pub trait Rewrite {
    /// Every edit replaces whole fields of its part, or inserts where one may be inserted; so no length inside an
    /// attribute or around a text changes, and nobody has to look for one.
    const WHOLE_FIELDS: bool = false;

    /// Shows one part. Edits must lie inside it; they may be given in any order, but must not overlap.
    fn part(&mut self, part: &Part<'_>, edits: &mut Edits);
}

impl<'a> Part<'a> {
    /// The bytes of a range of the request.
    #[inline]
    pub fn bytes(&self, slice: Slice) -> &'a [u8] {
        &self.buf[slice.range()]
    }
}

/// What a request may cost. A sender controls each of these.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How deep messages may nest, the request itself being the first.
    ///
    /// Protobuf decoders stop at 100 (C++, Java, prost) and `serde_json` at 128 levels of JSON, of which one
    /// level of values takes up to four; what we pass on must be readable by whoever comes next.
    pub depth: u32,
    /// Spans in a request.
    pub spans: u32,
    /// Attributes, or other strings, of one message. Each takes 28 bytes of scratch memory, and two of a
    /// request. SDKs stop at 128 attributes.
    pub attributes: u32,
    /// Fields that the protos do not know. Each takes 24 bytes of scratch memory, and two of a request.
    pub unknown_fields: u32,
    /// Bytes of a request; at most `i32::MAX`, which is where protobuf itself stops.
    pub bytes: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            depth: 64,
            spans: 1 << 20,
            attributes: 1 << 14,
            unknown_fields: 1 << 16,
            bytes: i32::MAX as u32,
        }
    }
}

/// Memory of the walker, reused from request to request.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Attributes of the messages that are open, outermost first.
    attributes: Vec<Attribute>,
    /// Their other strings.
    texts: Vec<Text>,
    /// Unknown fields inside them, to be deleted.
    strips: Vec<Slice>,
    /// Length prefixes inside an edited attribute.
    lengths: Vec<super::edit::Edit>,
}

/// What a walk found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Spans in the request.
    pub spans: u32,
    /// Unknown fields; the edits delete them.
    pub unknown_fields: u32,
}

/// Checks a serialised `ExportTraceServiceRequest`, shows its parts to `rewrite`, and collects the edits.
///
/// `edits` is cleared first. [`Edits::apply`] with the same bytes writes the result. After an error the edits
/// mean nothing.
pub fn walk<R: Rewrite>(
    buf: &[u8],
    limits: &Limits,
    scratch: &mut Scratch,
    rewrite: &mut R,
    edits: &mut Edits,
) -> Result<Summary, Malformed> {
    edits.clear();
    scratch.attributes.clear();
    scratch.texts.clear();
    scratch.strips.clear();
    if buf.len() > limits.bytes.min(i32::MAX as u32) as usize {
        return Err(What::Bytes.at(limits.bytes as usize));
    }
    scan::Walker { buf, limits, scratch, rewrite, edits, summary: Summary::default() }.request()
}

/// A rewrite that changes nothing: for checking a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Keep;

impl Rewrite for Keep {
    fn part(&mut self, _: &Part<'_>, _: &mut Edits) {}
}

#[cfg(test)]
mod tests;
