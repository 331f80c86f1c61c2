//! `transform`: statements of OTTL, the OpenTelemetry Transformation Language, over what a scrubber may change.
//!
//! Text goes through [`lexer`] and [`grammar`]; [`resolve`] turns the tree into what [`exec`] runs. Every error
//! says the place inside the statement and what is supported.

#![forbid(unsafe_code)]

use std::fmt;

use crate::{config::processors::ErrorMode, otlp::walk::ValueKind};

use super::{
    keys::KeyId,
    pattern::{PatternId, Template},
    rule::RuleId,
};

pub(super) mod exec;
mod grammar;
mod lexer;
pub(super) mod resolve;

/// A place inside a statement, 1-based.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct At {
    line: u32,
    column: u32,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {} of the statement", self.line, self.column)
    }
}

/// What is wrong with a statement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {message}")]
pub(super) struct OttlError {
    at: At,
    message: String,
}

/// An attribute's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// In the plan's table.
    pub(super) id: KeyId,
    /// For writing a new one.
    pub(super) name: Box<str>,
}

/// What a statement changes.
#[derive(Clone, Debug)]
pub(super) enum Target {
    /// `attributes["key"]`, every occurrence of it
    Attribute(Key),
    /// A string field by its number: `name`, `status.message`
    Text(u32),
}

/// What gives a value.
#[derive(Clone, Debug)]
pub(super) enum Expr {
    /// A literal, as the content of an `AnyValue`; `Empty` is `nil`.
    Literal(ValueKind, Box<[u8]>),
    /// `attributes["key"]` of the same message
    Attribute(KeyId),
    /// A string field of the same message; absent means empty.
    Text(u32),
    /// `resource.attributes["key"]` read from below: what the resource's steps left in this slot
    Captured(usize),
    /// `SHA256(…)`: lower-case hex
    Sha256(Box<Expr>),
    /// `Concat([…], "delimiter")`
    Concat(Vec<Expr>, Box<str>),
}

/// Where a statement applies.
#[derive(Clone, Debug)]
pub(super) enum Condition {
    /// All of them.
    And(Vec<Condition>),
    /// One of them.
    Or(Vec<Condition>),
    /// The opposite.
    Not(Box<Condition>),
    /// `==`, or `!=` where the flag is false.
    Equal(Expr, Expr, bool),
    /// `IsMatch(…)`
    Matches(Expr, PatternId),
    /// `true`, `false`
    Constant(bool),
}

/// What is put for a match.
#[derive(Clone, Debug)]
pub(super) struct Replacement {
    /// Its text.
    pub(super) template: Template,
    /// Its text is hashed; what stands around the hash (`"<%s>"` gives `<` and `>`).
    pub(super) hashed: Option<(Box<str>, Box<str>)>,
}

/// What a statement does.
#[derive(Clone, Debug)]
pub(super) enum Editor {
    /// `set(target, value)`
    Set(Target, Expr),
    /// `delete_key(attributes, "key")`
    DeleteKey(KeyId),
    /// `delete_matching_keys(attributes, "pattern")`
    DeleteMatchingKeys(PatternId),
    /// `keep_keys(attributes, ["key", …])`
    KeepKeys(Vec<KeyId>),
    /// `keep_matching_keys(attributes, "pattern")`
    KeepMatchingKeys(PatternId),
    /// `replace_pattern(target, "pattern", "replacement")`
    ReplacePattern(Target, PatternId, Replacement),
    /// `replace_all_patterns(attributes, "value", …)`
    ReplaceAllValues(PatternId, Replacement),
    /// `replace_all_patterns(attributes, "key", …)`
    ReplaceAllKeys(PatternId, Replacement),
    /// `truncate_all(attributes, limit)`: bytes
    TruncateAll(usize),
}

/// A statement, ready to run on messages of one kind.
#[derive(Clone, Debug)]
pub(super) struct Statement {
    /// What it does.
    pub(super) editor: Editor,
    /// Where; `None` is everywhere.
    pub(super) condition: Option<Condition>,
    /// What happens to a value that it can't handle.
    pub(super) mode: ErrorMode,
    /// Its rule.
    pub(super) rule: RuleId,
}

#[cfg(test)]
mod tests;
