//! `replace_pattern`, `replace_match`, and what they put for a match.

#![forbid(unsafe_code)]

use std::borrow::Cow;

use super::{Did, Fit, Own, Runner, Target, Unfit, Value};
use crate::scrub::{
    ottl::{
        eval::{Eval, World},
        program::{Replacement, Substitute},
    },
    pattern::{PatternId, Template},
};

impl Runner<'_, '_, '_> {
    /// Only text is replaced; anything else stays, as in the Collector.
    pub(super) fn replace_pattern(
        &mut self,
        target: Target<'_>,
        own: Option<Own<'_>>,
        pattern: PatternId,
        with: &Replacement,
    ) -> Fit<()> {
        let Value::Text(text) = self.value(target).into_owned() else { return Ok(()) };
        let new = self.eval(own, |eval, world| replaced(eval, world, pattern, with, &text))?;
        self.put_text(target, new)
    }

    /// The whole text, where all of it matches.
    pub(super) fn replace_match(
        &mut self,
        target: Target<'_>,
        own: Option<Own<'_>>,
        glob: PatternId,
        with: &Replacement,
    ) -> Fit<()> {
        let Value::Text(text) = self.value(target).into_owned() else { return Ok(()) };
        let new = self.eval(own, |eval, world| matched(eval, world, glob, with, &text))?;
        self.put_text(target, new)
    }

    fn put_text(&mut self, target: Target<'_>, new: Option<Vec<u8>>) -> Fit<()> {
        let Some(new) = new else { return Ok(()) };
        if self.put(target, Some(&Value::Text(Cow::Owned(new))))? {
            self.hit(Did::Masked, Some(target));
        }
        Ok(())
    }
}

/// The text with every match replaced; `None` where nothing matches.
pub(super) fn replaced(
    eval: &mut Eval<'_>,
    world: &dyn World,
    pattern: PatternId,
    with: &Replacement,
    text: &[u8],
) -> Fit<Option<Vec<u8>>> {
    let computed;
    let template = match &with.text {
        Substitute::Known(template, _) => template,
        Substitute::Computed(value) => {
            let value = eval.value(value, world)?;
            computed = Template::parse(value.as_str()?, eval.patterns.get(pattern));
            &computed
        }
    };
    let mut out = Vec::new();
    let mut failed = false;
    let found = eval.patterns.replace_each(pattern, eval.caches, text, true, &mut out, |captures, out| {
        let Some((function, before, after)) = &with.function else {
            return template.expand(captures, text, out);
        };
        let mut expanded = Vec::new();
        template.expand(captures, text, &mut expanded);
        match Eval::apply(*function, expanded) {
            Ok(value) => {
                out.extend_from_slice(before.as_bytes());
                out.extend_from_slice(&value);
                out.extend_from_slice(after.as_bytes());
            }
            Err(Unfit) => failed = true,
        }
    });
    if failed { Err(Unfit) } else { Ok(found.then_some(out)) }
}

/// What stands for a text that matches as a whole; `None` where it does not.
pub(super) fn matched(
    eval: &mut Eval<'_>,
    world: &dyn World,
    glob: PatternId,
    with: &Replacement,
    text: &[u8],
) -> Fit<Option<Vec<u8>>> {
    if !eval.patterns.is_match(glob, eval.caches, text) {
        return Ok(None);
    }
    let new = match &with.text {
        Substitute::Known(_, text) => text.as_bytes().to_vec(),
        Substitute::Computed(value) => eval.value(value, world)?.as_text()?.to_vec(),
    };
    Ok(Some(match &with.function {
        None => new,
        Some((function, before, after)) => {
            let value = Eval::apply(*function, new)?;
            [before.as_bytes(), &value, after.as_bytes()].concat()
        }
    }))
}
