//! Reading and writing what paths name.

#![forbid(unsafe_code)]

use std::{borrow::Cow, ops::Range};

use super::{
    Attribute, Cursor, LEN, Node, NodeId, Opened, Plain, Request, number_in_span,
    raw::{self, Raw},
};
use crate::{
    otlp::{
        encode,
        walk::{Kind, ValueKind},
    },
    scrub::{
        ottl::{
            eval::{Pick, World},
            program::{Context, Field, Number},
            value::{Fit, Key, Unfit, Value, elements, hex, members},
        },
        value,
    },
};

/// The number of a span's status.
pub(super) const STATUS: u32 = 15;
/// Wire types of numbers.
const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const FIXED32: u8 = 5;

/// Deepest value that is written: arrays and maps inside each other. A map is three messages on the wire, the
/// walker takes 64, and the messages around an attribute need some too.
const MAX_DEPTH: usize = 18;

/// Names of `kind`, by number.
pub(in crate::scrub) const KINDS: [(&str, &str); 6] = [
    ("Unspecified", "SPAN_KIND_UNSPECIFIED"),
    ("Internal", "SPAN_KIND_INTERNAL"),
    ("Server", "SPAN_KIND_SERVER"),
    ("Client", "SPAN_KIND_CLIENT"),
    ("Producer", "SPAN_KIND_PRODUCER"),
    ("Consumer", "SPAN_KIND_CONSUMER"),
];

/// A request as statements see it from one message.
pub(in crate::scrub) struct Seen<'r, 'a> {
    pub(in crate::scrub) request: &'r Request<'a>,
    pub(in crate::scrub) cursor: Cursor,
    /// The group's cache for this message: a map.
    pub(in crate::scrub) cache: &'r Value<'static>,
}

/// What it costs to look at an attribute or a field for its name, in bytes.
const NAME: usize = 4;

impl World for Seen<'_, '_> {
    fn read(&self, owner: Context, field: Field, keys: &[Key], pick: Pick) -> Value<'_> {
        let value = self.value(owner, field, keys, pick);
        self.request.look(value.len());
        value
    }

    fn occurrences(&self, owner: Context, name: &str) -> usize {
        self.request.places(self.cursor, owner, name).count()
    }

    fn is_root(&self) -> bool {
        let Some(span) = self.cursor.span else { return false };
        self.request.nodes[span].field(4).is_none_or(|parent| parent.iter().all(|byte| *byte == 0))
    }
}

impl Seen<'_, '_> {
    fn value(&self, owner: Context, field: Field, keys: &[Key], pick: Pick) -> Value<'_> {
        if field == Field::Cache {
            return borrowed(self.cache).dig(keys);
        }
        if field == Field::EventIndex {
            return Value::Int(self.cursor.item.map_or(0, |(_, number)| number.cast_signed() as i64));
        }
        let node = match field {
            Field::StatusCode | Field::StatusMessage => {
                return self.cursor.span.map_or(Value::Nil, |span| {
                    self.request.look_over(span);
                    self.request.status(span, field)
                });
            }
            Field::SchemaUrl => Request::holder(self.cursor, owner),
            _ => self.request.message(self.cursor, owner),
        };
        let Some(id) = node else {
            return if field == Field::Attributes { Value::Nil } else { scalar(field, None, keys) };
        };
        self.request.look_over(id);
        match field {
            Field::Attributes => self.request.nodes[id].attribute_value(keys, pick),
            Field::Events => self.request.items(id, Kind::Event).dig(keys),
            Field::Links => self.request.items(id, Kind::Link).dig(keys),
            field => self.request.nodes[id].scalar(field, keys),
        }
    }
}

/// The same value, looked at.
fn borrowed<'v>(value: &'v Value<'static>) -> Value<'v> {
    match value {
        Value::Map(content) => Value::Map(Cow::Borrowed(content)),
        other => other.clone(),
    }
}

