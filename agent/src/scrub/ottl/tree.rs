//! Runs statements on a request as a tree: all of OTTL, for what a single walk over the bytes can't do.
//!
//! A statement about `attributes["k"]` runs once for each occurrence of the key.

#![forbid(unsafe_code)]

use std::borrow::Cow;

use crate::{
    config::processors::ErrorMode,
    otlp::walk::Kind,
    scrub::{
        metrics::Tally,
        pattern::{Caches, Patterns},
        record,
        request::{Cursor, Request, Seen},
        rule::{Account, Did, Rule, RuleId},
    },
};

use super::{
    eval::{Eval, Own, Pick, World},
    program::{Context, Editor, Expr, Field, Place, Statement},
    value::{Fit, Key, Unfit, Value},
};

mod maps;
mod replace;
mod semconv;

/// Occurrences of one key in one message that statements treat. No instrumentation writes more than one; those
/// beyond are removed, so that a sender can't buy time with them.
const MAX_OCCURRENCES: usize = 64;

/// What the steps on a tree share.
pub(in crate::scrub) struct Work<'w> {
    /// The plan's patterns.
    pub(in crate::scrub) patterns: &'w Patterns,
    /// Their search state.
    pub(in crate::scrub) caches: &'w mut Caches,
    /// By processor.
    pub(in crate::scrub) tally: &'w mut [Tally],
    /// The plan's rules.
    pub(in crate::scrub) rules: &'w [Rule],
    /// What they did.
    pub(in crate::scrub) account: &'w mut Account,
    /// A statement failed under `error_mode: propagate`.
    pub(in crate::scrub) refused: bool,
}

impl Work<'_> {
    /// A rule did something to a message's field: counts it for the rule and for its processor.
    pub(in crate::scrub) fn hit(
        &mut self,
        rule: RuleId,
        did: Did,
        request: &Request<'_>,
        cursor: Cursor,
        context: Context,
        field: (Field, &[Key]),
    ) {
        self.tally[self.rules[rule.index()].owner].did(did);
        self.account.hit_on_tree(rule, did, || {
            let (kind, at) = request.whereabouts(cursor, context);
            // Fields that stand in a message beside the one that paths name.
            let kind = match (field.0, kind) {
                (Field::StatusMessage, Kind::Span) => Kind::Status,
                (Field::SchemaUrl, Kind::Resource) => Kind::ResourceSpans,
                (Field::SchemaUrl, Kind::Scope) => Kind::ScopeSpans,
                (_, kind) => kind,
            };
            let key = field.1.first().cloned();
            let named = record::Named { cursor, context, field: field.0, key };
            let before = request.came(&named);
            record::OnTree { kind, at, field: recorded(field), before, named }
        });
    }
}

/// A field as records name it.
fn recorded((field, keys): (Field, &[Key])) -> record::Field {
    match (field, keys.first()) {
        (Field::Attributes, Some(Key::Name(name))) => record::Field::Attribute(name.as_bytes().to_vec()),
        (Field::Text(number), _) => record::Field::Text(number),
        (Field::StatusMessage, _) => record::Field::Text(2),
        (Field::TraceState | Field::SchemaUrl, _) => record::Field::Text(3),
        _ => record::Field::Message,
    }
}

/// Runs statements that follow each other, of one context, message by message; they share a cache.
pub(in crate::scrub) fn run(statements: &[Statement], request: &mut Request<'_>, work: &mut Work<'_>) {
    let Some(first) = statements.first() else { return };
    request.each(first.context.kind(), &mut |request, cursor| {
        let mut cache = Value::Map(Cow::Borrowed(&[]));
        for statement in statements {
            Runner { request, cursor, cache: &mut cache, work, statement }.statement();
        }
    });
}

/// Whether a condition holds for a message, and whether a term of it could not be evaluated.
pub(in crate::scrub) fn holds(
    condition: &Expr,
    closed: bool,
    request: &Request<'_>,
    cursor: Cursor,
    work: &mut Work<'_>,
) -> (bool, bool) {
    asked(closed, request, cursor, work, |eval, world| eval.holds(condition, world))
}

