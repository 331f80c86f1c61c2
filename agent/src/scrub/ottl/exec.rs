//! Runs statements on one message.
//!
//! A key may occur several times in a message, and every occurrence is treated: a statement about
//! `attributes["k"]` runs once for each, and a condition about another key holds when any of its occurrences makes
//! it hold, so that a second occurrence can't hide the first from a scrubber.

use std::borrow::Cow;

use crate::{config::processors::ErrorMode, otlp::walk::ValueKind};

use super::{
    Condition, Editor, Expr, General, Key, Replacement, Statement, Target,
    eval::{Eval, Own, Pick, World},
    program::{Context, Field},
    value::{Key as Inner, Value as Any},
};
use crate::scrub::{
    hash::put_sha256,
    keys::{KeyId, Keys},
    list::{List, State},
    pattern::{Caches, PatternId, Patterns},
    rule::{Did, Place},
    run::{Above, Captured, Run},
    value,
};

/// The occurrence that is being treated: its key and its place in the list.
type Current = Option<(KeyId, usize)>;

/// A value, as [`ValueKind`] describes it; `Empty` is `nil`.
type Value<'v> = (ValueKind, Cow<'v, [u8]>);

/// How many occurrences of a key are treated, and tried in a condition. A condition that has more to try counts as held and as
/// not held, so that a sender can neither hide a value behind others nor make the search for it expensive: what a message costs stays within
/// the square of this, whatever it holds.
const MAX_CHOICES: usize = 8;

/// Longest value of a resource that is read from below, in bytes: each of its spans may read it again.
pub(in crate::scrub) const MAX_FROM_ABOVE: usize = 4096;

/// A function was given what it can't take.
struct Unfit;

/// Runs a statement.
pub(in crate::scrub) fn run(statement: &Statement, run: &mut Run<'_>) {
    edit(statement, run);
    run.caches.budget.spent(run.above.take_read() as usize);
}

fn edit(statement: &Statement, run: &mut Run<'_>) {
    match &statement.editor {
        Editor::Set(Target::Attribute(key), value) => set_attribute(statement, run, key, value),
        Editor::Set(Target::Text(number), value) => set_text(statement, run, *number, value),
        Editor::ReplacePattern(Target::Attribute(key), pattern, replacement) => {
            each_with_key(statement, run, key.id, |run, index| {
                if run.list.items[index].kind == ValueKind::String
                    && holds(statement, run, Some((key.id, index)))
                {
                    replace_value(statement, run, index, *pattern, replacement);
                }
            });
        }
        Editor::ReplacePattern(Target::Text(number), pattern, replacement) => {
            for index in 0..run.list.texts.len() {
                let text = run.list.texts[index];
                if text.number != *number || text.state == State::Deleted || !holds(statement, run, None) {
                    continue;
                }
                let (list, buf) = (&mut run.list, run.buf);
                run.out.clear();
                let text = list.bytes(buf, text.value);
                if replace(run.patterns, run.caches, *pattern, replacement, text, run.out)
                    && list.set_text(buf, index, run.out)
                {
                    run.hit(statement.rule, Did::Masked, Place::Text(index));
                }
            }
        }
        Editor::DeleteKey(id) => {
            if run.list.present & id.bit() != 0 {
                delete_where(statement, run, |_, item| item == *id);
            }
        }
        Editor::DeleteMatchingKeys(pattern) => delete_by_name(statement, run, *pattern, true),
        Editor::KeepMatchingKeys(pattern) => delete_by_name(statement, run, *pattern, false),
        Editor::KeepKeys(ids) => delete_where(statement, run, |_, id| !ids.contains(&id)),
        Editor::ReplaceAllValues(pattern, replacement) => all_values(statement, run, *pattern, replacement),
        Editor::ReplaceAllKeys(pattern, replacement) => all_keys(statement, run, *pattern, replacement),
        Editor::TruncateAll(limit) => truncate_all(statement, run, *limit),
    }
}

