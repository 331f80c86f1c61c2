//! Scalars to values, with an error at the scalar's place.

use std::time::Duration;

use super::{Report, duration, nearest};
use crate::config::yaml::{Node, Scalar, Value};

/// Text; a plain number or boolean is taken as written.
pub(super) fn string(report: &Report, node: &Node) -> Option<String> {
    match node.text() {
        Some(text) => Some(text.to_owned()),
        None => wants(report, node, "a string"),
    }
}

/// `true` or `false`, and YAML 1.1's other words for them, which the Collector's reader takes for booleans too.
pub(super) fn boolean(report: &Report, node: &Node) -> Option<bool> {
    match plain(node)? {
        Ok("true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON") => Some(true),
        Ok("false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF") => Some(false),
        _ => wants(report, node, "`true` or `false`"),
    }
}

pub(super) fn unsigned(report: &Report, node: &Node) -> Option<u64> {
    match plain(node)?.ok().and_then(integer) {
        Some(number) if number >= 0 => match u64::try_from(number) {
            Ok(number) => Some(number),
            Err(_) => wants(report, node, "a number below 2^64"),
        },
        Some(number) => wants(report, node, &format!("a number that is not negative ({number})")),
        None => wants(report, node, "a whole number"),
    }
}

pub(super) fn float(report: &Report, node: &Node) -> Option<f64> {
    let number = plain(node)?.ok().and_then(decimal);
    match number {
        Some(number) if number.is_finite() => Some(number),
        _ => wants(report, node, "a number"),
    }
}

pub(super) fn duration(report: &Report, node: &Node) -> Option<Duration> {
    let Some(text) = node.text() else { return wants(report, node, "a duration such as `200ms` or `1m30s`") };
    match duration::parse(text) {
        Ok(duration) => Some(duration),
        Err(message) => {
            report.error(&node.at, message);
            None
        }
    }
}

pub(super) fn choice<T: Copy>(report: &Report, node: &Node, words: &[(&'static str, T)]) -> Option<T> {
    let text = string(report, node)?;
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Some(*value);
    }
    let names: Vec<&'static str> =
        words.iter().map(|(word, _)| *word).filter(|word| !word.is_empty()).collect();
    let one_of = names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let message = format!("{}; it is one of {one_of}", nearest::unknown("value", &text, &names));
    report.error(&node.at, message);
    None
}

/// The text of a plain scalar, an error's cause for other nodes.
#[allow(clippy::unnecessary_wraps, reason = "lets callers leave early with `?` on null")]
fn plain(node: &Node) -> Option<Result<&str, ()>> {
    match &node.value {
        Value::Scalar(Scalar { text, plain: true }) => Some(Ok(text)),
        _ => Some(Err(())),
    }
}

fn wants<T>(report: &Report, node: &Node, what: &str) -> Option<T> {
    let found = match &node.value {
        Value::Scalar(scalar) if scalar.plain => format!("`{}`", excerpt(&scalar.text)),
        Value::Scalar(scalar) => format!("the string \"{}\"", excerpt(&scalar.text)),
        _ => node.kind().to_owned(),
    };
    report.error(&node.at, format!("must be {what}, but this is {found}"));
    None
}

/// The first characters of a text, for an error.
pub(super) fn excerpt(text: &str) -> String {
    let mut short: String = text.chars().take(40).flat_map(char::escape_debug).collect();
    if text.chars().nth(40).is_some() {
        short.push('…');
    }
    short
}

/// YAML's integers: decimal, `0x`, `0o`, `0b`, with `_` between digits.
pub(crate) fn integer(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (radix, digits) = match digits.get(..2) {
        Some("0x") => (16, &digits[2..]),
        Some("0o") => (8, &digits[2..]),
        Some("0b") => (2, &digits[2..]),
        _ => (10, digits),
    };
    let digits = digits.replace('_', "");
    if !digits.starts_with(|c: char| c.is_digit(radix)) {
        return None;
    }
    let number = i128::from_str_radix(&digits, radix).ok()?;
    Some(if negative { -number } else { number })
}

/// YAML's numbers without infinities and NaN, which no field of ours can use.
pub(crate) fn decimal(text: &str) -> Option<f64> {
    if let Some(number) = integer(text) {
        return Some(number as f64);
    }
    let shape = text.trim_start_matches(['-', '+']);
    let starts = shape.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    (starts && shape.contains(|c: char| c.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}