impl Request<'_> {
    /// The message of a context; none where the wire has none.
    pub(in crate::scrub) fn message(&self, cursor: Cursor, owner: Context) -> Option<NodeId> {
        match owner {
            Context::Resource => self.nodes[cursor.resource].part(),
            Context::Scope => self.nodes[cursor.scope?].part(),
            Context::Span => cursor.span,
            Context::SpanEvent | Context::SpanLink => cursor.item.map(|(item, _)| item),
        }
    }

    /// What a resource or a scope stands in.
    pub(super) fn holder(cursor: Cursor, owner: Context) -> Option<NodeId> {
        match owner {
            Context::Resource => Some(cursor.resource),
            _ => cursor.scope,
        }
    }

    /// Places of the attributes with a key.
    pub(in crate::scrub) fn places(
        &self,
        cursor: Cursor,
        owner: Context,
        name: &str,
    ) -> impl Iterator<Item = usize> {
        let node = self.message(cursor, owner);
        if let Some(id) = node {
            self.look_over(id);
        }
        node.into_iter().flat_map(move |id| self.nodes[id].places(name))
    }

    /// Where a context's message lies in the request as it was read: for a resource or a scope all that is under it.
    pub(in crate::scrub) fn extent(&self, cursor: Cursor, owner: Context) -> Range<u32> {
        let id = match owner {
            Context::Resource | Context::Scope => Self::holder(cursor, owner),
            _ => self.message(cursor, owner),
        };
        let body = self.nodes[id.unwrap_or(cursor.resource)].body;
        let start = self.offset(body);
        start..start + body.len() as u32
    }

    /// The kind of a context's message, and where its body begins in the request; what was made stands where its
    /// parent does.
    pub(in crate::scrub) fn whereabouts(&self, cursor: Cursor, owner: Context) -> (Kind, u32) {
        let mut id = self.message(cursor, owner).unwrap_or(cursor.scope.unwrap_or(cursor.resource));
        let kind = self.nodes[id].kind;
        while self.nodes[id].made {
            id = self.nodes[id].parent;
        }
        (kind, self.offset(self.nodes[id].body))
    }

    fn offset(&self, body: &[u8]) -> u32 {
        (body.as_ptr() as usize - self.buf.as_ptr() as usize) as u32
    }

    /// The keys of a span's attributes.
    pub(in crate::scrub) fn span_keys(&self, cursor: Cursor) -> impl Iterator<Item = &[u8]> {
        if let Some(span) = cursor.span {
            self.look_over(span);
        }
        cursor.span.into_iter().flat_map(|span| self.nodes[span].attributes()).map(|(key, _, _)| key)
    }

    /// The values of the attributes with a key.
    pub(in crate::scrub) fn values(
        &self,
        cursor: Cursor,
        owner: Context,
        name: &str,
    ) -> impl Iterator<Item = Value<'_>> {
        let node = self.message(cursor, owner);
        if let Some(id) = node {
            self.look_over(id);
        }
        let values = node.into_iter().flat_map(move |id| self.nodes[id].values(name));
        values.inspect(|value| self.look(value.len()))
    }

    /// Reads a message into its node: somebody is about to work on it.
    pub(in crate::scrub) fn enter(&mut self, cursor: Cursor, owner: Context) {
        if let Some(id) = self.message(cursor, owner) {
            self.open(id);
        }
    }

    /// Removes attributes; their places are in order.
    pub(in crate::scrub) fn remove(&mut self, cursor: Cursor, owner: Context, places: &[usize]) {
        let Some(id) = self.message(cursor, owner).filter(|_| !places.is_empty()) else { return };
        let mut place = 0;
        self.look_over(id);
        self.open(id).attributes.retain(|_| {
            place += 1;
            places.binary_search(&(place - 1)).is_err()
        });
        self.touch(id);
    }

    /// A field of a span's status.
    fn status(&self, span: NodeId, field: Field) -> Value<'_> {
        let span = &self.nodes[span];
        match &span.opened {
            Some(opened) => {
                opened.part.map_or_else(|| scalar(field, None, &[]), |id| self.nodes[id].scalar(field, &[]))
            }
            None => match span.raw().field(STATUS) {
                Some(body) => Raw { kind: Kind::Status, body }.scalar(field, &[]),
                None => scalar(field, None, &[]),
            },
        }
    }

    /// Events or links as a list of maps.
    fn items(&self, span: NodeId, kind: Kind) -> Value<'static> {
        let span = &self.nodes[span];
        let maps: Vec<Value<'_>> = if let Some(opened) = &span.opened {
            let nodes = opened.children.iter().map(|id| &self.nodes[*id]);
            nodes
                .filter(|node| node.kind == kind && !node.dropped)
                .map(|node| {
                    item(kind, node.attribute_value(&[], Pick::Nth(0)), &|field| node.scalar(field, &[]))
                })
                .collect()
        } else {
            let bodies = span.raw().fields().filter(|(number, _, _)| *number == number_in_span(kind));
            bodies
                .map(|(_, _, body)| {
                    let raw = Raw { kind, body };
                    item(kind, map(raw.attributes().map(value::attribute)), &|field| raw.scalar(field, &[]))
                })
                .collect()
        };
        Value::list(maps).unwrap_or(Value::Nil).into_owned()
    }

    /// The message of a context to write into; made where the wire has none.
    fn message_to_write(&mut self, cursor: Cursor, owner: Context) -> Fit<NodeId> {
        if let Some(id) = self.message(cursor, owner) {
            return Ok(id);
        }
        let (holder, kind) = match owner {
            Context::Resource => (Some(cursor.resource), Kind::Resource),
            Context::Scope => (cursor.scope, Kind::Scope),
            _ => (None, Kind::Span),
        };
        Ok(self.make_part(holder.ok_or(Unfit)?, kind))
    }

    fn make_part(&mut self, holder: NodeId, kind: Kind) -> NodeId {
        if let Some(part) = self.open(holder).part {
            return part;
        }
        let part = self.add(kind, holder, &[]);
        self.nodes[part].made = true;
        self.open(holder).part = Some(part);
        part
    }

    /// Writes what a path names; `None` deletes it. An attribute that is not there is added. Says whether anything
    /// has changed.
    pub(in crate::scrub) fn set(
        &mut self,
        cursor: Cursor,
        owner: Context,
        field: Field,
        keys: &[Key],
        pick: Pick,
        new: Option<&Value<'_>>,
    ) -> Fit<bool> {
        let gone = new.is_none();
        let node = match field {
            Field::SchemaUrl => Self::holder(cursor, owner),
            Field::StatusCode | Field::StatusMessage => {
                let span = cursor.span.ok_or(Unfit)?;
                match self.open(span).part {
                    None if gone => return Ok(false),
                    _ => Some(self.make_part(span, Kind::Status)),
                }
            }
            _ if gone => self.message(cursor, owner),
            _ => Some(self.message_to_write(cursor, owner)?),
        };
        let Some(id) = node else { return Ok(false) };
        self.look(new.map_or(0, Value::len));
        self.look_over(id);
        let kind = self.nodes[id].kind;
        let message = self.open(id);
        let changed = match field {
            Field::Attributes => message.set_attribute(keys, pick, new)?,
            field => message.set_scalar(kind, field, keys, new)?,
        };
        if changed {
            self.touch(id);
        }
        Ok(changed)
    }
}