/// Calls `treat` for every attribute that is still there.
fn each(run: &mut Run<'_>, mut treat: impl FnMut(&mut Run<'_>, usize)) {
    for index in 0..run.list.items.len() {
        if run.list.items[index].state != State::Deleted {
            treat(run, index);
        }
    }
}

/// Calls `treat` for every attribute with a known key that is still there. Occurrences beyond [`MAX_CHOICES`], which no
/// SDK writes, are removed: what is done for each of them can depend on each occurrence of another key.
fn each_with_key(
    statement: &Statement,
    run: &mut Run<'_>,
    id: KeyId,
    mut treat: impl FnMut(&mut Run<'_>, usize),
) {
    let (mut from, mut count) = (0, 0);
    while let Some((index, after)) = run.list.next_with_key(id, from) {
        (from, count) = (after, count + 1);
        if count > MAX_CHOICES {
            run.list.delete(index);
            run.hit(statement.rule, Did::Removed, Place::Attribute(index));
        } else {
            treat(run, index);
        }
    }
}

fn delete_where(statement: &Statement, run: &mut Run<'_>, mut hit: impl FnMut(&mut Run<'_>, KeyId) -> bool) {
    if !holds(statement, run, None) {
        return;
    }
    each(run, |run, index| {
        if hit(run, run.list.items[index].id) {
            run.list.delete(index);
            run.hit(statement.rule, Did::Removed, Place::Attribute(index));
        }
    });
}

fn delete_by_name(statement: &Statement, run: &mut Run<'_>, pattern: PatternId, matching: bool) {
    if !holds(statement, run, None) {
        return;
    }
    each(run, |run, index| {
        let name = run.list.bytes(run.buf, run.list.items[index].key);
        if run.patterns.is_match(pattern, run.caches, name) == matching {
            run.list.delete(index);
            run.hit(statement.rule, Did::Removed, Place::Attribute(index));
        }
    });
}

fn all_values(statement: &Statement, run: &mut Run<'_>, pattern: PatternId, replacement: &Replacement) {
    if !holds(statement, run, None) {
        return;
    }
    each(run, |run, index| {
        if run.list.items[index].kind == ValueKind::String {
            replace_value(statement, run, index, pattern, replacement);
        }
    });
}

fn all_keys(statement: &Statement, run: &mut Run<'_>, pattern: PatternId, replacement: &Replacement) {
    if !holds(statement, run, None) {
        return;
    }
    each(run, |run, index| {
        run.out.clear();
        let name = run.list.bytes(run.buf, run.list.items[index].key);
        if replace(run.patterns, run.caches, pattern, replacement, name, run.out) && name != &run.out[..] {
            run.list.set_key(run.keys, index, run.out);
            run.hit(statement.rule, Did::Masked, Place::Attribute(index));
        }
    });
}

fn truncate_all(statement: &Statement, run: &mut Run<'_>, limit: usize) {
    if !holds(statement, run, None) {
        return;
    }
    each(run, |run, index| {
        let item = run.list.items[index];
        let content = run.list.bytes(run.buf, item.value);
        if item.kind != ValueKind::String || content.len() <= limit {
            return;
        }
        // The Collector cuts at the byte; text must stay text, so the cut moves back to a character's start.
        let cut = (0..=limit).rev().find(|at| content[*at] & 0xc0 != 0x80).unwrap_or(0);
        run.out.clear();
        run.out.extend_from_slice(&content[..cut]);
        run.list.set(run.buf, index, ValueKind::String, run.out);
        run.hit(statement.rule, Did::Set, Place::Attribute(index));
    });
}

fn replace_value(
    statement: &Statement,
    run: &mut Run<'_>,
    index: usize,
    pattern: PatternId,
    with: &Replacement,
) {
    run.out.clear();
    let text = run.list.bytes(run.buf, run.list.items[index].value);
    if replace(run.patterns, run.caches, pattern, with, text, run.out)
        && run.list.set(run.buf, index, ValueKind::String, run.out)
    {
        run.hit(statement.rule, Did::Masked, Place::Attribute(index));
    }
}

