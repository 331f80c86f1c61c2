//! JSON to protobuf: a serde visitor that follows the table and writes each field as it is read.

use std::fmt;

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;

use super::schema::{Field, Message, REQUEST, Type};
use super::{BadJson, Transcoded, WhatJson};
use crate::otlp::{encode, walk::Limits};

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
static STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
static URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

pub(super) fn request(json: &[u8], limits: &Limits) -> Result<Transcoded, BadJson> {
    if json.len() > limits.bytes as usize {
        return Err(BadJson { line: 1, column: 0, what: WhatJson::Bytes });
    }
    let mut state =
        State { out: Vec::with_capacity(json.len() / 2), unknown: 0, depth: limits.depth, problem: None };
    let mut reader = serde_json::Deserializer::from_slice(json);
    let body = Body { state: &mut state, message: &REQUEST, depth: 1 };
    let read = body.deserialize(&mut reader).and_then(|()| reader.end());
    match read {
        Ok(()) => Ok(Transcoded { data: state.out, unknown_fields: state.unknown }),
        Err(error) => Err(BadJson {
            line: error.line() as u32,
            column: error.column() as u32,
            // serde_json's own text may quote the request; what is told is ours.
            what: match (state.problem, error.classify()) {
                (_, Category::Syntax | Category::Eof | Category::Io) => WhatJson::Syntax,
                (problem, Category::Data) => problem.unwrap_or(WhatJson::Type),
            },
        }),
    }
}

struct State {
    out: Vec<u8>,
    unknown: u32,
    /// How deep messages may nest.
    depth: u32,
    /// What made a visitor give up.
    problem: Option<WhatJson>,
}

impl State {
    #[cold]
    fn fail<E: Error>(&mut self, what: WhatJson) -> E {
        self.problem = Some(what);
        E::custom("")
    }
}

/// A JSON object that is a message; what is written is its body.
struct Body<'a> {
    state: &'a mut State,
    message: &'static Message,
    /// How many messages are open, this one included.
    depth: u32,
}

impl<'de> DeserializeSeed<'de> for Body<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Body<'_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { state, message, depth } = self;
        if depth > state.depth {
            return Err(state.fail(WhatJson::Depth));
        }
        let (mut seen, mut set) = (0u32, 0);
        while let Some(field) = map.next_key_seed(Key(message))? {
            let Some(field) = field else {
                state.unknown += 1;
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if seen & 1 << field.number != 0 {
                return Err(state.fail(WhatJson::Duplicate));
            }
            seen |= 1 << field.number;
            let value = Value { state, field, depth, place: Place::Field { oneof: message.oneof } };
            set += u32::from(map.next_value_seed(value)?);
            if message.oneof && set > 1 {
                return Err(state.fail(WhatJson::Duplicate));
            }
        }
        Ok(())
    }
}

/// An object's key: the field of that name, if the message has one.
struct Key(&'static Message);

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Option<&'static Field>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_str(self)
    }
}

impl Visitor<'_> for Key {
    type Value = Option<&'static Field>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.fields.iter().find(|field| field.name == key || field.proto_name == key))
    }
}

/// Where a value stands.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    /// The value of a key.
    Field {
        /// In a message that is a oneof, where defaults count.
        oneof: bool,
    },
    /// In the list of a repeated field.
    List,
}

/// A field's value. The result is whether the field is set: `null` is not.
struct Value<'a> {
    state: &'a mut State,
    field: &'static Field,
    /// How many messages are open around it.
    depth: u32,
    place: Place,
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<bool, D::Error> {
        reader.deserialize_any(self)
    }
}

