//! One message's attributes and texts while the steps of a plan work on them.

#![forbid(unsafe_code)]

use std::ops::Range;

use crate::otlp::{
    edit::Edits,
    encode,
    walk::{Kind, Part, Slice, ValueKind},
};

use super::{
    keys::{KeyId, Keys},
    value,
};

/// Some bytes: of the request, or of what was made on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// With [`MADE`] in it for what was made. Requests end below it.
    start: u32,
    end: u32,
}

/// Not of the request.
const MADE: u32 = 1 << 31;

impl From<Slice> for Piece {
    #[inline]
    fn from(slice: Slice) -> Self {
        Self { start: slice.start, end: slice.end }
    }
}

impl Piece {
    #[inline]
    fn range(self) -> Range<usize> {
        (self.start & !MADE) as usize..self.end as usize
    }

    /// Where it stands in the request, if it does.
    #[inline]
    pub(super) fn in_request(self) -> Option<Range<usize>> {
        (self.start & MADE == 0).then(|| self.range())
    }
}

/// The field of what was added.
const NOWHERE: Slice = Slice { start: u32::MAX, end: u32::MAX };

/// What became of an attribute or a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// As it came.
    Kept,
    /// Written anew.
    Changed,
    /// Left out.
    Deleted,
}

/// One attribute.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item {
    /// Where it stands in the request; [`NOWHERE`] for one that was added.
    field: Slice,
    /// Its key.
    pub(super) key: Piece,
    /// Its key, where the plan knows it.
    pub(super) id: KeyId,
    /// Its value's kind.
    pub(super) kind: ValueKind,
    /// Its value's content; see [`ValueKind`].
    pub(super) value: Piece,
    /// What became of it.
    pub(super) state: State,
    /// Ours, not the sender's: no allow-list removes it.
    pub(super) stamped: bool,
}

impl Item {
    /// Where it stands in the request, if it was not added.
    pub(super) fn in_request(&self) -> Option<Range<usize>> {
        (self.field != NOWHERE).then(|| self.field.range())
    }
}

/// One string field that is not an attribute.
#[derive(Clone, Copy, Debug)]
pub(super) struct TextItem {
    /// The field's number in its message.
    pub(super) number: u32,
    /// As an attribute's.
    field: Slice,
    /// Its text.
    pub(super) value: Piece,
    /// What became of it.
    pub(super) state: State,
}

/// The working list. Reused from message to message.
#[derive(Debug, Default)]
pub(super) struct List {
    /// In wire order, added ones last.
    pub(super) items: Vec<Item>,
    /// In wire order.
    pub(super) texts: Vec<TextItem>,
    /// Indices of the items whose key the plan knows or knew, ascending: a statement looks at these only.
    known: Vec<u32>,
    made: Vec<u8>,
    /// A bit for each known key that is or was there ([`KeyId::bit`]).
    pub(super) present: u64,
    /// Whether anything differs from the wire.
    pub(super) touched: bool,
    /// Whether an attribute came with an array or a map.
    pub(super) nested: bool,
}

impl List {
    /// Takes a message in.
    pub(super) fn load(&mut self, part: &Part<'_>, keys: &Keys) {
        self.items.clear();
        self.texts.clear();
        self.made.clear();
        self.known.clear();
        self.touched = false;
        (self.present, self.nested) = (0, false);
        // Two loops cost less than one that has to keep both in mind.
        let nested = &mut self.nested;
        self.items.extend(part.attributes.iter().map(|attribute| {
            *nested |= matches!(attribute.kind, ValueKind::Array | ValueKind::KvList);
            Item {
                field: attribute.field,
                key: attribute.key.into(),
                id: KeyId::UNKNOWN,
                kind: attribute.kind,
                value: attribute.value.into(),
                state: State::Kept,
                stamped: false,
            }
        }));
        for (index, attribute) in part.attributes.iter().enumerate() {
            if keys.has_length(attribute.key.len() as usize) {
                let id = keys.find(part.bytes(attribute.key));
                if id != KeyId::UNKNOWN {
                    self.items[index].id = id;
                    self.present |= id.bit();
                    self.known.push(index as u32);
                }
            }
        }
        self.texts.extend(part.texts.iter().map(|text| TextItem {
            number: text.number,
            field: text.field,
            value: text.value.into(),
            state: State::Kept,
        }));
    }

    /// Marks the attributes that an earlier walk has stamped.
    pub(super) fn recognise(&mut self, buf: &[u8], ours: &[Box<[u8]>]) {
        for index in 0..self.items.len() {
            let key = self.items[index].key;
            if ours.iter().any(|known| **known == *self.bytes(buf, key)) {
                self.items[index].stamped = true;
            }
        }
    }

