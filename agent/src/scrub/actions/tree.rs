//! Actions on chosen spans: the choice may depend on what is around the span, so they run on the tree.

#![forbid(unsafe_code)]

use std::borrow::Cow;

use super::{MAX_EXTRACTED, Source, Step, What, converted, groups, put_hash};
use crate::{
    otlp::walk::{Kind, ValueKind},
    scrub::{
        matching::Choice,
        ottl::{
            eval::{Pick, World},
            program::{Context, Field},
            tree::Work,
            value::{Key, Value},
        },
        request::{Cursor, Request, Seen},
        rule::Did,
        run::MAX_WRITTEN,
    },
};

/// Runs actions on the attributes of chosen spans.
pub(in crate::scrub) fn run(
    spans: &Choice,
    actions: &[Step],
    request: &mut Request<'_>,
    work: &mut Work<'_>,
) {
    request.each(Kind::Span, &mut |request, cursor| {
        if spans.has(request, cursor, work) {
            for action in actions {
                Action { step: action, request, cursor, work }.run();
            }
        }
    });
}

/// An action at work on one span.
struct Action<'r, 'a, 'w> {
    step: &'r Step,
    request: &'r mut Request<'a>,
    cursor: Cursor,
    work: &'r mut Work<'w>,
}

impl Action<'_, '_, '_> {
    fn run(&mut self) {
        let name = &self.step.key.name;
        let here = self.places(name);
        if here.len() > 1 {
            // Each is looked at by its place, for which what is not opened is read from its beginning.
            self.request.enter(self.cursor, Context::Span);
        }
        match &self.step.what {
            What::Insert(source) if here.is_empty() => self.put(source),
            What::Update(source) if !here.is_empty() => self.put(source),
            What::Insert(_) | What::Update(_) => {}
            What::Upsert(source) => self.put(source),
            What::Delete(pattern) => {
                let mut named = self.matching(*pattern);
                named.extend(here);
                named.sort_unstable();
                named.dedup();
                self.request.remove(self.cursor, Context::Span, &named);
                for _ in &named {
                    self.hit(Did::Removed, name);
                }
            }
            What::Hash(pattern) => {
                let mut named = self.matching(*pattern);
                named.extend(here);
                named.sort_unstable();
                named.dedup();
                for at in named {
                    self.hash(at);
                }
            }
            What::Extract(pattern) => {
                for at in here.into_iter().take(MAX_EXTRACTED) {
                    let Value::Text(text) = self.value(at) else { continue };
                    for (name, text) in groups(self.work.patterns, self.work.caches, *pattern, &text) {
                        self.upsert(&name, &Value::Text(Cow::Owned(text)));
                    }
                }
            }
            What::Convert(to) => {
                for at in here {
                    if let Some((kind, content)) = converted(&self.value(at), *to) {
                        self.set(name, Pick::At(at), &Value::of(kind, Cow::Owned(content)));
                    }
                }
            }
        }
    }

    fn places(&self, name: &str) -> Vec<usize> {
        self.request.places(self.cursor, Context::Span, name).collect()
    }

    /// Places of the attributes whose key matches.
    fn matching(&mut self, pattern: Option<super::PatternId>) -> Vec<usize> {
        let Some(pattern) = pattern else { return Vec::new() };
        let keys = self.request.span_keys(self.cursor);
        let (patterns, caches) = (self.work.patterns, &mut *self.work.caches);
        let matches = keys.enumerate().filter(|(_, key)| patterns.is_match(pattern, caches, key));
        matches.map(|(at, _)| at).collect()
    }

    fn value(&self, at: usize) -> Value<'static> {
        self.read(&self.step.key.name, Pick::At(at))
    }

    fn read(&self, name: &str, pick: Pick) -> Value<'static> {
        let cache = Value::Nil;
        let seen = Seen { request: self.request, cursor: self.cursor, cache: &cache };
        let keys = [Key::Name(name.into())];
        seen.read(Context::Span, Field::Attributes, &keys, pick).into_owned()
    }

    fn put(&mut self, source: &Source) {
        let value = match source {
            Source::Literal(kind, content) => Value::of(*kind, Cow::Borrowed(content)),
            Source::Attribute(key) if self.places(&key.name).is_empty() => return,
            Source::Attribute(key) => self.read(&key.name, Pick::Nth(0)),
        };
        self.upsert(&self.step.key.name, &value);
    }

    /// Every occurrence gets the value; those beyond [`MAX_WRITTEN`] are removed.
    fn upsert(&mut self, name: &str, value: &Value<'_>) {
        let mut places = self.places(name);
        let beyond = places.split_off(places.len().min(MAX_WRITTEN));
        self.request.remove(self.cursor, Context::Span, &beyond);
        if places.is_empty() {
            self.set(name, Pick::Nth(0), value);
        }
        for at in places {
            self.set(name, Pick::At(at), value);
        }
    }

    fn hash(&mut self, at: usize) {
        let Ok((kind, content)) = self.value(at).parts().map(|(kind, content)| (kind, content.into_owned()))
        else {
            return;
        };
        let mut hash = Vec::new();
        put_hash(kind, &content, &mut hash);
        let value = Value::of(ValueKind::String, Cow::Owned(hash));
        if self.write(Pick::At(at), &self.step.key.name, &value) {
            self.hit(Did::Hashed, &self.step.key.name);
        }
    }

    fn set(&mut self, name: &str, pick: Pick, value: &Value<'_>) {
        if self.write(pick, name, value) {
            self.hit(Did::Set, name);
        }
    }

    fn write(&mut self, pick: Pick, name: &str, value: &Value<'_>) -> bool {
        let keys = [Key::Name(name.into())];
        let set = self.request.set(self.cursor, Context::Span, Field::Attributes, &keys, pick, Some(value));
        set.unwrap_or(false)
    }

    fn hit(&mut self, did: Did, name: &str) {
        let keys = [Key::Name(name.into())];
        let field = (Field::Attributes, &keys[..]);
        self.work.hit(self.step.rule, did, self.request, self.cursor, Context::Span, field);
    }
}
