//! Protobuf wire primitives, bounds-checked, and what can be wrong with a request.
//!
//! Every function reads from a slice that ends where the enclosing message ends, at absolute offsets of the
//! request, so that no read can leave its message.

#![forbid(unsafe_code)]
#![expect(clippy::inline_always, reason = "measured: results in registers halve the cost of a walk")]

use super::walk::Slice;
use crate::telemetry::Cause;

/// Wire type 0: a varint.
pub(crate) const VARINT: u8 = 0;
/// Wire type 1: eight bytes.
pub(crate) const FIXED64: u8 = 1;
/// Wire type 2: a length, then that many bytes.
pub(crate) const LEN: u8 = 2;
/// Wire type 5: four bytes.
pub(crate) const FIXED32: u8 = 5;

/// A request that is refused: what is wrong, and where. It never holds what the sender wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} (at byte {offset} of the request)")]
pub struct Malformed {
    /// Offset of the byte where it was noticed.
    pub offset: u32,
    /// What is wrong.
    pub what: What,
}

/// The classes of bad requests. The text tells the sender what to fix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum What {
    /// The message or a field ends in the middle.
    #[error("truncated: a field ends past the end of its message; send the whole protobuf message")]
    Truncated,
    /// A varint of more than ten bytes, or over 64 bits.
    #[error("a varint is longer than 64 bits; send valid protobuf")]
    Varint,
    /// Field number 0, or a tag over 32 bits.
    #[error("a field number is 0 or too large; send valid protobuf")]
    FieldNumber,
    /// Wire types 3 and 4.
    #[error("protobuf groups are not part of OTLP; send valid protobuf")]
    Group,
    /// Wire types 6 and 7.
    #[error("a field has a wire type that protobuf does not define; send valid protobuf")]
    WireType,
    /// A known field with another wire type than the OTLP protos give it.
    #[error("a field has another type than the OTLP trace protos give it; check the exporter's version")]
    FieldType,
    /// A field that is not repeated occurs twice in a message, or two members of a oneof are set.
    #[error("a field that may occur once occurs twice in a message; send each field once")]
    Duplicate,
    /// Messages nested deeper than [`super::walk::Limits::depth`].
    #[error("values are nested too deep; flatten the attribute")]
    Depth,
    /// A string that is not UTF-8.
    #[error("a string is not valid UTF-8; send binary data as bytes_value")]
    Utf8,
    /// A trace id that is not 16 bytes.
    #[error("a trace id is not 16 bytes long")]
    TraceId,
    /// A span id that is not 8 bytes.
    #[error("a span id is not 8 bytes long")]
    SpanId,
    /// A span whose trace id or span id is all zero.
    #[error("a trace id or span id is all zero, which the specification calls invalid")]
    ZeroId,
    /// More attributes or strings in one message than [`super::walk::Limits::attributes`].
    #[error("a message has too many attributes; set attribute limits in the SDK")]
    Attributes,
    /// More unknown fields than [`super::walk::Limits::unknown_fields`].
    #[error("the request has too many fields that the OTLP trace protos do not know; check the exporter")]
    UnknownFields,
    /// More spans than [`super::walk::Limits::spans`].
    #[error("the request has too many spans; lower the exporter's batch size")]
    Spans,
    /// More bytes than [`super::walk::Limits::bytes`].
    #[error("the request is too large; lower the exporter's batch size")]
    Bytes,
    /// A rewrite gave edits that overlap or leave their message: a mistake of ours. The request is refused,
    /// because what would be written is not what was checked.
    #[error("internal error: a rewrite produced contradicting edits; report this as a bug of spanwarden")]
    Edits,
}

impl What {
    /// The value of the metric label `cause`.
    pub fn cause(self) -> Cause {
        match self {
            Self::Truncated => "truncated",
            Self::Varint => "varint",
            Self::FieldNumber => "field_number",
            Self::Group => "group",
            Self::WireType => "wire_type",
            Self::FieldType => "field_type",
            Self::Duplicate => "duplicate_field",
            Self::Depth => "depth",
            Self::Utf8 => "utf8",
            Self::TraceId => "trace_id",
            Self::SpanId => "span_id",
            Self::ZeroId => "zero_id",
            Self::Attributes => "too_many_attributes",
            Self::UnknownFields => "too_many_unknown_fields",
            Self::Spans => "too_many_spans",
            Self::Bytes => "too_large",
            Self::Edits => "internal_edits",
        }
    }

    /// The error at an offset.
    #[cold]
    pub(crate) fn at(self, offset: usize) -> Malformed {
        Malformed { offset: offset as u32, what: self }
    }
}

/// The result of reading.
pub(crate) type Wire<T> = Result<T, Malformed>;

/// A field's tag, split.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tag {
    /// Field number, 1 to 2^29-1.
    pub(crate) number: u32,
    /// Wire type, 0 to 7, not yet judged.
    pub(crate) wire: u8,
}

/// Reads a varint at `pos`; returns it and the offset after it.
///
/// Here and below: what is returned would go through memory in a call, which costs more than the work.
#[inline(always)]
pub(crate) fn varint(buf: &[u8], pos: usize) -> Wire<(u64, usize)> {
    match buf.get(pos) {
        Some(&byte) if byte < 0x80 => Ok((u64::from(byte), pos + 1)),
        Some(_) => long_varint(buf, pos),
        None => Err(What::Truncated.at(pos)),
    }
}

