//! `redaction`.

use crate::config::{
    fields::Fields,
    processors::{Redaction, RedactionSummary},
};

pub(in crate::config::read) fn read(mut fields: Fields<'_>) -> Redaction {
    let summaries = [
        ("silent", RedactionSummary::Silent),
        ("", RedactionSummary::Silent),
        ("info", RedactionSummary::Info),
        ("debug", RedactionSummary::Debug),
    ];
    let redaction = Redaction {
        allow_all_keys: fields.boolean("allow_all_keys").unwrap_or(false),
        allowed_keys: fields.strings("allowed_keys"),
        ignored_keys: fields.strings("ignored_keys"),
        ignored_key_patterns: fields.located_strings("ignored_key_patterns"),
        blocked_keys: fields.strings("blocked_keys"),
        blocked_key_patterns: fields.located_strings("blocked_key_patterns"),
        blocked_values: fields.located_strings("blocked_values"),
        allowed_values: fields.located_strings("allowed_values"),
        redact_all_types: fields.boolean("redact_all_types").unwrap_or(false),
        summary: fields.choice("summary", &summaries).unwrap_or_default(),
    };
    let patterns = [
        &redaction.ignored_key_patterns,
        &redaction.blocked_key_patterns,
        &redaction.blocked_values,
        &redaction.allowed_values,
    ];
    for pattern in patterns.into_iter().flatten().filter(|pattern| pattern.value.is_empty()) {
        fields.report().error(&pattern.at, "an empty pattern matches everything; remove it, or write `.*`");
    }
    if !redaction.allow_all_keys && redaction.allowed_keys.is_empty() {
        fields.warn_at(
            "allow_all_keys",
            "without `allow_all_keys: true` and without `allowed_keys` every attribute is removed",
        );
    }
    fields.not_built(&["hash_function", "hmac_key", "url_sanitizer", "db_sanitizer", "skip_conditions"]);
    redaction
}
