//! Rules: everything that can change a span, each under the name by which an operator knows it.
//!
//! A step that changes something says so with [`Run::hit`](super::run::Run::hit): its rule, what it did, and where.
//! That is counted, request by request, and a dry run records it.

#![forbid(unsafe_code)]

use crate::config::Location;

use super::{
    keys::KeyId,
    metrics::Tally,
    record::{OnTree, Recorder},
};

/// A rule's number in its plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RuleId(u32);

impl RuleId {
    /// The rule with this place in [`Plan::rules`](super::Plan::rules).
    pub(super) fn at(index: usize) -> Self {
        Self(u32::try_from(index).expect("a configuration has fewer than 2^32 rules"))
    }

    /// Its place in [`Plan::rules`](super::Plan::rules).
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A rule of a plan.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The processor as configured: `redaction/pii`.
    pub processor: String,
    /// Its name in the processor, by which its metrics go: `blocked_values[2]`.
    pub name: String,
    /// Where it stands.
    pub at: Location,
    /// What it says. A rule of the same name that says something else is another rule, and counts from 0.
    pub(super) content: String,
    /// `error_mode: ignore`: what it could not handle is told in the log.
    pub(super) complains: bool,
    /// The processor's place in tables by processor.
    pub(super) owner: usize,
}

/// What a rule did to one value, text, or message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Did {
    /// Replaced it or a part of it.
    Masked,
    /// Put a hash in its place.
    Hashed,
    /// Removed it.
    Removed,
    /// Gave it a value, or added it.
    Set,
    /// Could not handle it; what happened then is another record, where anything did.
    Failed,
}

impl Did {
    /// For people and for JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Masked => "masked",
            Self::Hashed => "hashed",
            Self::Removed => "removed",
            Self::Set => "set",
            Self::Failed => "failed",
        }
    }
}

/// What a rule hit in the message at work.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// An attribute, by its place in the list; also where its key was changed.
    Attribute(usize),
    /// The attribute with this key.
    Key(KeyId),
    /// A text, by its place in the list.
    Text(usize),
    /// The message as a whole, or what it lacks.
    Message,
}

/// What one rule has done to one request.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Count {
    /// Values, texts and messages that it changed.
    pub(super) matches: u64,
    /// Values that it could not handle.
    pub(super) errors: u64,
}

/// The book in which hits are written while a request is worked on.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// By rule.
    counts: Vec<Count>,
    /// Whether any of them is not 0.
    any: bool,
    /// For a dry run.
    pub(super) recorder: Option<Box<Recorder>>,
}

impl Account {
    /// For a plan with so many rules.
    pub(super) fn adopt(&mut self, rules: usize) {
        self.counts.clear();
        self.counts.resize(rules, Count::default());
        self.any = false;
    }

    /// Counts a hit.
    pub(super) fn hit(&mut self, rule: RuleId, did: Did, place: Place) {
        let count = &mut self.counts[rule.index()];
        match did {
            Did::Failed => count.errors += 1,
            _ => count.matches += 1,
        }
        self.any = true;
        if let Some(recorder) = &mut self.recorder {
            recorder.hit(rule, did, place);
        }
    }

    /// Counts a hit on a request that is a tree; `place` says where.
    pub(super) fn hit_on_tree(&mut self, rule: RuleId, did: Did, place: impl FnOnce() -> OnTree) {
        let count = &mut self.counts[rule.index()];
        match did {
            Did::Failed => count.errors += 1,
            _ => count.matches += 1,
        }
        self.any = true;
        if let Some(recorder) = &mut self.recorder {
            recorder.note(rule, did, place());
        }
    }

    /// Counts that a rule left a message as it is: nothing that a dry run records.
    pub(super) fn left_alone(&mut self, rule: RuleId) {
        self.counts[rule.index()].matches += 1;
        self.any = true;
    }

    /// The counts by rule; `None` where nothing was hit.
    pub(super) fn counts(&self) -> Option<&[Count]> {
        self.any.then_some(&self.counts)
    }

    /// Forgets what was counted.
    pub(super) fn forget(&mut self) {
        if self.any {
            self.counts.fill(Count::default());
            self.any = false;
        }
    }
}

impl Tally {
    /// Counts what a rule of the processor did.
    pub(super) fn did(&mut self, did: Did) {
        match did {
            Did::Masked => self.masked += 1,
            Did::Hashed => self.hashed += 1,
            Did::Removed => self.deleted += 1,
            Did::Set => self.set += 1,
            Did::Failed => self.errors += 1,
        }
    }
}
