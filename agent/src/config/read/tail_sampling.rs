//! `tail_sampling` and its policies.

use std::{collections::HashSet, time::Duration};

use crate::config::{
    Located,
    fields::{Fields, nearest},
    processors::{Policy, PolicyRule, StatusCode, TailSampling},
};

/// Policy types that are read here; each has a body of its own name.
const BUILT: [&str; 6] =
    ["always_sample", "status_code", "latency", "string_attribute", "probabilistic", "and"];
/// What the Collector knows beyond these.
const NOT_BUILT: [&str; 11] = [
    "numeric_attribute",
    "boolean_attribute",
    "rate_limiting",
    "bytes_limiting",
    "span_count",
    "trace_state",
    "trace_flags",
    "ottl_condition",
    "not",
    "drop",
    "composite",
];

pub(super) fn read(mut fields: Fields<'_>) -> TailSampling {
    let decision_wait = fields.duration("decision_wait").unwrap_or(Duration::from_secs(30));
    let num_traces = fields.unsigned("num_traces").unwrap_or(50_000);
    let (mut sampled_cache_size, mut non_sampled_cache_size) = (0, 0);
    if let Some(mut cache) = fields.table("decision_cache") {
        sampled_cache_size = cache.unsigned("sampled_cache_size").unwrap_or(0);
        non_sampled_cache_size = cache.unsigned("non_sampled_cache_size").unwrap_or(0);
    }
    let sampling = TailSampling {
        decision_wait,
        decision_wait_after_root_received: fields
            .duration("decision_wait_after_root_received")
            .unwrap_or_default(),
        num_traces,
        maximum_trace_size_bytes: fields.unsigned("maximum_trace_size_bytes").unwrap_or(0),
        sampled_cache_size,
        non_sampled_cache_size,
        policies: policies(&mut fields, "policies", true),
    };
    if decision_wait.is_zero() {
        fields.error_at("decision_wait", "must be longer than 0: a trace would be decided on its first span");
    }
    if num_traces == 0 {
        fields.error_at("num_traces", "must be more than 0");
    }
    if let Some(false) =
        fields.choice("sampling_strategy", &[("trace-complete", true), ("span-ingest", false)])
    {
        fields.error_at("sampling_strategy", "`span-ingest` is known but not built yet; `trace-complete` is");
    }
    fields.not_built(&[
        "block_on_overflow",
        "sample_on_first_match",
        "drop_pending_traces_on_shutdown",
        "tail_storage",
    ]);
    fields.ignored(&["expected_new_traces_per_sec"], "memory is taken as traces arrive");
    sampling
}

fn policies(fields: &mut Fields<'_>, key: &'static str, top: bool) -> Vec<Policy> {
    let report = fields.report();
    let items = fields.list(key);
    if items.is_empty() {
        fields.error(format!("`{key}` is required and must not be empty"));
    }
    let policies: Vec<Policy> =
        items.iter().filter_map(|item| policy(Fields::new(report, item), top)).collect();
    let mut seen: HashSet<&str> = HashSet::new();
    for policy in &policies {
        if !seen.insert(&policy.name.value) {
            report.error(
                &policy.name.at,
                format!("two policies are named `{}`", policy.name.value.escape_debug()),
            );
        }
    }
    policies
}

fn policy(mut fields: Fields<'_>, top: bool) -> Option<Policy> {
    let name = fields.required("name");
    let kind = fields.required("type")?;
    let known = BUILT.iter().chain(&NOT_BUILT).find(|known| **known == kind.value);
    let Some(known) = known else {
        let all: Vec<&str> = BUILT.iter().chain(&NOT_BUILT).copied().collect();
        fields.report().error(&kind.at, nearest::unknown("policy type", &kind.value, &all));
        fields.entries();
        return None;
    };
    bodies(&mut fields, known);
    if NOT_BUILT.contains(known) {
        fields.report().error(&kind.at, format!("the policy type `{known}` is known but not built yet"));
        return None;
    }
    let rule = match *known {
        "always_sample" => {
            fields.table("always_sample");
            PolicyRule::AlwaysSample
        }
        "status_code" => status_code(body(&mut fields, "status_code")?)?,
        "latency" => latency(body(&mut fields, "latency")?)?,
        "string_attribute" => string_attribute(body(&mut fields, "string_attribute")?, top)?,
        "probabilistic" => probabilistic(body(&mut fields, "probabilistic")?)?,
        _ => PolicyRule::And(policies(&mut body(&mut fields, "and")?, "and_sub_policy", false)),
    };
    Some(Policy { name: name?, rule })
}

