//! Jaeger's own JSON model as OTLP, as far as text goes: everything that may hold something to find is carried over to where
//! it stood when it came as OTLP.

#![forbid(unsafe_code)]

use std::collections::HashMap;

use serde::Deserialize;

use crate::{
    inspect::remote::trace_id,
    otlp::encode::{self, Value},
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Trace {
    #[serde(rename = "traceID")]
    id: String,
    #[serde(default)]
    spans: Vec<Span>,
    #[serde(default)]
    processes: HashMap<String, Process>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Span {
    #[serde(rename = "spanID")]
    id: String,
    #[serde(default)]
    operation_name: String,
    /// Microseconds.
    #[serde(default)]
    start_time: u64,
    /// Microseconds.
    #[serde(default)]
    duration: u64,
    #[serde(default)]
    tags: Vec<Tag>,
    #[serde(default)]
    logs: Vec<Log>,
    #[serde(default, rename = "processID")]
    process_id: String,
}

#[derive(Deserialize)]
struct Log {
    /// Microseconds.
    #[serde(default)]
    timestamp: u64,
    #[serde(default)]
    fields: Vec<Tag>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Process {
    #[serde(default)]
    service_name: String,
    #[serde(default)]
    tags: Vec<Tag>,
}

#[derive(Deserialize)]
struct Tag {
    key: String,
    #[serde(default)]
    value: serde_json::Value,
}

/// Tags in which Jaeger keeps what OTLP has fields for.
const STATUS_MESSAGE: &str = "otel.status_description";
const SCOPE_NAMES: [&str; 2] = ["otel.scope.name", "otel.library.name"];
const SCOPE_VERSIONS: [&str; 2] = ["otel.scope.version", "otel.library.version"];
const TRACE_STATE: &str = "w3c.tracestate";

/// One request a trace. What has no id that can be read is left out: no OTLP span is without.
pub(super) fn requests(traces: Vec<Trace>) -> Vec<Vec<u8>> {
    let request = |trace: Trace| {
        let id = trace_id(&trace.id)?;
        let mut out = Vec::new();
        for span in &trace.spans {
            let Ok(span_id) = u64::from_str_radix(&span.id, 16) else { continue };
            let nothing = Process::default();
            let process = trace.processes.get(&span.process_id).unwrap_or(&nothing);
            encode::field_with(&mut out, 1, |out| {
                encode::field_with(out, 1, |out| {
                    encode::key_value(out, 1, "service.name", Value::String(&process.service_name));
                    attributes(out, 1, &process.tags);
                });
                encode::field_with(out, 2, |out| {
                    encode::field_with(out, 1, |out| scope(out, &span.tags));
                    encode::field_with(out, 2, |out| put_span(out, id, span_id, span));
                });
            });
        }
        Some(out)
    };
    traces.into_iter().filter_map(request).collect()
}

fn scope(out: &mut Vec<u8>, tags: &[Tag]) {
    for (number, names) in [(1, SCOPE_NAMES), (2, SCOPE_VERSIONS)] {
        let found = tags.iter().find(|tag| names.contains(&tag.key.as_str()));
        if let Some(text) = found.and_then(|tag| tag.value.as_str()) {
            encode::field(out, number, text.as_bytes());
        }
    }
}

fn put_span(out: &mut Vec<u8>, trace_id: [u8; 16], span_id: u64, span: &Span) {
    let text = |key: &str| span.tags.iter().find(|tag| tag.key == key).and_then(|tag| tag.value.as_str());
    encode::field(out, 1, &trace_id);
    encode::field(out, 2, &span_id.to_be_bytes());
    if let Some(state) = text(TRACE_STATE) {
        encode::field(out, 3, state.as_bytes());
    }
    encode::field(out, 5, span.operation_name.as_bytes());
    for (number, micros) in [(7, span.start_time), (8, span.start_time.saturating_add(span.duration))] {
        fixed64(out, number, micros.saturating_mul(1000));
    }
    let own = |tag: &&Tag| {
        let key = tag.key.as_str();
        key != STATUS_MESSAGE
            && key != TRACE_STATE
            && !SCOPE_NAMES.contains(&key)
            && !SCOPE_VERSIONS.contains(&key)
    };
    attributes(out, 9, span.tags.iter().filter(own));
    for log in &span.logs {
        encode::field_with(out, 11, |out| {
            fixed64(out, 1, log.timestamp.saturating_mul(1000));
            let name =
                log.fields.iter().find(|field| field.key == "event").and_then(|field| field.value.as_str());
            encode::field(out, 2, name.unwrap_or_default().as_bytes());
            attributes(out, 3, log.fields.iter().filter(|field| field.key != "event" || name.is_none()));
        });
    }
    if let Some(message) = text(STATUS_MESSAGE) {
        encode::field_with(out, 15, |out| encode::field(out, 2, message.as_bytes()));
    }
}

fn fixed64(out: &mut Vec<u8>, number: u32, value: u64) {
    const FIXED64: u8 = 1;
    encode::tag(out, number, FIXED64);
    out.extend_from_slice(&value.to_le_bytes());
}

fn attributes<'t>(out: &mut Vec<u8>, number: u32, tags: impl IntoIterator<Item = &'t Tag>) {
    use serde_json::Value as Json;
    for Tag { key, value } in tags {
        let text;
        let value = match value {
            Json::String(text) => Value::String(text),
            Json::Bool(flag) => Value::Bool(*flag),
            Json::Number(number) => match number.as_i64() {
                Some(number) => Value::Int(number),
                None => Value::Double(number.as_f64().unwrap_or_default()),
            },
            Json::Null => Value::String(""),
            other => {
                text = other.to_string();
                Value::String(&text)
            }
        };
        encode::key_value(out, number, key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::{
        edit::Edits,
        view::{self, ValueView},
        walk::{Keep, Limits, Scratch, walk},
    };

    #[test]
    fn everything_with_text_is_carried_over() {
        let traces = serde_json::json!([{
            "traceID": "1f",
            "spans": [{
                "traceID": "1f", "spanID": "2", "operationName": "GET /", "startTime": 1_700_000_000_000_000_u64, "duration": 7,
                "processID": "p1", "references": [],
                "tags": [
                    {"key": "http.url", "type": "string", "value": "http://x/alice@example.com"},
                    {"key": "n", "type": "int64", "value": 4711},
                    {"key": "otel.status_description", "type": "string", "value": "no such user"},
                    {"key": "otel.scope.name", "type": "string", "value": "lib"}
                ],
                "logs": [{"timestamp": 1_700_000_000_000_001_u64, "fields": [
                    {"key": "event", "type": "string", "value": "exception"},
                    {"key": "exception.message", "type": "string", "value": "boom"}
                ]}]
            }],
            "processes": {"p1": {"serviceName": "cart", "tags": [{"key": "host.name", "type": "string", "value": "h"}]}}
        }, {"traceID": "not hex", "spans": [], "processes": {}}]);
        let requests = requests(serde_json::from_value(traces).expect("Jaeger's model"));
        let [request] = &requests[..] else { panic!("one trace can be read: {requests:?}") };
        walk(request, &Limits::default(), &mut Scratch::default(), &mut Keep, &mut Edits::default())
            .expect("it is OTLP");
        let (resource, scope, span) = view::spans(request).next().expect("a span");
        let text = |value| ValueView::String(value);
        let resource: Vec<_> =
            resource.attributes().map(|attribute| (attribute.key, attribute.value)).collect();
        assert_eq!(resource, [("service.name", text("cart")), ("host.name", text("h"))]);
        assert_eq!((scope.name(), span.name, span.status_message), ("lib", "GET /", "no such user"));
        let attributes: Vec<_> =
            span.attributes().map(|attribute| (attribute.key, attribute.value)).collect();
        assert_eq!(
            attributes,
            [("http.url", text("http://x/alice@example.com")), ("n", ValueView::Int(4711))]
        );
        let events: Vec<_> = span.events().collect();
        assert_eq!(events[0].name(), "exception");
        let fields: Vec<_> =
            events[0].attributes().map(|attribute| (attribute.key, attribute.value)).collect();
        assert_eq!(fields, [("exception.message", text("boom"))]);
        assert_eq!(span.end_time_unix_nano - span.start_time_unix_nano, 7000);
    }
}