/// Appends the text with every match replaced; `false`, and nothing appended, where there is none.
pub(in crate::scrub) fn replace(
    patterns: &Patterns,
    caches: &mut Caches,
    pattern: PatternId,
    with: &Replacement,
    text: &[u8],
    out: &mut Vec<u8>,
) -> bool {
    let Some((before, after)) = &with.hashed else {
        return patterns.replace(pattern, caches, text, &with.template, out);
    };
    let mut expanded = Vec::new();
    patterns.replace_each(pattern, caches, text, true, out, |captures, out| {
        expanded.clear();
        with.template.expand(captures, text, &mut expanded);
        out.extend_from_slice(before.as_bytes());
        put_sha256(&expanded, out);
        out.extend_from_slice(after.as_bytes());
    })
}

fn set_attribute(statement: &Statement, run: &mut Run<'_>, key: &Key, value: &Expr) {
    let mut found = false;
    each_with_key(statement, run, key.id, |run, index| {
        found = true;
        let current = Some((key.id, index));
        if holds(statement, run, current) {
            set_occurrence(statement, run, index, value, current);
        }
    });
    if found || !holds(statement, run, None) {
        return;
    }
    match evaluate_out(value, run, None) {
        Ok(ValueKind::Empty) => {}
        Ok(kind) => {
            run.list.push(key.id, key.name.as_bytes(), kind, run.out, false);
            let added = Place::Attribute(run.list.items.len() - 1);
            count_set(statement, run, value, added);
        }
        Err(Unfit) => unfit(statement, run, Place::Message),
    }
}

/// Evaluates into the run's scratch text, so that the list can be changed after.
fn evaluate_out(value: &Expr, run: &mut Run<'_>, current: Current) -> Result<ValueKind, Unfit> {
    if let Expr::General(general) = value {
        let seen = Seen { list: run.list, buf: run.buf, above: run.above, keys: run.keys, general };
        let own = current.and_then(|current| seen.own(current));
        let mut eval = Eval::new(run.patterns, run.caches, false);
        eval.own = own;
        let value = eval.value(&general.expr, &seen).map_err(|_| Unfit)?;
        let (kind, content) = value.parts().map_err(|_| Unfit)?;
        run.out.clear();
        run.out.extend_from_slice(&content);
        return Ok(kind);
    }
    let view = View { list: run.list, buf: run.buf, above: run.above, patterns: run.patterns };
    // A hash on its own, which is the usual case, needs no text in between.
    let (hashed, value) = match value {
        Expr::Sha256(inner) => (true, &**inner),
        value => (false, value),
    };
    let (kind, content) = evaluate(value, &view, current)?;
    run.out.clear();
    if !hashed {
        run.out.extend_from_slice(&content);
    } else if kind == ValueKind::String {
        put_sha256(&content, run.out);
    } else {
        return Err(Unfit);
    }
    Ok(kind)
}

fn set_occurrence(statement: &Statement, run: &mut Run<'_>, index: usize, value: &Expr, current: Current) {
    match evaluate_out(value, run, current) {
        Ok(ValueKind::Empty) => {}
        Ok(kind) => {
            if run.list.set(run.buf, index, kind, run.out) {
                count_set(statement, run, value, Place::Attribute(index));
            }
        }
        Err(Unfit) => {
            unfit(statement, run, Place::Attribute(index));
            if statement.mode == ErrorMode::DropValue {
                run.list.delete(index);
                run.hit(statement.rule, Did::Removed, Place::Attribute(index));
            }
        }
    }
}

