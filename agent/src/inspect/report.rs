//! What was found: counted by rule and place, with a few examples.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use serde::Serialize;

use super::places::{Place, Places};
use crate::{
    otlp::{json, walk::Kind},
    scrub::{Content, Did, Field, Record, Rule},
};

/// Findings with different keys that are told one by one; the rest is counted together under the key `…`.
const MAX_FINDINGS: usize = 10_000;
/// Longest key, name, or value that is shown, in characters.
const MAX_SHOWN: usize = 200;

/// One rule and one place, with how often.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// The processor: `redaction/pii`.
    pub processor: String,
    /// The rule in it: `blocked_values[2]`.
    pub rule: String,
    /// Where the rule stands: `config.yaml:12`.
    pub configured: String,
    /// `masked`, `hashed`, `removed`, `set`, `failed`
    pub did: &'static str,
    /// `resource`, `scope`, `span`, `event`, `link`
    pub on: &'static str,
    /// The attribute's key, or what else it is (`name`, `status.message`).
    pub field: String,
    /// Whether `field` is an attribute's key.
    pub attribute: bool,
    /// How often.
    pub count: u64,
    /// The first of them.
    pub examples: Vec<Example>,
}

/// One place where a rule did something.
#[derive(Clone, Debug, Serialize)]
pub struct Example {
    /// The file or backend.
    pub source: String,
    /// `service.name`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// 32 hex digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// 16 hex digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub span_id: Option<String>,
    /// As scrubbed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub span_name: Option<String>,
    /// The value as it came; only where values are asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// The value as all rules leave it; only where values are asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// What hits are counted together by, in the order in which they are told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct What {
    /// The rule's number.
    rule: usize,
    did: Did,
    on: &'static str,
    field: String,
    attribute: bool,
}

/// Everything that was found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    rules: Vec<Rule>,
    /// By rule: how often it did something.
    hits: Vec<u64>,
    findings: BTreeMap<What, (u64, Vec<Example>)>,
    examples: usize,
    /// Requests that were looked at.
    pub requests: u64,
    /// Their spans.
    pub spans: u64,
    /// Requests that would be written differently.
    pub changed_requests: u64,
    /// Hits of rules that hit their own results too, so that they say nothing of what is stored.
    pub undecided: u64,
}

impl Report {
    /// An empty one.
    pub fn new(rules: &[Rule], examples: usize) -> Self {
        Self { rules: rules.to_vec(), hits: vec![0; rules.len()], examples, ..Self::default() }
    }

    /// Counts a request.
    pub(super) fn request(&mut self, spans: u32, changed: bool) {
        self.requests += 1;
        self.spans += u64::from(spans);
        self.changed_requests += u64::from(changed);
    }

    /// Adds what a rule did.
    pub(super) fn add(&mut self, source: &str, record: &Record, places: &Places<'_>) {
        let rule = record.rule.index();
        self.hits[rule] += 1;
        let (on, field, attribute) = named(record.kind, &record.field);
        let mut key = What { rule, did: record.did, on, field, attribute };
        if self.findings.len() >= MAX_FINDINGS && !self.findings.contains_key(&key) {
            "…".clone_into(&mut key.field);
        }
        let (count, examples) = self.findings.entry(key).or_default();
        *count += 1;
        if examples.len() < self.examples {
            let Place { service, trace_id, span_id, span_name } = places.of(&record.spot);
            examples.push(Example {
                source: source.to_owned(),
                service: service.as_deref().map(|name| shown(name.as_bytes())),
                trace_id,
                span_id,
                span_name: span_name.as_deref().map(|name| shown(name.as_bytes())),
                before: record.before.as_ref().map(value),
                after: record.after.as_ref().map(value),
            });
        }
    }

    /// How often rules did something, failures not counted.
    pub fn changes(&self) -> u64 {
        let done = self.findings.iter().filter(|(what, _)| what.did != Did::Failed);
        done.map(|(_, (count, _))| count).sum()
    }