impl Value<'_> {
    /// A list is due, or it is not.
    fn check_place<E: Error>(&mut self, list: bool) -> Result<(), E> {
        let due = self.field.repeated && self.place != Place::List;
        if due == list { Ok(()) } else { Err(self.state.fail(WhatJson::Type)) }
    }

    /// Whether a value is written that is its type's default.
    fn writes_default(&self) -> bool {
        self.place != Place::Field { oneof: false }
    }

    fn tag(&mut self) {
        encode::tag(&mut self.state.out, self.field.number, self.field.kind.wire());
    }

    fn bytes(mut self, bytes: &[u8]) -> bool {
        if !bytes.is_empty() || self.writes_default() {
            self.tag();
            encode::varint(&mut self.state.out, bytes.len() as u64);
            self.state.out.extend_from_slice(bytes);
        }
        true
    }

    /// Writes a number, given as the bits that go on the wire.
    fn number(mut self, bits: u64) -> bool {
        if bits != 0 || self.writes_default() {
            self.tag();
            let out = &mut self.state.out;
            match self.field.kind.wire() {
                0 => encode::varint(out, bits),
                1 => out.extend_from_slice(&bits.to_le_bytes()),
                _ => out.extend_from_slice(&(bits as u32).to_le_bytes()),
            }
        }
        true
    }

    /// An integer of any sign.
    fn integer<E: Error>(mut self, value: i128) -> Result<bool, E> {
        self.check_place(false)?;
        let bits = match self.field.kind {
            Type::Uint32 | Type::Fixed32 => u32::try_from(value).ok().map(u64::from),
            Type::Fixed64 => u64::try_from(value).ok(),
            Type::Int64 => i64::try_from(value).ok().map(i64::cast_unsigned),
            // A negative enum is ten bytes on the wire, like any negative int32.
            Type::Enum(_) => i32::try_from(value).ok().map(|value| i64::from(value).cast_unsigned()),
            Type::Double => Some((value as f64).to_bits()),
            _ => return Err(self.state.fail(WhatJson::Type)),
        };
        match bits {
            Some(bits) => Ok(self.number(bits)),
            None => Err(self.state.fail(WhatJson::Number)),
        }
    }

    fn float<E: Error>(mut self, value: f64) -> Result<bool, E> {
        // Beyond 2^53 a float does not name one integer.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        match self.field.kind {
            Type::Double => {
                self.check_place(false)?;
                Ok(self.number(value.to_bits()))
            }
            _ if value.fract() == 0.0 && value.abs() <= EXACT => self.integer(value as i128),
            _ => Err(self.state.fail(WhatJson::Number)),
        }
    }

    /// A number that is written as a string.
    fn quoted<E: Error>(self, text: &str) -> Result<bool, E> {
        match self.field.kind {
            Type::Double => match text {
                "NaN" => self.float(f64::NAN),
                "Infinity" => self.float(f64::INFINITY),
                "-Infinity" => self.float(f64::NEG_INFINITY),
                _ => match text.parse::<f64>() {
                    // Rust's own names of the special values are not protobuf's.
                    Ok(value) if value.is_finite() => self.float(value),
                    _ => Err(self.state.fail(WhatJson::Number)),
                },
            },
            _ => match text.parse() {
                Ok(value) => self.integer(value),
                Err(_) => Err(self.state.fail(WhatJson::Number)),
            },
        }
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = bool;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a value of the field's type")
    }

    fn visit_unit<E: Error>(self) -> Result<bool, E> {
        if self.place == Place::List { Err(self.state.fail(WhatJson::Type)) } else { Ok(false) }
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<bool, A::Error> {
        self.check_place(true)?;
        let Self { state, field, depth, .. } = self;
        while list.next_element_seed(Value { state, field, depth, place: Place::List })?.is_some() {}
        Ok(true)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, map: A) -> Result<bool, A::Error> {
        self.check_place(false)?;
        let Self { state, field, depth, .. } = self;
        let Type::Message(message) = field.kind else { return Err(state.fail(WhatJson::Type)) };
        let content = encode::open(&mut state.out, field.number);
        Body { state, message, depth: depth + 1 }.visit_map(map)?;
        encode::close(&mut state.out, content);
        Ok(true)
    }

    fn visit_bool<E: Error>(mut self, value: bool) -> Result<bool, E> {
        self.check_place(false)?;
        match self.field.kind {
            Type::Bool => Ok(self.number(value.into())),
            _ => Err(self.state.fail(WhatJson::Type)),
        }
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<bool, E> {
        self.integer(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<bool, E> {
        self.integer(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<bool, E> {
        self.float(value)
    }

    fn visit_str<E: Error>(mut self, text: &str) -> Result<bool, E> {
        self.check_place(false)?;
        match self.field.kind {
            Type::Text => Ok(self.bytes(text.as_bytes())),
            Type::Id(len) => {
                let mut id = [0; 16];
                match hex(text.as_bytes(), &mut id[..len]) {
                    Some(id) => Ok(self.bytes(id)),
                    None => Err(self.state.fail(WhatJson::Id)),
                }
            }
            Type::Base64 => {
                let engine = if text.contains(['-', '_']) { &URL_SAFE } else { &STANDARD };
                match engine.decode(text) {
                    Ok(bytes) => Ok(self.bytes(&bytes)),
                    Err(_) => Err(self.state.fail(WhatJson::Base64)),
                }
            }
            Type::Enum(names) => match names.iter().position(|name| *name == text) {
                Some(number) => self.integer(number as i128),
                None => Err(self.state.fail(WhatJson::Enum)),
            },
            Type::Bool | Type::Message(_) => Err(self.state.fail(WhatJson::Type)),
            Type::Uint32 | Type::Fixed32 | Type::Fixed64 | Type::Int64 | Type::Double => self.quoted(text),
        }
    }
}

/// Reads hex digits that fill `out` exactly; no digits at all are an id that is not set.
fn hex<'a>(digits: &[u8], out: &'a mut [u8]) -> Option<&'a [u8]> {
    if digits.is_empty() {
        return Some(&[]);
    }
    if digits.len() != out.len() * 2 {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
    }
    Some(out)
}
