//! A message as it came, looked at without reading it into a node.
//!
//! The walker has refused what has a field twice that may occur once, so that the first is the only one.

#![forbid(unsafe_code)]

use std::borrow::Cow;

use super::access::{map, number_of, scalar};
use crate::{
    otlp::walk::Kind,
    scrub::{
        list::attributes_number,
        ottl::{
            program::Field,
            value::{Key, Value},
        },
        value,
    },
};

/// A message's bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Raw<'a> {
    pub(super) kind: Kind,
    pub(super) body: &'a [u8],
}

impl<'a> Raw<'a> {
    /// Number, wire type and content of each field.
    pub(super) fn fields(self) -> impl Iterator<Item = (u32, u8, &'a [u8])> {
        let mut rest = self.body;
        std::iter::from_fn(move || next_field(&mut rest))
            .map(|(tag, content)| ((tag >> 3) as u32, (tag & 7) as u8, content))
    }

    /// The content of a field.
    pub(super) fn field(self, number: u32) -> Option<&'a [u8]> {
        self.fields().find(|(known, _, _)| *known == number).map(|(_, _, content)| content)
    }

    /// Its attributes: `KeyValue` messages.
    pub(super) fn attributes(self) -> impl Iterator<Item = &'a [u8]> {
        let wanted = attributes_number(self.kind);
        self.fields().filter(move |(number, _, _)| *number == wanted).map(|(_, _, content)| content)
    }

    /// What a path names in it, attributes too; of a key that occurs twice the first.
    pub(super) fn value(self, field: Field, keys: &[Key]) -> Value<'a> {
        match (field, keys) {
            (Field::Attributes, [Key::Name(name)]) => {
                let mut named = self.attributes().filter(|one| has_key(one, name.as_bytes()));
                named.next().map_or(Value::Nil, |one| {
                    let (_, kind, content) = value::attribute(one);
                    Value::of(kind, Cow::Borrowed(content))
                })
            }
            (Field::Attributes, _) => map(self.attributes().map(value::attribute)),
            (field, keys) => self.scalar(field, keys),
        }
    }

    /// What a path names in it, but for attributes.
    pub(super) fn scalar(self, field: Field, keys: &[Key]) -> Value<'a> {
        scalar(field, self.field(number_of(field)), keys)
    }
}

/// [`value::next_field`], with the usual form first: a tag of one byte, and a length of one.
#[inline]
fn next_field<'a>(rest: &mut &'a [u8]) -> Option<(u64, &'a [u8])> {
    if let [tag @ 0..0x80, length @ 0..0x80, after @ ..] = *rest
        && *tag & 7 == 2
        && let Some((content, after)) = after.split_at_checked(usize::from(*length))
    {
        *rest = after;
        return Some((u64::from(*tag), content));
    }
    value::next_field(rest)
}

/// Whether a `KeyValue` has this key.
pub(super) fn has_key(attribute: &[u8], name: &[u8]) -> bool {
    match attribute {
        // As everybody writes it: the key first, shorter than 128 bytes.
        [0x0a, length @ 0..0x80, rest @ ..] => usize::from(*length) == name.len() && rest.starts_with(name),
        _ => value::key_value(attribute).0 == name,
    }
}