    /// How often each thing was done.
    pub fn by_deed(&self) -> Vec<(&'static str, u64)> {
        let mut deeds: BTreeMap<Did, u64> = BTreeMap::new();
        for (what, (count, _)) in &self.findings {
            *deeds.entry(what.did).or_default() += count;
        }
        deeds.into_iter().map(|(did, count)| (did.as_str(), count)).collect()
    }

    /// All of it, in the order of the configuration.
    pub fn findings(&self) -> Vec<Finding> {
        let all = self.findings.iter().map(|(what, (count, examples))| {
            let rule = &self.rules[what.rule];
            Finding {
                processor: rule.processor.clone(),
                rule: rule.name.clone(),
                configured: configured(rule),
                did: what.did.as_str(),
                on: what.on,
                field: what.field.clone(),
                attribute: what.attribute,
                count: *count,
                examples: examples.clone(),
            }
        });
        all.collect()
    }

    /// Rules that did nothing: processor, name, place.
    pub fn idle_rules(&self) -> Vec<(String, String, String)> {
        let idle = self.rules.iter().zip(&self.hits).filter(|(_, hits)| **hits == 0);
        idle.map(|(rule, _)| (rule.processor.clone(), rule.name.clone(), configured(rule))).collect()
    }
}

fn configured(rule: &Rule) -> String {
    match rule.at.line {
        0 => rule.at.file.to_string(),
        line => format!("{}:{line}", rule.at.file),
    }
}

/// The message's name, and the field's in it.
fn named(kind: Kind, field: &Field) -> (&'static str, String, bool) {
    let on = match kind {
        Kind::Resource | Kind::ResourceSpans | Kind::EntityRef => "resource",
        Kind::Scope | Kind::ScopeSpans => "scope",
        Kind::Span | Kind::Status => "span",
        Kind::Event => "event",
        Kind::Link => "link",
    };
    let text = match field {
        Field::Attribute(key) => return (on, shown(key), true),
        Field::Message => "(whole)",
        Field::Text(number) => match (kind, number) {
            (Kind::Span | Kind::Link, 3) => "trace_state",
            (Kind::Span, 5) | (Kind::Event, 2) | (Kind::Scope, 1) => "name",
            (Kind::Scope, 2) => "version",
            (Kind::Status, _) => "status.message",
            (Kind::ResourceSpans | Kind::ScopeSpans, 3) => "schema_url",
            (Kind::EntityRef, 1) => "entity.schema_url",
            (Kind::EntityRef, 2) => "entity.type",
            (Kind::EntityRef, 3) => "entity.id_keys",
            (Kind::EntityRef, _) => "entity.description_keys",
            _ => "text",
        },
    };
    (on, text.to_owned(), false)
}

/// Text of a sender's, fit for a terminal: control characters escaped, cut where it is long.
pub fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::new();
    for (number, character) in text.chars().enumerate() {
        if number == MAX_SHOWN {
            out.push('…');
            break;
        }
        if character.is_control() || is_invisible(character) {
            out.extend(character.escape_unicode());
        } else {
            out.push(character);
        }
    }
    out
}

/// Characters that change how a line looks without being seen: bidirectional controls, joiners, separators.
fn is_invisible(character: char) -> bool {
    matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// A value for people: text as it is, everything else as OTLP JSON writes it.
fn value((kind, content): &Content) -> String {
    use crate::otlp::walk::ValueKind;
    if *kind == ValueKind::String {
        return shown(content);
    }
    let mut text = Vec::new();
    let request = crate::scrub::value_as_request(*kind, content);
    let written = json::to_json(&request, &mut text).ok().and_then(|()| {
        let whole: serde_json::Value = serde_json::from_slice(&text).ok()?;
        whole.pointer("/resourceSpans/0/resource/attributes/0/value").map(ToString::to_string)
    });
    written.map_or_else(|| "(no value)".to_owned(), |text| shown(text.as_bytes()))
}

#[cfg(test)]
mod tests;
