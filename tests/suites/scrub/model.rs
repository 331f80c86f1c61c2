//! The naive model: decode with prost, edit the structs, one pass after the other, nothing skipped. It shares no
//! code with the program but the configuration's text, and its patterns are written twice, in Go's dialect for the
//! program and in Rust's for itself.

use std::{cell::RefCell, collections::HashMap};

use regex::bytes::Regex;
use serde_json::json;
use spanwarden::otlp::walk::Kind;
use spanwarden_tests::{
    oracle::model::visit,
    proto::v1::{any_value::Value, *},
};

/// A pattern in both dialects.
pub(crate) type Pattern = (&'static str, &'static str);

/// One processor, or one statement.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// `redaction`
    Redact {
        /// `allow_all_keys`
        allow_all: bool,
        /// `allowed_keys`
        allowed: Vec<&'static str>,
        /// `blocked_keys`
        blocked: Vec<&'static str>,
        /// `ignored_keys`
        ignored: Vec<&'static str>,
        /// `blocked_values`
        values: Vec<Pattern>,
        /// `allowed_values`
        fine: Vec<Pattern>,
        /// `blocked_key_patterns`
        masked_keys: Vec<Pattern>,
        /// `ignored_key_patterns`
        ignored_keys: Vec<Pattern>,
        /// `redact_all_types`
        all_types: bool,
    },
    /// An action of `attributes` or `resource`: its word, and the value where it takes one
    Action(Owner, &'static str, &'static str, Option<&'static str>),
    /// `replace_pattern(attributes[key], pattern, replacement)`
    ReplacePattern(Owner, &'static str, Pattern, &'static str),
    /// `replace_all_patterns(attributes, "value", …)`
    ReplaceAll(Owner, Pattern, &'static str),
    /// `replace_pattern(span.name, …)`
    ReplaceName(Pattern, &'static str),
    /// `replace_pattern(span.status.message, …)`
    ReplaceMessage(Pattern, &'static str),
    /// `set(attributes[key], SHA256(attributes[key])) where attributes[key] != nil`
    Hash(Owner, &'static str),
    /// `set(attributes[key], "text")`
    Set(Owner, &'static str, &'static str),
    /// `set(attributes[key], "text") where IsMatch(attributes[other], pattern)`
    SetWhere(Owner, &'static str, &'static str, Pattern),
    /// `delete_key(attributes, key)`
    Delete(Owner, &'static str),
    /// `delete_matching_keys(attributes, pattern)`
    DeleteMatching(Owner, Pattern),
    /// `keep_keys(attributes, [key, …])`
    Keep(Owner, Vec<&'static str>),
    /// `keep_matching_keys(attributes, pattern)`
    KeepMatching(Owner, Pattern),
    /// `replace_all_patterns(attributes, "key", …)`
    ReplaceKeys(Owner, Pattern, &'static str),
    /// `truncate_all(attributes, limit)`
    Truncate(Owner, usize),
}

/// An owner of attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Resource,
    Scope,
    Span,
    Event,
    Link,
}

impl Owner {
    fn of(kind: Kind) -> Option<Self> {
        Some(match kind {
            Kind::Resource => Self::Resource,
            Kind::Scope => Self::Scope,
            Kind::Span => Self::Span,
            Kind::Event => Self::Event,
            Kind::Link => Self::Link,
            _ => return None,
        })
    }

    fn context(self) -> &'static str {
        match self {
            Self::Resource => "resource",
            Self::Scope => "scope",
            Self::Span => "span",
            Self::Event => "spanevent",
            Self::Link => "spanlink",
        }
    }
}

/// The operations as the processors of a configuration. With `tree`, behind a statement that changes nothing and that
/// a walk can't run, so that the statements after it run on the request as a tree.
pub(crate) fn yaml(ops: &[Op], tree: bool) -> String {
    let mut processors = serde_json::Map::new();
    if tree {
        let nothing = json!({ "trace_statements": ["set(span.cache[\"x\"], 1)"] });
        processors.insert("transform/first".into(), nothing);
    }
    for (index, op) in ops.iter().enumerate() {
        let (kind, config) = match op {
            Op::Redact {
                allow_all,
                allowed,
                blocked,
                ignored,
                values,
                fine,
                masked_keys,
                ignored_keys,
                all_types,
            } => {
                let patterns = |list: &[Pattern]| list.iter().map(|(go, _)| *go).collect::<Vec<_>>();
                let config = json!({
                    "allow_all_keys": allow_all,
                    "allowed_keys": allowed,
                    "blocked_keys": blocked,
                    "ignored_keys": ignored,
                    "blocked_values": patterns(values),
                    "allowed_values": patterns(fine),
                    "blocked_key_patterns": patterns(masked_keys),
                    "ignored_key_patterns": patterns(ignored_keys),
                    "redact_all_types": all_types,
                });
                ("redaction", config)
            }
            Op::Action(owner, word, key, value) => {
                let action = json!({ "key": key, "action": word, "value": value });
                match owner {
                    Owner::Resource => ("resource", json!({ "attributes": [action] })),
                    _ => ("attributes", json!({ "actions": [action] })),
                }
            }
            op => ("transform", json!({ "trace_statements": [statement(op)] })),
        };
        processors.insert(format!("{kind}/{index}"), config);
    }
    let places = tree.then(|| "/first".to_owned()).into_iter().chain((0..ops.len()).map(|n| format!("/{n}")));
    let names: Vec<_> = places.map(|place| processors.keys().find(|key| key.ends_with(&place))).collect();
    json!({
        "receivers": { "otlp": { "protocols": { "grpc": {} } } },
        "processors": processors,
        "exporters": { "debug": {} },
        "service": { "pipelines": { "traces": { "receivers": ["otlp"], "processors": names, "exporters": ["debug"] } } },
    })
    .to_string()
    .replace('$', "$$")
}

fn statement(op: &Op) -> String {
    let quoted = |text: &str| json!(text).to_string();
    let at = |owner: &Owner, key: &str| format!("{}.attributes[{}]", owner.context(), quoted(key));
    match op {
        Op::ReplacePattern(owner, key, (go, _), with) => {
            format!("replace_pattern({}, {}, {})", at(owner, key), quoted(go), quoted(with))
        }
        Op::ReplaceAll(owner, (go, _), with) => {
            let map = owner.context();
            format!("replace_all_patterns({map}.attributes, \"value\", {}, {})", quoted(go), quoted(with))
        }
        Op::ReplaceName((go, _), with) => {
            format!("replace_pattern(span.name, {}, {})", quoted(go), quoted(with))
        }
        Op::ReplaceMessage((go, _), with) => {
            format!("replace_pattern(span.status.message, {}, {})", quoted(go), quoted(with))
        }
        Op::Hash(owner, key) => {
            let path = at(owner, key);
            format!("set({path}, SHA256({path})) where {path} != nil")
        }
        Op::Set(owner, key, value) => format!("set({}, {})", at(owner, key), quoted(value)),
        Op::SetWhere(owner, key, other, (go, _)) => {
            format!(
                "set({}, \"matched\") where IsMatch({}, {})",
                at(owner, key),
                at(owner, other),
                quoted(go)
            )
        }
        Op::Delete(owner, key) => format!("delete_key({}.attributes, {})", owner.context(), quoted(key)),
        Op::DeleteMatching(owner, (go, _)) => {
            format!("delete_matching_keys({}.attributes, {})", owner.context(), quoted(go))
        }
        Op::Keep(owner, keys) => format!("keep_keys({}.attributes, {})", owner.context(), json!(keys)),
        Op::KeepMatching(owner, (go, _)) => {
            format!("keep_matching_keys({}.attributes, {})", owner.context(), quoted(go))
        }
        Op::ReplaceKeys(owner, (go, _), with) => {
            let map = owner.context();
            format!("replace_all_patterns({map}.attributes, \"key\", {}, {})", quoted(go), quoted(with))
        }
        Op::Truncate(owner, limit) => format!("truncate_all({}.attributes, {limit})", owner.context()),
        Op::Redact { .. } | Op::Action(..) => unreachable!("a processor of its own"),
    }
}

/// Applies the operations one after the other.
pub(crate) fn apply(ops: &[Op], request: &mut ExportTraceServiceRequest) {
    for op in ops {
        visit(request, &mut |message| {
            if let (Some(list), Some(owner)) = (message.attributes, Owner::of(message.kind)) {
                attributes(op, owner, list);
            }
            for (number, text) in message.texts {
                match (op, message.kind, number) {
                    (Op::Redact { values, .. }, ..) => mask_text(values, text),
                    (Op::ReplaceName(pattern, with), Kind::Span, 5)
                    | (Op::ReplaceMessage(pattern, with), Kind::Status, 2) => {
                        *text = replace(pattern, text, with);
                    }
                    _ => {}
                }
            }
        });
    }
}

#[expect(clippy::too_many_lines, reason = "a rule after the other")]
fn attributes(op: &Op, owner: Owner, list: &mut Vec<KeyValue>) {
    match op {
        Op::Redact {
            allow_all,
            allowed,
            blocked,
            ignored,
            values,
            fine,
            masked_keys,
            ignored_keys,
            all_types,
        } => {
            let named = |keys: &[&str], attribute: &KeyValue| keys.contains(&attribute.key.as_str());
            let like = |patterns: &[Pattern], attribute: &KeyValue| {
                patterns.iter().any(|(_, pattern)| compiled(pattern).is_match(attribute.key.as_bytes()))
            };
            let left_alone =
                |attribute: &KeyValue| named(ignored, attribute) || like(ignored_keys, attribute);
            list.retain(|attribute| {
                !named(blocked, attribute)
                    && (left_alone(attribute) || *allow_all || named(allowed, attribute))
            });
            for attribute in list.iter_mut().filter(|attribute| !left_alone(attribute)) {
                if like(masked_keys, attribute) {
                    attribute.value = Some(AnyValue { value: Some(Value::StringValue("[REDACTED]".into())) });
                } else if let Some(value) = &mut attribute.value {
                    members(value, &attribute.key, blocked, masked_keys);
                    mask_value(values, fine, *all_types, Some(value));
                }
                mask_text(values, &mut attribute.key);
            }
        }
        Op::Action(of, word, key, value) if *of == owner => {
            let there = list.iter().any(|attribute| attribute.key == *key);
            match (*word, there) {
                ("delete", _) => list.retain(|attribute| attribute.key != *key),
                ("insert", false) | ("update", true) | ("upsert", _) => {
                    set(list, key, value.expect("they take a value"));
                }
                _ => {}
            }
        }
        Op::KeepMatching(of, (_, pattern)) if *of == owner => {
            let pattern = compiled(pattern);
            list.retain(|attribute| pattern.is_match(attribute.key.as_bytes()));
        }
        Op::ReplaceKeys(of, pattern, with) if *of == owner => {
            for attribute in list {
                attribute.key = replace(pattern, &attribute.key, with);
            }
        }
        Op::Truncate(of, limit) if *of == owner => {
            for text in list.iter_mut().filter_map(text_of) {
                let fits = |at: &usize| *at <= *limit;
                let ends = text.char_indices().map(|(at, character)| at + character.len_utf8());
                let end = ends.take_while(fits).last().unwrap_or(0);
                text.truncate(end);
            }
        }
        Op::ReplacePattern(of, key, pattern, with) if *of == owner => {
            for text in list.iter_mut().filter(|a| a.key == *key).filter_map(text_of) {
                *text = replace(pattern, text, with);
            }
        }
        Op::ReplaceAll(of, pattern, with) if *of == owner => {
            for text in list.iter_mut().filter_map(text_of) {
                *text = replace(pattern, text, with);
            }
        }
        Op::Hash(of, key) if *of == owner => {
            list.retain_mut(|attribute| {
                if attribute.key != *key || value_of(attribute).is_none() {
                    return true;
                }
                match text_of(attribute) {
                    Some(text) => *text = super::sha256(text.as_bytes()),
                    // The default error mode drops what it can't handle.
                    None => return false,
                }
                true
            });
        }
        Op::Set(of, key, value) if *of == owner => set(list, key, value),
        Op::SetWhere(of, key, other, (_, pattern)) if *of == owner => {
            let pattern = compiled(pattern);
            // The attribute's own value decides for itself; of another, any occurrence.
            let matches = |attribute: &KeyValue| plain(attribute).is_some_and(|text| pattern.is_match(&text));
            if key == other {
                for attribute in list.iter_mut().filter(|a| a.key == *key) {
                    if matches(attribute) {
                        attribute.value =
                            Some(AnyValue { value: Some(Value::StringValue("matched".into())) });
                    }
                }
            } else if list.iter().any(|attribute| attribute.key == *other && matches(attribute)) {
                set(list, key, "matched");
            }
        }
        Op::Delete(of, key) if *of == owner => list.retain(|attribute| attribute.key != *key),
        Op::DeleteMatching(of, (_, pattern)) if *of == owner => {
            let pattern = compiled(pattern);
            list.retain(|attribute| !pattern.is_match(attribute.key.as_bytes()));
        }
        Op::Keep(of, keys) if *of == owner => list.retain(|attribute| keys.contains(&attribute.key.as_str())),
        _ => {}
    }
}

fn set(list: &mut Vec<KeyValue>, key: &str, value: &str) {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.into())) });
    let mut found = false;
    for attribute in list.iter_mut().filter(|attribute| attribute.key == key) {
        attribute.value.clone_from(&value);
        found = true;
    }
    if !found {
        list.push(KeyValue { key: key.into(), value, ..KeyValue::default() });
    }
}

fn value_of(attribute: &KeyValue) -> Option<&Value> {
    attribute.value.as_ref()?.value.as_ref()
}

fn text_of(attribute: &mut KeyValue) -> Option<&mut String> {
    match attribute.value.as_mut()?.value.as_mut()? {
        Value::StringValue(text) => Some(text),
        _ => None,
    }
}

/// The text by which a condition matches a value.
fn plain(attribute: &KeyValue) -> Option<Vec<u8>> {
    Some(match value_of(attribute)? {
        Value::StringValue(text) => text.clone().into_bytes(),
        Value::BytesValue(bytes) => bytes.clone(),
        Value::IntValue(number) => number.to_string().into_bytes(),
        Value::BoolValue(flag) => flag.to_string().into_bytes(),
        Value::DoubleValue(number) => number.to_string().into_bytes(),
        nested => json_of(Some(nested)).to_string().into_bytes(),
    })
}

/// Lists and maps are matched as JSON; of a key that occurs twice the last counts.
fn json_of(value: Option<&Value>) -> serde_json::Value {
    let any = |any: Option<&AnyValue>| json_of(any.and_then(|any| any.value.as_ref()));
    match value {
        Some(Value::StringValue(text)) => json!(text),
        Some(Value::BoolValue(flag)) => json!(flag),
        Some(Value::IntValue(number)) => json!(number),
        Some(Value::DoubleValue(number)) => json!(number),
        Some(Value::BytesValue(bytes)) => {
            json!(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat())
        }
        Some(Value::ArrayValue(array)) => array.values.iter().map(|value| any(Some(value))).collect(),
        Some(Value::KvlistValue(list)) => serde_json::Value::Object(
            list.values.iter().map(|pair| (pair.key.clone(), any(pair.value.as_ref()))).collect(),
        ),
        _ => serde_json::Value::Null,
    }
}

fn compiled(pattern: &str) -> Regex {
    thread_local! {
        static COMPILED: RefCell<HashMap<String, Regex>> = RefCell::default();
    }
    COMPILED.with_borrow_mut(|all| {
        let compile = || Regex::new(pattern).expect("the model's pattern");
        all.entry(pattern.to_owned()).or_insert_with(compile).clone()
    })
}

fn replace((_, pattern): &Pattern, text: &str, with: &str) -> String {
    let pattern = compiled(pattern);
    String::from_utf8(pattern.replace_all(text.as_bytes(), with.as_bytes()).into_owned())
        .expect("text stays text")
}

fn mask(values: &[Pattern], text: &[u8]) -> Vec<u8> {
    values.iter().fold(text.to_vec(), |text, (_, pattern)| {
        let pattern = compiled(pattern);
        pattern.replace_all(&text, &b"[REDACTED]"[..]).into_owned()
    })
}

fn mask_text(values: &[Pattern], text: &mut String) {
    *text = String::from_utf8(mask(values, text.as_bytes())).expect("text stays text");
}

/// What rules say of keys holds for the members of nested maps, by their own key and by their path.
fn members(value: &mut AnyValue, path: &str, blocked: &[&str], masked: &[Pattern]) {
    match &mut value.value {
        Some(Value::ArrayValue(array)) => {
            array.values.iter_mut().for_each(|value| members(value, path, blocked, masked));
        }
        Some(Value::KvlistValue(list)) => list.values.retain_mut(|member| {
            let path = format!("{path}.{}", member.key);
            let names = [member.key.as_str(), &path];
            if names.iter().any(|name| blocked.contains(name)) {
                return false;
            }
            let matches =
                |(_, pattern): &Pattern| names.iter().any(|name| compiled(pattern).is_match(name.as_bytes()));
            if masked.iter().any(matches) {
                member.value = Some(AnyValue { value: Some(Value::StringValue("[REDACTED]".into())) });
            } else if let Some(value) = &mut member.value {
                members(value, &path, blocked, masked);
            }
            true
        }),
        _ => {}
    }
}

fn mask_value(values: &[Pattern], fine: &[Pattern], all_types: bool, value: Option<&mut AnyValue>) {
    let allowed = |text: &[u8]| fine.iter().any(|(_, p)| compiled(p).is_match(text));
    let Some(value) = value else { return };
    let number = match &value.value {
        Some(Value::IntValue(number)) => Some(number.to_string()),
        Some(Value::BoolValue(flag)) => Some(flag.to_string()),
        Some(Value::DoubleValue(number)) => Some(number.to_string()),
        _ => None,
    };
    if let Some(text) = number.filter(|_| all_types) {
        let masked = mask(values, text.as_bytes());
        if masked != text.as_bytes() && !allowed(text.as_bytes()) {
            value.value = Some(Value::StringValue(String::from_utf8(masked).expect("text stays text")));
        }
        return;
    }
    match value.value.as_mut() {
        Some(Value::StringValue(text)) if !allowed(text.as_bytes()) => mask_text(values, text),
        Some(Value::BytesValue(bytes)) if !allowed(bytes) => *bytes = mask(values, bytes),
        Some(Value::ArrayValue(array)) => {
            array.values.iter_mut().for_each(|value| mask_value(values, fine, all_types, Some(value)));
        }
        Some(Value::KvlistValue(list)) => {
            for attribute in &mut list.values {
                mask_value(values, fine, all_types, attribute.value.as_mut());
                mask_text(values, &mut attribute.key);
            }
        }
        _ => {}
    }
}
