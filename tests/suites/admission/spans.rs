//! Requests, and what the program wrote of them.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result};
use prost::Message as _;
use serde_json::Value;
use spanwarden_tests::proto::v1::{
    AnyValue, ArrayValue, ExportTraceServiceRequest, KeyValue, Resource, ResourceSpans, ScopeSpans, Span,
    Status, any_value,
};

/// A resource attribute.
pub(crate) fn attribute(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

pub(crate) fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, any_value::Value::StringValue(value.to_owned()))
}

pub(crate) fn bytes(key: &str, value: &str) -> KeyValue {
    attribute(key, any_value::Value::BytesValue(value.as_bytes().to_vec()))
}

pub(crate) fn list(key: &str, value: &str) -> KeyValue {
    let item = AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) };
    attribute(key, any_value::Value::ArrayValue(ArrayValue { values: vec![item] }))
}

pub(crate) fn int(key: &str, value: i64) -> KeyValue {
    attribute(key, any_value::Value::IntValue(value))
}

/// One span of each resource, numbered from `first`.
pub(crate) fn request(resources: &[Vec<KeyValue>], first: u64) -> Vec<u8> {
    traced(resources, first, first, false)
}

/// The same with a trace of its own choice, whose spans have failed or not.
pub(crate) fn traced(resources: &[Vec<KeyValue>], trace: u64, first: u64, failed: bool) -> Vec<u8> {
    let of = |(number, attributes): (u64, &Vec<KeyValue>)| ResourceSpans {
        resource: Some(Resource { attributes: attributes.clone(), ..Resource::default() }),
        scope_spans: vec![ScopeSpans {
            spans: vec![Span {
                trace_id: [b"admissn\0".as_slice(), &trace.to_be_bytes()].concat(),
                span_id: (first + number).to_be_bytes().to_vec(),
                name: "GET /orders".to_owned(),
                start_time_unix_nano: 1_780_000_000_000_000_000,
                end_time_unix_nano: 1_780_000_000_001_000_000,
                status: Some(Status { code: if failed { 2 } else { 0 }, ..Status::default() }),
                ..Span::default()
            }],
            ..ScopeSpans::default()
        }],
        ..ResourceSpans::default()
    };
    let resource_spans = (0..).zip(resources).map(of).collect();
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

/// Attributes of one resource, as often as each is there.
pub(crate) type Attributes = BTreeMap<String, Vec<Value>>;

/// What a file exporter wrote: the number of each span, with its resource's attributes. A span is there as often as it
/// was written.
pub(crate) fn written(path: &Path) -> Result<Vec<(u64, Attributes)>> {
    let mut found = Vec::new();
    let Ok(lines) = fs::read_to_string(path) else { return Ok(found) };
    for line in lines.lines() {
        let request: Value = serde_json::from_str(line)?;
        for resource_spans in items(&request["resourceSpans"]) {
            let mut attributes = Attributes::new();
            for attribute in items(&resource_spans["resource"]["attributes"]) {
                let key = attribute["key"].as_str().context("a key")?.to_owned();
                attributes.entry(key).or_default().push(attribute["value"].clone());
            }
            for span in items(&resource_spans["scopeSpans"]).iter().flat_map(|scope| items(&scope["spans"])) {
                let id = span["spanId"].as_str().context("an id")?;
                found.push((u64::from_str_radix(id, 16)?, attributes.clone()));
            }
        }
    }
    Ok(found)
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The only value of an attribute, as text.
pub(crate) fn only<'a>(attributes: &'a Attributes, key: &str) -> Option<&'a str> {
    match attributes.get(key)?.as_slice() {
        [one] => one["stringValue"].as_str(),
        _ => None,
    }
}
