//! A redactor's rules, by the names that an operator knows.

#![forbid(unsafe_code)]

use crate::{
    config::{Located, Location, processors::Redaction},
    scrub::{builder::Builder, database::Sanitizers, rule::RuleId},
};

use super::sanitize::systems;

/// The rules of one processor.
#[derive(Debug)]
pub(super) struct Rules {
    /// Where there are any.
    pub(super) blocked_keys: Option<RuleId>,
    /// Where not all are allowed.
    pub(super) allowed_keys: Option<RuleId>,
    /// By pattern.
    pub(super) masked_keys: Vec<RuleId>,
    /// By pattern.
    pub(super) blocked_values: Vec<RuleId>,
    /// `url_sanitizer`
    pub(super) url: Option<RuleId>,
    /// `db_sanitizer::sql` and the like.
    pub(super) databases: Vec<(Sanitizers, RuleId)>,
}

impl Rules {
    /// Makes them known.
    pub(super) fn new(config: &Redaction, at: &Location, builder: &mut Builder, processor: usize) -> Self {
        // What stands in for a match is part of what a rule says; a key is not shown by `Debug`.
        let hash = &config.hash;
        let mut of = |patterns: &[Located<String>]| {
            patterns
                .iter()
                .map(|pattern| {
                    builder.rule_at(processor, &format!("{hash:?} {}", pattern.value), &pattern.at)
                })
                .collect::<Vec<_>>()
        };
        let (masked_keys, blocked_values) = (of(&config.blocked_key_patterns), of(&config.blocked_values));
        let url = config
            .url_sanitizer
            .as_ref()
            .map(|url| builder.rule(processor, "url_sanitizer", &format!("{url:?}"), at));
        let database = &config.db_sanitizer;
        let databases = systems(database)
            .map(|(sanitizer, name, keys)| {
                let content = format!(
                    "{} {} {keys:?}",
                    database.sanitize_span_name, database.allow_fallback_without_system
                );
                (sanitizer, builder.rule(processor, &format!("db_sanitizer::{name}"), &content, at))
            })
            .collect();
        let blocked_keys = (!config.blocked_keys.is_empty())
            .then(|| builder.rule(processor, "blocked_keys", &config.blocked_keys.join("\n"), at));
        let allowed = config.allowed_keys.join("\n");
        let allowed_keys =
            (!config.allow_all_keys).then(|| builder.rule(processor, "allowed_keys", &allowed, at));
        Self { blocked_keys, allowed_keys, masked_keys, blocked_values, url, databases }
    }

    /// The rule of a sanitizer.
    pub(super) fn database(&self, sanitizer: Sanitizers) -> Option<RuleId> {
        self.databases.iter().find(|(known, _)| known.meet(sanitizer)).map(|(_, rule)| *rule)
    }
}
