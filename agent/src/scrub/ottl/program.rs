//! Statements with their paths, functions and patterns found: what is run.

#![forbid(unsafe_code)]

use std::borrow::Cow;

use crate::{
    config::processors::ErrorMode,
    otlp::walk::{Kind, ValueKind},
    scrub::{
        pattern::{PatternId, Template},
        rule::RuleId,
    },
};

use super::{
    functions::Function,
    grammar::{CompareOp, MathOp},
    value::Key,
};

/// Where a statement's paths begin, outermost first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::scrub) enum Context {
    /// `resource`
    Resource,
    /// `scope`, `instrumentation_scope`
    Scope,
    /// `span`
    Span,
    /// `spanevent`
    SpanEvent,
    /// `spanlink`: ours, the Collector has no way to a link's attributes
    SpanLink,
}

impl Context {
    /// Their names.
    pub(in crate::scrub) const NAMES: &'static str = "resource, scope, span, spanevent and spanlink";

    /// By its name in paths and under `context:`.
    pub(in crate::scrub) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "resource" => Self::Resource,
            "scope" | "instrumentation_scope" => Self::Scope,
            "span" => Self::Span,
            "spanevent" => Self::SpanEvent,
            "spanlink" => Self::SpanLink,
            _ => return None,
        })
    }

    /// As paths write it.
    pub(in crate::scrub) fn name(self) -> &'static str {
        match self {
            Self::Resource => "resource",
            Self::Scope => "scope",
            Self::Span => "span",
            Self::SpanEvent => "spanevent",
            Self::SpanLink => "spanlink",
        }
    }

    /// The message of that name.
    pub(in crate::scrub) fn kind(self) -> Kind {
        match self {
            Self::Resource => Kind::Resource,
            Self::Scope => Kind::Scope,
            Self::Span => Kind::Span,
            Self::SpanEvent => Kind::Event,
            Self::SpanLink => Kind::Link,
        }
    }
}

/// How a number stands on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::scrub) enum Number {
    /// A varint.
    Varint,
    /// Four bytes.
    Fixed32,
    /// Eight bytes.
    Fixed64,
}

/// A field that a path can name; the numbers are those of the trace protos.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::scrub) enum Field {
    /// `attributes`
    Attributes,
    /// `name` and the like
    Text(u32),
    /// `trace_state`; with a key, a member of it
    TraceState,
    /// `flags`, `start_time_unix_nano` and the like
    Number(u32, Number),
    /// `start_time` and the like
    Time(u32),
    /// `trace_id` and the like: bytes
    Id(u32),
    /// `trace_id.string`: hex
    IdText(u32),
    /// `kind.string`: `Server`
    KindText,
    /// `kind.deprecated_string`: `SPAN_KIND_SERVER`
    KindSymbol,
    /// `status.code`
    StatusCode,
    /// `status.message`
    StatusMessage,
    /// `schema_url`, which stands beside the resource or the scope
    SchemaUrl,
    /// `events`, as a list of maps, to be read
    Events,
    /// `links`, the same
    Links,
    /// `event_index`
    EventIndex,
    /// `cache`: a map that lives while a group of statements works on one message
    Cache,
}

/// One key of a path.
#[derive(Clone, Debug)]
pub(in crate::scrub) enum KeyExpr {
    /// Known at start.
    Known(Key),
    /// Computed each time.
    Computed(Expr),
}

/// Keys in brackets.
#[derive(Clone, Debug, Default)]
pub(in crate::scrub) struct Keys {
    /// All of them; where one is computed, something stands in for it.
    known: Box<[Key]>,
    computed: Vec<(usize, Expr)>,
}

impl Keys {
    /// Of what stands in the brackets.
    pub(in crate::scrub) fn new(keys: Vec<KeyExpr>) -> Self {
        let mut computed = Vec::new();
        let known = keys.into_iter().enumerate().map(|(place, key)| match key {
            KeyExpr::Known(key) => key,
            KeyExpr::Computed(expr) => {
                computed.push((place, expr));
                Key::Index(0)
            }
        });
        Self { known: known.collect(), computed }
    }

    /// All of them, where all are known at start.
    pub(in crate::scrub) fn known(&self) -> Option<&[Key]> {
        self.computed.is_empty().then_some(&self.known)
    }