    /// Adds the keys of stamped attributes to those that are known.
    pub(super) fn remember(&self, buf: &[u8], ours: &mut Vec<Box<[u8]>>) {
        for item in self.items.iter().filter(|item| item.stamped && item.state != State::Deleted) {
            let key = self.bytes(buf, item.key);
            if !ours.iter().any(|known| **known == *key) {
                ours.push(key.into());
            }
        }
    }

    /// The bytes of a piece.
    #[inline]
    pub(super) fn bytes<'a>(&'a self, buf: &'a [u8], piece: Piece) -> &'a [u8] {
        &self.source(buf, piece)[piece.range()]
    }

    /// What a piece is of.
    #[inline]
    fn source<'a>(&'a self, buf: &'a [u8], piece: Piece) -> &'a [u8] {
        if piece.start & MADE == 0 { buf } else { &self.made[..] }
    }

    /// Keeps some bytes for as long as this message is worked on.
    pub(super) fn keep(&mut self, bytes: &[u8]) -> Piece {
        let start = self.made.len() as u32 | MADE;
        self.made.extend_from_slice(bytes);
        assert!(self.made.len() < MADE as usize, "one message's new texts are larger than any request");
        Piece { start, end: self.made.len() as u32 }
    }

    /// Deletes an attribute.
    pub(super) fn delete(&mut self, index: usize) {
        self.items[index].state = State::Deleted;
        self.touched = true;
    }

    /// Gives an attribute a value. `false` where it had it already.
    pub(super) fn set(&mut self, buf: &[u8], index: usize, kind: ValueKind, content: &[u8]) -> bool {
        let item = self.items[index];
        if item.kind == kind && self.bytes(buf, item.value) == content {
            return false;
        }
        let value = self.keep(content);
        let item = &mut self.items[index];
        (item.kind, item.value, item.state) = (kind, value, State::Changed);
        self.touched = true;
        true
    }

    /// Gives an attribute a key.
    pub(super) fn set_key(&mut self, keys: &Keys, index: usize, key: &[u8]) {
        let id = keys.find(key);
        self.present |= id.bit();
        if id != KeyId::UNKNOWN
            && let Err(place) = self.known.binary_search(&(index as u32))
        {
            self.known.insert(place, index as u32);
        }
        let key = self.keep(key);
        let item = &mut self.items[index];
        (item.key, item.id, item.state) = (key, id, State::Changed);
        self.touched = true;
    }

    /// Adds an attribute.
    pub(super) fn push(&mut self, id: KeyId, key: &[u8], kind: ValueKind, content: &[u8], stamped: bool) {
        let key = self.keep(key);
        let value = self.keep(content);
        self.present |= id.bit();
        if id != KeyId::UNKNOWN {
            self.known.push(self.items.len() as u32);
        }
        self.items.push(Item { field: NOWHERE, key, id, kind, value, state: State::Changed, stamped });
        self.touched = true;
    }

    /// Changes a text. `false` where it was that already.
    pub(super) fn set_text(&mut self, buf: &[u8], index: usize, text: &[u8]) -> bool {
        if self.bytes(buf, self.texts[index].value) == text {
            return false;
        }
        let value = self.keep(text);
        let item = &mut self.texts[index];
        (item.value, item.state) = (value, State::Changed);
        self.touched = true;
        true
    }

    /// Drops a text: the field is left out.
    pub(super) fn delete_text(&mut self, index: usize) {
        self.texts[index].state = State::Deleted;
        self.touched = true;
    }

    /// Deletes every attribute that is not ours and puts a mark in place of every text. How many these were.
    pub(super) fn drop_values(&mut self, buf: &[u8], mark: &[u8]) -> u64 {
        let mut count = 0;
        for index in 0..self.items.len() {
            if self.items[index].state != State::Deleted && !self.items[index].stamped {
                self.delete(index);
                count += 1;
            }
        }
        for index in 0..self.texts.len() {
            let text = self.texts[index];
            let there = text.state != State::Deleted && !self.bytes(buf, text.value).is_empty();
            count += u64::from(there && self.set_text(buf, index, mark));
        }
        count
    }

    /// Adds a text field that the message has not.
    pub(super) fn push_text(&mut self, number: u32, text: &[u8]) {
        let value = self.keep(text);
        self.texts.push(TextItem { number, field: NOWHERE, value, state: State::Changed });
        self.touched = true;
    }

