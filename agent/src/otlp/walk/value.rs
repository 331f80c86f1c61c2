//! `KeyValue` and `AnyValue`: checked to the bottom, whatever their nesting.

#![expect(clippy::inline_always, reason = "measured: results in registers halve the cost of a walk")]

use super::super::wire::{self, FIXED64, LEN, VARINT, What, Wire};
use super::{Attribute, Limits, Slice, ValueKind};

/// Checks attribute values of one request.
pub(super) struct Values<'a> {
    pub(super) buf: &'a [u8],
    pub(super) limits: &'a Limits,
    /// Where unknown fields are noted.
    pub(super) strips: &'a mut Vec<Slice>,
}

impl Values<'_> {
    /// Checks a `KeyValue` with the body `body`, and adds what it finds to `found`.
    #[inline(always)]
    pub(super) fn attribute(
        &mut self,
        field: Slice,
        body: Slice,
        depth: u32,
        found: &mut Vec<Attribute>,
    ) -> Wire<()> {
        if let Some((key_len, kind, value_len)) = usual(&self.buf[body.range()]) {
            let key = Slice { start: body.start + 2, end: body.start + 2 + key_len as u32 };
            let value = Slice { start: body.end - value_len as u32, end: body.end };
            found.push(Attribute { field, key, kind, value });
        } else {
            found.push(self.key_value(field, body, depth)?);
        }
        Ok(())
    }

    #[inline(never)]
    fn key_value(&mut self, field: Slice, body: Slice, depth: u32) -> Wire<Attribute> {
        self.check_depth(depth, body)?;
        let mut attribute =
            Attribute { field, key: Slice::default(), kind: ValueKind::Empty, value: Slice::default() };
        let buf = &self.buf[..body.end as usize];
        let (mut pos, mut key, mut value) = (body.start as usize, false, false);
        while pos < buf.len() {
            let start = pos;
            let (tag, after) = wire::tag(buf, pos)?;
            pos = after;
            match (tag.number, tag.wire) {
                (1, LEN) => {
                    once(&mut key, start)?;
                    let (from, end) = wire::length(buf, pos)?;
                    attribute.key = Slice::new(from, end);
                    wire::utf8(buf, attribute.key)?;
                    pos = end;
                }
                (2, LEN) => {
                    once(&mut value, start)?;
                    let (from, end) = wire::length(buf, pos)?;
                    (attribute.kind, attribute.value) = self.any_value(Slice::new(from, end), depth + 1)?;
                    pos = end;
                }
                // `key_strindex` belongs to profiles: there is no table that it could point into.
                (3, VARINT) => pos = self.unknown(buf, start, pos, VARINT)?,
                (1..=3, wire) => return Err(wrong_type(wire, start)),
                (_, wire) => pos = self.unknown(buf, start, pos, wire)?,
            }
        }
        Ok(attribute)
    }

    fn any_value(&mut self, body: Slice, depth: u32) -> Wire<(ValueKind, Slice)> {
        self.check_depth(depth, body)?;
        let buf = &self.buf[..body.end as usize];
        let (mut pos, mut set) = (body.start as usize, false);
        let mut found = (ValueKind::Empty, Slice::default());
        while pos < buf.len() {
            let start = pos;
            let (tag, after) = wire::tag(buf, pos)?;
            let kind = match (tag.number, tag.wire) {
                (1, LEN) => ValueKind::String,
                (2, VARINT) => ValueKind::Bool,
                (3, VARINT) => ValueKind::Int,
                (4, FIXED64) => ValueKind::Double,
                (5, LEN) => ValueKind::Array,
                (6, LEN) => ValueKind::KvList,
                (7, LEN) => ValueKind::Bytes,
                // `string_value_strindex` (8) belongs to profiles, as above.
                (1..=8, wire) if (tag.number, wire) != (8, VARINT) => return Err(wrong_type(wire, start)),
                (_, wire) => {
                    pos = self.unknown(buf, start, after, wire)?;
                    continue;
                }
            };
            once(&mut set, start)?;
            let (from, end) = match tag.wire {
                LEN => wire::length(buf, after)?,
                wire => (after, wire::skip(buf, after, wire)?),
            };
            pos = end;
            found = (kind, Slice::new(from, end));
            match kind {
                ValueKind::String => wire::utf8(buf, found.1)?,
                ValueKind::Array => self.list(found.1, depth + 1, ValueKind::Array)?,
                ValueKind::KvList => self.list(found.1, depth + 1, ValueKind::KvList)?,
                _ => {}
            }
        }
        Ok(found)
    }

    /// `ArrayValue` and `KeyValueList`: both have one field, `repeated values = 1`.
    fn list(&mut self, body: Slice, depth: u32, kind: ValueKind) -> Wire<()> {
        self.check_depth(depth, body)?;
        let buf = &self.buf[..body.end as usize];
        let mut pos = body.start as usize;
        while pos < buf.len() {
            let start = pos;
            let (tag, after) = wire::tag(buf, pos)?;
            match (tag.number, tag.wire) {
                (1, LEN) => {
                    let (from, end) = wire::length(buf, after)?;
                    let item = Slice::new(from, end);
                    if kind == ValueKind::Array {
                        self.any_value(item, depth + 1)?;
                    } else {
                        self.key_value(Slice::new(start, end), item, depth + 1)?;
                    }
                    pos = end;
                }
                (1, wire) => return Err(wrong_type(wire, start)),
                (_, wire) => pos = self.unknown(buf, start, after, wire)?,
            }
        }
        Ok(())
    }

    #[cold]
    fn unknown(&mut self, buf: &[u8], start: usize, after_tag: usize, wire: u8) -> Wire<usize> {
        let end = wire::skip(buf, after_tag, wire)?;
        if self.strips.len() >= self.limits.unknown_fields as usize {
            return Err(What::UnknownFields.at(start));
        }
        self.strips.push(Slice::new(start, end));
        Ok(end)
    }

    fn check_depth(&self, depth: u32, body: Slice) -> Wire<()> {
        if depth > self.limits.depth { Err(What::Depth.at(body.start as usize)) } else { Ok(()) }
    }
}

