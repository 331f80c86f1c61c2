//! What a dry run keeps: which rule did what, to what, where. Off the hot path; nothing here runs without a recorder.

#![forbid(unsafe_code)]

mod spot;

use crate::otlp::{
    encode,
    walk::{Kind, Part, ValueKind},
};

use super::{
    list::{List, State},
    ottl::{
        program::{self, Context},
        value::Key,
    },
    request::Cursor,
    rule::{Did, Place, RuleId},
    value,
};

use spot::Spots;
pub use spot::{SpanId, Spot};

/// A value's kind and content, as [`ValueKind`] describes it.
pub type Content = (ValueKind, Vec<u8>);

/// What was hit in a message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// An attribute, with its key as the plan leaves it: a key too may hold what must not be shown.
    Attribute(Vec<u8>),
    /// A string field, by its number in the message.
    Text(u32),
    /// The message as a whole.
    Message,
}

/// One thing that a rule did.
#[derive(Clone, Debug)]
pub struct Record {
    /// The rule.
    pub rule: RuleId,
    /// What it did.
    pub did: Did,
    /// In which message.
    pub kind: Kind,
    /// Where that is.
    pub spot: Spot,
    /// An offset inside that message's body, in the request as it was when the plan's stage began.
    at: u32,
    /// To what.
    pub field: Field,
    /// Whether the value as it came already has the form of a hash that this program writes; `None` where that is not
    /// known.
    pub hashed_before: Option<bool>,
    /// The value as it came; `None` where it was added, or where values are not recorded.
    pub before: Option<Content>,
    /// The value as the whole plan leaves it; `None` where it was removed, or where values are not recorded.
    pub after: Option<Content>,
}

/// Collects records. A plan uses it message by message.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    values: bool,
    /// Of all messages so far.
    pub(super) records: Vec<Record>,
    /// How many of them know where they are.
    located: usize,
    /// Of the message at work.
    hits: Vec<(RuleId, Did, Place)>,
    /// Records whose value is read when the steps on the tree are done.
    late: Vec<(usize, Named)>,
}

/// A place in a request that is a tree.
#[derive(Clone, Debug)]
pub(super) struct Named {
    /// In which message, and those around it.
    pub(super) cursor: Cursor,
    /// Which of them.
    pub(super) context: Context,
    /// What of it.
    pub(super) field: program::Field,
    /// The attribute's key.
    pub(super) key: Option<Key>,
}

/// A hit on a request that is a tree.
#[derive(Debug)]
pub(super) struct OnTree {
    /// In which message.
    pub(super) kind: Kind,
    /// Where that begins in the request.
    pub(super) at: u32,
    /// On what.
    pub(super) field: Field,
    /// As it came; `None` where it was added.
    pub(super) before: Option<Content>,
    /// Where it is found again.
    pub(super) named: Named,
}

impl Recorder {
    /// One that keeps values too, or not.
    pub(super) fn new(values: bool) -> Self {
        Self { values, ..Self::default() }
    }

    /// Remembers a hit until the message is done.
    pub(super) fn hit(&mut self, rule: RuleId, did: Did, place: Place) {
        self.hits.push((rule, did, place));
    }

    /// Writes down a hit on a request that is a tree. Its value after is read in the end: later steps may change it.
    pub(super) fn note(&mut self, rule: RuleId, did: Did, hit: OnTree) {
        let OnTree { kind, at, field, before, named } = hit;
        let hashed_before = Some(before.as_ref().is_some_and(is_hash));
        if self.values {
            self.late.push((self.records.len(), named));
        }
        let (before, spot) = (before.filter(|_| self.values), Spot::default());
        self.records.push(Record { rule, did, kind, spot, at, field, hashed_before, before, after: None });
    }

    /// The steps on a tree are done: `now` reads what they have left.
    pub(super) fn settle(&mut self, now: impl Fn(&Named) -> Option<Content>) {
        for (record, named) in std::mem::take(&mut self.late) {
            self.records[record].after = now(&named);
        }
    }

    /// A stage of the plan is done that began with these bytes.
    pub(super) fn locate(&mut self, request: &[u8]) {
        let new = &mut self.records[self.located..];
        if !new.is_empty() {
            let spots = Spots::new(request);
            for record in new {
                record.spot = spots.at(record.at);
            }
        }
        self.located = self.records.len();
    }

    /// Writes down the hits of a message that all steps are done with.
    pub(super) fn finish(&mut self, part: &Part<'_>, list: &List) {
        for (rule, did, place) in std::mem::take(&mut self.hits) {
            let place = match place {
                Place::Key(id) => {
                    let found = list.items.iter().position(|item| item.id == id);
                    found.map_or(Place::Message, Place::Attribute)
                }
                place => place,
            };
            let (field, mut before, mut after) = describe(part, list, place);
            let hashed_before = Some(before.as_ref().is_some_and(is_hash));
            if !self.values {
                (before, after) = (None, None);
            }
            self.records.push(Record {
                rule,
                did,
                kind: part.kind,
                spot: Spot::default(),
                at: part.insert_at,
                field,
                hashed_before,
                before,
                after,
            });
        }
    }
}

/// A request with one resource attribute that has this value: what the JSON writer can write.
pub fn value_as_request(kind: ValueKind, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode::field_with(&mut out, 1, |out| {
        encode::field_with(out, 1, |out| value::put_attribute(out, 1, b"value", kind, content));
    });
    out
}

/// Whether a text is a hash as rules write it: hex digits, perhaps behind the name of a key's epoch (`2026-11:`, `v1:`).
fn is_hash((kind, content): &Content) -> bool {
    let digits = match content.iter().rposition(|byte| !byte.is_ascii_hexdigit()) {
        Some(at) if content[at] == b':' && at <= MAX_EPOCH => &content[at + 1..],
        Some(_) => return false,
        None => &content[..],
    };
    // SHA-1, SHA3-224 and the like, SHA-256, SHA-512; MD5.
    *kind == ValueKind::String && [32, 40, 56, 64, 128].contains(&digits.len())
}

/// Longest name of an epoch.
const MAX_EPOCH: usize = 64;

fn describe(part: &Part<'_>, list: &List, place: Place) -> (Field, Option<Content>, Option<Content>) {
    match place {
        Place::Attribute(index) => {
            let item = &list.items[index];
            let key = list.bytes(part.buf, item.key).to_vec();
            // Attributes that came with the message come first in the list, in the same order.
            let before = part.attributes.get(index);
            let before = before.map(|came| (came.kind, part.bytes(came.value).to_vec()));
            let after = (item.state != State::Deleted)
                .then(|| (item.kind, list.bytes(part.buf, item.value).to_vec()));
            (Field::Attribute(key), before, after)
        }
        Place::Text(index) => {
            let item = &list.texts[index];
            let before = part.texts.get(index);
            let before = before.map(|came| (ValueKind::String, part.bytes(came.value).to_vec()));
            let after = (item.state != State::Deleted)
                .then(|| (ValueKind::String, list.bytes(part.buf, item.value).to_vec()));
            (Field::Text(item.number), before, after)
        }
        Place::Key(_) | Place::Message => (Field::Message, None, None),
    }
}

#[cfg(test)]
mod tests;