impl<'a> Node<'a> {
    /// As it came. Nothing else may look at it once it was opened.
    pub(super) fn raw(&self) -> Raw<'a> {
        Raw { kind: self.kind, body: self.body }
    }

    /// What a look at it for a name costs, in bytes. A resource and a scope are looked at from all their spans, so that
    /// their fields are counted; a span is looked at from inside.
    pub(super) fn weight(&self) -> usize {
        match (&self.opened, self.kind) {
            (Some(opened), _) => NAME * (opened.attributes.len() + opened.fields.len()),
            (None, Kind::Resource | Kind::Scope) => {
                if self.fields.get() == 0 {
                    self.fields.set(self.raw().fields().count() as u32);
                }
                NAME * self.fields.get() as usize
            }
            (None, _) => self.body.len() / 8,
        }
    }

    /// What is still only bytes.
    fn unread(&self) -> Raw<'a> {
        Raw { kind: self.kind, body: if self.opened.is_some() { &[] } else { self.body } }
    }

    /// What is in it, if it was opened.
    fn read(&self) -> impl Iterator<Item = &Attribute<'a>> {
        self.opened.iter().flat_map(|opened| &opened.attributes)
    }

    pub(super) fn part(&self) -> Option<NodeId> {
        self.opened.as_ref().and_then(|opened| opened.part)
    }

    /// Whether a span has an event, or a link.
    pub(super) fn may_hold(&self, kind: Kind) -> bool {
        self.opened.is_some() || self.raw().field(number_in_span(kind)).is_some()
    }

    fn field(&self, number: u32) -> Option<&[u8]> {
        match &self.opened {
            Some(opened) => opened.field(number).map(|field| &field.content[..]),
            None => self.raw().field(number),
        }
    }

    /// Key, kind and content of each attribute.
    fn attributes(&self) -> impl Iterator<Item = (&[u8], ValueKind, &[u8])> {
        let read = self.read().map(|one| (&one.key[..], one.kind, &one.content[..]));
        read.chain(self.unread().attributes().map(value::attribute))
    }

    /// Places of the attributes with a key.
    fn places(&self, name: &str) -> impl Iterator<Item = usize> {
        let read = self.read().map(move |one| *one.key == *name.as_bytes());
        let all = read.chain(self.unread().attributes().map(move |one| raw::has_key(one, name.as_bytes())));
        all.enumerate().filter(|(_, named)| *named).map(|(place, _)| place)
    }

    /// The values of the attributes with a key.
    fn values(&self, name: &str) -> impl Iterator<Item = Value<'_>> {
        let read = self.read().filter(move |one| *one.key == *name.as_bytes());
        let read = read.map(|one| Value::of(one.kind, Cow::Borrowed(&one.content[..])));
        let unread = self.unread().attributes().filter(move |one| raw::has_key(one, name.as_bytes()));
        read.chain(unread.map(|one| {
            let (_, kind, content) = value::attribute(one);
            Value::of(kind, Cow::Borrowed(content))
        }))
    }

    fn attribute_value(&self, keys: &[Key], pick: Pick) -> Value<'_> {
        match keys.split_first() {
            None => map(self.attributes()),
            Some((Key::Name(name), rest)) => {
                let value = match pick {
                    Pick::At(place) => {
                        let at = self.attributes().nth(place);
                        at.map(|(_, kind, content)| Value::of(kind, Cow::Borrowed(content)))
                    }
                    Pick::Nth(nth) => self.values(name).take(nth + 1).last(),
                };
                value.map_or(Value::Nil, |value| value.dig(rest))
            }
            Some((Key::Index(_), _)) => Value::Nil,
        }
    }

    fn scalar(&self, field: Field, keys: &[Key]) -> Value<'_> {
        scalar(field, self.field(number_of(field)), keys)
    }
}

