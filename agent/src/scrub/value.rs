//! `AnyValue` and `KeyValue` as bytes: writing them, and rewriting every text inside a nested one.
//!
//! Field numbers are those of `opentelemetry/proto/common/v1/common.proto`.

#![forbid(unsafe_code)]

use std::borrow::Cow;

use crate::otlp::{
    encode::{self, varint_len},
    walk::ValueKind,
};

/// Arrays and maps inside each other. The walker refuses deeper requests long before; this only bounds the stack.
const MAX_DEPTH: u32 = 128;

/// Reads a varint; `None` where there is none.
pub(super) fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (i, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[i + 1..]));
        }
    }
    None
}

/// Bytes of an `AnyValue` message.
pub(super) fn any_len(kind: ValueKind, content: &[u8]) -> usize {
    match kind {
        ValueKind::Empty => 0,
        ValueKind::Bool | ValueKind::Int | ValueKind::Double => 1 + content.len(),
        _ => 1 + varint_len(content.len() as u64) + content.len(),
    }
}

/// Appends an `AnyValue` message. The content is what [`ValueKind`] says.
pub(super) fn put_any(out: &mut Vec<u8>, kind: ValueKind, content: &[u8]) {
    match kind {
        ValueKind::Empty => {}
        ValueKind::String => encode::field(out, 1, content),
        ValueKind::Bool | ValueKind::Int | ValueKind::Double => {
            out.push(match kind {
                ValueKind::Bool => 2 << 3,
                ValueKind::Int => 3 << 3,
                _ => 4 << 3 | 1,
            });
            out.extend_from_slice(content);
        }
        ValueKind::Array => encode::field(out, 5, content),
        ValueKind::KvList => encode::field(out, 6, content),
        ValueKind::Bytes => encode::field(out, 7, content),
    }
}

/// Appends a `KeyValue` as field `number`.
pub(super) fn put_attribute(out: &mut Vec<u8>, number: u32, key: &[u8], kind: ValueKind, content: &[u8]) {
    let any = any_len(kind, content);
    encode::varint(out, u64::from(number) << 3 | 2);
    encode::varint(out, (2 + varint_len(key.len() as u64) + key.len() + varint_len(any as u64) + any) as u64);
    encode::field(out, 1, key);
    out.push(2 << 3 | 2);
    encode::varint(out, any as u64);
    put_any(out, kind, content);
}

/// Appends an element of an `ArrayValue`.
pub(super) fn put_element(out: &mut Vec<u8>, kind: ValueKind, content: &[u8]) {
    out.push(0x0a);
    encode::varint(out, any_len(kind, content) as u64);
    put_any(out, kind, content);
}

/// The elements of an `ArrayValue`.
pub(super) fn elements(content: &[u8]) -> impl Iterator<Item = (ValueKind, &[u8])> {
    let mut rest = content;
    std::iter::from_fn(move || next_field(&mut rest))
        .filter(|(tag, _)| *tag == 0x0a)
        .map(|(_, message)| any(message))
}

/// The members of a `KeyValueList`: key, kind and content of each.
pub(super) fn members(content: &[u8]) -> impl Iterator<Item = (&[u8], ValueKind, &[u8])> {
    let mut rest = content;
    std::iter::from_fn(move || next_field(&mut rest))
        .filter(|(tag, _)| *tag == 0x0a)
        .map(|(_, member)| attribute(member))
}

/// The content of a list or a map without fields that the protos do not know, at any depth: what is copied from one
/// place to another, or written anew beside a changed key, has not been stripped.
pub(super) fn known(kind: ValueKind, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len());
    known_into(&mut out, kind, content, 0);
    out
}

fn known_into(out: &mut Vec<u8>, kind: ValueKind, content: &[u8], depth: u32) {
    if depth > MAX_DEPTH {
        return;
    }
    if kind == ValueKind::Array {
        elements(content)
            .for_each(|(kind, content)| put_element(out, kind, &known_inside(kind, content, depth)));
    } else {
        members(content).for_each(|(key, kind, content)| {
            put_attribute(out, 1, key, kind, &known_inside(kind, content, depth));
        });
    }
}

/// The same of a value inside, where that is a list or a map.
fn known_inside(kind: ValueKind, content: &[u8], depth: u32) -> Cow<'_, [u8]> {
    match kind {
        ValueKind::Array | ValueKind::KvList => {
            let mut inner = Vec::new();
            known_into(&mut inner, kind, content, depth + 1);
            Cow::Owned(inner)
        }
        _ => Cow::Borrowed(content),
    }
}

/// A `KeyValue` message: its key, and its value's kind and content.
pub(super) fn attribute(message: &[u8]) -> (&[u8], ValueKind, &[u8]) {
    let (key, value) = key_value(message);
    let (kind, content) = any(value);
    (key, kind, content)
}

