//! A choice of spans that a walk can make: by what the span itself and its resource's attributes say.

#![forbid(unsafe_code)]

use std::borrow::Cow;

use super::{Choice, Matcher, Test, enough};
use crate::{
    otlp::walk::ValueKind,
    scrub::{
        builder::Builder,
        keys::KeyId,
        list::State,
        ottl::{
            exec::MAX_FROM_ABOVE,
            value::{Key, Value},
        },
        run::Run,
    },
};

/// The number of a span's name.
const NAME: u32 = 5;

/// Which spans, asked in a walk.
#[derive(Debug)]
pub(in crate::scrub) struct ChoiceInWalk {
    include: Option<InWalk>,
    exclude: Option<InWalk>,
}

/// Properties of a span; resources' attributes by the slot in which they are remembered.
#[derive(Debug)]
struct InWalk {
    services: Option<(usize, Vec<Test>)>,
    span_names: Vec<Test>,
    attributes: Vec<(KeyId, Option<Test>)>,
    resources: Vec<(usize, Option<Test>)>,
}

impl Choice {
    /// Whether a walk shows what it asks for.
    pub(in crate::scrub) fn fits_walk(&self) -> bool {
        let mut asks = [&self.include, &self.exclude].into_iter().flatten();
        asks.all(|one| one.kinds.is_empty() && one.libraries.is_empty())
    }

    /// The same choice for the walk that is being built, which must [fit](Self::fits_walk).
    pub(in crate::scrub) fn lower(self, builder: &mut Builder) -> ChoiceInWalk {
        let include = self.include.map(|one| InWalk::new(one, builder));
        let exclude = self.exclude.map(|one| InWalk::new(one, builder));
        ChoiceInWalk { include, exclude }
    }
}

impl ChoiceInWalk {
    /// Whether the span at work is chosen, as [`Choice::has`] says it.
    pub(in crate::scrub) fn has(&self, run: &mut Run<'_>) -> bool {
        self.include.as_ref().is_none_or(|include| include.matches(run, true))
            && !self.exclude.as_ref().is_some_and(|exclude| exclude.matches(run, false))
    }
}

impl InWalk {
    fn new(matcher: Matcher, builder: &mut Builder) -> Self {
        let id = |key: &Key, builder: &mut Builder| match key {
            Key::Name(name) => builder.keys.add(name),
            Key::Index(_) => KeyId::UNKNOWN,
        };
        let services = (!matcher.services.is_empty()).then(|| {
            let key = builder.keys.add("service.name");
            (builder.capture(key), matcher.services)
        });
        let attributes =
            matcher.attributes.into_iter().map(|(key, test)| (id(&key, builder), test)).collect();
        let resources = matcher.resources.into_iter().map(|(key, test)| {
            let key = id(&key, builder);
            (builder.capture(key), test)
        });
        Self { services, span_names: matcher.span_names, attributes, resources: resources.collect() }
    }

    fn matches(&self, run: &mut Run<'_>, one_is_enough: bool) -> bool {
        self.attributes.iter().all(|(key, test)| own(run, *key, test.as_ref(), one_is_enough))
            && self.services.as_ref().is_none_or(|(slot, tests)| {
                tests.iter().any(|test| above(run, *slot, Some(test), one_is_enough))
            })
            && self.resources.iter().all(|(slot, test)| above(run, *slot, test.as_ref(), one_is_enough))
            && (self.span_names.is_empty() || {
                let mut texts = run.list.texts.iter();
                let text = texts.find(|text| text.number == NAME && text.state != State::Deleted);
                let name = text.map_or(&[][..], |text| run.list.bytes(run.buf, text.value));
                let name = Value::Text(Cow::Borrowed(name));
                self.span_names.iter().any(|test| test.holds(&name, run.patterns, run.caches))
            })
    }
}

/// Asks of the span's own attributes.
fn own(run: &mut Run<'_>, key: KeyId, test: Option<&Test>, one_is_enough: bool) -> bool {
    let (list, buf, caches) = (&*run.list, run.buf, &mut *run.caches);
    let holds = list.with_key(key).map(|index| {
        let item = &list.items[index];
        let value = Value::of(item.kind, Cow::Borrowed(list.bytes(buf, item.value)));
        test.is_none_or(|test| test.holds(&value, run.patterns, caches))
    });
    enough(holds, one_is_enough)
}

/// Asks of the resource's. What is too long to be looked at again with every span leaves the span chosen.
fn above(run: &mut Run<'_>, slot: usize, test: Option<&Test>, one_is_enough: bool) -> bool {
    let caches = &mut *run.caches;
    let holds = run.above.slot(slot).iter().map(|(kind, content): &(ValueKind, Vec<u8>)| {
        test.is_none_or(|test| match content.len() {
            0..=MAX_FROM_ABOVE => {
                let value = Value::of(*kind, Cow::Borrowed(run.above.read(content)));
                test.holds(&value, run.patterns, caches)
            }
            _ => one_is_enough,
        })
    });
    let holds = enough(holds, one_is_enough);
    run.caches.budget.spent(run.above.take_read() as usize);
    holds
}