impl<'a> Opened<'a> {
    fn field(&self, number: u32) -> Option<&Plain<'a>> {
        self.fields.iter().find(|field| field.number == number)
    }

    fn attribute_place(&self, name: &str, pick: Pick) -> Option<usize> {
        match pick {
            Pick::At(place) => Some(place).filter(|place| *place < self.attributes.len()),
            Pick::Nth(nth) => {
                let named = self.attributes.iter().enumerate().filter(|(_, a)| *a.key == *name.as_bytes());
                named.take(nth + 1).last().map(|(place, _)| place)
            }
        }
    }

    fn set_attribute(&mut self, keys: &[Key], pick: Pick, new: Option<&Value<'_>>) -> Fit<bool> {
        let Some((first, rest)) = keys.split_first() else { return self.set_all(new) };
        let Key::Name(name) = first else { return Err(Unfit) };
        let place = self.attribute_place(name, pick);
        if new.is_none() && rest.is_empty() {
            return Ok(place.is_some_and(|place| {
                self.attributes.remove(place);
                true
            }));
        }
        let old = match place {
            Some(place) => {
                let one = &self.attributes[place];
                Value::of(one.kind, Cow::Borrowed(&one.content))
            }
            None if new.is_none() => return Ok(false),
            None => Value::Nil,
        };
        let value = old.with(rest, new)?;
        if depth(&value) > MAX_DEPTH {
            return Err(Unfit);
        }
        let (kind, content) = value.parts()?;
        let content = content.into_owned();
        if let Some(place) = place {
            let one = &mut self.attributes[place];
            let changed = one.kind != kind || *one.content != *content;
            (one.kind, one.content) = (kind, Cow::Owned(content));
            Ok(changed)
        } else {
            let key = Cow::Owned(name.as_bytes().to_vec());
            self.attributes.push(Attribute { key, kind, content: Cow::Owned(content) });
            Ok(true)
        }
    }

    fn set_all(&mut self, new: Option<&Value<'_>>) -> Fit<bool> {
        let content: &[u8] = match new {
            None | Some(Value::Nil) => &[],
            Some(Value::Map(content)) => content,
            Some(_) => return Err(Unfit),
        };
        if new.is_some_and(|new| depth(new) > MAX_DEPTH + 1) {
            return Err(Unfit);
        }
        let own = |bytes: Cow<'_, [u8]>| Cow::Owned(bytes.into_owned());
        let all = members(content).map(|member| Attribute {
            key: own(member.key),
            kind: member.kind,
            content: own(member.content),
        });
        self.attributes = all.collect();
        Ok(true)
    }

    fn set_scalar(&mut self, kind: Kind, field: Field, keys: &[Key], new: Option<&Value<'_>>) -> Fit<bool> {
        let text = |new: Option<&Value<'_>>| match new {
            None => Ok(Vec::new()),
            Some(new) => new.as_text().map(<[u8]>::to_vec),
        };
        let int = |new: Option<&Value<'_>>| match new {
            None => Ok(0),
            Some(Value::Int(number)) => Ok(*number),
            Some(_) => Err(Unfit),
        };
        let varint = |number: u64| {
            let mut content = Vec::new();
            encode::varint(&mut content, number);
            content
        };
        let (number, wire, content) = match field {
            Field::Text(number) => (number, LEN, text(new)?),
            Field::StatusMessage => (2, LEN, text(new)?),
            Field::SchemaUrl => (3, LEN, text(new)?),
            Field::TraceState => match keys {
                [Key::Name(key)] => {
                    let state = self.field(3).map_or(&[][..], |field| &field.content);
                    (3, LEN, with_member(state, key, new)?)
                }
                _ => (3, LEN, text(new)?),
            },
            Field::Number(number, Number::Varint) => {
                let value = u32::try_from(int(new)?).map_err(|_| Unfit)?;
                (number, VARINT, varint(value.into()))
            }
            Field::Number(number, Number::Fixed32) => {
                let value = u32::try_from(int(new)?).map_err(|_| Unfit)?;
                (number, FIXED32, value.to_le_bytes().to_vec())
            }
            Field::Number(number, Number::Fixed64) => (number, FIXED64, int(new)?.to_le_bytes().to_vec()),
            Field::Time(number) => match new {
                None => (number, FIXED64, vec![0; 8]),
                Some(Value::Time(nanos)) => (number, FIXED64, nanos.to_le_bytes().to_vec()),
                Some(_) => return Err(Unfit),
            },
            Field::StatusCode => {
                let code = u64::try_from(int(new)?).ok().filter(|code| *code <= 2).ok_or(Unfit)?;
                (3, VARINT, varint(code))
            }
            Field::Id(number) | Field::IdText(number) => (number, LEN, new_id(kind, field, number, new)?),
            Field::KindText | Field::KindSymbol => {
                let name = new.ok_or(Unfit)?.as_str()?;
                let number = KINDS.iter().position(|(text, symbol)| {
                    name == if field == Field::KindText { *text } else { *symbol }
                });
                (6, VARINT, varint(number.ok_or(Unfit)? as u64))
            }
            Field::Attributes | Field::Events | Field::Links | Field::EventIndex | Field::Cache => {
                return Err(Unfit);
            }
        };
        Ok(self.put(Plain { number, wire, content: Cow::Owned(content) }))
    }

    fn put(&mut self, new: Plain<'a>) -> bool {
        match self.fields.iter_mut().find(|field| field.number == new.number) {
            Some(field) if *field.content == *new.content => false,
            Some(field) => {
                *field = new;
                true
            }
            None if new.content.iter().all(|byte| *byte == 0) => false,
            None => {
                self.fields.push(new);
                true
            }
        }
    }
}

