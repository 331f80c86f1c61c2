//! The same message, written differently: protobuf leaves the order of fields, the length of varints, and
//! unknown fields to the writer.

use prost::encoding::{self, WireType};
use prost_reflect::{Kind, MessageDescriptor};

use super::Dice;

/// What [`rewrite`] may do to a message.
#[derive(Clone, Copy, Debug, Default)]
pub struct Freedom {
    /// Fields in another order; those with the same number keep theirs.
    pub order: bool,
    /// Unknown fields between the others.
    pub unknown: bool,
    /// Lengths with more bytes than they need.
    pub long_lengths: bool,
}

/// One field: number, its bytes without tag, and whether these are length-delimited (then without length).
struct Field {
    number: u32,
    wire: WireType,
    content: Vec<u8>,
}

/// Writes a valid message differently; returns it and how many unknown fields it got.
///
/// # Panics
/// When the message is not valid.
pub fn rewrite(
    data: &[u8],
    message: &MessageDescriptor,
    freedom: Freedom,
    dice: &mut Dice,
) -> (Vec<u8>, u32) {
    let mut fields = read(data);
    let mut unknown = 0;
    if freedom.order {
        // A random order of numbers, and within a number the order of the wire.
        let salt = dice.roll();
        fields.sort_by_key(|field| Dice::about(salt, &[&field.number.to_le_bytes()]).roll());
    }
    let mut out = Vec::new();
    let mut add_unknown = |out: &mut Vec<u8>, dice: &mut Dice| {
        if freedom.unknown && dice.below(8) == 0 {
            unknown += 1;
            match dice.below(4) {
                0 => encoding::uint64::encode(99, &dice.roll(), out),
                1 => encoding::fixed32::encode(1000, &7, out),
                2 => encoding::fixed64::encode(18, &7, out),
                _ => encoding::string::encode(77, &"hidden from scrubbing".to_owned(), out),
            }
        }
    };
    let mut inner_unknown = 0;
    for mut field in fields {
        add_unknown(&mut out, dice);
        let descriptor = message.get_field(field.number);
        if let Some(Kind::Message(inner)) = descriptor.map(|field| field.kind()) {
            let (content, more) = rewrite(&field.content, &inner, freedom, dice);
            field.content = content;
            inner_unknown += more;
        }
        encoding::encode_key(field.number, field.wire, &mut out);
        if field.wire == WireType::LengthDelimited {
            encoding::encode_varint(field.content.len() as u64, &mut out);
            if freedom.long_lengths && dice.below(4) == 0 {
                *out.last_mut().expect("a length was written") |= 0x80;
                out.push(0);
            }
        }
        out.extend_from_slice(&field.content);
    }
    add_unknown(&mut out, dice);
    (out, unknown + inner_unknown)
}

fn read(mut data: &[u8]) -> Vec<Field> {
    let mut fields = Vec::new();
    while !data.is_empty() {
        let (number, wire) = encoding::decode_key(&mut data).expect("a valid tag");
        let len = match wire {
            WireType::LengthDelimited => encoding::decode_varint(&mut data).expect("a valid length") as usize,
            WireType::SixtyFourBit => 8,
            WireType::ThirtyTwoBit => 4,
            _ => 1 + data.iter().position(|byte| *byte < 0x80).expect("a valid varint"),
        };
        let (content, rest) = data.split_at(len);
        fields.push(Field { number, wire, content: content.to_vec() });
        data = rest;
    }
    fields
}