fn set_text(statement: &Statement, run: &mut Run<'_>, number: u32, value: &Expr) {
    if !holds(statement, run, None) {
        return;
    }
    let evaluated = evaluate_out(value, run, None).map(|kind| (kind, run.out.clone()));
    let mut found = false;
    for index in 0..run.list.texts.len() {
        let text = run.list.texts[index];
        if text.number != number || text.state == State::Deleted {
            continue;
        }
        found = true;
        match &evaluated {
            Ok((ValueKind::Empty, _)) => {}
            Ok((ValueKind::String, content)) => {
                let changed = run.list.set_text(run.buf, index, content);
                if changed {
                    count_set(statement, run, value, Place::Text(index));
                }
            }
            _ if statement.mode == ErrorMode::DropValue => {
                run.list.delete_text(index);
                run.hit(statement.rule, Did::Removed, Place::Text(index));
            }
            _ => {}
        }
    }
    match evaluated {
        Ok((ValueKind::String, content)) => {
            if !found && !content.is_empty() {
                run.list.push_text(number, &content);
                let added = Place::Text(run.list.texts.len() - 1);
                count_set(statement, run, value, added);
            }
        }
        Ok((ValueKind::Empty, _)) => {}
        _ => unfit(statement, run, Place::Message),
    }
}

fn count_set(statement: &Statement, run: &mut Run<'_>, value: &Expr, place: Place) {
    let hash = match value {
        Expr::Sha256(_) => true,
        Expr::General(general) => super::is_hash(&general.expr),
        _ => false,
    };
    run.hit(statement.rule, if hash { Did::Hashed } else { Did::Set }, place);
}

fn unfit(statement: &Statement, run: &mut Run<'_>, place: Place) {
    run.hit(statement.rule, Did::Failed, place);
    if statement.mode == ErrorMode::Propagate {
        run.refused = true;
    }
}

/// What a condition asks of a value.
type Test<'t> = dyn FnMut((ValueKind, &[u8])) -> bool + 't;

/// What conditions and values read.
struct View<'v> {
    list: &'v List,
    buf: &'v [u8],
    above: &'v Above,
    patterns: &'v Patterns,
}

/// Whether the statement applies.
fn holds(statement: &Statement, run: &mut Run<'_>, current: Current) -> bool {
    let Some(condition) = &statement.condition else { return true };
    if let Condition::General(general) = condition {
        let seen = Seen { list: run.list, buf: run.buf, above: run.above, keys: run.keys, general };
        let own = current.and_then(|current| seen.own(current));
        let mut eval = Eval::new(run.patterns, run.caches, statement.mode == ErrorMode::DropValue);
        eval.own = own;
        let holds = eval.holds(&general.expr, &seen);
        if eval.failed {
            unfit(statement, run, Place::Message);
        }
        return holds;
    }
    let view = View { list: run.list, buf: run.buf, above: run.above, patterns: run.patterns };
    can_be(condition, true, &view, run.caches, current)
}

/// Whether some choice among repeated keys makes the condition `wanted`.
fn can_be(
    condition: &Condition,
    wanted: bool,
    view: &View<'_>,
    caches: &mut Caches,
    current: Current,
) -> bool {
    match condition {
        Condition::Constant(value) => *value == wanted,
        // Only ever a whole condition, which is asked before.
        Condition::General(_) => true,
        Condition::Not(term) => can_be(term, !wanted, view, caches, current),
        Condition::And(terms) if wanted => terms.iter().all(|term| can_be(term, true, view, caches, current)),
        Condition::And(terms) => terms.iter().any(|term| can_be(term, false, view, caches, current)),
        Condition::Or(terms) if wanted => terms.iter().any(|term| can_be(term, true, view, caches, current)),
        Condition::Or(terms) => terms.iter().all(|term| can_be(term, false, view, caches, current)),
        Condition::Equal(left, right, equal) => {
            let wanted = *equal == wanted;
            any_value(left, view, current, &mut |left| {
                any_value(right, view, current, &mut |right| same(left, right) == wanted)
            })
        }
        Condition::Matches(target, pattern) => any_value(target, view, current, &mut |(kind, content)| {
            let text = match kind {
                ValueKind::String | ValueKind::Bytes => Some(Cow::Borrowed(content)),
                ValueKind::Array | ValueKind::KvList => {
                    let json = Any::of(kind, Cow::Borrowed(content)).to_json();
                    Some(Cow::Owned(json.to_string().into_bytes()))
                }
                _ => value::number_text(kind, content).map(|text| Cow::Owned(text.into_bytes())),
            };
            text.is_some_and(|text| view.patterns.is_match(*pattern, caches, &text)) == wanted
        }),
    }
}

