//! Editors of whole maps: a message's attributes, the cache, or a map inside them.

#![forbid(unsafe_code)]

use std::{borrow::Cow, collections::HashSet};

use super::{Did, Editor, Expr, Fit, Own, Runner, Target, Unfit, Value, replace};
use crate::{
    otlp::walk::ValueKind,
    scrub::ottl::{
        eval::{Eval, World},
        program::{Merge, Replacement, Side},
        value::{Member, members},
    },
};

/// What an editor did to a map.
#[derive(Default)]
struct Done {
    masked: u64,
    deleted: u64,
    set: u64,
}

impl Runner<'_, '_, '_> {
    pub(super) fn edit_map(&mut self, target: Target<'_>, own: Option<Own<'_>>, editor: &Editor) -> Fit<()> {
        let content = match self.value(target).into_owned() {
            Value::Map(content) => content,
            // There is nothing to delete from a map that is not there; one to merge into is made.
            Value::Nil if matches!(editor, Editor::MergeMaps(..)) => Cow::Borrowed(&[][..]),
            Value::Nil => return Ok(()),
            _ => return Err(Unfit),
        };
        let mut all: Vec<Member<'_>> = members(&content).collect();
        let done = self.eval(own, |eval, world| edit(editor, &mut all, eval, world))?;
        if done.masked + done.deleted + done.set > 0 {
            self.put(target, Some(&Value::of_members(&all)))?;
            for (did, count) in
                [(Did::Masked, done.masked), (Did::Removed, done.deleted), (Did::Set, done.set)]
            {
                (0..count).for_each(|_| self.hit(did, Some(target)));
            }
        }
        Ok(())
    }
}

fn edit(editor: &Editor, all: &mut Vec<Member<'_>>, eval: &mut Eval<'_>, world: &dyn World) -> Fit<Done> {
    let before = all.len();
    let mut done = Done::default();
    match editor {
        Editor::DeleteKey(_, key) => all.retain(|one| *one.key != *key.as_bytes()),
        Editor::DeleteMatchingKeys(_, pattern) => {
            all.retain(|one| !eval.patterns.is_match(*pattern, eval.caches, &one.key));
        }
        Editor::KeepKeys(_, keys) => {
            let keys: HashSet<&[u8]> = keys.iter().map(|key| key.as_bytes()).collect();
            all.retain(|one| keys.contains(&*one.key));
        }
        Editor::KeepMatchingKeys(_, pattern) => {
            all.retain(|one| eval.patterns.is_match(*pattern, eval.caches, &one.key));
        }
        Editor::Limit(_, limit, first) => limit_to(all, *limit, first),
        Editor::TruncateAll(_, limit) => done.set = truncate(all, *limit),
        Editor::MergeMaps(_, source, how) => done.set = merge(all, source, *how, eval, world)?,
        Editor::ReplaceAllPatterns(_, Side::Keys, pattern, with) => {
            for one in all.iter_mut() {
                if let Some(new) = replace::replaced(eval, world, *pattern, with, &one.key)?
                    && *new != *one.key
                {
                    one.key = Cow::Owned(new);
                    done.masked += 1;
                }
            }
        }
        Editor::ReplaceAllPatterns(_, Side::Values, pattern, with) => {
            let text = |text: &[u8], eval: &mut Eval<'_>, with: &Replacement| {
                replace::replaced(eval, world, *pattern, with, text)
            };
            done.masked = texts(all, |content| text(content, eval, with))?;
        }
        Editor::ReplaceAllMatches(_, glob, with) => {
            done.masked = texts(all, |content| replace::matched(eval, world, *glob, with, content))?;
        }
        _ => return Err(Unfit),
    }
    done.deleted = before.saturating_sub(all.len()) as u64;
    Ok(done)
}

/// Changes the texts among the values; says how many.
fn texts(all: &mut [Member<'_>], mut change: impl FnMut(&[u8]) -> Fit<Option<Vec<u8>>>) -> Fit<u64> {
    let mut changed = 0;
    for one in all.iter_mut().filter(|one| one.kind == ValueKind::String) {
        if let Some(new) = change(&one.content)?
            && *new != *one.content
        {
            one.content = Cow::Owned(new);
            changed += 1;
        }
    }
    Ok(changed)
}

/// The first keys stay before all others; then as many of those as there is room for, in their order.
fn limit_to(all: &mut Vec<Member<'_>>, limit: usize, first: &[Box<str>]) {
    if all.len() <= limit {
        return;
    }
    let named = |one: &Member<'_>| first.iter().any(|key| *one.key == *key.as_bytes());
    let kept = all.iter().filter(|one| named(one)).count().min(limit);
    let (mut named_room, mut room) = (kept, limit - kept);
    all.retain(|one| {
        let room = if named(one) { &mut named_room } else { &mut room };
        let keep = *room > 0;
        *room = room.saturating_sub(1);
        keep
    });
}

/// Cuts texts at a byte, and back to the beginning of the character there: text must stay text.
fn truncate(all: &mut [Member<'_>], limit: usize) -> u64 {
    let mut cut = 0;
    for one in all.iter_mut().filter(|one| one.kind == ValueKind::String && one.content.len() > limit) {
        let at = (0..=limit).rev().find(|at| one.content[*at] & 0xc0 != 0x80).unwrap_or(0);
        one.content = Cow::Owned(one.content[..at].to_vec());
        cut += 1;
    }
    cut
}

fn merge(
    all: &mut Vec<Member<'_>>,
    source: &Expr,
    how: Merge,
    eval: &mut Eval<'_>,
    world: &dyn World,
) -> Fit<u64> {
    let source = eval.value(source, world)?.into_owned();
    let content = match &source {
        Value::Map(content) => content,
        Value::Nil => return Ok(0),
        _ => return Err(Unfit),
    };
    let there: HashSet<Vec<u8>> = all.iter().map(|one| one.key.to_vec()).collect();
    let mut set = 0;
    for new in members(content) {
        let found = there.contains(&*new.key);
        if found && how != Merge::Insert {
            for one in all.iter_mut().filter(|one| one.key == new.key) {
                if one.kind != new.kind || one.content != new.content {
                    (one.kind, one.content) = (new.kind, Cow::Owned(new.content.to_vec()));
                    set += 1;
                }
            }
        } else if !found && how != Merge::Update {
            all.push(Member {
                key: Cow::Owned(new.key.to_vec()),
                kind: new.kind,
                content: Cow::Owned(new.content.to_vec()),
            });
            set += 1;
        }
    }
    Ok(set)
}
