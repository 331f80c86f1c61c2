//! Reading a checked request in place, for policies and summaries: nothing is copied.
//!
//! The request has passed the walker. A view of bytes that have not is safe to use: it ends where they go wrong.

#![forbid(unsafe_code)]

use super::wire::{self, FIXED32, FIXED64, LEN, VARINT};

/// The `ResourceSpans` of a request.
pub fn resource_spans(request: &[u8]) -> impl Iterator<Item = ResourceSpansView<'_>> {
    Fields::of(request).messages(1).map(|body| ResourceSpansView { body })
}

/// All spans of a request with what they are under.
pub fn spans(
    request: &[u8],
) -> impl Iterator<Item = (ResourceSpansView<'_>, ScopeSpansView<'_>, SpanView<'_>)> {
    resource_spans(request).flat_map(|resource| {
        resource.scope_spans().flat_map(move |scope| scope.spans().map(move |span| (resource, scope, span)))
    })
}

/// A `ResourceSpans`.
#[derive(Clone, Copy, Debug)]
pub struct ResourceSpansView<'a> {
    body: &'a [u8],
}

impl<'a> ResourceSpansView<'a> {
    /// The resource's attributes.
    pub fn attributes(&self) -> impl Iterator<Item = AttributeView<'a>> + use<'a> {
        Fields::of(self.body).messages(1).flat_map(|resource| attributes(resource, 1))
    }

    /// Its message.
    pub fn body(&self) -> &'a [u8] {
        self.body
    }

    /// Its `ScopeSpans`.
    pub fn scope_spans(&self) -> impl Iterator<Item = ScopeSpansView<'a>> + use<'a> {
        Fields::of(self.body).messages(2).map(|body| ScopeSpansView { body })
    }
}

/// A `ScopeSpans`.
#[derive(Clone, Copy, Debug)]
pub struct ScopeSpansView<'a> {
    body: &'a [u8],
}

impl<'a> ScopeSpansView<'a> {
    /// The scope's name; empty where there is none.
    pub fn name(&self) -> &'a str {
        self.scope_text(1)
    }

    /// The scope's version; empty where there is none.
    pub fn version(&self) -> &'a str {
        self.scope_text(2)
    }

    /// The scope's attributes.
    pub fn attributes(&self) -> impl Iterator<Item = AttributeView<'a>> + use<'a> {
        Fields::of(self.body).messages(1).flat_map(|scope| attributes(scope, 3))
    }

    /// Its spans.
    pub fn spans(&self) -> impl Iterator<Item = SpanView<'a>> + use<'a> {
        Fields::of(self.body).messages(2).map(SpanView::new)
    }

    fn scope_text(&self, number: u32) -> &'a str {
        let scope = Fields::of(self.body).messages(1).next().unwrap_or_default();
        text(Fields::of(scope).messages(number).next().unwrap_or_default())
    }
}

/// A span's fields, read once.
#[derive(Clone, Copy, Debug, Default)]
pub struct SpanView<'a> {
    /// `trace_id`
    pub trace_id: [u8; 16],
    /// `span_id`
    pub span_id: [u8; 8],
    /// `parent_span_id`; `None` for a root span, also where it is written as eight zeros.
    pub parent_span_id: Option<[u8; 8]>,
    /// `trace_state`
    pub trace_state: &'a str,
    /// `flags`
    pub flags: u32,
    /// `name`
    pub name: &'a str,
    /// `kind`, a `Span.SpanKind`
    pub kind: i32,
    /// `start_time_unix_nano`
    pub start_time_unix_nano: u64,
    /// `end_time_unix_nano`
    pub end_time_unix_nano: u64,
    /// `status.code`: 0 unset, 1 ok, 2 error.
    pub status_code: i32,
    /// `status.message`
    pub status_message: &'a str,
    body: &'a [u8],
}

