//! `attributes` and `resource`: a list of actions on single keys.

#![forbid(unsafe_code)]

use crate::{
    config::{
        ConfigError, Located, Location,
        processors::{Action, ActionValue, AttributeAction, ConvertTo, Literal},
    },
    otlp::{encode, walk::ValueKind},
};

use super::{
    builder::Builder,
    hash::put_sha256,
    list::State,
    ottl::{Key, value::Value},
    pattern::{Caches, PatternId, Patterns},
    rule::{Did, Place, RuleId},
    run::Run,
    value,
};

mod tree;

pub(super) use tree::run as run_on_tree;

/// Occurrences of one key that groups are extracted from: each writes attributes, which takes a look at all.
const MAX_EXTRACTED: usize = 64;

/// A compiled action.
#[derive(Debug)]
pub(super) struct Step {
    key: Key,
    what: What,
    rule: RuleId,
}

#[derive(Debug)]
enum What {
    Insert(Source),
    Update(Source),
    Upsert(Source),
    Delete(Option<PatternId>),
    Hash(Option<PatternId>),
    Extract(PatternId),
    Convert(ConvertTo),
}

#[derive(Debug)]
enum Source {
    Literal(ValueKind, Vec<u8>),
    Attribute(Key),
}

impl Step {
    /// Compiles an action.
    pub(super) fn new(
        action: &AttributeAction,
        builder: &mut Builder,
        processor: usize,
    ) -> Result<Self, ConfigError> {
        let rule = builder.rule_at(processor, &describe(action), &place(action));
        let name = &action.key.value;
        let key = Key { id: builder.keys.add(name), name: name.as_str().into() };
        let mut source = |value: &ActionValue| match value {
            ActionValue::Literal(literal) => {
                let (kind, content) = content_of(literal);
                Source::Literal(kind, content)
            }
            ActionValue::FromAttribute(name) => {
                Source::Attribute(Key { id: builder.keys.add(name), name: name.as_str().into() })
            }
        };
        let what = match &action.action {
            Action::Insert(value) => What::Insert(source(value)),
            Action::Update(value) => What::Update(source(value)),
            Action::Upsert(value) => What::Upsert(source(value)),
            Action::Delete { pattern } => {
                What::Delete(pattern.as_ref().map(|pattern| builder.patterns.add(pattern)).transpose()?)
            }
            Action::Hash { pattern } => {
                What::Hash(pattern.as_ref().map(|pattern| builder.patterns.add(pattern)).transpose()?)
            }
            Action::Extract(pattern) => {
                let id = builder.patterns.add(pattern)?;
                if builder.patterns.get(id).names().next().is_none() {
                    let message = "the pattern names no group; write `(?P<attribute>…)`".to_owned();
                    return Err(ConfigError { at: pattern.at.clone(), message });
                }
                What::Extract(id)
            }
            Action::Convert(to) => What::Convert(*to),
        };
        Ok(Self { key, what, rule })
    }

    /// Works on one message.
    pub(super) fn run(&self, run: &mut Run<'_>) {
        match &self.what {
            What::Insert(source) => {
                if run.list.with_key(self.key.id).next().is_none() {
                    self.put(run, source);
                }
            }
            What::Update(source) => {
                if run.list.with_key(self.key.id).next().is_some() {
                    self.put(run, source);
                }
            }
            What::Upsert(source) => self.put(run, source),
            What::Delete(pattern) => self.each(run, *pattern, |run, index| {
                run.list.delete(index);
                run.hit(self.rule, Did::Removed, Place::Attribute(index));
            }),
            What::Hash(pattern) => self.each(run, *pattern, |run, index| self.hash(run, index)),
            What::Extract(pattern) => {
                let places: Vec<usize> = run.list.with_key(self.key.id).take(MAX_EXTRACTED).collect();
                for index in places {
                    self.extract(run, index, *pattern);
                }
            }
            What::Convert(to) => self.each(run, None, |run, index| {
                let item = run.list.items[index];
                let value = Value::of(item.kind, run.list.bytes(run.buf, item.value).into());
                let Some((kind, content)) = converted(&value, *to) else { return };
                if run.list.set(run.buf, index, kind, &content) {
                    run.hit(self.rule, Did::Set, Place::Attribute(index));
                }
            }),
        }
    }

    fn put(&self, run: &mut Run<'_>, source: &Source) {
        let (kind, content) = match source {
            Source::Literal(kind, content) => (*kind, content.clone()),
            Source::Attribute(key) => {
                let Some(index) = run.list.with_key(key.id).next() else { return };
                let item = run.list.items[index];
                (item.kind, run.list.bytes(run.buf, item.value).to_vec())
            }
        };
        if run.upsert(self.key.id, &self.key.name, kind, &content, false) {
            run.hit(self.rule, Did::Set, Place::Key(self.key.id));
        }
    }