/// A body that belongs to another type than the policy's is a mistake, though the Collector skips it.
fn bodies(fields: &mut Fields<'_>, kind: &'static str) {
    for other in BUILT.iter().chain(&NOT_BUILT).copied() {
        if fields.present(other).is_some() && other != kind {
            fields.error_at(other, format!("`{other}` has no effect in a policy of the type `{kind}`"));
        }
    }
}

fn body<'a>(fields: &mut Fields<'a>, kind: &'static str) -> Option<Fields<'a>> {
    let body = fields.table(kind);
    if body.is_none() {
        fields.error(format!("a policy of the type `{kind}` needs `{kind}:`"));
    }
    body
}

fn status_code(mut fields: Fields<'_>) -> Option<PolicyRule> {
    let words = [("ERROR", StatusCode::Error), ("OK", StatusCode::Ok), ("UNSET", StatusCode::Unset)];
    let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    let mut status_codes = Vec::new();
    let listed = fields.located_strings("status_codes");
    for name in &listed {
        match words.iter().find(|(word, _)| *word == name.value) {
            Some((_, code)) => status_codes.push(*code),
            None => fields.report().error(&name.at, nearest::unknown("status code", &name.value, &names)),
        }
    }
    if listed.is_empty() {
        fields.error("`status_codes` is required and must not be empty");
    }
    (!status_codes.is_empty()).then_some(PolicyRule::StatusCode { status_codes })
}

fn latency(mut fields: Fields<'_>) -> Option<PolicyRule> {
    if fields.get("threshold_ms").is_none() {
        fields.error("`threshold_ms` is required");
    }
    let threshold = fields.unsigned("threshold_ms").map(Duration::from_millis);
    let upper = fields.unsigned("upper_threshold_ms").filter(|upper| *upper > 0).map(Duration::from_millis);
    if let (Some(threshold), Some(upper)) = (threshold, upper)
        && upper <= threshold
    {
        fields.error_at("upper_threshold_ms", "must be more than `threshold_ms`");
    }
    Some(PolicyRule::Latency { threshold: threshold?, upper_threshold: upper })
}

fn string_attribute(mut fields: Fields<'_>, top: bool) -> Option<PolicyRule> {
    let key = fields.required("key");
    let values: Vec<Located<String>> = fields.located_strings("values");
    if values.is_empty() {
        fields.error("`values` is required and must not be empty");
    }
    let regex = fields.boolean("enabled_regex_matching").unwrap_or(false);
    let invert_match = fields.boolean("invert_match").unwrap_or(false);
    fields.ignored(&["cache_max_size"], "patterns are compiled once");
    if invert_match && top {
        fields.warn_at(
            "invert_match",
            "a trace is sampled when no span matches; it is not a veto over other policies (older Collectors' meaning)",
        );
    }
    Some(PolicyRule::StringAttribute { key: key?.value, values, regex, invert_match })
}

fn probabilistic(mut fields: Fields<'_>) -> Option<PolicyRule> {
    if fields.get("sampling_percentage").is_none() {
        fields.error("`sampling_percentage` is required");
    }
    let hash_salt = fields.string("hash_salt").filter(|salt| !salt.is_empty());
    let sampling_percentage = fields.float("sampling_percentage")?;
    if !(0.0..=100.0).contains(&sampling_percentage) {
        fields.error_at("sampling_percentage", "must be between 0 and 100");
    }
    Some(PolicyRule::Probabilistic {
        hash_salt: hash_salt.unwrap_or_else(|| "default-hash-seed".to_owned()),
        sampling_percentage,
    })
}
