//! Keys inside of values: what an array or a map holds under a blocked key.

#![forbid(unsafe_code)]

use crate::{
    otlp::{encode, walk::ValueKind},
    scrub::value::{any, any_len, key_value, next_field, put_any, put_attribute},
};

/// Arrays and maps inside each other that are looked into; the walker refuses deeper requests long before.
const MAX_DEPTH: u32 = 128;

/// Writes an array or a map with a mask in place of every value whose key is blocked; `None` where there is none.
pub(super) fn block(
    kind: ValueKind,
    content: &[u8],
    blocked: &dyn Fn(&[u8], ValueKind) -> bool,
    mask: &[u8],
    depth: u32,
) -> Option<Vec<u8>> {
    if depth > MAX_DEPTH {
        return Some(Vec::new());
    }
    let mut out = Vec::with_capacity(content.len());
    let (mut changed, mut rest) = (false, content);
    while let Some((tag, member)) = next_field(&mut rest) {
        if tag != 0x0a {
            continue;
        }
        let (key, message) = if kind == ValueKind::Array { (&[][..], member) } else { key_value(member) };
        let (inner, content) = any(message);
        let new = match inner {
            _ if kind == ValueKind::KvList && blocked(key, inner) => {
                (content != mask).then(|| (ValueKind::String, mask.to_vec()))
            }
            ValueKind::Array | ValueKind::KvList => {
                block(inner, content, blocked, mask, depth + 1).map(|new| (inner, new))
            }
            _ => None,
        };
        changed |= new.is_some();
        let (inner, content) = new.as_ref().map_or((inner, content), |(inner, content)| (*inner, content));
        if kind == ValueKind::Array {
            encode::varint(&mut out, 0x0a);
            encode::varint(&mut out, any_len(inner, content) as u64);
            put_any(&mut out, inner, content);
        } else {
            put_attribute(&mut out, 1, key, inner, content);
        }
    }
    changed.then_some(out)
}
