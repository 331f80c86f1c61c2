//! `span`: names made of attributes, attributes made of names, and the status.

#![forbid(unsafe_code)]

use std::borrow::Cow;

use crate::{
    config::{ConfigError, Location, processors::SpanRules},
    otlp::walk::Kind,
};

use super::{
    builder::Builder,
    matching::Choice,
    ottl::{
        eval::{Pick, World},
        program::{Context, Field},
        tree::Work,
        value::{Key, Value},
    },
    pattern::PatternId,
    request::{Cursor, Request, Seen},
    rule::{Did, RuleId},
};

/// Compiled rules.
#[derive(Debug)]
pub(super) struct Rules {
    spans: Choice,
    from_attributes: Vec<Key>,
    separator: String,
    to_attributes: Vec<PatternId>,
    break_after_match: bool,
    keep_original_name: bool,
    status: Option<(u32, String)>,
    /// Of names, and of the status.
    ids: [RuleId; 2],
}

const NAME: Field = Field::Text(5);

impl Rules {
    /// Compiles the patterns.
    pub(super) fn new(
        config: &SpanRules,
        at: &Location,
        builder: &mut Builder,
        processor: usize,
    ) -> Result<Self, ConfigError> {
        let content = format!("{config:?}");
        let rules = ["name", "status"].map(|name| builder.rule(processor, name, &content, at));
        let patterns = &mut builder.patterns;
        let mut to_attributes = Vec::new();
        for rule in &config.to_attributes {
            let pattern = patterns.add(rule)?;
            if patterns.get(pattern).names().next().is_none() {
                let message = "the rule names no group; write `(?P<attribute>…)`".to_owned();
                return Err(ConfigError { at: rule.at.clone(), message });
            }
            to_attributes.push(pattern);
        }
        Ok(Self {
            spans: Choice::new(&config.spans, patterns)?,
            from_attributes: config
                .from_attributes
                .iter()
                .map(|key| Key::Name(key.as_str().into()))
                .collect(),
            separator: config.separator.clone(),
            to_attributes,
            break_after_match: config.break_after_match,
            keep_original_name: config.keep_original_name,
            status: config.status.clone(),
            ids: rules,
        })
    }

    /// How many rules these are.
    pub(super) fn len(&self) -> usize {
        2 + self.from_attributes.len() + self.to_attributes.len()
    }

    /// Works on a request.
    pub(super) fn run(&self, request: &mut Request<'_>, work: &mut Work<'_>) {
        request.each(Kind::Span, &mut |request, cursor| {
            if self.spans.has(request, cursor, work) {
                self.name_from_attributes(request, cursor, work);
                self.attributes_from_name(request, cursor, work);
                self.set_status(request, cursor, work);
            }
        });
    }

    /// Nothing happens where one of the attributes is missing.
    fn name_from_attributes(&self, request: &mut Request<'_>, cursor: Cursor, work: &mut Work<'_>) {
        let mut name = Vec::new();
        for (number, key) in self.from_attributes.iter().enumerate() {
            let value = read(request, cursor, Field::Attributes, std::slice::from_ref(key));
            let text = match &value {
                Value::Nil => return,
                Value::Text(_) | Value::Int(_) | Value::Double(_) | Value::Bool(_) => value.to_text(),
                _ => Ok(Some(Cow::Borrowed(&b"<unknown-attribute-type>"[..]))),
            };
            if number > 0 {
                name.extend_from_slice(self.separator.as_bytes());
            }
            if let Ok(Some(text)) = text {
                name.extend_from_slice(&text);
            }
        }
        if !self.from_attributes.is_empty() {
            self.set(request, cursor, NAME, &[], &Value::Text(Cow::Owned(name)), work);
        }
    }

    /// Each named group becomes an attribute, and its text in the name the group's name in braces.
    fn attributes_from_name(&self, request: &mut Request<'_>, cursor: Cursor, work: &mut Work<'_>) {
        for pattern in &self.to_attributes {
            let Value::Text(name) = read(request, cursor, NAME, &[]) else { return };
            let groups = work.patterns.groups(*pattern, work.caches, &name);
            if groups.is_empty() {
                continue;
            }
            let mut new = Vec::new();
            let mut done = 0;
            for (key, text) in &groups {
                let start = text.as_ptr() as usize - name.as_ptr() as usize;
                // A group inside another has gone with it.
                if start >= done {
                    new.extend_from_slice(&name[done..start]);
                    new.extend_from_slice(b"{");
                    new.extend_from_slice(key.as_bytes());
                    new.extend_from_slice(b"}");
                    done = start + text.len();
                }
                let key = [Key::Name((*key).into())];
                self.set(request, cursor, Field::Attributes, &key, &Value::Text(Cow::Borrowed(*text)), work);
            }
            new.extend_from_slice(&name[done..]);
            if !self.keep_original_name {
                self.set(request, cursor, NAME, &[], &Value::Text(Cow::Owned(new)), work);
            }
            if self.break_after_match {
                return;
            }
        }
    }

    fn set_status(&self, request: &mut Request<'_>, cursor: Cursor, work: &mut Work<'_>) {
        let Some((code, description)) = &self.status else { return };
        self.set(request, cursor, Field::StatusCode, &[], &Value::Int((*code).into()), work);
        self.set(request, cursor, Field::StatusMessage, &[], &Value::text(description.as_str()), work);
    }

    /// Every occurrence of an attribute gets the value.
    fn set(
        &self,
        request: &mut Request<'_>,
        cursor: Cursor,
        field: Field,
        keys: &[Key],
        value: &Value<'_>,
        work: &mut Work<'_>,
    ) {
        let places: Vec<usize> = match keys {
            [Key::Name(name)] => request.places(cursor, Context::Span, name).collect(),
            _ => Vec::new(),
        };
        let of_status = matches!(field, Field::StatusCode | Field::StatusMessage);
        let rule = self.ids[usize::from(of_status)];
        let mut put = |pick| {
            if let Ok(true) = request.set(cursor, Context::Span, field, keys, pick, Some(value)) {
                work.hit(rule, Did::Set, request, cursor, Context::Span, (field, keys));
            }
        };
        if places.is_empty() {
            put(Pick::Nth(0));
        }
        for at in places {
            put(Pick::At(at));
        }
    }
}

fn read(request: &Request<'_>, cursor: Cursor, field: Field, keys: &[Key]) -> Value<'static> {
    let cache = Value::Nil;
    let seen = Seen { request, cursor, cache: &cache };
    seen.read(Context::Span, field, keys, Pick::Nth(0)).into_owned()
}
