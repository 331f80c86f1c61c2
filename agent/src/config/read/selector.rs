//! Which pods are meant: namespaces and labels, as rules of several extensions name them.

#![forbid(unsafe_code)]

use std::collections::HashSet;

use crate::config::{
    extensions::PodSelector,
    fields::{Fields, Report},
    yaml::{Node, Value},
};

/// Rules, exclusions, and what each of them lists: more is a generated file gone wrong.
const MOST: usize = 1_000;

/// `namespaces` and `match_labels` of a rule or an exclusion.
pub(super) fn pods(fields: &mut Fields<'_>) -> PodSelector {
    let report = fields.report();
    for key in ["namespaces", "match_labels"] {
        let empty = match fields.get(key).map(|node| &node.value) {
            Some(Value::Seq(items)) => items.is_empty(),
            Some(Value::Map(entries)) => entries.is_empty(),
            _ => false,
        };
        if empty {
            fields
                .error_at(key, format!("is empty, which would select all pods; leave `{key}` out for that"));
        }
    }
    let mut seen = HashSet::new();
    for namespace in fields.located_strings("namespaces") {
        if !is_namespace(&namespace.value) {
            let shown = namespace.value.chars().take(64).flat_map(char::escape_debug).collect::<String>();
            report.error(
                &namespace.at,
                format!("`{shown}` is no namespace's name (RFC 1123: a-z, 0-9 and `-`, at most 63); patterns are not known here"),
            );
        } else if !seen.insert(namespace.value.clone()) {
            report.error(&namespace.at, format!("`{}` is in the list twice", namespace.value));
        }
    }
    let match_labels =
        fields.table("match_labels").map(|labels| labels_of(report, labels)).unwrap_or_default();
    let mut namespaces: Vec<String> = seen.into_iter().collect();
    namespaces.sort();
    PodSelector { namespaces, match_labels }
}

fn labels_of(report: &Report, mut fields: Fields<'_>) -> Vec<(String, String)> {
    let mut labels = Vec::new();
    for (key, node) in fields.entries() {
        let Some(value) = node.text() else {
            report.error(&node.at, format!("a label's value is text, but this is {}", node.kind()));
            continue;
        };
        if !is_label(&key.name, 253 + 1 + 63) || key.name.is_empty() {
            let shown = key.name.chars().take(64).flat_map(char::escape_debug).collect::<String>();
            report.error(&key.at, format!("`{shown}` is no label's key, such as `app.kubernetes.io/name`"));
        }
        if !is_label(value, 63) || value.contains('/') {
            report.error(&node.at, "is no label's value (letters, digits, `-`, `_` and `.`, at most 63)");
        }
        labels.push((key.name.clone(), value.to_owned()));
    }
    labels.sort();
    labels
}

/// RFC 1123's label, as Kubernetes wants it for namespaces.
pub(super) fn is_namespace(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&name.len())
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// Kubernetes' syntax of label keys and values, roughly: the API server has checked the pods' own.
fn is_label(text: &str, longest: usize) -> bool {
    text.len() <= longest
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/'))
}

/// The items of a list that is not absurdly long.
pub(super) fn bounded<'a>(fields: &mut Fields<'a>, key: &'static str) -> &'a [Node] {
    let items = fields.list(key);
    if items.len() > MOST {
        fields.error_at(key, format!("has {} items; at most {MOST} are taken", items.len()));
        return &items[..MOST];
    }
    items
}