impl<'a> SpanView<'a> {
    fn new(body: &'a [u8]) -> Self {
        let mut span = Self { body, ..Self::default() };
        for (number, field) in Fields::of(body) {
            match (number, field) {
                (1, Content::Bytes(id)) => span.trace_id = id.try_into().unwrap_or_default(),
                (2, Content::Bytes(id)) => span.span_id = id.try_into().unwrap_or_default(),
                (3, Content::Bytes(state)) => span.trace_state = text(state),
                (4, Content::Bytes(id)) => {
                    span.parent_span_id = id.try_into().ok().filter(|id| *id != [0; 8]);
                }
                (5, Content::Bytes(name)) => span.name = text(name),
                (6, Content::Number(kind)) => span.kind = kind as i32,
                (7, Content::Number(time)) => span.start_time_unix_nano = time,
                (8, Content::Number(time)) => span.end_time_unix_nano = time,
                (15, Content::Bytes(status)) => span.status(status),
                (16, Content::Number(flags)) => span.flags = flags as u32,
                _ => {}
            }
        }
        span
    }

    fn status(&mut self, status: &'a [u8]) {
        for field in Fields::of(status) {
            match field {
                (2, Content::Bytes(message)) => self.status_message = text(message),
                (3, Content::Number(code)) => self.status_code = code as i32,
                _ => {}
            }
        }
    }

    /// The span's attributes, in wire order; a key may occur more than once.
    pub fn attributes(&self) -> impl Iterator<Item = AttributeView<'a>> + use<'a> {
        attributes(self.body, 9)
    }

    /// The span's events.
    pub fn events(&self) -> impl Iterator<Item = EventView<'a>> + use<'a> {
        Fields::of(self.body).messages(11).map(|body| EventView { body })
    }

    /// Its message.
    pub fn body(&self) -> &'a [u8] {
        self.body
    }

    /// How many bytes its message has.
    pub fn encoded_len(&self) -> usize {
        self.body.len()
    }
}

/// An event of a span.
#[derive(Clone, Copy, Debug)]
pub struct EventView<'a> {
    body: &'a [u8],
}

impl<'a> EventView<'a> {
    /// `name`
    pub fn name(&self) -> &'a str {
        text(Fields::of(self.body).messages(2).next().unwrap_or_default())
    }

    /// Its attributes.
    pub fn attributes(&self) -> impl Iterator<Item = AttributeView<'a>> + use<'a> {
        attributes(self.body, 3)
    }
}

/// One attribute.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttributeView<'a> {
    /// The key.
    pub key: &'a str,
    /// The value.
    pub value: ValueView<'a>,
}

