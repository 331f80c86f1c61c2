//! What the steps of a plan share while they work on one message.

#![forbid(unsafe_code)]

use std::{cell::Cell, ops::Range};

use crate::{auth::Identity, origin::Origin, otlp::walk::ValueKind};

use super::{
    keys::{KeyId, Keys},
    list::{List, State},
    metrics::Tally,
    pattern::{
        Caches, Patterns,
        gate::{Found, Gate, Hits},
    },
    rule::{Account, Did, Place, Rule, RuleId},
    skip::Skipped,
};

/// A resource attribute remembered for the spans below: the values of all its occurrences.
pub(super) type Captured = Vec<(ValueKind, Vec<u8>)>;

/// What the resource of the messages at hand says, by slot. One value may be read by each of them, so that what is
/// read counts.
#[derive(Debug, Default)]
pub(super) struct Above {
    slots: Vec<Captured>,
    read: Cell<u64>,
}

impl Above {
    /// With room for so many.
    pub(super) fn new(slots: usize) -> Self {
        Self { slots: vec![Captured::default(); slots], read: Cell::default() }
    }

    /// Fills a slot.
    pub(super) fn remember(&mut self, slot: usize, values: Captured) {
        self.slots[slot] = values;
    }

    /// What a slot holds. Whoever reads a value says so by [`Self::read`].
    pub(super) fn slot(&self, slot: usize) -> &Captured {
        &self.slots[slot]
    }

    /// Counts a value that is read, and gives it.
    pub(super) fn read<'v>(&self, value: &'v [u8]) -> &'v [u8] {
        self.read.set(self.read.get() + value.len() as u64);
        value
    }

    /// Bytes that were read since this was asked last.
    pub(super) fn take_read(&self) -> u64 {
        self.read.take()
    }
}

/// Occurrences of one key that get a value. No instrumentation writes more than one, and the value may be as long as
/// the rest of the message.
pub(super) const MAX_WRITTEN: usize = 8;

/// One message at work.
pub(super) struct Run<'a> {
    /// The whole request.
    pub(super) buf: &'a [u8],
    /// The plan's patterns.
    pub(super) patterns: &'a Patterns,
    /// The plan's keys.
    pub(super) keys: &'a Keys,
    /// The plan's gate, for the patterns that look everywhere.
    pub(super) gate: &'a Gate,
    /// Search state.
    pub(super) caches: &'a mut Caches,
    /// The message.
    pub(super) list: &'a mut List,
    /// A text that is being made.
    pub(super) out: &'a mut Vec<u8>,
    /// By processor.
    pub(super) tally: &'a mut [Tally],
    /// The plan's rules.
    pub(super) rules: &'a [Rule],
    /// What they did.
    pub(super) account: &'a mut Account,
    /// What spans read of their resource.
    pub(super) above: &'a mut Above,
    /// The sender, where it is known.
    pub(super) origin: Option<&'a Origin>,
    /// Who the sender is proven to be, where that is asked.
    pub(super) identity: Option<&'a Identity>,
    /// What it claimed against the rules.
    pub(super) forged: &'a mut super::stamp::Forged,
    /// Lies about identity, by attribute.
    pub(super) claims: &'a mut [u64; super::stamp::CLAIMS],
    /// Where the message's body begins in the request.
    pub(super) at: u32,
    /// What redactors leave as it is, by redactor; empty where none of the plan's does.
    pub(super) skipped: &'a [Skipped],
    /// What the gate found in the request.
    pub(super) found: &'a Found,
    /// What it found in the message as it came.
    pub(super) hits: Hits,
    /// A statement failed under `error_mode: propagate`.
    pub(super) refused: bool,
}

impl Run<'_> {
    /// Whether a redactor leaves the message as it is.
    pub(super) fn is_skipped(&self, redactor: usize) -> bool {
        self.skipped.get(redactor).is_some_and(|skipped| skipped.has(self.at))
    }

    /// A rule did something to one value, text or message: counts it for the rule and for its processor.
    pub(super) fn hit(&mut self, rule: RuleId, did: Did, place: Place) {
        self.tally[self.rules[rule.index()].owner].did(did);
        self.matched(rule, did, place);
    }

    /// [`Run::hit`] for a rule whose processor counts by itself, because several rules may change one value.
    pub(super) fn matched(&mut self, rule: RuleId, did: Did, place: Place) {
        self.account.hit(rule, did, place);
    }

    /// Gives every occurrence of a key this value, or adds it; occurrences beyond [`MAX_WRITTEN`] are removed. True
    /// where something changed.
    pub(super) fn upsert(
        &mut self,
        id: KeyId,
        name: &str,
        kind: ValueKind,
        content: &[u8],
        ours: bool,
    ) -> bool {
        let (mut found, mut changed) = (0, false);
        for index in 0..self.list.items.len() {
            if !self.is(index, id, name) {
                continue;
            }
            found += 1;
            if found > MAX_WRITTEN {
                self.list.delete(index);
                changed = true;
            } else {
                changed |= self.list.set(self.buf, index, kind, content);
                self.list.items[index].stamped |= ours;
            }
        }
        if found == 0 {
            self.list.push(id, name.as_bytes(), kind, content, ours);
        }
        changed || found == 0
    }

    /// Whether there is an attribute with this key and something in it.
    pub(super) fn has_text(&self, id: KeyId, name: &str) -> bool {
        let mut items = 0..self.list.items.len();
        items.any(|index| {
            self.is(index, id, name) && !self.list.bytes(self.buf, self.list.items[index].value).is_empty()
        })
    }

    /// What the gate found in an attribute as it came; nothing in one that was added.
    pub(super) fn hits_in(&self, index: usize) -> Hits {
        self.hits_of(self.list.items[index].in_request())
    }

    /// What the gate found in a text as it came; nothing in one that was added or changed.
    pub(super) fn hits_in_text(&self, index: usize) -> Hits {
        self.hits_of(self.list.texts[index].value.in_request())
    }

    fn hits_of(&self, part: Option<Range<usize>>) -> Hits {
        part.map_or_else(Hits::default, |part| self.gate.within(self.buf, self.found, part))
    }

    /// Whether an attribute is still there and has this key, which may be one that the plan does not know.
    fn is(&self, index: usize, id: KeyId, name: &str) -> bool {
        let item = &self.list.items[index];
        let same = if id == KeyId::UNKNOWN {
            self.list.bytes(self.buf, item.key) == name.as_bytes()
        } else {
            item.id == id
        };
        same && item.state != State::Deleted
    }
}