/// One field of a message; `None` at the end or where the bytes are not a message (the walker has checked them).
pub(super) fn next_field<'a>(rest: &mut &'a [u8]) -> Option<(u64, &'a [u8])> {
    let (tag, after) = varint(rest)?;
    let (content, after) = match tag & 7 {
        0 => {
            let (_, rest) = varint(after)?;
            after.split_at(after.len() - rest.len())
        }
        1 => after.split_at_checked(8)?,
        2 => {
            let (length, after) = varint(after)?;
            after.split_at_checked(usize::try_from(length).ok()?)?
        }
        5 => after.split_at_checked(4)?,
        _ => return None,
    };
    *rest = after;
    Some((tag, content))
}

/// What an `AnyValue` message holds: the last member of the oneof that is set, as protobuf has it.
pub(super) fn any(message: &[u8]) -> (ValueKind, &[u8]) {
    let mut rest = message;
    let mut value = (ValueKind::Empty, &[][..]);
    while let Some((tag, content)) = next_field(&mut rest) {
        let kind = match tag {
            0x0a => ValueKind::String,
            0x10 => ValueKind::Bool,
            0x18 => ValueKind::Int,
            0x21 => ValueKind::Double,
            0x2a => ValueKind::Array,
            0x32 => ValueKind::KvList,
            0x3a => ValueKind::Bytes,
            _ => continue,
        };
        value = (kind, content);
    }
    value
}

/// A text inside a value, given to [`rewrite`]'s visitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaf {
    /// The key of a nested map.
    Key,
    /// A value of this kind.
    Value(ValueKind),
}

/// A leaf's replacement: `None` keeps it.
pub(super) type Replaced = Option<(ValueKind, Vec<u8>)>;

/// Rewrites every text inside an array or a map. Returns its new content where something changed. Unknown fields
/// are left out of what is written.
pub(super) fn rewrite(
    kind: ValueKind,
    content: &[u8],
    visit: &mut dyn FnMut(Leaf, &[u8]) -> Replaced,
) -> Option<Vec<u8>> {
    nested(kind, content, visit, 0)
}

fn nested(
    kind: ValueKind,
    content: &[u8],
    visit: &mut dyn FnMut(Leaf, &[u8]) -> Replaced,
    depth: u32,
) -> Option<Vec<u8>> {
    if depth > MAX_DEPTH {
        // Never passed unscanned: what lies deeper is left out.
        return Some(Vec::new());
    }
    let mut out = Vec::with_capacity(content.len());
    let mut changed = false;
    let mut rest = content;
    while let Some((tag, member)) = next_field(&mut rest) {
        if tag != 0x0a {
            continue;
        }
        if kind == ValueKind::Array {
            let (kind, content) = any(member);
            let new = value(kind, content, visit, depth);
            changed |= new.is_some();
            let (kind, content) = new.as_ref().map_or((kind, content), |(kind, content)| (*kind, content));
            encode::varint(&mut out, 0x0a);
            encode::varint(&mut out, any_len(kind, content) as u64);
            put_any(&mut out, kind, content);
        } else {
            let (key, message) = key_value(member);
            let (kind, content) = any(message);
            let new_key = visit(Leaf::Key, key);
            let new = value(kind, content, visit, depth);
            changed |= new.is_some() || new_key.is_some();
            let (kind, content) = new.as_ref().map_or((kind, content), |(kind, content)| (*kind, content));
            put_attribute(&mut out, 1, new_key.as_ref().map_or(key, |(_, key)| key), kind, content);
        }
    }
    changed.then_some(out)
}

fn value(
    kind: ValueKind,
    content: &[u8],
    visit: &mut dyn FnMut(Leaf, &[u8]) -> Replaced,
    depth: u32,
) -> Replaced {
    match kind {
        ValueKind::Array | ValueKind::KvList => {
            nested(kind, content, visit, depth + 1).map(|new| (kind, new))
        }
        ValueKind::Empty => None,
        kind => visit(Leaf::Value(kind), content),
    }
}

/// Key and value of a `KeyValue` message: of each the last that is there.
pub(super) fn key_value(message: &[u8]) -> (&[u8], &[u8]) {
    let (mut key, mut value) = (&[][..], &[][..]);
    let mut rest = message;
    while let Some((tag, content)) = next_field(&mut rest) {
        match tag {
            0x0a => key = content,
            0x12 => value = content,
            _ => {}
        }
    }
    (key, value)
}

/// The text by which a number is matched: what the Collector's `AsString` gives.
pub(super) fn number_text(kind: ValueKind, content: &[u8]) -> Option<String> {
    Some(match kind {
        ValueKind::Int => varint(content)?.0.cast_signed().to_string(),
        ValueKind::Double => f64::from_le_bytes(content.try_into().ok()?).to_string(),
        ValueKind::Bool => (varint(content)?.0 != 0).to_string(),
        _ => return None,
    })
}
