//! `redaction.skip_conditions`: what a redactor leaves as it is.
//!
//! A condition is asked of the message that its innermost path begins at, and what is skipped is that message with all
//! that is under it. Skipping lets values through, so a doubt never skips: not a condition that can't be evaluated, and
//! of a key that occurs twice every occurrence must make it hold.
//!
//! The messages are found on the bytes as the processors before have left them, right before the walk in which the
//! redactor is the first step; there they are known by their place.

#![forbid(unsafe_code)]

use std::ops::Range;

use crate::config::{ConfigError, Located};

use super::{
    builder::Builder,
    ottl::{
        program::{Context, Expr, Field},
        resolve::Resolver,
        tree::{self, Work},
    },
    request::Request,
    rule::{Did, RuleId},
};

/// From the outside in: what is under a skipped message is not asked any more.
const CONTEXTS: [Context; 5] =
    [Context::Resource, Context::Scope, Context::Span, Context::SpanEvent, Context::SpanLink];

/// The compiled conditions of one redactor.
#[derive(Debug)]
pub(super) struct Skip {
    conditions: Vec<Condition>,
    /// Among the plan's.
    pub(super) redactor: usize,
}

#[derive(Debug)]
struct Condition {
    context: Context,
    expr: Expr,
    rule: RuleId,
}

impl Skip {
    /// Compiles the conditions of a redactor.
    pub(super) fn new(
        conditions: &[Located<String>],
        builder: &mut Builder,
        processor: usize,
        redactor: usize,
    ) -> Result<Self, ConfigError> {
        let mut compile = |condition: &Located<String>| {
            let rule = builder.rule_at(processor, &condition.value, &condition.at);
            let resolver = Resolver::new(&mut builder.patterns, None, &condition.at);
            let (context, expr) = resolver
                .alone(&condition.value)
                .map_err(|error| ConfigError { at: condition.at.clone(), message: error.to_string() })?;
            Ok(Condition { context, expr, rule })
        };
        let conditions = conditions.iter().map(&mut compile).collect::<Result<_, ConfigError>>()?;
        Ok(Self { conditions, redactor })
    }

    /// How many conditions there are.
    pub(super) fn len(&self) -> usize {
        self.conditions.len()
    }

    /// Finds what is skipped in a request that has passed the walker.
    pub(super) fn find(&self, request: &mut Request<'_>, work: &mut Work<'_>) -> Skipped {
        let mut skipped = Skipped::default();
        for context in CONTEXTS {
            let asked: Vec<_> = self.conditions.iter().filter(|one| one.context == context).collect();
            if asked.is_empty() {
                continue;
            }
            let mut found = Vec::new();
            request.each(context.kind(), &mut |request, cursor| {
                let extent = request.extent(cursor, context);
                if skipped.has(extent.start) {
                    return;
                }
                for condition in &asked {
                    let (holds, failed) = tree::surely_holds(&condition.expr, request, cursor, work);
                    if failed {
                        let whole = (Field::Cache, &[][..]);
                        work.hit(condition.rule, Did::Failed, request, cursor, context, whole);
                    }
                    if holds {
                        work.account.left_alone(condition.rule);
                        found.push(extent);
                        return;
                    }
                }
            });
            skipped.add(found);
        }
        skipped
    }
}

/// Messages of a request that a redactor leaves as they are.
#[derive(Clone, Debug, Default)]
pub(super) struct Skipped {
    /// Where their bodies lie; in order, and none inside another.
    extents: Vec<Range<u32>>,
}

impl Skipped {
    /// Whether the message whose body begins here is one of them, or in one. Empty messages have nothing to redact.
    pub(super) fn has(&self, at: u32) -> bool {
        let after = self.extents.partition_point(|extent| extent.start <= at);
        self.extents[..after].last().is_some_and(|extent| at < extent.end)
    }

    fn add(&mut self, mut more: Vec<Range<u32>>) {
        self.extents.append(&mut more);
        self.extents.sort_unstable_by_key(|extent| extent.start);
    }
}