    /// Whether there are none.
    pub(in crate::scrub) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// The keys, computed ones by `value`.
    pub(in crate::scrub) fn all<E>(
        &self,
        mut value: impl FnMut(&Expr) -> Result<Key, E>,
    ) -> Result<Cow<'_, [Key]>, E> {
        if self.computed.is_empty() {
            return Ok(Cow::Borrowed(&self.known));
        }
        let mut all = self.known.to_vec();
        for (place, expr) in &self.computed {
            all[*place] = value(expr)?;
        }
        Ok(Cow::Owned(all))
    }

    fn places(&self, visit: &mut dyn FnMut(&Place)) {
        self.computed.iter().for_each(|(_, expr)| expr.places(visit));
    }
}

/// A place that a path names.
#[derive(Clone, Debug)]
pub(in crate::scrub) struct Place {
    /// The message.
    pub(in crate::scrub) owner: Context,
    /// The field.
    pub(in crate::scrub) field: Field,
    /// Keys into it.
    pub(in crate::scrub) keys: Keys,
}

impl Place {
    /// The attribute's key, where the place is exactly one attribute with a key known at start.
    pub(in crate::scrub) fn attribute(&self) -> Option<&str> {
        match (self.field, self.keys.known()) {
            (Field::Attributes, Some([Key::Name(name)])) => Some(name),
            _ => None,
        }
    }

    /// Whether it is all attributes of a message.
    pub(in crate::scrub) fn is_all_attributes(&self) -> bool {
        self.field == Field::Attributes && self.keys.is_empty()
    }
}

/// What gives a value. Conditions are values too.
#[derive(Clone, Debug)]
pub(in crate::scrub) enum Expr {
    /// A literal, as kind and content of an `AnyValue`.
    Literal(ValueKind, Box<[u8]>),
    /// A path.
    Path(Box<Place>),
    /// `Split(…)[0]`
    Dig(Box<Expr>, Keys),
    /// `[a, b]`
    List(Vec<Expr>),
    /// `{"a": b}`
    Map(Vec<(Box<str>, Expr)>),
    /// `a + b`
    Math(MathOp, Box<Expr>, Box<Expr>),
    /// A converter.
    Call(Function, Vec<Option<Expr>>),
    /// `IsMatch(…)`
    IsMatch(Box<Expr>, PatternId),
    /// `ExtractPatterns(…)`: the named groups
    Extract(Box<Expr>, PatternId),
    /// `IsRootSpan()`
    IsRootSpan,
    /// `a < b`
    Compare(CompareOp, Box<Expr>, Box<Expr>),
    /// All of them.
    And(Vec<Expr>),
    /// One of them.
    Or(Vec<Expr>),
    /// The opposite.
    Not(Box<Expr>),
}

impl Expr {
    /// Calls `visit` for every place in it.
    pub(in crate::scrub) fn places(&self, visit: &mut dyn FnMut(&Place)) {
        match self {
            Self::Literal(..) | Self::IsRootSpan => {}
            Self::Path(place) => {
                visit(place);
                place.keys.places(visit);
            }
            Self::Dig(inner, keys) => {
                inner.places(visit);
                keys.places(visit);
            }
            Self::List(all) | Self::And(all) | Self::Or(all) => all.iter().for_each(|one| one.places(visit)),
            Self::Map(all) => all.iter().for_each(|(_, one)| one.places(visit)),
            Self::Math(_, left, right) | Self::Compare(_, left, right) => {
                left.places(visit);
                right.places(visit);
            }
            Self::Call(_, arguments) => arguments.iter().flatten().for_each(|one| one.places(visit)),
            Self::IsMatch(inner, _) | Self::Extract(inner, _) | Self::Not(inner) => inner.places(visit),
        }
    }

    /// Whether it looks at the span itself and not at a path.
    pub(in crate::scrub) fn asks_for_root(&self) -> bool {
        match self {
            Self::IsRootSpan => true,
            Self::Literal(..) | Self::Path(_) => false,
            Self::Dig(inner, _) | Self::IsMatch(inner, _) | Self::Extract(inner, _) | Self::Not(inner) => {
                inner.asks_for_root()
            }
            Self::List(all) | Self::And(all) | Self::Or(all) => all.iter().any(Self::asks_for_root),
            Self::Map(all) => all.iter().any(|(_, one)| one.asks_for_root()),
            Self::Math(_, left, right) | Self::Compare(_, left, right) => {
                left.asks_for_root() || right.asks_for_root()
            }
            Self::Call(_, arguments) => arguments.iter().flatten().any(Self::asks_for_root),
        }
    }
}

