//! Values of OTTL, as bytes of `AnyValue`s where they have that form: nothing is copied that is only looked at.

#![forbid(unsafe_code)]

use std::{borrow::Cow, cmp::Ordering, fmt::Write as _};

use crate::{
    otlp::{encode, walk::ValueKind},
    scrub::value as any,
};

use super::grammar::CompareOp;

/// A value.
#[derive(Clone, Debug)]
pub(in crate::scrub) enum Value<'v> {
    /// `nil`
    Nil,
    /// A boolean.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A double.
    Double(f64),
    /// Text, always UTF-8.
    Text(Cow<'v, [u8]>),
    /// Bytes.
    Bytes(Cow<'v, [u8]>),
    /// A list: the content of an `ArrayValue`.
    List(Cow<'v, [u8]>),
    /// A map: the content of a `KeyValueList`.
    Map(Cow<'v, [u8]>),
    /// A point in time: nanoseconds since 1970.
    Time(i64),
    /// Nanoseconds.
    Duration(i64),
}

/// A function or a target was given what it can't take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::scrub) struct Unfit;

/// What can be made of a value, or not.
pub(in crate::scrub) type Fit<T> = Result<T, Unfit>;

/// One member of a map.
#[derive(Clone, Debug)]
pub(in crate::scrub) struct Member<'v> {
    pub(in crate::scrub) key: Cow<'v, [u8]>,
    pub(in crate::scrub) kind: ValueKind,
    pub(in crate::scrub) content: Cow<'v, [u8]>,
}

/// A place inside a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::scrub) enum Key {
    /// `["name"]`
    Name(Box<str>),
    /// `[0]`
    Index(usize),
}

impl<'v> Value<'v> {
    /// The value that an `AnyValue` of this kind and content holds.
    pub(in crate::scrub) fn of(kind: ValueKind, content: Cow<'v, [u8]>) -> Self {
        let varint = || any::varint(&content).map_or(0, |(number, _)| number);
        match kind {
            ValueKind::Empty => Self::Nil,
            ValueKind::String => Self::Text(content),
            ValueKind::Bytes => Self::Bytes(content),
            ValueKind::Array => Self::List(content),
            ValueKind::KvList => Self::Map(content),
            ValueKind::Bool => Self::Bool(varint() != 0),
            ValueKind::Int => Self::Int(varint().cast_signed()),
            ValueKind::Double => {
                Self::Double(f64::from_le_bytes(content.first_chunk().copied().unwrap_or_default()))
            }
        }
    }

    /// How many bytes it has: none for `nil`, 8 for a number.
    pub(in crate::scrub) fn len(&self) -> usize {
        match self {
            Self::Text(content) | Self::Bytes(content) | Self::List(content) | Self::Map(content) => {
                content.len()
            }
            Self::Nil => 0,
            _ => 8,
        }
    }

    /// Text.
    pub(in crate::scrub) fn text(text: impl Into<String>) -> Self {
        Self::Text(Cow::Owned(text.into().into_bytes()))
    }

    /// Kind and content of an `AnyValue`. Times and durations have none: format them, or take their nanoseconds.
    pub(in crate::scrub) fn parts(&self) -> Fit<(ValueKind, Cow<'_, [u8]>)> {
        let varint = |number: u64| {
            let mut content = Vec::new();
            encode::varint(&mut content, number);
            Cow::Owned(content)
        };
        Ok(match self {
            Self::Nil => (ValueKind::Empty, Cow::Borrowed(&[])),
            Self::Bool(flag) => (ValueKind::Bool, varint(u64::from(*flag))),
            Self::Int(number) => (ValueKind::Int, varint(number.cast_unsigned())),
            Self::Double(number) => (ValueKind::Double, Cow::Owned(number.to_le_bytes().to_vec())),
            Self::Text(text) => (ValueKind::String, Cow::Borrowed(text)),
            Self::Bytes(bytes) => (ValueKind::Bytes, Cow::Borrowed(bytes)),
            Self::List(content) => (ValueKind::Array, Cow::Borrowed(content)),
            Self::Map(content) => (ValueKind::KvList, Cow::Borrowed(content)),
            Self::Time(_) | Self::Duration(_) => return Err(Unfit),
        })
    }

    /// The same, borrowed from nothing.
    pub(in crate::scrub) fn into_owned(self) -> Value<'static> {
        let own = |bytes: Cow<'_, [u8]>| Cow::Owned(bytes.into_owned());
        match self {
            Self::Nil => Value::Nil,
            Self::Bool(flag) => Value::Bool(flag),
            Self::Int(number) => Value::Int(number),
            Self::Double(number) => Value::Double(number),
            Self::Text(text) => Value::Text(own(text)),
            Self::Bytes(bytes) => Value::Bytes(own(bytes)),
            Self::List(content) => Value::List(own(content)),
            Self::Map(content) => Value::Map(own(content)),
            Self::Time(nanos) => Value::Time(nanos),
            Self::Duration(nanos) => Value::Duration(nanos),
        }
    }

    /// A list of these.
    pub(in crate::scrub) fn list<'a>(values: impl IntoIterator<Item = Value<'a>>) -> Fit<Self> {
        let mut content = Vec::new();
        for value in values {
            let (kind, inner) = value.parts()?;
            any::put_element(&mut content, kind, &inner);
        }
        Ok(Self::List(Cow::Owned(content)))
    }

    /// A map of these.
    pub(in crate::scrub) fn map<'a>(members: impl IntoIterator<Item = (&'a [u8], Value<'a>)>) -> Fit<Self> {
        let mut content = Vec::new();
        for (key, value) in members {
            let (kind, inner) = value.parts()?;
            any::put_attribute(&mut content, 1, key, kind, &inner);
        }
        Ok(Self::Map(Cow::Owned(content)))
    }

    /// A map of members.
    pub(in crate::scrub) fn of_members(members: &[Member<'_>]) -> Self {
        let mut content = Vec::new();
        for member in members {
            any::put_attribute(&mut content, 1, &member.key, member.kind, &member.content);
        }
        Self::Map(Cow::Owned(content))
    }

    /// What is inside, by these keys in turn: `nil` where there is nothing. Of a repeated key the first.
    pub(in crate::scrub) fn dig(self, keys: &[Key]) -> Self {
        if keys.is_empty() { self } else { self.inner(keys).into_owned() }
    }

    fn inner(&self, keys: &[Key]) -> Value<'_> {
        let Some((first, rest)) = keys.split_first() else { return self.clone() };
        let found = match (self, first) {
            (Self::Map(content), Key::Name(name)) => {
                let named = members(content).find(|member| *member.key == *name.as_bytes());
                named.map(|member| Value::of(member.kind, member.content))
            }
            (Self::List(content), Key::Index(index)) => {
                elements(content).nth(*index).map(|(kind, content)| Value::of(kind, Cow::Borrowed(content)))
            }
            _ => None,
        };
        found.map_or(Value::Nil, |found| found.dig(rest))
    }

    /// This value with another one at a place inside; without one, the place is removed. Maps on the way that are
    /// missing are made; `Unfit` where something else stands in the way.
    pub(in crate::scrub) fn with(&self, keys: &[Key], new: Option<&Value<'_>>) -> Fit<Value<'static>> {
        let Some((first, rest)) = keys.split_first() else {
            return Ok(new.map_or(Value::Nil, |new| new.clone().into_owned()));
        };
        match (self, first) {
            (Self::Map(content), Key::Name(name)) => Self::with_member(content, name.as_bytes(), rest, new),
            (Self::Nil, Key::Name(_)) if new.is_none() => Ok(Value::Nil),
            (Self::Nil, Key::Name(name)) => Self::with_member(&[], name.as_bytes(), rest, new),
            (Self::List(content), Key::Index(index)) => {
                let mut out = Vec::new();
                let mut found = false;
                for (number, (kind, content)) in elements(content).enumerate() {
                    let element = Value::of(kind, Cow::Borrowed(content));
                    if number != *index {
                        put(&mut out, &element)?;
                        continue;
                    }
                    found = true;
                    if new.is_some() || !rest.is_empty() {
                        put(&mut out, &element.with(rest, new)?)?;
                    }
                }
                if found || new.is_none() { Ok(Value::List(Cow::Owned(out))) } else { Err(Unfit) }
            }
            _ if new.is_none() => Ok(self.clone().into_owned()),
            _ => Err(Unfit),
        }
    }

    /// Every member of that name is changed: a second one must not keep what the first has lost.
    fn with_member(
        content: &[u8],
        name: &[u8],
        rest: &[Key],
        new: Option<&Value<'_>>,
    ) -> Fit<Value<'static>> {
        let mut out = Vec::new();
        let mut found = false;
        for member in members(content) {
            if *member.key != *name {
                any::put_attribute(&mut out, 1, &member.key, member.kind, &member.content);
                continue;
            }
            found = true;
            if new.is_some() || !rest.is_empty() {
                let changed = Value::of(member.kind, member.content).with(rest, new)?;
                let (kind, content) = changed.parts()?;
                any::put_attribute(&mut out, 1, name, kind, &content);
            }
        }
        if !found && new.is_some() {
            let made = Value::Nil.with(rest, new)?;
            let (kind, content) = made.parts()?;
            any::put_attribute(&mut out, 1, name, kind, &content);
        }
        Ok(Value::Map(Cow::Owned(out)))
    }

    /// The text, where it is one.
    pub(in crate::scrub) fn as_text(&self) -> Fit<&[u8]> {
        match self {
            Self::Text(text) => Ok(text),
            _ => Err(Unfit),
        }
    }

    /// As [`Self::as_text`], as `str`.
    pub(in crate::scrub) fn as_str(&self) -> Fit<&str> {
        std::str::from_utf8(self.as_text()?).map_err(|_| Unfit)
    }

    /// What the Collector's `AsString` gives: numbers in decimal, bytes in hex, lists and maps as JSON; nothing for
    /// `nil`.
    pub(in crate::scrub) fn to_text(&self) -> Fit<Option<Cow<'_, [u8]>>> {
        Ok(Some(match self {
            Self::Nil => return Ok(None),
            Self::Text(text) => Cow::Borrowed(text),
            Self::Bool(flag) => Cow::Owned(flag.to_string().into_bytes()),
            Self::Int(number) => Cow::Owned(number.to_string().into_bytes()),
            Self::Double(number) => Cow::Owned(number.to_string().into_bytes()),
            Self::Bytes(bytes) => Cow::Owned(hex(bytes).into_bytes()),
            Self::List(_) | Self::Map(_) => Cow::Owned(self.to_json().to_string().into_bytes()),
            Self::Time(_) | Self::Duration(_) => return Err(Unfit),
        }))
    }

    /// As JSON; of a repeated key the last.
    pub(in crate::scrub) fn to_json(&self) -> serde_json::Value {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match self {
            Self::Nil => serde_json::Value::Null,
            Self::Bool(flag) => (*flag).into(),
            Self::Int(number) | Self::Time(number) | Self::Duration(number) => (*number).into(),
            Self::Double(number) => (*number).into(),
            Self::Text(bytes) => text(bytes).into(),
            Self::Bytes(bytes) => hex(bytes).into(),
            Self::List(content) => elements(content)
                .map(|(kind, content)| Value::of(kind, Cow::Borrowed(content)).to_json())
                .collect::<Vec<_>>()
                .into(),
            Self::Map(content) => serde_json::Value::Object(
                members(content)
                    .map(|member| (text(&member.key), Value::of(member.kind, member.content).to_json()))
                    .collect(),
            ),
        }
    }

    /// From JSON. What is not a number of 64 bits is a double.
    pub(in crate::scrub) fn from_json(json: &serde_json::Value) -> Value<'static> {
        match json {
            serde_json::Value::Null => Value::Nil,
            serde_json::Value::Bool(flag) => Value::Bool(*flag),
            serde_json::Value::Number(number) => match number.as_i64() {
                Some(number) => Value::Int(number),
                None => Value::Double(number.as_f64().unwrap_or_default()),
            },
            serde_json::Value::String(text) => Value::text(text.as_str()),
            serde_json::Value::Array(list) => {
                Value::list(list.iter().map(Value::from_json)).unwrap_or(Value::Nil)
            }
            serde_json::Value::Object(map) => {
                Value::map(map.iter().map(|(key, value)| (key.as_bytes(), Value::from_json(value))))
                    .unwrap_or(Value::Nil)
            }
        }
    }

    /// Compares as OTTL does: numbers by value, values of other different types are only unequal.
    pub(in crate::scrub) fn compare(&self, op: CompareOp, other: &Self) -> bool {
        let order = match (self, other) {
            (Self::Nil, Self::Nil) => Some(Ordering::Equal),
            (Self::Bool(a), Self::Bool(b)) => Some(a.cmp(b)),
            (Self::Int(a), Self::Int(b))
            | (Self::Time(a), Self::Time(b))
            | (Self::Duration(a), Self::Duration(b)) => Some(a.cmp(b)),
            (Self::Int(a), Self::Double(b)) => (*a as f64).partial_cmp(b),
            (Self::Double(a), Self::Int(b)) => a.partial_cmp(&(*b as f64)),
            (Self::Double(a), Self::Double(b)) => a.partial_cmp(b),
            (Self::Text(a), Self::Text(b)) | (Self::Bytes(a), Self::Bytes(b)) => Some(a.cmp(b)),
            (Self::List(_), Self::List(_)) | (Self::Map(_), Self::Map(_)) => {
                let equal = self.to_json() == other.to_json();
                return match op {
                    CompareOp::Equal => equal,
                    CompareOp::NotEqual => !equal,
                    _ => false,
                };
            }
            _ => None,
        };
        match op {
            CompareOp::Equal => order == Some(Ordering::Equal),
            CompareOp::NotEqual => order != Some(Ordering::Equal),
            CompareOp::Less => order == Some(Ordering::Less),
            CompareOp::LessOrEqual => matches!(order, Some(Ordering::Less | Ordering::Equal)),
            CompareOp::Greater => order == Some(Ordering::Greater),
            CompareOp::GreaterOrEqual => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        }
    }
}

fn put(out: &mut Vec<u8>, value: &Value<'_>) -> Fit<()> {
    let (kind, content) = value.parts()?;
    any::put_element(out, kind, &content);
    Ok(())
}

/// The members of a map's content, in their order, repeated keys included.
pub(in crate::scrub) fn members(content: &[u8]) -> impl Iterator<Item = Member<'_>> {
    any::members(content).map(|(key, kind, content)| Member {
        key: Cow::Borrowed(key),
        kind,
        content: Cow::Borrowed(content),
    })
}

/// The elements of a list's content.
pub(in crate::scrub) fn elements(content: &[u8]) -> impl Iterator<Item = (ValueKind, &[u8])> {
    any::elements(content)
}

/// Lower-case hex.
pub(in crate::scrub) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a string never fails.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
