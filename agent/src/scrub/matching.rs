//! `include` and `exclude` of the processors that work on chosen spans.

#![forbid(unsafe_code)]

use crate::config::{
    ConfigError, Located,
    processors::{AttributeMatch, Literal, SpanChoice, SpanMatch},
};

use super::{
    actions::value_of,
    ottl::{
        eval::{Pick, World},
        grammar::CompareOp,
        program::{Context, Field, Number},
        tree::Work,
        value::{Key, Value},
    },
    pattern::{Caches, PatternId, Patterns},
    request::{Cursor, Request, Seen},
};

mod in_walk;

pub(super) use in_walk::ChoiceInWalk;

/// Which spans.
#[derive(Debug)]
pub(super) struct Choice {
    include: Option<Matcher>,
    exclude: Option<Matcher>,
}

#[derive(Debug)]
struct Matcher {
    services: Vec<Test>,
    span_names: Vec<Test>,
    attributes: Vec<(Key, Option<Test>)>,
    resources: Vec<(Key, Option<Test>)>,
    libraries: Vec<(Test, Option<Test>)>,
    kinds: Vec<u32>,
}

#[derive(Debug)]
enum Test {
    Equal(Value<'static>),
    Pattern(PatternId),
}

impl Choice {
    /// Compiles the patterns.
    pub(super) fn new(choice: &SpanChoice, patterns: &mut Patterns) -> Result<Self, ConfigError> {
        let mut compile =
            |one: &Option<SpanMatch>| one.as_ref().map(|one| Matcher::new(one, patterns)).transpose();
        Ok(Self { include: compile(&choice.include)?, exclude: compile(&choice.exclude)? })
    }

    /// Whether a span is chosen. Of a key that occurs twice, one is enough to be included, and all are needed to be
    /// excluded: a second occurrence does not take a span out of a scrubber's reach.
    pub(super) fn has(&self, request: &Request<'_>, cursor: Cursor, work: &mut Work<'_>) -> bool {
        let cache = Value::Nil;
        let seen = Seen { request, cursor, cache: &cache };
        let included = self.include.as_ref().is_none_or(|include| include.matches(&seen, true, work));
        included && !self.exclude.as_ref().is_some_and(|exclude| exclude.matches(&seen, false, work))
    }
}

impl Matcher {
    fn new(of: &SpanMatch, patterns: &mut Patterns) -> Result<Self, ConfigError> {
        let mut compiled = |text: &Located<String>| {
            Ok(if of.regexp {
                Test::Pattern(patterns.add(text)?)
            } else {
                Test::Equal(Value::text(text.value.as_str()))
            })
        };
        let services = of.services.iter().map(&mut compiled).collect::<Result<_, ConfigError>>()?;
        let span_names = of.span_names.iter().map(&mut compiled).collect::<Result<_, ConfigError>>()?;
        let mut libraries = Vec::new();
        for library in &of.libraries {
            let version = library.version.as_ref().map(&mut compiled).transpose()?;
            libraries.push((compiled(&library.name)?, version));
        }
        let mut attributes = |all: &[AttributeMatch]| {
            let one = |one: &AttributeMatch| {
                let key = Key::Name(one.key.as_str().into());
                let test = match &one.value {
                    None => None,
                    Some(Located { value: Literal::String(value), at }) if of.regexp => {
                        Some(compiled(&Located { value: value.clone(), at: at.clone() })?)
                    }
                    Some(Located { value, .. }) => Some(Test::Equal(value_of(value))),
                };
                Ok((key, test))
            };
            all.iter().map(one).collect::<Result<Vec<_>, ConfigError>>()
        };
        let (own, resources) = (attributes(&of.attributes)?, attributes(&of.resources)?);
        let kinds = of.span_kinds.clone();
        Ok(Self { services, span_names, attributes: own, resources, libraries, kinds })
    }

    fn matches(&self, seen: &Seen<'_, '_>, one_is_enough: bool, work: &mut Work<'_>) -> bool {
        let span = |field| seen.read(Context::Span, field, &[], Pick::Nth(0));
        let scope = |number| seen.read(Context::Scope, Field::Text(number), &[], Pick::Nth(0));
        let mut attribute = |owner, key: &Key, test: Option<&Test>| {
            let Key::Name(name) = key else { return false };
            let values = seen.request.values(seen.cursor, owner, name);
            let holds =
                values.map(|value| test.is_none_or(|test| test.holds(&value, work.patterns, work.caches)));
            enough(holds, one_is_enough)
        };
        let service = Key::Name("service.name".into());
        (self.kinds.is_empty()
            || matches!(span(Field::Number(6, Number::Varint)), Value::Int(kind)
                if self.kinds.iter().any(|known| i64::from(*known) == kind)))
            && (self.services.is_empty()
                || self.services.iter().any(|test| attribute(Context::Resource, &service, Some(test))))
            && self.attributes.iter().all(|(key, test)| attribute(Context::Span, key, test.as_ref()))
            && self.resources.iter().all(|(key, test)| attribute(Context::Resource, key, test.as_ref()))
            && (self.span_names.is_empty()
                || self
                    .span_names
                    .iter()
                    .any(|test| test.holds(&span(Field::Text(5)), work.patterns, work.caches)))
            && (self.libraries.is_empty()
                || self.libraries.iter().any(|(name, version)| {
                    name.holds(&scope(1), work.patterns, work.caches)
                        && version
                            .as_ref()
                            .is_none_or(|version| version.holds(&scope(2), work.patterns, work.caches))
                }))
    }
}

/// Whether one of the values is enough, or all of them are.
fn enough(mut holds: impl Iterator<Item = bool>, one_is_enough: bool) -> bool {
    if one_is_enough {
        holds.any(|holds| holds)
    } else {
        holds.next().is_some_and(|first| first && holds.all(|holds| holds))
    }
}

impl Test {
    fn holds(&self, value: &Value<'_>, patterns: &Patterns, caches: &mut Caches) -> bool {
        match self {
            Self::Equal(wanted) => value.compare(CompareOp::Equal, wanted),
            Self::Pattern(pattern) => match value.to_text() {
                Ok(Some(text)) => patterns.is_match(*pattern, caches, &text),
                _ => false,
            },
        }
    }
}
