//! Keys inside of maps: what a rule says of a key holds for the members of nested maps too.
//!
//! A member is known by its own key and by its path: `password` and `request.headers.password`, where `request` is the
//! attribute.

#![forbid(unsafe_code)]

use crate::{
    otlp::{encode, walk::ValueKind},
    scrub::value::{any, any_len, key_value, next_field, put_any, put_attribute},
};

/// Maps and arrays in each other. The walker refuses deeper ones; this only bounds the stack.
const MAX_DEPTH: usize = 128;

/// What becomes of a member.
pub(super) enum Member {
    /// It stays; what is in it is judged next.
    Keep,
    /// It goes.
    Delete,
    /// It gets this text for a value.
    Replace(Vec<u8>),
}

/// What decides: given the path, where the member's own key begins in it, and the value.
pub(super) type Judge<'j> = dyn FnMut(&[u8], usize, ValueKind, &[u8]) -> Member + 'j;

/// Judges every member of every map inside an array or a map. Returns its new content where something changed.
pub(super) fn rewrite(
    attribute: &[u8],
    kind: ValueKind,
    content: &[u8],
    judge: &mut Judge<'_>,
) -> Option<Vec<u8>> {
    let mut path = attribute.to_vec();
    nested(kind, content, &mut path, judge, 0)
}

fn nested(
    kind: ValueKind,
    content: &[u8],
    path: &mut Vec<u8>,
    judge: &mut Judge<'_>,
    depth: usize,
) -> Option<Vec<u8>> {
    if depth > MAX_DEPTH {
        return Some(Vec::new());
    }
    let mut out = Vec::new();
    let mut changed = false;
    let mut rest = content;
    while let Some((tag, member)) = next_field(&mut rest) {
        if tag != 0x0a {
            continue;
        }
        if kind == ValueKind::Array {
            let (kind, content) = any(member);
            let new = inside(kind, content, path, judge, depth);
            changed |= new.is_some();
            let content = new.as_deref().unwrap_or(content);
            encode::varint(&mut out, 0x0a);
            encode::varint(&mut out, any_len(kind, content) as u64);
            put_any(&mut out, kind, content);
            continue;
        }
        let (key, message) = key_value(member);
        let (kind, content) = any(message);
        let parent = path.len();
        path.push(b'.');
        path.extend_from_slice(key);
        match judge(path, parent + 1, kind, content) {
            Member::Keep => {
                let new = inside(kind, content, path, judge, depth);
                changed |= new.is_some();
                put_attribute(&mut out, 1, key, kind, new.as_deref().unwrap_or(content));
            }
            Member::Delete => changed = true,
            Member::Replace(text) => {
                changed |= kind != ValueKind::String || text != content;
                put_attribute(&mut out, 1, key, ValueKind::String, &text);
            }
        }
        path.truncate(parent);
    }
    changed.then_some(out)
}

fn inside(
    kind: ValueKind,
    content: &[u8],
    path: &mut Vec<u8>,
    judge: &mut Judge<'_>,
    depth: usize,
) -> Option<Vec<u8>> {
    matches!(kind, ValueKind::Array | ValueKind::KvList)
        .then(|| nested(kind, content, path, judge, depth + 1))?
}