/// An id in place of another: a trace id and a span's own are never missing and never zero.
fn new_id(kind: Kind, field: Field, number: u32, new: Option<&Value<'_>>) -> Fit<Vec<u8>> {
    let bytes = match (field, new) {
        (_, None) => Vec::new(),
        (Field::Id(_), Some(Value::Bytes(bytes))) => bytes.to_vec(),
        (Field::IdText(_), Some(text)) => unhex(text.as_str()?).ok_or(Unfit)?,
        _ => return Err(Unfit),
    };
    let length = if number == 1 { 16 } else { 8 };
    let needed = kind == Kind::Span && number < 3;
    let zero = bytes.iter().all(|byte| *byte == 0);
    if bytes.len() == length && !(needed && zero) || bytes.is_empty() && !needed {
        Ok(bytes)
    } else {
        Err(Unfit)
    }
}

/// The number of the field that a path names.
pub(super) fn number_of(field: Field) -> u32 {
    match field {
        Field::Text(number)
        | Field::Number(number, _)
        | Field::Time(number)
        | Field::Id(number)
        | Field::IdText(number) => number,
        Field::TraceState | Field::StatusCode | Field::SchemaUrl => 3,
        Field::StatusMessage => 2,
        _ => 6,
    }
}

/// Attributes as one value.
pub(super) fn map<'v>(attributes: impl Iterator<Item = (&'v [u8], ValueKind, &'v [u8])>) -> Value<'static> {
    let mut content = Vec::new();
    for (key, kind, bytes) in attributes {
        value::put_attribute(&mut content, 1, key, kind, bytes);
    }
    Value::Map(Cow::Owned(content))
}