#[inline(never)]
fn long_varint(buf: &[u8], pos: usize) -> Wire<(u64, usize)> {
    let mut value = 0u64;
    for (i, &byte) in buf[pos..].iter().take(10).enumerate() {
        if i == 9 && byte > 1 {
            return Err(What::Varint.at(pos));
        }
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            return Ok((value, pos + i + 1));
        }
    }
    Err(What::Truncated.at(buf.len()))
}

/// Reads a tag at `pos`; returns it and the offset after it.
#[inline(always)]
pub(crate) fn tag(buf: &[u8], pos: usize) -> Wire<(Tag, usize)> {
    let (value, after) = varint(buf, pos)?;
    if value < 8 || value > u64::from(u32::MAX) {
        return Err(What::FieldNumber.at(pos));
    }
    Ok((Tag { number: (value >> 3) as u32, wire: (value & 7) as u8 }, after))
}

/// Reads a length at `pos`; returns where the content begins and ends.
#[inline(always)]
pub(crate) fn length(buf: &[u8], pos: usize) -> Wire<(usize, usize)> {
    let (value, start) = varint(buf, pos)?;
    if value > (buf.len() - start) as u64 {
        return Err(What::Truncated.at(pos));
    }
    Ok((start, start + value as usize))
}

/// The offset after the content of a field whose tag ends at `pos`.
#[inline]
pub(crate) fn skip(buf: &[u8], pos: usize, wire: u8) -> Wire<usize> {
    let after = match wire {
        VARINT => return varint(buf, pos).map(|(_, after)| after),
        LEN => return length(buf, pos).map(|(_, end)| end),
        FIXED64 => pos + 8,
        FIXED32 => pos + 4,
        3 | 4 => return Err(What::Group.at(pos)),
        _ => return Err(What::WireType.at(pos)),
    };
    if after > buf.len() { Err(What::Truncated.at(pos)) } else { Ok(after) }
}

/// Refuses what is not UTF-8.
#[inline]
pub(crate) fn utf8(buf: &[u8], text: Slice) -> Wire<()> {
    let bytes = &buf[text.range()];
    if is_ascii(bytes) || simdutf8::basic::from_utf8(bytes).is_ok() {
        Ok(())
    } else {
        Err(What::Utf8.at(text.start as usize))
    }
}

/// Whether all bytes are ASCII. Attribute texts are short, and of every length: a loop over words costs a wrong
/// guess of the processor each time it ends. Here two halves that overlap are enough up to 64 bytes.
#[inline(always)]
pub(crate) fn is_ascii(bytes: &[u8]) -> bool {
    match bytes.len() {
        0..8 => bytes.iter().fold(0, |all, &byte| all | byte) < 0x80,
        8..=16 => ends::<1>(bytes),
        17..=32 => ends::<2>(bytes),
        33..=64 => ends::<4>(bytes),
        _ => {
            let (chunks, _) = bytes.as_chunks::<32>();
            chunks.iter().all(|chunk| ends::<4>(chunk)) && ends::<4>(bytes)
        }
    }
}

/// Whether the first `N` and the last `N` words are ASCII. Less than `N` words is `false`.
#[inline(always)]
fn ends<const N: usize>(bytes: &[u8]) -> bool {
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let all = |words: &[[u8; 8]]| words.iter().fold(0, |all, word| all | u64::from_le_bytes(*word));
    let (words, _) = bytes.as_chunks::<8>();
    let (_, last) = bytes.as_rchunks::<8>();
    match (words.first_chunk::<N>(), last.last_chunk::<N>()) {
        (Some(first), Some(last)) => (all(first) | all(last)) & HIGH == 0,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints() {
        assert_eq!(varint(&[0x96, 0x01], 0), Ok((150, 2)));
        assert_eq!(varint(&[0xff; 9].iter().copied().chain([1]).collect::<Vec<_>>(), 0), Ok((u64::MAX, 10)));
        assert_eq!(varint(&[0xff; 10], 0).unwrap_err().what, What::Varint);
        assert_eq!(varint(&[0x80; 3], 0).unwrap_err(), What::Truncated.at(3));
        assert_eq!(varint(&[], 0).unwrap_err().what, What::Truncated);
    }

    #[test]
    fn tags_and_lengths() {
        assert_eq!(tag(&[0x00], 0).unwrap_err().what, What::FieldNumber);
        assert_eq!(tag(&[0xff, 0xff, 0xff, 0xff, 0x1f], 0).unwrap_err().what, What::FieldNumber);
        assert_eq!(length(&[3, 1, 2], 0).unwrap_err().what, What::Truncated);
        assert_eq!(length(&[2, 1, 2], 0), Ok((1, 3)));
        assert_eq!(skip(&[0], 0, 3).unwrap_err().what, What::Group);
        assert_eq!(skip(&[0], 0, 7).unwrap_err().what, What::WireType);
        assert_eq!(skip(&[0; 7], 0, FIXED64).unwrap_err().what, What::Truncated);
    }

    #[test]
    fn ascii_at_every_length_and_position() {
        for n in 0..140 {
            let mut bytes = vec![b'a'; n];
            assert!(is_ascii(&bytes));
            for i in 0..n {
                bytes[i] = 0x80;
                assert!(!is_ascii(&bytes), "{n} {i}");
                bytes[i] = b'a';
            }
        }
    }
}
