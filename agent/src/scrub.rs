//! Scrubbing: adjacent processors that edit spans, compiled into one plan and run in one walk.
//!
//! A [`Plan`] holds, for each kind of message, the steps of all its processors in the configured order. The walker
//! shows each message once; the steps work on a list of its attributes and texts ([`list`]), and what differs from
//! the wire in the end becomes edits. Patterns that look everywhere stand behind a gate ([`pattern::gate`]) that
//! one pass over a request's bytes answers for all of them; what it lets through and is found clean all the same is
//! remembered ([`verdicts`]).
//!
//! Every file forbids unsafe code but [`sieve`], so this one only denies it.

#![deny(unsafe_code)]

mod actions;
mod buckets;
mod budget;
mod builder;
mod database;
mod detect;
mod direct;
mod differences;
mod filter;
mod forgery;
mod hash;
mod k8s;
mod keys;
mod list;
mod matching;
mod metrics;
pub mod nosql;
mod ottl;
pub(crate) mod pattern;
mod plan;
mod record;
mod redact;
mod request;
mod rule;
mod run;
mod sha256;
mod sieve;
mod skip;
pub mod sql;
mod span;
mod stage;
mod stamp;
pub mod url;
mod value;
mod verdicts;

pub use differences::differences;
pub use hash::KeyFiles;
pub use ottl::canonical as canonical_statement;
pub use pattern::matches as pattern_matches;
pub use plan::{Plan, PlanScratch};
pub use record::{Content, Field, Record, SpanId, Spot, value_as_request};
pub use rule::{Did, Rule, RuleId};

/// Reads the files of keys for hashes again, of all plans. It may wait for a file system.
pub fn reload_hash_keys() {
    hash::reload_all();
}
