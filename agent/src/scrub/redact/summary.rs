//! What a redactor says of itself in the attributes it has worked on.

#![forbid(unsafe_code)]

use crate::{
    config::processors::RedactionSummary,
    otlp::{encode, walk::ValueKind},
};

use super::Match;
use crate::scrub::{keys::KeyId, keys::Keys, run::Run, value};

/// What happened to an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Deleted.
    Redacted,
    /// Masked or hashed, all of it or a part.
    Masked,
    /// Kept as it was though something in it is blocked, because of an allowed value.
    Allowed,
    /// Not looked at.
    Ignored,
}

/// The attributes of each, counts and keys.
const NAMES: [(&str, Option<&str>); 4] = [
    ("redaction.redacted.count", Some("redaction.redacted.keys")),
    ("redaction.masked.count", Some("redaction.masked.keys")),
    ("redaction.allowed.count", Some("redaction.allowed.keys")),
    ("redaction.ignored.count", None),
];

/// What was done to one attribute list.
#[derive(Debug, Default)]
pub(super) struct Done {
    counts: [i64; 4],
    keys: [Vec<Vec<u8>>; 4],
    /// Rules that have changed the attribute or text at hand.
    pub(super) matched: Vec<Match>,
}

impl Done {
    /// Counts.
    pub(super) fn count(&mut self, did: Outcome) {
        self.counts[did as usize] += 1;
    }

    /// How often something happened.
    pub(super) fn counted(&self, did: Outcome) -> u64 {
        self.counts[did as usize].cast_unsigned()
    }

    /// Remembers a key for the debug summary.
    pub(super) fn remember(&mut self, did: Outcome, key: Vec<u8>) {
        self.keys[did as usize].push(key);
    }
}

/// `summary`
#[derive(Debug)]
pub(super) struct Summary {
    level: RedactionSummary,
    ids: [(KeyId, KeyId); 4],
}

impl Summary {
    /// Makes its keys known.
    pub(super) fn new(level: RedactionSummary, keys: &mut Keys) -> Self {
        let ids = NAMES
            .map(|(count, names)| (keys.add(count), names.map_or(KeyId::UNKNOWN, |names| keys.add(names))));
        Self { level, ids }
    }

    /// Whether anything is written.
    pub(super) fn is_silent(&self) -> bool {
        self.level == RedactionSummary::Silent
    }

    /// Whether keys are written.
    pub(super) fn names_keys(&self) -> bool {
        self.level == RedactionSummary::Debug
    }

    /// Adds what was done to what redactors before this one have said.
    pub(super) fn write(&self, run: &mut Run<'_>, done: Done) {
        for (((count, mut keys), (count_id, keys_id)), (count_name, keys_name)) in
            done.counts.into_iter().zip(done.keys).zip(self.ids).zip(NAMES)
        {
            if count == 0 {
                continue;
            }
            let mut total = count;
            let before: Vec<usize> = run.list.with_key(count_id).collect();
            for index in &before {
                let item = run.list.items[*index];
                if item.kind == ValueKind::Int {
                    let content = run.list.bytes(run.buf, item.value);
                    total = total.saturating_add(value::varint(content).map_or(0, |(n, _)| n.cast_signed()));
                }
            }
            let mut varint = Vec::new();
            encode::varint(&mut varint, total.cast_unsigned());
            run.upsert(count_id, count_name, ValueKind::Int, &varint, true);
            if let (true, Some(name)) = (self.names_keys(), keys_name) {
                keys.sort_unstable();
                keys.dedup();
                run.upsert(keys_id, name, ValueKind::String, &keys.join(&b","[..]), true);
            }
        }
    }
}
