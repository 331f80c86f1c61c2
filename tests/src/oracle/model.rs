//! Rewriting the naive way: every message of a decoded request, in the order of the walker's parts.

use serde_json::{Map, Value as Json, json};
use spanwarden::otlp::walk::Kind;

use crate::proto::v1::{AnyValue, EntityRef, ExportTraceServiceRequest, KeyValue, Span, any_value::Value};

/// A decoded message with what a rewrite can touch: its attributes, and its texts by field number.
#[derive(Debug)]
pub struct Message<'a> {
    /// Which message it is.
    pub kind: Kind,
    /// Its attributes.
    pub attributes: Option<&'a mut Vec<KeyValue>>,
    /// Its strings.
    pub texts: Vec<(u32, &'a mut String)>,
}

/// Shows every message of a request, a missing resource as an empty one (which stays missing if it is left
/// empty).
pub fn visit(request: &mut ExportTraceServiceRequest, show: &mut impl FnMut(Message<'_>)) {
    for resource_spans in &mut request.resource_spans {
        let mut resource = resource_spans.resource.take();
        let missing = resource.is_none();
        let inner = resource.get_or_insert_default();
        for entity in &mut inner.entity_refs {
            let EntityRef { schema_url, r#type, id_keys, description_keys } = entity;
            let mut texts = vec![(1, schema_url), (2, r#type)];
            texts.extend(id_keys.iter_mut().map(|key| (3, key)));
            texts.extend(description_keys.iter_mut().map(|key| (4, key)));
            show(Message { kind: Kind::EntityRef, attributes: None, texts });
        }
        show(Message { kind: Kind::Resource, attributes: Some(&mut inner.attributes), texts: Vec::new() });
        resource_spans.resource = resource.filter(|resource| !missing || !resource.attributes.is_empty());
        for scope_spans in &mut resource_spans.scope_spans {
            if let Some(scope) = &mut scope_spans.scope {
                let texts = vec![(1, &mut scope.name), (2, &mut scope.version)];
                show(Message { kind: Kind::Scope, attributes: Some(&mut scope.attributes), texts });
            }
            scope_spans.spans.iter_mut().for_each(|span| visit_span(span, show));
            let texts = vec![(3, &mut scope_spans.schema_url)];
            show(Message { kind: Kind::ScopeSpans, attributes: None, texts });
        }
        let texts = vec![(3, &mut resource_spans.schema_url)];
        show(Message { kind: Kind::ResourceSpans, attributes: None, texts });
    }
}

fn visit_span(span: &mut Span, show: &mut impl FnMut(Message<'_>)) {
    for event in &mut span.events {
        let texts = vec![(2, &mut event.name)];
        show(Message { kind: Kind::Event, attributes: Some(&mut event.attributes), texts });
    }
    for link in &mut span.links {
        let texts = vec![(3, &mut link.trace_state)];
        show(Message { kind: Kind::Link, attributes: Some(&mut link.attributes), texts });
    }
    if let Some(status) = &mut span.status {
        show(Message { kind: Kind::Status, attributes: None, texts: vec![(2, &mut status.message)] });
    }
    let texts = vec![(3, &mut span.trace_state), (5, &mut span.name)];
    show(Message { kind: Kind::Span, attributes: Some(&mut span.attributes), texts });
}

/// Shows every key and every string inside a list value, at any depth.
pub fn visit_inside(
    value: &mut AnyValue,
    show_key: &mut impl FnMut(&mut String),
    show: &mut impl FnMut(&mut String),
) {
    match &mut value.value {
        Some(Value::ArrayValue(array)) => {
            for item in &mut array.values {
                visit_item(item, show_key, show);
            }
        }
        Some(Value::KvlistValue(list)) => {
            for pair in &mut list.values {
                show_key(&mut pair.key);
                if let Some(value) = &mut pair.value {
                    visit_item(value, show_key, show);
                }
            }
        }
        _ => {}
    }
}

fn visit_item(
    value: &mut AnyValue,
    show_key: &mut impl FnMut(&mut String),
    show: &mut impl FnMut(&mut String),
) {
    match &mut value.value {
        Some(Value::StringValue(text)) => show(text),
        _ => visit_inside(value, show_key, show),
    }
}

/// The request as OTLP/JSON, built from the decoded message: every field, defaults too.
pub fn to_json(request: &ExportTraceServiceRequest) -> Json {
    list("resourceSpans", &request.resource_spans, |rs| {
        let mut out = list("scopeSpans", &rs.scope_spans, |ss| {
            let mut out = list("spans", &ss.spans, span_json);
            out["schemaUrl"] = json!(ss.schema_url);
            if let Some(scope) = &ss.scope {
                out["scope"] = json!({
                    "name": scope.name, "version": scope.version, "attributes": attributes_json(&scope.attributes),
                    "droppedAttributesCount": scope.dropped_attributes_count,
                });
            }
            out
        });
        out["schemaUrl"] = json!(rs.schema_url);
        if let Some(resource) = &rs.resource {
            let mut inner = list("entityRefs", &resource.entity_refs, |entity| {
                json!({
                    "schemaUrl": entity.schema_url, "type": entity.r#type,
                    "idKeys": entity.id_keys, "descriptionKeys": entity.description_keys,
                })
            });
            inner["attributes"] = attributes_json(&resource.attributes);
            inner["droppedAttributesCount"] = json!(resource.dropped_attributes_count);
            out["resource"] = inner;
        }
        out
    })
}

fn list<T>(name: &str, items: &[T], item: impl Fn(&T) -> Json) -> Json {
    Json::Object(Map::from_iter([(name.to_owned(), items.iter().map(item).collect())]))
}

fn span_json(span: &Span) -> Json {
    let events = span.events.iter().map(|event| {
        json!({
            "timeUnixNano": event.time_unix_nano.to_string(), "name": event.name,
            "attributes": attributes_json(&event.attributes),
            "droppedAttributesCount": event.dropped_attributes_count,
        })
    });
    let links = span.links.iter().map(|link| {
        json!({
            "traceId": hex(&link.trace_id), "spanId": hex(&link.span_id), "traceState": link.trace_state,
            "attributes": attributes_json(&link.attributes),
            "droppedAttributesCount": link.dropped_attributes_count, "flags": link.flags,
        })
    });
    let status = span.status.as_ref().map(|status| json!({"message": status.message, "code": status.code}));
    json!({
        "traceId": hex(&span.trace_id), "spanId": hex(&span.span_id), "parentSpanId": hex(&span.parent_span_id),
        "traceState": span.trace_state, "flags": span.flags, "name": span.name, "kind": span.kind,
        "startTimeUnixNano": span.start_time_unix_nano.to_string(),
        "endTimeUnixNano": span.end_time_unix_nano.to_string(),
        "attributes": attributes_json(&span.attributes),
        "droppedAttributesCount": span.dropped_attributes_count,
        "events": events.collect::<Json>(), "droppedEventsCount": span.dropped_events_count,
        "links": links.collect::<Json>(), "droppedLinksCount": span.dropped_links_count,
        "status": status,
    })
}

fn attributes_json(attributes: &[KeyValue]) -> Json {
    attributes
        .iter()
        .map(|pair| json!({"key": pair.key, "value": pair.value.as_ref().map(value_json)}))
        .collect()
}

fn value_json(value: &AnyValue) -> Json {
    match &value.value {
        None | Some(Value::StringValueStrindex(_)) => json!({}),
        Some(Value::StringValue(text)) => json!({"stringValue": text}),
        Some(Value::BoolValue(value)) => json!({"boolValue": value}),
        Some(Value::IntValue(value)) => json!({"intValue": value.to_string()}),
        Some(Value::DoubleValue(value)) if value.is_nan() => json!({"doubleValue": "NaN"}),
        Some(Value::DoubleValue(value)) if value.is_infinite() => {
            json!({"doubleValue": if *value > 0.0 { "Infinity" } else { "-Infinity" }})
        }
        Some(Value::DoubleValue(value)) => json!({"doubleValue": value}),
        Some(Value::ArrayValue(array)) => {
            json!({"arrayValue": list("values", &array.values, value_json)})
        }
        Some(Value::KvlistValue(list)) => {
            json!({"kvlistValue": {"values": attributes_json(&list.values)}})
        }
        Some(Value::BytesValue(bytes)) => json!({"bytesValue": base64(bytes)}),
    }
}

fn hex(bytes: &[u8]) -> String {
    let digit = |n: u8| char::from_digit(n.into(), 16).expect("four bits");
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let bits =
            chunk.iter().fold(0u32, |all, &byte| all << 8 | u32::from(byte)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * i) & 63) as usize];
            out.push(if i <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    out
}