/// An attribute's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ValueView<'a> {
    /// No value.
    Empty,
    /// `string_value`
    String(&'a str),
    /// `bool_value`
    Bool(bool),
    /// `int_value`
    Int(i64),
    /// `double_value`
    Double(f64),
    /// `array_value`: the bytes of the `ArrayValue`.
    Array(&'a [u8]),
    /// `kvlist_value`: the bytes of the `KeyValueList`.
    KvList(&'a [u8]),
    /// `bytes_value`
    Bytes(&'a [u8]),
}

fn attributes(body: &[u8], number: u32) -> impl Iterator<Item = AttributeView<'_>> {
    Fields::of(body).messages(number).map(|key_value| {
        let mut attribute = AttributeView { key: "", value: ValueView::Empty };
        for field in Fields::of(key_value) {
            match field {
                (1, Content::Bytes(key)) => attribute.key = text(key),
                (2, Content::Bytes(any)) => attribute.value = ValueView::new(any),
                _ => {}
            }
        }
        attribute
    })
}

impl<'a> ValueView<'a> {
    /// Reads the body of an `AnyValue`.
    fn new(any: &'a [u8]) -> Self {
        let read = |field| {
            Some(match field {
                (1, Content::Bytes(value)) => Self::String(text(value)),
                (2, Content::Number(value)) => Self::Bool(value != 0),
                (3, Content::Number(value)) => Self::Int(value.cast_signed()),
                (4, Content::Number(value)) => Self::Double(f64::from_bits(value)),
                (5, Content::Bytes(list)) => Self::Array(list),
                (6, Content::Bytes(list)) => Self::KvList(list),
                (7, Content::Bytes(value)) => Self::Bytes(value),
                _ => return None,
            })
        };
        Fields::of(any).find_map(read).unwrap_or(Self::Empty)
    }
}

/// What a field holds: enough to tell strings and messages from numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Content<'a> {
    /// A varint, or the bits of a fixed number.
    Number(u64),
    /// A string, bytes, or a message.
    Bytes(&'a [u8]),
}

/// The fields of one message, in wire order.
#[derive(Clone, Debug)]
pub(crate) struct Fields<'a> {
    body: &'a [u8],
    pos: usize,
}

impl<'a> Fields<'a> {
    pub(crate) fn of(body: &'a [u8]) -> Self {
        Self { body, pos: 0 }
    }

    /// The contents of the length-delimited fields with this number.
    pub(crate) fn messages(self, number: u32) -> impl Iterator<Item = &'a [u8]> {
        self.filter_map(move |field| match field {
            (found, Content::Bytes(body)) if found == number => Some(body),
            _ => None,
        })
    }

    fn read(&mut self) -> wire::Wire<(u32, Content<'a>)> {
        let (tag, after) = wire::tag(self.body, self.pos)?;
        let end = wire::skip(self.body, after, tag.wire)?;
        self.pos = end;
        let content = match tag.wire {
            VARINT => Content::Number(wire::varint(self.body, after)?.0),
            FIXED64 | FIXED32 => {
                let bytes = &self.body[after..end];
                Content::Number(bytes.iter().rev().fold(0, |all, &byte| all << 8 | u64::from(byte)))
            }
            LEN => {
                let (start, end) = wire::length(self.body, after)?;
                Content::Bytes(&self.body[start..end])
            }
            _ => return Err(super::walk::What::WireType.at(after)),
        };
        Ok((tag.number, content))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u32, Content<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.pos >= self.body.len() {
            return None;
        }
        self.read().inspect_err(|_| self.pos = self.body.len()).ok()
    }
}

/// A string that the walker has checked.
fn text(bytes: &[u8]) -> &str {
    simdutf8::basic::from_utf8(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::encode::{self, Value};

    #[test]
    fn a_span_is_read_with_its_surroundings() {
        let mut out = Vec::new();
        encode::field_with(&mut out, 1, |out| {
            encode::field_with(out, 1, |out| {
                encode::key_value(out, 1, "service.name", Value::String("shop"));
            });
            encode::field_with(out, 2, |out| {
                encode::field_with(out, 1, |out| encode::field(out, 1, b"lib"));
                encode::field_with(out, 2, |span| {
                    encode::field(span, 1, &[7; 16]);
                    encode::field(span, 2, &[8; 8]);
                    encode::field(span, 4, &[0; 8]);
                    encode::field(span, 5, b"GET /");
                    encode::tag(span, 7, FIXED64);
                    span.extend_from_slice(&5u64.to_le_bytes());
                    encode::key_value(span, 9, "n", Value::Int(-3));
                    encode::key_value(span, 9, "d", Value::Double(0.5));
                    encode::field_with(span, 15, |out| out.extend_from_slice(&[3 << 3, 2]));
                });
            });
        });
        let (resource, scope, span) = spans(&out).next().unwrap();
        assert_eq!(
            resource.attributes().next(),
            Some(AttributeView { key: "service.name", value: ValueView::String("shop") })
        );
        assert_eq!((scope.name(), scope.version()), ("lib", ""));
        assert_eq!((span.trace_id, span.span_id, span.parent_span_id), ([7; 16], [8; 8], None));
        assert_eq!((span.name, span.start_time_unix_nano, span.status_code), ("GET /", 5, 2));
        let values: Vec<_> = span.attributes().map(|attribute| attribute.value).collect();
        assert_eq!(values, [ValueView::Int(-3), ValueView::Double(0.5)]);
        for cut in 0..out.len() {
            let _ = spans(&out[..cut]).count();
        }
    }
}