/// Notes that a field is there, and refuses a second one.
#[inline]
fn once(seen: &mut bool, at: usize) -> Wire<()> {
    if std::mem::replace(seen, true) { Err(What::Duplicate.at(at)) } else { Ok(()) }
}

/// What to say of a known field with a wire type that is not its own.
#[cold]
pub(super) fn wrong_type(wire: u8, at: usize) -> super::Malformed {
    match wire {
        3 | 4 => What::Group,
        6 | 7 => What::WireType,
        _ => What::FieldType,
    }
    .at(at)
}

/// The shape that SDKs write: key, then value, lengths of one byte, a scalar. Anything else is `None`. Returns the
/// length of the key, and what the value is with its length; it ends the body.
///
/// With one-byte lengths, every byte of such a field is below 0x80 exactly if its texts are ASCII, so that one
/// look over the whole field checks both.
#[inline(always)]
fn usual(bytes: &[u8]) -> Option<(usize, ValueKind, usize)> {
    let &[0x0a, key_len, ref rest @ ..] = bytes else { return None };
    let key_len = usize::from(key_len);
    let (key, rest) = rest.split_at_checked(key_len)?;
    let &[0x12, value_len, ref value @ ..] = rest else { return None };
    if key_len >= 0x80 || usize::from(value_len) != value.len() || value_len >= 0x80 {
        return None;
    }
    match *value {
        [0x0a, len, ref text @ ..] if usize::from(len) == text.len() && wire::is_ascii(bytes) => {
            Some((key_len, ValueKind::String, text.len()))
        }
        [0x18, ref number @ ..] if one_varint(number) && wire::is_ascii(key) => {
            Some((key_len, ValueKind::Int, number.len()))
        }
        [0x10, flag] if flag < 0x80 && wire::is_ascii(key) => Some((key_len, ValueKind::Bool, 1)),
        [0x21, _, _, _, _, _, _, _, _] if wire::is_ascii(key) => Some((key_len, ValueKind::Double, 8)),
        _ => None,
    }
}

/// Whether the bytes are one varint and nothing else. Ten-byte ones (negative numbers) go the long way.
#[inline]
fn one_varint(bytes: &[u8]) -> bool {
    match bytes {
        [last] => *last < 0x80,
        [more @ .., last] if bytes.len() < 10 => *last < 0x80 && more.iter().all(|byte| *byte >= 0x80),
        _ => false,
    }
}
