//! `transform`. Statements stay text; `scrub` compiles them and reports at their place.

use crate::config::{
    Located,
    fields::{Fields, Report},
    processors::{ErrorMode, StatementGroup, Transform},
    yaml::{Node, Value},
};

pub(super) const ERROR_MODES: [(&str, ErrorMode); 4] = [
    ("ignore", ErrorMode::Ignore),
    ("silent", ErrorMode::Silent),
    ("propagate", ErrorMode::Propagate),
    ("drop_value", ErrorMode::DropValue),
];

pub(in crate::config::read) fn read(mut fields: Fields<'_>) -> Transform {
    let transform = Transform {
        error_mode: fields.choice("error_mode", &ERROR_MODES).unwrap_or_default(),
        trace_statements: groups(&mut fields),
    };
    fields.not_built(&["metric_statements", "log_statements", "profile_statements", "flatten_data"]);
    transform
}

/// Both forms: statements as strings (neighbours make one group), or mappings.
fn groups(fields: &mut Fields<'_>) -> Vec<StatementGroup> {
    let report = fields.report();
    let mut groups: Vec<StatementGroup> = Vec::new();
    let mut open = false;
    for item in fields.list("trace_statements") {
        if matches!(item.value, Value::Map(_)) {
            groups.extend(group(Fields::new(report, item)));
            open = false;
        } else if let Some(statement) = statement(report, item) {
            match groups.last_mut() {
                Some(group) if open => group.statements.push(statement),
                _ => groups.push(StatementGroup {
                    context: None,
                    conditions: Vec::new(),
                    statements: vec![statement],
                    error_mode: None,
                }),
            }
            open = true;
        }
    }
    groups
}

pub(super) fn statement(report: &Report, item: &Node) -> Option<Located<String>> {
    match item.text() {
        Some(text) if !text.trim().is_empty() => {
            Some(Located { value: text.to_owned(), at: item.at.clone() })
        }
        _ => {
            report.error(&item.at, format!("must be a statement, but this is {}", item.kind()));
            None
        }
    }
}

fn group(mut fields: Fields<'_>) -> Option<StatementGroup> {
    let context = context(&mut fields);
    let conditions = fields.located_strings("conditions");
    let error_mode = fields.choice("error_mode", &ERROR_MODES);
    fields.not_built(&["shared_cache"]);
    let report = fields.report();
    let statements: Vec<_> =
        fields.list("statements").iter().filter_map(|item| statement(report, item)).collect();
    if statements.is_empty() {
        fields.error("`statements` is required and must not be empty");
        return None;
    }
    Some(StatementGroup { context, conditions, statements, error_mode })
}

/// `context:`
pub(super) fn context(fields: &mut Fields<'_>) -> Option<Located<String>> {
    let contexts = ["span", "spanevent", "spanlink", "resource", "scope", "instrumentation_scope"];
    let known = fields.choice("context", &contexts.map(|name| (name, name)));
    let context = fields.located("context");
    // One that is not known has been reported, and must not be taken for none.
    context.filter(|_| known.is_some())
}