/// An event or a link as a map.
fn item<'v>(kind: Kind, attributes: Value<'v>, scalar: &dyn Fn(Field) -> Value<'v>) -> Value<'static> {
    let members: &[(&str, Field)] = if kind == Kind::Event {
        &[("name", Field::Text(2)), ("time_unix_nano", Field::Number(1, Number::Fixed64))]
    } else {
        &[("trace_id", Field::IdText(1)), ("span_id", Field::IdText(2)), ("trace_state", Field::TraceState)]
    };
    let members = members.iter().map(|(name, field)| (name.as_bytes(), scalar(*field)));
    Value::map(members.chain([(&b"attributes"[..], attributes)])).unwrap_or(Value::Nil)
}

/// The value of a field; without content, what protobuf has for a field that is missing.
pub(super) fn scalar<'v>(field: Field, content: Option<&'v [u8]>, keys: &[Key]) -> Value<'v> {
    let bytes = content.unwrap_or_default();
    let varint = || value::varint(bytes).map_or(0, |(number, _)| number);
    let fixed64 = || bytes.first_chunk().map_or(0, |bytes| i64::from_le_bytes(*bytes));
    match field {
        Field::Text(_) | Field::StatusMessage | Field::SchemaUrl => Value::Text(Cow::Borrowed(bytes)),
        Field::TraceState => match keys {
            [Key::Name(key)] => {
                member(bytes, key).map_or(Value::Nil, |text| Value::Text(Cow::Borrowed(text)))
            }
            _ => Value::Text(Cow::Borrowed(bytes)),
        },
        Field::Number(_, Number::Varint) | Field::StatusCode => Value::Int(varint().cast_signed()),
        Field::Number(_, Number::Fixed32) => {
            Value::Int(bytes.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes)).into())
        }
        Field::Number(_, Number::Fixed64) => Value::Int(fixed64()),
        Field::Time(_) => Value::Time(fixed64()),
        Field::Id(_) => Value::Bytes(Cow::Borrowed(bytes)),
        Field::IdText(_) => Value::text(hex(bytes)),
        Field::KindText | Field::KindSymbol => {
            let names = KINDS.get(varint() as usize).copied().unwrap_or(("", ""));
            Value::Text(Cow::Borrowed(if field == Field::KindText { names.0 } else { names.1 }.as_bytes()))
        }
        Field::Attributes | Field::Events | Field::Links | Field::EventIndex | Field::Cache => Value::Nil,
    }
}

/// A member of a trace state (`key=value,…`, W3C Trace Context).
fn member<'s>(state: &'s [u8], key: &str) -> Option<&'s [u8]> {
    state.split(|byte| *byte == b',').find_map(|member| {
        let member = member.trim_ascii();
        member.strip_prefix(key.as_bytes())?.strip_prefix(b"=")
    })
}

/// The state with a member set, every one of that key; without a value, none of that key.
fn with_member(state: &[u8], key: &str, new: Option<&Value<'_>>) -> Fit<Vec<u8>> {
    let fits = |text: &[u8]| !text.contains(&b',') && !text.contains(&b'=') && !text.is_empty();
    let mut kept: Vec<&[u8]> = Vec::new();
    for one in state.split(|byte| *byte == b',') {
        let named = one.trim_ascii().split(|byte| *byte == b'=').next() == Some(key.as_bytes());
        if !named && !one.trim_ascii().is_empty() {
            kept.push(one);
        }
    }
    let Some(new) = new else { return Ok(kept.join(&b","[..])) };
    let text = new.as_text()?;
    if !fits(key.as_bytes()) || !fits(text) {
        return Err(Unfit);
    }
    // A changed member moves to the front, as the specification has it.
    let mut out = [key.as_bytes(), b"=", text].concat();
    for one in kept {
        out.push(b',');
        out.extend_from_slice(one);
    }
    Ok(out)
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    if !digits.len().is_multiple_of(2) || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).ok()).collect()
}

/// Lists and maps inside each other.
fn depth(value: &Value<'_>) -> usize {
    let inner = |kind, content| depth(&Value::of(kind, content));
    match value {
        Value::List(content) => {
            1 + elements(content)
                .map(|(kind, content)| inner(kind, Cow::Borrowed(content)))
                .max()
                .unwrap_or(0)
        }
        Value::Map(content) => {
            1 + members(content).map(|member| inner(member.kind, member.content)).max().unwrap_or(0)
        }
        _ => 0,
    }
}