/// Whether one of the values that the expression can have passes `test`.
fn any_value(expr: &Expr, view: &View<'_>, current: Current, test: &mut Test<'_>) -> bool {
    match expr {
        Expr::Attribute(id) if current.is_none_or(|(own, _)| own != *id) => {
            let mut found = false;
            for (count, index) in view.list.with_key(*id).enumerate() {
                if count == MAX_CHOICES {
                    return true;
                }
                found = true;
                let item = &view.list.items[index];
                if test((item.kind, view.list.bytes(view.buf, item.value))) {
                    return true;
                }
            }
            !found && test((ValueKind::Empty, &[]))
        }
        Expr::Captured(slot) if !view.above.slot(*slot).is_empty() => {
            let captured = view.above.slot(*slot);
            captured.len() > MAX_CHOICES
                || captured.iter().any(|(kind, content)| {
                    content.len() > MAX_FROM_ABOVE || test((*kind, view.above.read(content)))
                })
        }
        // A value that can't be made is no value.
        expr => match evaluate(expr, view, current) {
            Ok((kind, content)) => test((kind, &content)),
            Err(Unfit) => test((ValueKind::Empty, &[])),
        },
    }
}

/// The value of an expression; of a repeated key, the current occurrence or else the first.
fn evaluate<'v>(expr: &'v Expr, view: &View<'v>, current: Current) -> Result<Value<'v>, Unfit> {
    let nil = (ValueKind::Empty, Cow::Borrowed(&[][..]));
    Ok(match expr {
        Expr::Literal(kind, content) => (*kind, Cow::Borrowed(content)),
        Expr::Attribute(id) => {
            let index = match current {
                Some((own, index)) if own == *id => Some(index),
                _ => view.list.with_key(*id).next(),
            };
            index.map_or(nil, |index| {
                let item = &view.list.items[index];
                (item.kind, Cow::Borrowed(view.list.bytes(view.buf, item.value)))
            })
        }
        Expr::Text(number) => {
            let text =
                view.list.texts.iter().find(|text| text.number == *number && text.state != State::Deleted);
            (
                ValueKind::String,
                Cow::Borrowed(text.map_or(&[][..], |text| view.list.bytes(view.buf, text.value))),
            )
        }
        Expr::Captured(slot) => match view.above.slot(*slot).first() {
            Some((_, content)) if content.len() > MAX_FROM_ABOVE => return Err(Unfit),
            Some((kind, content)) => (*kind, Cow::Borrowed(view.above.read(content))),
            None => nil,
        },
        Expr::Sha256(inner) => {
            let (ValueKind::String, content) = evaluate(inner, view, current)? else { return Err(Unfit) };
            let mut hex = Vec::with_capacity(64);
            put_sha256(&content, &mut hex);
            (ValueKind::String, Cow::Owned(hex))
        }
        Expr::Concat(parts, delimiter) => {
            let mut joined = Vec::new();
            for (index, part) in parts.iter().enumerate() {
                if index > 0 {
                    joined.extend_from_slice(delimiter.as_bytes());
                }
                let (kind, content) = evaluate(part, view, current)?;
                match kind {
                    ValueKind::String => joined.extend_from_slice(&content),
                    ValueKind::Empty => joined.extend_from_slice(b"<nil>"),
                    kind => match Any::of(kind, content).to_text() {
                        Ok(Some(text)) => joined.extend_from_slice(&text),
                        _ => return Err(Unfit),
                    },
                }
            }
            (ValueKind::String, Cow::Owned(joined))
        }
        // Only ever a whole value, which is evaluated before.
        Expr::General(_) => return Err(Unfit),
    })
}

