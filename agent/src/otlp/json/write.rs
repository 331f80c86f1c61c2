//! Protobuf to JSON, field by field from the wire bytes.

use base64::{Engine, prelude::BASE64_STANDARD};

use super::schema::{Field, Message, REQUEST, Type};
use crate::otlp::view::Content;
use crate::otlp::walk::{Malformed, Slice, What};
use crate::otlp::wire::{self, Wire};

/// Deeper than the walker lets messages nest; keeps unchecked bytes from exhausting the stack.
const MAX_DEPTH: u32 = 128;

pub(super) struct Writer<'a> {
    buf: &'a [u8],
    out: &'a mut Vec<u8>,
    /// Fields of the messages that are open, outermost first.
    fields: Vec<(u32, u8, Slice)>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(buf: &'a [u8], out: &'a mut Vec<u8>) -> Self {
        Self { buf, out, fields: Vec::new() }
    }

    pub(super) fn request(mut self) -> Result<(), Malformed> {
        self.message(&REQUEST, Slice::new(0, self.buf.len()), 1)
    }

    fn message(&mut self, message: &'static Message, body: Slice, depth: u32) -> Wire<()> {
        if depth > MAX_DEPTH {
            return Err(What::Depth.at(body.start as usize));
        }
        let first = self.fields.len();
        self.collect(body)?;
        // Elements of a repeated field need not be neighbours on the wire; the sort keeps their order.
        self.fields[first..].sort_by_key(|(number, ..)| *number);
        self.out.push(b'{');
        let (mut next, last) = (first, self.fields.len());
        let mut comma = false;
        while next < last {
            let number = self.fields[next].0;
            let end = next + self.fields[next..last].partition_point(|(other, ..)| *other == number);
            if let Some(field) = message.fields.iter().find(|field| field.number == number) {
                if comma {
                    self.out.push(b',');
                }
                comma = true;
                self.field(field, next, end, depth)?;
            }
            next = end;
        }
        self.out.push(b'}');
        self.fields.truncate(first);
        Ok(())
    }

    /// Puts the fields of a message on the stack.
    fn collect(&mut self, body: Slice) -> Wire<()> {
        let buf = &self.buf[..body.end as usize];
        let mut pos = body.start as usize;
        while pos < buf.len() {
            let (tag, after) = wire::tag(buf, pos)?;
            let end = wire::skip(buf, after, tag.wire)?;
            let start = if tag.wire == wire::LEN { wire::length(buf, after)?.0 } else { after };
            self.fields.push((tag.number, tag.wire, Slice::new(start, end)));
            pos = end;
        }
        Ok(())
    }

    /// Writes the occurrences `next..end` of one field.
    fn field(&mut self, field: &'static Field, next: usize, end: usize, depth: u32) -> Wire<()> {
        self.out.push(b'"');
        self.out.extend_from_slice(field.name.as_bytes());
        self.out.extend_from_slice(b"\":");
        if !field.repeated {
            // Of a field that occurs twice the last counts; the walker refuses such a request.
            return self.value(field, end - 1, depth);
        }
        self.out.push(b'[');
        for number in next..end {
            if number > next {
                self.out.push(b',');
            }
            self.value(field, number, depth)?;
        }
        self.out.push(b']');
        Ok(())
    }

    fn value(&mut self, field: &'static Field, number: usize, depth: u32) -> Wire<()> {
        let (_, wire_type, at) = self.fields[number];
        if wire_type != field.kind.wire() {
            return Err(What::FieldType.at(at.start as usize));
        }
        if let Type::Message(message) = field.kind {
            return self.message(message, at, depth + 1);
        }
        match content(self.buf, wire_type, at)? {
            Content::Bytes(bytes) => self.bytes(field.kind, bytes, at),
            Content::Number(bits) => {
                self.number(field.kind, bits);
                Ok(())
            }
        }
    }

    fn bytes(&mut self, kind: Type, bytes: &[u8], at: Slice) -> Wire<()> {
        match kind {
            Type::Text => {
                let text = simdutf8::basic::from_utf8(bytes).map_err(|_| What::Utf8.at(at.start as usize))?;
                serde_json::to_writer(&mut *self.out, text).expect("a string is written to memory");
            }
            Type::Id(_) => {
                const DIGITS: &[u8; 16] = b"0123456789abcdef";
                self.out.push(b'"');
                for byte in bytes {
                    self.out.push(DIGITS[usize::from(byte >> 4)]);
                    self.out.push(DIGITS[usize::from(byte & 15)]);
                }
                self.out.push(b'"');
            }
            _ => {
                self.out.push(b'"');
                self.out.extend_from_slice(BASE64_STANDARD.encode(bytes).as_bytes());
                self.out.push(b'"');
            }
        }
        Ok(())
    }

    fn number(&mut self, kind: Type, bits: u64) {
        let text = match kind {
            Type::Bool => (bits != 0).to_string(),
            Type::Int64 => format!("\"{}\"", bits.cast_signed()),
            Type::Fixed64 => format!("\"{bits}\""),
            Type::Enum(_) => (bits as i32).to_string(),
            Type::Double => match f64::from_bits(bits) {
                value if value.is_nan() => "\"NaN\"".to_owned(),
                f64::INFINITY => "\"Infinity\"".to_owned(),
                f64::NEG_INFINITY => "\"-Infinity\"".to_owned(),
                // The shortest text that reads back as the same number, with an exponent where it is long.
                value => format!("{value:?}"),
            },
            _ => (bits as u32).to_string(),
        };
        self.out.extend_from_slice(text.as_bytes());
    }
}

/// The content of a field with the given wire type.
fn content(buf: &[u8], wire_type: u8, at: Slice) -> Wire<Content<'_>> {
    let bytes = &buf[at.range()];
    Ok(match wire_type {
        wire::VARINT => Content::Number(wire::varint(buf, at.start as usize)?.0),
        wire::LEN => Content::Bytes(bytes),
        _ => Content::Number(bytes.iter().rev().fold(0, |all, &byte| all << 8 | u64::from(byte))),
    })
}
