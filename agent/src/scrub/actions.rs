//! `attributes` and `resource`: a list of actions on single keys.

#![forbid(unsafe_code)]

use crate::{
    config::{
        ConfigError, Located, Location,
        processors::{Action, ActionValue, AttributeAction, Literal},
    },
    otlp::{encode, walk::ValueKind},
};

use super::{
    builder::Builder,
    hash::put_sha256,
    keys::KeyId,
    list::State,
    ottl::Key,
    pattern::PatternId,
    rule::{Did, Place, RuleId},
    run::Run,
    value,
};

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
}

#[derive(Debug)]
enum Source {
    Literal(ValueKind, Vec<u8>),
    Attribute(KeyId),
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
            ActionValue::FromAttribute(name) => Source::Attribute(builder.keys.add(name)),
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
        }
    }

    fn put(&self, run: &mut Run<'_>, source: &Source) {
        let (kind, content) = match source {
            Source::Literal(kind, content) => (*kind, content.clone()),
            Source::Attribute(id) => {
                let Some(index) = run.list.with_key(*id).next() else { return };
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

    /// Text and bytes are hashed as they are, numbers by their decimal text, nested values by their encoding.
    fn hash(&self, run: &mut Run<'_>, index: usize) {
        let item = run.list.items[index];
        let content = run.list.bytes(run.buf, item.value);
        run.out.clear();
        match value::number_text(item.kind, content) {
            Some(text) => put_sha256(text.as_bytes(), run.out),
            None => put_sha256(content, run.out),
        }
        run.list.set(run.buf, index, ValueKind::String, run.out);
        run.hit(self.rule, Did::Hashed, Place::Attribute(index));
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
