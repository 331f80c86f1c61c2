//! `transform`: statements of OTTL, the OpenTelemetry Transformation Language.
//!
//! Text goes through [`lexer`] and [`grammar`]; [`resolve`] turns the tree into a [`program`]. What a walk over the
//! bytes can do is [lowered](lower) to [`exec`], which touches nothing that a statement does not name; the rest runs
//! on the request as a [`tree`]. Every error says the place inside the statement and what is supported.

#![forbid(unsafe_code)]

use std::fmt;

use crate::{config::processors::ErrorMode, otlp::walk::ValueKind};

use super::{
    keys::KeyId,
    pattern::{PatternId, Template},
    rule::RuleId,
};

pub(super) mod eval;
pub(super) mod exec;
mod functions;
pub(super) mod grammar;
mod lexer;
pub(super) mod lower;
pub(super) mod program;
pub(super) mod resolve;
pub(super) mod tree;
pub(super) mod value;

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

/// Reads a statement, or else a condition, and writes it with every argument and parenthesis in its place: what is
/// written is read as the same. The error is for the operator.
pub fn canonical(source: &str) -> Result<String, String> {
    match grammar::statement(source) {
        Ok(statement) => Ok(statement.to_string()),
        Err(error) => match grammar::condition(source) {
            Ok(condition) => Ok(condition.to_string()),
            Err(_) => Err(error.to_string()),
        },
    }
}

/// An attribute's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// In the plan's table.
    pub(super) id: KeyId,
    /// For writing a new one.
    pub(super) name: Box<str>,
}

/// What a lowered statement changes.
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
    /// Anything else that reads only this message and the resource's attributes.
    General(Box<General>),
}

/// An expression as it was resolved, with what it needs to run in a walk.
#[derive(Clone, Debug)]
pub(super) struct General {
    /// The expression.
    pub(super) expr: program::Expr,
    /// The message's context.
    pub(super) context: program::Context,
    /// Resource attributes that it reads from below, and their slots.
    pub(super) captured: Vec<(Box<str>, usize)>,
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
    /// Anything else.
    General(Box<General>),
}

/// What is put for a match.
#[derive(Clone, Debug)]
pub(super) struct Replacement {
    /// Its text.
    pub(super) template: Template,
    /// Its text is hashed; what stands around the hash (`"<%s>"` gives `<` and `>`).
    pub(super) hashed: Option<(Box<str>, Box<str>)>,
}

/// What a lowered statement does.
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

/// A lowered statement, ready to run on messages of one kind.
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

/// Whether a value is a hash as a whole: it is counted as such.
fn is_hash(value: &program::Expr) -> bool {
    use functions::Function::{Fnv, Md5, Sha1, Sha256, Sha512, Xxh3, Xxh128};
    matches!(value, program::Expr::Call(Fnv | Md5 | Sha1 | Sha256 | Sha512 | Xxh3 | Xxh128, _))
}

#[cfg(test)]
mod tests;