    /// Indices of the attributes whose key the plan knows or knew, ascending.
    #[inline]
    pub(super) fn known(&self) -> &[u32] {
        &self.known
    }

    /// Indices of the attributes with a known key that are still there.
    pub(super) fn with_key(&self, id: KeyId) -> impl Iterator<Item = usize> + use<'_> {
        let any = self.present & id.bit() != 0;
        let known = if any { &self.known[..] } else { &[] };
        known.iter().map(|index| *index as usize).filter(move |index| {
            let item = &self.items[*index];
            item.id == id && item.state != State::Deleted
        })
    }

    /// The first of them from a place on, and the place after it: for a loop that changes the list meanwhile.
    #[inline]
    pub(super) fn next_with_key(&self, id: KeyId, from: usize) -> Option<(usize, usize)> {
        if self.present & id.bit() == 0 {
            return None;
        }
        (from..self.known.len()).find_map(|place| {
            let index = self.known[place] as usize;
            let item = &self.items[index];
            (item.id == id && item.state != State::Deleted).then_some((index, place + 1))
        })
    }

    /// Writes down what differs from the wire.
    pub(super) fn emit(&self, part: &Part<'_>, edits: &mut Edits) {
        if !self.touched {
            return;
        }
        let number = attributes_number(part.kind);
        let mut added = false;
        for item in &self.items {
            match item.state {
                State::Kept => {}
                State::Changed if item.field == NOWHERE => added = true,
                State::Changed => {
                    edits.replace_with(item.field, |out| self.put(out, part.buf, number, item));
                }
                State::Deleted if item.field == NOWHERE => {}
                State::Deleted => edits.delete(item.field),
            }
        }
        for text in &self.texts {
            match text.state {
                State::Kept => {}
                State::Changed if text.field == NOWHERE => added = true,
                State::Changed => edits.replace_with(text.field, |out| self.put_text(out, part.buf, text)),
                State::Deleted if text.field == NOWHERE => {}
                State::Deleted => edits.delete(text.field),
            }
        }
        if added {
            let at = Slice { start: part.insert_at, end: part.insert_at };
            edits.replace_with(at, |out| {
                let added = |field, state| field == NOWHERE && state == State::Changed;
                for text in self.texts.iter().filter(|text| added(text.field, text.state)) {
                    self.put_text(out, part.buf, text);
                }
                for item in self.items.iter().filter(|item| added(item.field, item.state)) {
                    self.put(out, part.buf, number, item);
                }
            });
        }
    }

    fn put_text(&self, out: &mut Vec<u8>, buf: &[u8], text: &TextItem) {
        encode::field(out, text.number, self.bytes(buf, text.value));
    }

    fn put(&self, out: &mut Vec<u8>, buf: &[u8], number: u32, item: &Item) {
        if item.kind == ValueKind::String {
            let key = (self.source(buf, item.key), item.key.range());
            return put_string(out, number, key, (self.source(buf, item.value), item.value.range()));
        }
        let (key, content) = (self.bytes(buf, item.key), self.bytes(buf, item.value));
        if matches!(item.kind, ValueKind::Array | ValueKind::KvList) {
            let content = value::known(item.kind, content);
            return value::put_attribute(out, number, key, item.kind, &content);
        }
        value::put_attribute(out, number, key, item.kind, content);
    }
}

/// Appends an attribute with a text, as field `number`. Key and text are parts of what is given.
pub(super) fn put_string(
    out: &mut Vec<u8>,
    number: u32,
    (key_of, key): (&[u8], Range<usize>),
    (text_of, text): (&[u8], Range<usize>),
) {
    // Nearly all are short, and their lengths are a byte each.
    let body = key.len() + text.len() + 6;
    if body >= 0x80 || number >= 0x10 {
        return value::put_attribute(out, number, &key_of[key], ValueKind::String, &text_of[text]);
    }
    let length = text.len() as u8;
    out.extend_from_slice(&[(number as u8) << 3 | 2, body as u8, 0x0a, key.len() as u8]);
    encode::piece(out, key_of, key);
    out.extend_from_slice(&[0x12, length + 2, 0x0a, length]);
    encode::piece(out, text_of, text);
}

/// The number of the field `attributes`; a message that has none never gets one.
pub(super) fn attributes_number(kind: Kind) -> u32 {
    match kind {
        Kind::Resource => 1,
        Kind::Span => 9,
        Kind::Scope | Kind::Event => 3,
        Kind::Link => 4,
        Kind::Status | Kind::ResourceSpans | Kind::ScopeSpans | Kind::EntityRef => 0,
    }
}
