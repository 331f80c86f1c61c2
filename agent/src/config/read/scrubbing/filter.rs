//! `filter`. Conditions stay text; `scrub` compiles them and reports at their place.

use super::{
    spans,
    transform::{ERROR_MODES, statement},
};
use crate::config::{
    Located,
    fields::Fields,
    processors::{ConditionGroup, Filter},
    yaml::Value,
};

pub(in crate::config::read) fn read(mut fields: Fields<'_>) -> Filter {
    let mut filter = Filter {
        error_mode: fields.choice("error_mode", &ERROR_MODES).unwrap_or_default(),
        ..Filter::default()
    };
    let traces = fields.table("traces");
    let asked = traces.is_some();
    if let Some(mut traces) = traces {
        for context in ["resource", "scope", "span", "spanevent", "spanlink"] {
            let conditions = traces.located_strings(context);
            if let Some(first) = conditions.first() {
                let context = Some(Located { value: context.to_owned(), at: first.at.clone() });
                filter.conditions.push(ConditionGroup { context, conditions, error_mode: None });
            }
        }
        if filter.conditions.is_empty() {
            traces.error("a list of conditions is required, such as `span: ['attributes[\"k\"] == \"v\"']`");
        }
    }
    let report = fields.report();
    for item in fields.list("trace_conditions") {
        if matches!(item.value, Value::Map(_)) {
            filter.conditions.extend(group(Fields::new(report, item)));
        } else if let Some(condition) = statement(report, item) {
            let conditions = vec![condition];
            filter.conditions.push(ConditionGroup { context: None, conditions, error_mode: None });
        }
    }
    if let Some(mut chosen) = fields.table("spans") {
        filter.spans = spans::choice(&mut chosen);
    }
    fields.not_built(&[
        "metrics",
        "logs",
        "profiles",
        "metric_conditions",
        "log_conditions",
        "profile_conditions",
    ]);
    let nothing = filter.conditions.is_empty() && !asked;
    if nothing && filter.spans.include.is_none() && filter.spans.exclude.is_none() {
        fields.error("nothing is asked: write `traces::span`, `traces::spanevent` or `trace_conditions`");
    }
    filter
}

fn group(mut fields: Fields<'_>) -> Option<ConditionGroup> {
    let context = super::transform::context(&mut fields);
    let error_mode = fields.choice("error_mode", &ERROR_MODES);
    let conditions = fields.located_strings("conditions");
    if conditions.is_empty() {
        fields.error("`conditions` is required and must not be empty");
        return None;
    }
    Some(ConditionGroup { context, conditions, error_mode })
}
