//! Writing protobuf: what rewrites insert, and the JSON reader's output.

#![forbid(unsafe_code)]

use std::ops::Range;

/// Pieces up to this long are copied by so many bytes at once.
pub(crate) const CHUNK: usize = 32;

/// Appends a part of `from`. Where many are short, a call to copy each costs more than copying some bytes too many.
#[inline]
pub(crate) fn piece(out: &mut Vec<u8>, from: &[u8], part: Range<usize>) {
    let len = part.len();
    match from[part.start..].first_chunk::<CHUNK>() {
        Some(chunk) if len <= CHUNK => {
            let end = out.len() + len;
            out.extend_from_slice(chunk);
            out.truncate(end);
        }
        _ => out.extend_from_slice(&from[part]),
    }
}

/// Appends a varint.
#[inline]
pub fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// How many bytes [`varint`] writes.
pub fn varint_len(value: u64) -> usize {
    // 7 bits a byte; 0 takes one.
    (70 - (value | 1).leading_zeros() as usize) / 7
}

/// Appends the tag of field `number` with the given wire type.
#[inline]
pub fn tag(out: &mut Vec<u8>, number: u32, wire: u8) {
    varint(out, u64::from(number) << 3 | u64::from(wire));
}

/// Appends a length-delimited field: a string, bytes, or a message already encoded.
pub fn field(out: &mut Vec<u8>, number: u32, content: &[u8]) {
    tag(out, number, 2);
    varint(out, content.len() as u64);
    out.extend_from_slice(content);
}

/// Appends a length-delimited field whose content `write` appends.
pub fn field_with(out: &mut Vec<u8>, number: u32, write: impl FnOnce(&mut Vec<u8>)) {
    let content = open(out, number);
    write(out);
    close(out, content);
}

/// Begins a length-delimited field; returns where its content begins, for [`close`].
pub fn open(out: &mut Vec<u8>, number: u32) -> usize {
    tag(out, number, 2);
    out.push(0);
    out.len()
}

/// Ends a field that [`open`] began, by writing its length. A content of 128 bytes or more moves up.
pub fn close(out: &mut Vec<u8>, content: usize) {
    let (end, len) = (out.len(), out.len() - content);
    let more = varint_len(len as u64) - 1;
    if more > 0 {
        out.resize(end + more, 0);
        out.copy_within(content..end, content + more);
    }
    let mut rest = len;
    for byte in &mut out[content - 1..content - 1 + more] {
        *byte = rest as u8 | 0x80;
        rest >>= 7;
    }
    out[content - 1 + more] = rest as u8;
}

/// A scalar `AnyValue`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// `string_value`
    String(&'a str),
    /// `bool_value`
    Bool(bool),
    /// `int_value`
    Int(i64),
    /// `double_value`
    Double(f64),
    /// `bytes_value`
    Bytes(&'a [u8]),
}

/// Appends the body of an `AnyValue`.
pub fn any_value(out: &mut Vec<u8>, value: Value<'_>) {
    match value {
        Value::String(text) => field(out, 1, text.as_bytes()),
        Value::Bool(value) => out.extend_from_slice(&[2 << 3, u8::from(value)]),
        Value::Int(value) => {
            out.push(3 << 3);
            varint(out, value.cast_unsigned());
        }
        Value::Double(value) => {
            out.push(4 << 3 | 1);
            out.extend_from_slice(&value.to_le_bytes());
        }
        Value::Bytes(bytes) => field(out, 7, bytes),
    }
}

/// Appends a whole `KeyValue` as field `number` of its parent: what replaces or joins an attribute.
pub fn key_value(out: &mut Vec<u8>, number: u32, key: &str, value: Value<'_>) {
    field_with(out, number, |out| {
        field(out, 1, key.as_bytes());
        field_with(out, 2, |out| any_value(out, value));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_varints() {
        for shift in 0..64 {
            for value in [(1u64 << shift) - 1, 1 << shift] {
                let mut out = Vec::new();
                varint(&mut out, value);
                assert_eq!(out.len(), varint_len(value), "{value}");
            }
        }
    }

    #[test]
    fn prefixes_grow_with_their_content() {
        for n in [0, 1, 127, 128, 16_383, 16_384, 300_000] {
            let content = vec![7; n];
            let (mut known, mut grown) = (vec![1], vec![1]);
            field(&mut known, 9, &content);
            field_with(&mut grown, 9, |out| out.extend_from_slice(&content));
            assert_eq!(known, grown, "{n}");
        }
    }
}
