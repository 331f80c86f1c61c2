//! How `scrub` and `scan` print what they found.
#![forbid(unsafe_code)]

use std::fmt::Write as _;

use clap::ValueEnum;
use serde_json::{Value, json};

use crate::inspect::report::{Example, Finding, Report};

/// `--output-format`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum OutputFormat {
    /// A table
    Text,
    /// One object, for machines; its keys are stable
    Json,
}

/// Widest cell, in characters; what is longer is cut.
const WIDEST: usize = 48;

/// The findings as a table: a line a rule and place, below each the examples' values where there are any.
pub(super) fn table(findings: &[Finding]) -> String {
    let mut rows =
        vec![["RULE", "CONFIGURED", "DID", "ON", "FIELD", "COUNT", "FOR EXAMPLE"].map(str::to_owned)];
    for finding in findings {
        rows.push([
            format!("{} {}", finding.processor, finding.rule),
            finding.configured.clone(),
            finding.did.to_owned(),
            finding.on.to_owned(),
            finding.field.clone(),
            finding.count.to_string(),
            finding.examples.first().map_or_else(String::new, place),
        ]);
    }
    let last = rows[0].len() - 1;
    let mut widths = [0; 7];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count().min(WIDEST));
        }
    }
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            if column == last {
                text.push_str(cell);
            } else {
                let _ = write!(text, "{:<width$}  ", cut(cell));
            }
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
        if let Some(finding) = number.checked_sub(1).map(|number| &findings[number]) {
            values(&mut text, &finding.examples);
        }
    }
    text
}

fn values(text: &mut String, examples: &[Example]) {
    for example in examples.iter().filter(|example| example.before.is_some() || example.after.is_some()) {
        let show = |value: &Option<String>| value.clone().unwrap_or_else(|| "(nothing)".to_owned());
        let _ = writeln!(text, "    {} -> {}", show(&example.before), show(&example.after));
    }
}

fn cut(cell: &str) -> String {
    if cell.chars().count() <= WIDEST {
        return cell.to_owned();
    }
    cell.chars().take(WIDEST - 1).chain(['…']).collect()
}

/// Where an example stands.
fn place(example: &Example) -> String {
    let mut parts = Vec::new();
    parts.extend(example.span_name.as_ref().map(|name| format!("`{name}`")));
    match (&example.trace_id, &example.span_id) {
        (Some(trace), Some(span)) => parts.push(format!("trace {trace} span {span}")),
        (Some(trace), None) => parts.push(format!("trace {trace}")),
        _ => {}
    }
    parts.extend(example.service.as_ref().map(|service| format!("of {service}")));
    if parts.is_empty() {
        parts.push(example.source.clone());
    }
    parts.join(" ")
}

/// `12 masked, 2 removed`
pub(super) fn deeds(report: &Report) -> String {
    let deeds: Vec<String> = report.by_deed().iter().map(|(did, count)| format!("{count} {did}")).collect();
    deeds.join(", ")
}

/// What both commands' JSON has.
pub(super) fn json(report: &Report) -> serde_json::Map<String, Value> {
    let idle: Vec<Value> = report
        .idle_rules()
        .into_iter()
        .map(|(processor, rule, configured)| json!({ "processor": processor, "rule": rule, "configured": configured }))
        .collect();
    let mut object = serde_json::Map::new();
    object.insert("requests".into(), report.requests.into());
    object.insert("spans".into(), report.spans.into());
    object.insert("findings".into(), json!(report.findings()));
    object.insert("idle_rules".into(), idle.into());
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_values_stand_below() {
        let finding = |rule: &str, field: &str, before: Option<&str>| Finding {
            processor: "redaction".into(),
            rule: rule.into(),
            configured: "c.yaml:3".into(),
            did: "masked",
            on: "span",
            field: field.into(),
            attribute: true,
            count: 7,
            examples: vec![Example {
                source: "spans.json".into(),
                service: Some("cart".into()),
                trace_id: Some("01".repeat(16)),
                span_id: Some("02".repeat(8)),
                span_name: None,
                before: before.map(str::to_owned),
                after: None,
            }],
        };
        let text = table(&[
            finding("blocked_values[0]", "http.url", None),
            finding("blocked_keys", &"k".repeat(100), Some("secret")),
        ]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        let column = |line: &str| {
            line.chars()
                .collect::<Vec<_>>()
                .windows(8)
                .position(|w| w.iter().collect::<String>() == "c.yaml:3")
        };
        assert_eq!(column(lines[1]), column(lines[2]));
        assert!(
            lines[1].ends_with("7      trace 01010101010101010101010101010101 span 0202020202020202 of cart"),
            "{}",
            lines[1]
        );
        assert!(lines[2].contains(&format!("{}…", "k".repeat(WIDEST - 1))));
        assert_eq!(lines[3], "    secret -> (nothing)");
    }
}
