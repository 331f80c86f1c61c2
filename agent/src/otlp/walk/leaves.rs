//! What is inside a nested attribute value, for rewrites that look at every position.

use super::super::wire::{self, LEN};
use super::{Attribute, Slice, ValueKind};

/// One position inside an attribute's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaf {
    /// The key of a `KeyValue` in a `kvlist_value`.
    Key(Slice),
    /// A value that holds no further values.
    Value {
        /// What kind of value it is; never `Array` nor `KvList`.
        kind: ValueKind,
        /// Its content, as in [`Attribute::value`].
        value: Slice,
        /// The body of its `AnyValue`: replace it (`otlp::encode::any_value`) to change the type.
        any: Slice,
        /// The key that is nearest to it: its own in a `kvlist_value`, else that of the list around it.
        key: Slice,
    },
}

/// Shows every key and scalar inside a checked attribute of kind `Array` or `KvList`, in wire order, at any
/// depth. An attribute of another kind has none inside.
pub fn leaves(buf: &[u8], attribute: &Attribute, show: &mut impl FnMut(Leaf)) {
    // The walker has checked the bytes, so that nothing fails here.
    let _ = match attribute.kind {
        ValueKind::Array | ValueKind::KvList => {
            list(buf, attribute.value, attribute.kind, attribute.key, show)
        }
        _ => Ok(()),
    };
}

fn list(buf: &[u8], body: Slice, kind: ValueKind, key: Slice, show: &mut impl FnMut(Leaf)) -> wire::Wire<()> {
    let buf = &buf[..body.end as usize];
    let mut pos = body.start as usize;
    while pos < buf.len() {
        let (tag, after) = wire::tag(buf, pos)?;
        if (tag.number, tag.wire) == (1, LEN) {
            let (from, end) = wire::length(buf, after)?;
            match kind {
                ValueKind::Array => any_value(buf, Slice::new(from, end), key, show)?,
                _ => key_value(buf, Slice::new(from, end), show)?,
            }
            pos = end;
        } else {
            pos = wire::skip(buf, after, tag.wire)?;
        }
    }
    Ok(())
}

fn key_value(buf: &[u8], body: Slice, show: &mut impl FnMut(Leaf)) -> wire::Wire<()> {
    let buf = &buf[..body.end as usize];
    let (mut key, mut value) = (Slice::default(), None);
    let mut pos = body.start as usize;
    while pos < buf.len() {
        let (tag, after) = wire::tag(buf, pos)?;
        pos = wire::skip(buf, after, tag.wire)?;
        match (tag.number, tag.wire) {
            (1, LEN) => key = content(buf, after)?,
            (2, LEN) => value = Some(content(buf, after)?),
            _ => {}
        }
    }
    if !key.is_empty() {
        show(Leaf::Key(key));
    }
    value.map_or(Ok(()), |value| any_value(buf, value, key, show))
}

fn any_value(buf: &[u8], any: Slice, key: Slice, show: &mut impl FnMut(Leaf)) -> wire::Wire<()> {
    let buf = &buf[..any.end as usize];
    let mut pos = any.start as usize;
    while pos < buf.len() {
        let (tag, after) = wire::tag(buf, pos)?;
        pos = wire::skip(buf, after, tag.wire)?;
        let kind = match tag.number {
            1 => ValueKind::String,
            2 => ValueKind::Bool,
            3 => ValueKind::Int,
            4 => ValueKind::Double,
            5 => ValueKind::Array,
            6 => ValueKind::KvList,
            7 => ValueKind::Bytes,
            _ => continue,
        };
        let value = if tag.wire == LEN { content(buf, after)? } else { Slice::new(after, pos) };
        match kind {
            ValueKind::Array | ValueKind::KvList => list(buf, value, kind, key, show)?,
            _ => show(Leaf::Value { kind, value, any, key }),
        }
    }
    Ok(())
}

fn content(buf: &[u8], pos: usize) -> wire::Wire<Slice> {
    wire::length(buf, pos).map(|(start, end)| Slice::new(start, end))
}
