//! `filter`: drops spans, events and whatever else a condition names.

#![forbid(unsafe_code)]

use crate::{
    config::{
        ConfigError, Located, Location,
        processors::{self, ErrorMode},
    },
    otlp::walk::Kind,
};

use super::{
    builder::Builder,
    matching::Choice,
    ottl::{
        program::{Context, Expr, Field},
        resolve::Resolver,
        tree::{self, Work},
    },
    request::{Cursor, Request},
    rule::{Did, RuleId},
};

/// A compiled filter.
#[derive(Debug)]
pub(super) struct Filter {
    /// In the configured order: resources and scopes first would be quicker, but an error is where it stands.
    conditions: Vec<Condition>,
    spans: Option<(Choice, RuleId)>,
    processor: usize,
}

#[derive(Debug)]
struct Condition {
    context: Context,
    expr: Expr,
    mode: ErrorMode,
    rule: RuleId,
}

impl Filter {
    /// Compiles the conditions.
    pub(super) fn new(
        config: &processors::Filter,
        at: &Location,
        builder: &mut Builder,
        processor: usize,
    ) -> Result<Self, ConfigError> {
        let mut conditions = Vec::new();
        for group in &config.conditions {
            let context = group.context.as_ref().map(context).transpose()?;
            let mode = group.error_mode.unwrap_or(config.error_mode);
            for condition in &group.conditions {
                let rule = builder.rule_under(mode, processor, &condition.value, &condition.at);
                let resolver = Resolver::new(&mut builder.patterns, context, &condition.at);
                let (context, expr) = resolver
                    .alone(&condition.value)
                    .map_err(|error| ConfigError { at: condition.at.clone(), message: error.to_string() })?;
                conditions.push(Condition { context, expr, mode, rule });
            }
        }
        let chosen = config.spans.include.is_some() || config.spans.exclude.is_some();
        let spans = if chosen {
            let rule = builder.rule(processor, "spans", &format!("{:?}", config.spans), at);
            Some((Choice::new(&config.spans, &mut builder.patterns)?, rule))
        } else {
            None
        };
        Ok(Self { conditions, spans, processor })
    }

    /// How many conditions it has.
    pub(super) fn len(&self) -> usize {
        self.conditions.len() + usize::from(self.spans.is_some())
    }

    /// Works on a request.
    pub(super) fn run(&self, request: &mut Request<'_>, work: &mut Work<'_>) {
        let before = request.spans();
        for condition in &self.conditions {
            request.each(condition.context.kind(), &mut |request, cursor| {
                if holds(condition, request, cursor, work) {
                    let whole = (Field::Cache, &[][..]);
                    work.hit(condition.rule, Did::Removed, request, cursor, condition.context, whole);
                    request.drop_at(condition.context, cursor);
                }
            });
        }
        if let Some((spans, rule)) = &self.spans {
            request.each(Kind::Span, &mut |request, cursor| {
                if !spans.has(request, cursor, work) {
                    let whole = (Field::Cache, &[][..]);
                    work.hit(*rule, Did::Removed, request, cursor, Context::Span, whole);
                    request.drop_at(Context::Span, cursor);
                }
            });
        }
        work.tally[self.processor].filtered += u64::from(before - request.spans());
    }
}

fn holds(condition: &Condition, request: &Request<'_>, cursor: Cursor, work: &mut Work<'_>) -> bool {
    let closed = condition.mode == ErrorMode::DropValue;
    let (holds, failed) = tree::holds(&condition.expr, closed, request, cursor, work);
    if failed {
        let whole = (Field::Cache, &[][..]);
        work.hit(condition.rule, Did::Failed, request, cursor, condition.context, whole);
        work.refused |= condition.mode == ErrorMode::Propagate;
    }
    holds
}

/// `context:`
pub(super) fn context(name: &Located<String>) -> Result<Context, ConfigError> {
    Context::named(&name.value).ok_or_else(|| ConfigError {
        at: name.at.clone(),
        message: format!("`{}` is not a context; there are {}", name.value, Context::NAMES),
    })
}