/// The text that is put for a match.
#[derive(Clone, Debug)]
pub(in crate::scrub) enum Substitute {
    /// Known at start.
    Known(Template, Box<str>),
    /// Computed each time.
    Computed(Expr),
}

/// What is put for a match.
#[derive(Clone, Debug)]
pub(in crate::scrub) struct Replacement {
    /// Its text.
    pub(in crate::scrub) text: Substitute,
    /// A function of that text, and what stands around its result (`"<%s>"` gives `<` and `>`).
    pub(in crate::scrub) function: Option<(Function, Box<str>, Box<str>)>,
}

/// What `replace_all_patterns` looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::scrub) enum Side {
    /// `"key"`
    Keys,
    /// `"value"`
    Values,
}

/// `strategy` of `merge_maps`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::scrub) enum Merge {
    /// `insert`: what is not there yet
    Insert,
    /// `update`: what is there
    Update,
    /// `upsert`: both
    Upsert,
}

/// What a statement does.
#[derive(Clone, Debug)]
pub(in crate::scrub) enum Editor {
    /// `set(target, value)`
    Set(Place, Expr),
    /// `delete_key(map, "key")`
    DeleteKey(Place, Box<str>),
    /// `delete_matching_keys(map, "pattern")`
    DeleteMatchingKeys(Place, PatternId),
    /// `keep_keys(map, ["key", …])`
    KeepKeys(Place, Vec<Box<str>>),
    /// `keep_matching_keys(map, "pattern")`
    KeepMatchingKeys(Place, PatternId),
    /// `replace_pattern(target, "pattern", "replacement")`
    ReplacePattern(Place, PatternId, Replacement),
    /// `replace_all_patterns(map, "value", …)`
    ReplaceAllPatterns(Place, Side, PatternId, Replacement),
    /// `replace_match(target, "glob", "replacement")`
    ReplaceMatch(Place, PatternId, Replacement),
    /// `replace_all_matches(map, "glob", "replacement")`
    ReplaceAllMatches(Place, PatternId, Replacement),
    /// `truncate_all(map, limit)`: bytes
    TruncateAll(Place, usize),
    /// `limit(map, count, ["kept", …])`
    Limit(Place, usize, Vec<Box<str>>),
    /// `merge_maps(map, other, "strategy")`
    MergeMaps(Place, Expr, Merge),
    /// `append(target, value, values)`
    Append(Place, Vec<Expr>),
    /// `set_semconv_span_name("1.37.0", "attribute for the old one")`
    SemconvName(Option<Box<str>>),
}

impl Editor {
    /// Where it writes; a name's own place for `set_semconv_span_name`.
    pub(in crate::scrub) fn target(&self) -> Option<&Place> {
        match self {
            Self::Set(place, _)
            | Self::DeleteKey(place, _)
            | Self::DeleteMatchingKeys(place, _)
            | Self::KeepKeys(place, _)
            | Self::KeepMatchingKeys(place, _)
            | Self::ReplacePattern(place, ..)
            | Self::ReplaceAllPatterns(place, ..)
            | Self::ReplaceMatch(place, ..)
            | Self::ReplaceAllMatches(place, ..)
            | Self::TruncateAll(place, _)
            | Self::Limit(place, ..)
            | Self::MergeMaps(place, ..)
            | Self::Append(place, _) => Some(place),
            Self::SemconvName(_) => None,
        }
    }

    /// Calls `visit` for every expression in it.
    pub(in crate::scrub) fn expressions(&self, visit: &mut dyn FnMut(&Expr)) {
        match self {
            Self::Set(_, value) | Self::MergeMaps(_, value, _) => visit(value),
            Self::Append(_, values) => values.iter().for_each(visit),
            Self::ReplacePattern(_, _, with)
            | Self::ReplaceAllPatterns(_, _, _, with)
            | Self::ReplaceMatch(_, _, with)
            | Self::ReplaceAllMatches(_, _, with) => {
                if let Substitute::Computed(value) = &with.text {
                    visit(value);
                }
            }
            _ => {}
        }
    }
}

/// A statement.
#[derive(Clone, Debug)]
pub(in crate::scrub) struct Statement {
    /// The messages it runs for.
    pub(in crate::scrub) context: Context,
    /// What it does.
    pub(in crate::scrub) editor: Editor,
    /// Where; `None` is everywhere.
    pub(in crate::scrub) condition: Option<Expr>,
    /// What happens to a value that it can't handle.
    pub(in crate::scrub) mode: ErrorMode,
    /// Its rule.
    pub(in crate::scrub) rule: RuleId,
}