    fn each(
        &self,
        run: &mut Run<'_>,
        pattern: Option<PatternId>,
        mut treat: impl FnMut(&mut Run<'_>, usize),
    ) {
        if pattern.is_none() && run.list.present & self.key.id.bit() == 0 {
            return;
        }
        for index in 0..run.list.items.len() {
            let item = run.list.items[index];
            let named = item.id == self.key.id
                || pattern.is_some_and(|pattern| {
                    run.patterns.is_match(pattern, run.caches, run.list.bytes(run.buf, item.key))
                });
            if named && item.state != State::Deleted {
                treat(run, index);
            }
        }
    }

    fn hash(&self, run: &mut Run<'_>, index: usize) {
        let item = run.list.items[index];
        run.out.clear();
        put_hash(item.kind, run.list.bytes(run.buf, item.value), run.out);
        run.list.set(run.buf, index, ValueKind::String, run.out);
        run.hit(self.rule, Did::Hashed, Place::Attribute(index));
    }

    /// Each named group of the text's match becomes an attribute.
    fn extract(&self, run: &mut Run<'_>, index: usize, pattern: PatternId) {
        let item = run.list.items[index];
        if item.kind != ValueKind::String {
            return;
        }
        let text = run.list.bytes(run.buf, item.value);
        for (name, text) in groups(run.patterns, run.caches, pattern, text) {
            let id = run.keys.find(name.as_bytes());
            if run.upsert(id, &name, ValueKind::String, &text, false) {
                run.hit(self.rule, Did::Set, Place::Key(id));
            }
        }
    }
}

/// The named groups of a match, on their own: the list that holds the text is about to change.
fn groups(
    patterns: &Patterns,
    caches: &mut Caches,
    pattern: PatternId,
    text: &[u8],
) -> Vec<(String, Vec<u8>)> {
    let groups = patterns.groups(pattern, caches, text);
    groups.into_iter().map(|(name, text)| (name.to_owned(), text.to_vec())).collect()
}

/// Text and bytes are hashed as they are, numbers by their decimal text, nested values by their encoding.
fn put_hash(kind: ValueKind, content: &[u8], out: &mut Vec<u8>) {
    match value::number_text(kind, content) {
        Some(text) => put_sha256(text.as_bytes(), out),
        None => put_sha256(content, out),
    }
}

/// Kind and content of a value in another type; `None` where it can't be converted, or has it already.
fn converted(value: &Value<'_>, to: ConvertTo) -> Option<(ValueKind, Vec<u8>)> {
    let text = || value.as_str().ok();
    let new = match (to, value) {
        (ConvertTo::String, Value::Text(_) | Value::Nil) => return None,
        (ConvertTo::String, value) => Value::Text(value.to_text().ok()??.into_owned().into()),
        (ConvertTo::Int, Value::Double(number)) => Value::Int(*number as i64),
        (ConvertTo::Int, Value::Bool(flag)) => Value::Int(i64::from(*flag)),
        (ConvertTo::Int, Value::Text(_)) => Value::Int(text()?.parse().ok()?),
        (ConvertTo::Double, Value::Int(number)) => Value::Double(*number as f64),
        (ConvertTo::Double, Value::Bool(flag)) => Value::Double(f64::from(u8::from(*flag))),
        (ConvertTo::Double, Value::Text(_)) => {
            Value::Double(text()?.parse().ok().filter(|number: &f64| number.is_finite())?)
        }
        _ => return None,
    };
    let (kind, content) = new.parts().ok()?;
    Some((kind, content.into_owned()))
}

/// A literal of the configuration as a value.
pub(super) fn value_of(literal: &Literal) -> Value<'static> {
    match literal {
        Literal::String(text) => Value::text(text.as_str()),
        Literal::Int(number) => Value::Int(*number),
        Literal::Double(number) => Value::Double(*number),
        Literal::Bool(flag) => Value::Bool(*flag),
    }
}

/// What an action says, wherever it stands.
fn describe(action: &AttributeAction) -> String {
    let key = &action.key.value;
    let with = |pattern: &Option<Located<String>>| {
        pattern.as_ref().map_or_else(String::new, |pattern| format!(" {}", pattern.value))
    };
    match &action.action {
        Action::Insert(value) => format!("insert {key} {value:?}"),
        Action::Update(value) => format!("update {key} {value:?}"),
        Action::Upsert(value) => format!("upsert {key} {value:?}"),
        Action::Delete { pattern } => format!("delete {key}{}", with(pattern)),
        Action::Hash { pattern } => format!("hash {key}{}", with(pattern)),
        Action::Extract(pattern) => format!("extract {key} {}", pattern.value),
        Action::Convert(to) => format!("convert {key} {to:?}"),
    }
}

/// The action's own place: what is known is its key's.
fn place(action: &AttributeAction) -> Location {
    let at = &action.key.at;
    let path = at.path.strip_suffix("::key").unwrap_or(&at.path);
    Location { path: path.into(), ..at.clone() }
}

fn content_of(literal: &Literal) -> (ValueKind, Vec<u8>) {
    let varint = |number: u64| {
        let mut content = Vec::new();
        encode::varint(&mut content, number);
        content
    };
    match literal {
        Literal::String(text) => (ValueKind::String, text.clone().into_bytes()),
        Literal::Int(number) => (ValueKind::Int, varint(number.cast_unsigned())),
        Literal::Double(number) => (ValueKind::Double, number.to_le_bytes().to_vec()),
        Literal::Bool(flag) => (ValueKind::Bool, varint(u64::from(*flag))),
    }
}