/// Whether a condition holds for a message whatever choice among repeated keys is made and with no term that could not
/// be evaluated, and whether there was such a term.
pub(in crate::scrub) fn surely_holds(
    condition: &Expr,
    request: &Request<'_>,
    cursor: Cursor,
    work: &mut Work<'_>,
) -> (bool, bool) {
    // Closed: a term that fails can be what is asked, here that the condition does not hold.
    asked(true, request, cursor, work, |eval, world| !eval.can_fail_to_hold(condition, world))
}

/// What a question about one message comes to, and whether a term could not be evaluated on the way.
fn asked(
    closed: bool,
    request: &Request<'_>,
    cursor: Cursor,
    work: &mut Work<'_>,
    question: impl FnOnce(&mut Eval<'_>, &Seen<'_, '_>) -> bool,
) -> (bool, bool) {
    let cache = Value::Map(Cow::Borrowed(&[]));
    let world = Seen { request, cursor, cache: &cache };
    let mut eval = Eval::new(work.patterns, work.caches, closed);
    let answer = question(&mut eval, &world);
    (answer, eval.failed)
}

/// A statement at work on one message.
struct Runner<'r, 'a, 'w> {
    request: &'r mut Request<'a>,
    cursor: Cursor,
    cache: &'r mut Value<'static>,
    work: &'r mut Work<'w>,
    statement: &'r Statement,
}

/// The target of a statement, with its keys.
#[derive(Clone, Copy)]
struct Target<'t> {
    owner: Context,
    field: Field,
    keys: &'t [Key],
    pick: Pick,
}