/// What a general expression reads in a walk.
struct Seen<'v> {
    list: &'v List,
    buf: &'v [u8],
    above: &'v Above,
    keys: &'v Keys,
    general: &'v General,
}

impl<'v> Seen<'v> {
    /// The occurrence that is being treated.
    fn own(&self, (id, at): (KeyId, usize)) -> Option<Own<'v>> {
        let name = std::str::from_utf8(self.keys.name(id)?).ok()?;
        Some(Own { owner: self.general.context, name, at })
    }

    fn slot(&self, owner: Context, name: &str) -> Option<&'v Captured> {
        if owner == self.general.context {
            return None;
        }
        let (_, slot) = self.general.captured.iter().find(|(known, _)| **known == *name)?;
        Some(self.above.slot(*slot))
    }
}

impl World for Seen<'_> {
    fn read(&self, owner: Context, field: Field, keys: &[Inner], pick: Pick) -> Any<'_> {
        let number = match (field, keys) {
            (Field::Attributes, [Inner::Name(name), rest @ ..]) => {
                return self.attribute(owner, name, pick).dig(rest);
            }
            (Field::Text(number), _) => number,
            (Field::TraceState | Field::SchemaUrl, _) => 3,
            (Field::StatusMessage, _) => 2,
            _ => return Any::Nil,
        };
        let mut texts = self.list.texts.iter();
        let text = texts.find(|text| text.number == number && text.state != State::Deleted);
        Any::Text(Cow::Borrowed(text.map_or(&[][..], |text| self.list.bytes(self.buf, text.value))))
    }

    fn occurrences(&self, owner: Context, name: &str) -> usize {
        match self.slot(owner, name) {
            Some(values) => values.len(),
            None => self.list.with_key(self.keys.find(name.as_bytes())).count(),
        }
    }

    fn is_root(&self) -> bool {
        // A statement that asks is not lowered.
        false
    }
}

impl Seen<'_> {
    fn attribute(&self, owner: Context, name: &str, pick: Pick) -> Any<'_> {
        if let Some(values) = self.slot(owner, name) {
            let Pick::Nth(nth) = pick else { return Any::Nil };
            let value = values.get(nth).or(values.last());
            return value
                .map_or(Any::Nil, |(kind, content)| Any::of(*kind, Cow::Borrowed(self.above.read(content))));
        }
        let index = match pick {
            Pick::At(index) => Some(index),
            Pick::Nth(nth) => self.list.with_key(self.keys.find(name.as_bytes())).take(nth + 1).last(),
        };
        index.map_or(Any::Nil, |index| {
            let item = &self.list.items[index];
            Any::of(item.kind, Cow::Borrowed(self.list.bytes(self.buf, item.value)))
        })
    }
}

fn same(left: (ValueKind, &[u8]), right: (ValueKind, &[u8])) -> bool {
    let number = |(kind, content): (ValueKind, &[u8])| match kind {
        ValueKind::Int => value::varint(content).map(|(number, _)| number.cast_signed() as f64),
        ValueKind::Double => content.try_into().ok().map(f64::from_le_bytes),
        _ => None,
    };
    match (left.0, right.0) {
        (ValueKind::Int, ValueKind::Double) | (ValueKind::Double, ValueKind::Int | ValueKind::Double) => {
            number(left) == number(right)
        }
        (ValueKind::Int | ValueKind::Bool, kind) if kind == left.0 => {
            value::varint(left.1).map(|(number, _)| number)
                == value::varint(right.1).map(|(number, _)| number)
        }
        _ => left == right,
    }
}

#[cfg(test)]
mod tests;