impl Runner<'_, '_, '_> {
    fn statement(&mut self) {
        let statement = self.statement;
        let Some(place) = statement.editor.target() else {
            if self.holds(None)
                && let Editor::SemconvName(original) = &statement.editor
            {
                self.semconv_name(original.as_deref());
            }
            return;
        };
        let keys = match self.eval(None, |eval, world| eval.keys(&place.keys, world).map(Cow::into_owned)) {
            Ok(keys) => keys,
            Err(Unfit) => return self.unfit(None),
        };
        let places = self.places(place, &keys);
        let target = |pick| Target { owner: place.owner, field: place.field, keys: &keys, pick };
        if places.is_empty() {
            if self.holds(None) {
                self.edit(target(Pick::Nth(0)), None);
            }
            return;
        }
        // From the last, because an edit may remove the one that it treats.
        for at in places.into_iter().rev() {
            if self.request.is_exhausted() {
                return;
            }
            let own = match &keys[0] {
                Key::Name(name) => Some(Own { owner: place.owner, name, at }),
                Key::Index(_) => None,
            };
            if self.holds(own) {
                self.edit(target(Pick::At(at)), own);
            }
        }
    }

    /// Where the attribute's key occurs, if the target is in an attribute.
    fn places(&mut self, place: &Place, keys: &[Key]) -> Vec<usize> {
        let Some(Key::Name(name)) = keys.first().filter(|_| place.field == Field::Attributes) else {
            return Vec::new();
        };
        let mut places: Vec<usize> = self.request.places(self.cursor, place.owner, name).collect();
        if places.len() > 1 {
            // Each is looked at by its place, for which what is not opened is read from its beginning.
            self.request.enter(self.cursor, place.owner);
        }
        if places.len() > MAX_OCCURRENCES {
            let beyond = places.split_off(MAX_OCCURRENCES);
            let target = Target { owner: place.owner, field: place.field, keys, pick: Pick::Nth(0) };
            for _ in &beyond {
                self.hit(Did::Removed, Some(target));
            }
            self.request.remove(self.cursor, place.owner, &beyond);
        }
        places
    }

    fn edit(&mut self, target: Target<'_>, own: Option<Own<'_>>) {
        let statement = self.statement;
        let edited = match &statement.editor {
            Editor::Set(_, value) => self.set(target, own, value),
            Editor::Append(_, values) => self.append(target, own, values),
            Editor::ReplacePattern(_, pattern, with) => self.replace_pattern(target, own, *pattern, with),
            Editor::ReplaceMatch(_, glob, with) => self.replace_match(target, own, *glob, with),
            editor => self.edit_map(target, own, editor),
        };
        if let Err(Unfit) = edited {
            self.unfit(Some(target));
        }
    }

    fn set(&mut self, target: Target<'_>, own: Option<Own<'_>>, value: &Expr) -> Fit<()> {
        let new = self.eval(own, |eval, world| eval.value(value, world).map(Value::into_owned))?;
        if matches!(new, Value::Nil) {
            return Ok(());
        }
        if self.put(target, Some(&new))? {
            let did = if super::is_hash(value) { Did::Hashed } else { Did::Set };
            self.hit(did, Some(target));
        }
        Ok(())
    }

    /// A list gets more elements; anything else becomes the first of a list.
    fn append(&mut self, target: Target<'_>, own: Option<Own<'_>>, values: &[Expr]) -> Fit<()> {
        let list = self.eval(own, |eval, world| {
            let mut all = match world.read(target.owner, target.field, target.keys, target.pick) {
                Value::Nil => Vec::new(),
                Value::List(content) => super::value::elements(&content)
                    .map(|(kind, content)| Value::of(kind, Cow::Borrowed(content)).into_owned())
                    .collect(),
                other => vec![other.into_owned()],
            };
            for value in values {
                all.push(eval.value(value, world)?.into_owned());
            }
            Value::list(all)
        })?;
        if self.put(target, Some(&list))? {
            self.hit(Did::Set, Some(target));
        }
        Ok(())
    }

    /// The target's value.
    fn value(&self, target: Target<'_>) -> Value<'_> {
        // The cache is the runner's, so that a borrow of it is one of the runner.
        if target.field == Field::Cache {
            return self.cache.clone().dig(target.keys);
        }
        let seen = Seen { request: self.request, cursor: self.cursor, cache: self.cache };
        seen.read(target.owner, target.field, target.keys, target.pick).into_owned()
    }

    /// Writes the target; `None` deletes it.
    fn put(&mut self, target: Target<'_>, new: Option<&Value<'_>>) -> Fit<bool> {
        let Target { owner, field, keys, pick } = target;
        if field != Field::Cache {
            return self.request.set(self.cursor, owner, field, keys, pick, new);
        }
        *self.cache = match (keys, new) {
            ([], Some(new @ Value::Map(_))) => new.clone().into_owned(),
            ([], _) => return Err(Unfit),
            (keys, new) => self.cache.with(keys, new)?,
        };
        // Nothing of the span has changed.
        Ok(false)
    }

    fn holds(&mut self, own: Option<Own<'_>>) -> bool {
        let statement = self.statement;
        statement
            .condition
            .as_ref()
            .is_none_or(|condition| self.eval(own, |eval, world| eval.holds(condition, world)))
    }

    fn eval<T>(&mut self, own: Option<Own<'_>>, work: impl FnOnce(&mut Eval<'_>, &dyn World) -> T) -> T {
        let closed = self.statement.mode == ErrorMode::DropValue;
        let world = Seen { request: self.request, cursor: self.cursor, cache: self.cache };
        let mut eval = Eval::new(self.work.patterns, self.work.caches, closed);
        eval.own = own;
        let out = work(&mut eval, &world);
        if eval.failed {
            self.unfit(None);
        }
        out
    }

    /// The target, or the whole attribute where that has not the form that the target's keys ask for.
    fn droppable<'t>(&self, target: Target<'t>) -> Target<'t> {
        match target.keys.split_at_checked(1) {
            Some((first, [_, ..])) => {
                let whole = Target { keys: first, ..target };
                let holds_more = matches!(self.value(whole), Value::Map(_) | Value::List(_) | Value::Nil);
                if holds_more { target } else { whole }
            }
            _ => target,
        }
    }

    fn hit(&mut self, did: Did, target: Option<Target<'_>>) {
        let (context, field) = match target {
            Some(target) => (target.owner, (target.field, target.keys)),
            None => (self.statement.context, (Field::Cache, &[][..])),
        };
        self.work.hit(self.statement.rule, did, self.request, self.cursor, context, field);
    }

    /// Something could not be handled: what happens to the target says the error mode.
    fn unfit(&mut self, target: Option<Target<'_>>) {
        self.hit(Did::Failed, target);
        match (self.statement.mode, target) {
            (ErrorMode::Propagate, _) => self.work.refused = true,
            (ErrorMode::DropValue, Some(target)) => {
                // What can't be deleted, such as a trace id, holds nothing to scrub.
                if matches!(self.put(self.droppable(target), None), Ok(true)) {
                    self.hit(Did::Removed, Some(target));
                }
            }
            _ => {}
        }
    }
}
