//! Generated requests that the walker takes: any shape, ids of the right length.

use proptest::{collection::vec, option, prelude::*, sample::select};

use crate::proto::v1::{
    AnyValue, ArrayValue, EntityRef, ExportTraceServiceRequest, InstrumentationScope, KeyValue, KeyValueList,
    Resource, ResourceSpans, ScopeSpans, Span, Status,
    any_value::Value,
    span::{Event, Link},
};

/// A text: empty, short, not ASCII, or too long for a length of one byte.
pub fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => select(vec!["", "GET", "/users/4711", "alice@example.com", "4111 1111 1111 1111", "SELECT 'x'"])
            .prop_map(str::to_owned),
        2 => vec(any::<char>(), 0..12).prop_map(String::from_iter),
        1 => (100usize..300).prop_map(|n| "long value ".repeat(n / 11)),
    ]
}

/// A key; few, so that they occur twice in a message.
pub fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => select(vec!["http.url", "db.statement", "user.id", "user.email", "k", "k8s.pod.name"])
            .prop_map(str::to_owned),
        1 => text(),
    ]
}

fn value() -> impl Strategy<Value = Option<AnyValue>> {
    let leaf = prop_oneof![
        6 => text().prop_map(Value::StringValue),
        1 => any::<bool>().prop_map(Value::BoolValue),
        1 => prop_oneof![any::<i64>(), 0..200i64].prop_map(Value::IntValue),
        1 => prop_oneof![any::<i32>().prop_map(|n| f64::from(n) / 8.0), Just(f64::NAN), Just(f64::INFINITY)]
            .prop_map(Value::DoubleValue),
        1 => vec(any::<u8>(), 0..20).prop_map(Value::BytesValue),
    ]
    .prop_map(|value| AnyValue { value: Some(value) });
    let empty = Just(AnyValue { value: None });
    let any = prop_oneof![9 => leaf, 1 => empty].prop_recursive(4, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|values| Value::ArrayValue(ArrayValue { values })),
            vec((key(), option::weighted(0.9, inner)), 0..4).prop_map(|pairs| {
                let values = pairs.into_iter().map(|(key, value)| key_value(key, value)).collect();
                Value::KvlistValue(KeyValueList { values })
            }),
        ]
        .prop_map(|value| AnyValue { value: Some(value) })
    });
    option::weighted(0.95, any)
}

fn key_value(key: String, value: Option<AnyValue>) -> KeyValue {
    KeyValue { key, value, ..KeyValue::default() }
}

fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    vec((key(), value()).prop_map(|(key, value)| key_value(key, value)), 0..6)
}

fn trace_id() -> impl Strategy<Value = Vec<u8>> {
    // Few traces, so that each has several spans.
    (1u8..6).prop_map(|n| vec![n; 16])
}

fn span_id() -> impl Strategy<Value = Vec<u8>> {
    any::<[u8; 8]>().prop_filter("not all zero", |id| *id != [0; 8]).prop_map(Vec::from)
}

fn event() -> impl Strategy<Value = Event> {
    (any::<u64>(), text(), attributes(), 0u32..300).prop_map(
        |(time_unix_nano, name, attributes, dropped_attributes_count)| Event {
            time_unix_nano,
            name,
            attributes,
            dropped_attributes_count,
        },
    )
}

fn link() -> impl Strategy<Value = Link> {
    let ids = prop_oneof![
        4 => (trace_id(), span_id()),
        1 => Just((Vec::new(), Vec::new())),
        1 => Just((vec![0; 16], vec![0; 8])),
    ];
    (ids, text(), attributes(), any::<u32>()).prop_map(
        |((trace_id, span_id), trace_state, attributes, flags)| Link {
            trace_id,
            span_id,
            trace_state,
            attributes,
            dropped_attributes_count: 0,
            flags,
        },
    )
}

fn span() -> impl Strategy<Value = Span> {
    let ids = (trace_id(), span_id(), prop_oneof![Just(Vec::new()), Just(vec![0; 8]), span_id()]);
    let texts = (text(), text());
    let lists = (attributes(), vec(event(), 0..3), vec(link(), 0..3));
    let status = option::of((text(), 0..3i32).prop_map(|(message, code)| Status { message, code }));
    let numbers = (0..6i32, any::<u64>(), any::<u64>(), any::<u32>());
    (ids, texts, lists, status, numbers).prop_map(|(ids, texts, lists, status, numbers)| Span {
        trace_id: ids.0,
        span_id: ids.1,
        parent_span_id: ids.2,
        trace_state: texts.0,
        name: texts.1,
        attributes: lists.0,
        events: lists.1,
        links: lists.2,
        status,
        kind: numbers.0,
        start_time_unix_nano: numbers.1,
        end_time_unix_nano: numbers.2,
        flags: numbers.3,
        dropped_attributes_count: 0,
        dropped_events_count: 1,
        dropped_links_count: 200,
    })
}

fn scope_spans() -> impl Strategy<Value = ScopeSpans> {
    let scope = (text(), text(), attributes()).prop_map(|(name, version, attributes)| InstrumentationScope {
        name,
        version,
        attributes,
        dropped_attributes_count: 3,
    });
    (option::of(scope), vec(span(), 0..5), text()).prop_map(|(scope, spans, schema_url)| ScopeSpans {
        scope,
        spans,
        schema_url,
    })
}

fn resource() -> impl Strategy<Value = Resource> {
    let entity = (text(), text(), vec(key(), 0..3), vec(key(), 0..3)).prop_map(
        |(schema_url, r#type, id_keys, description_keys)| EntityRef {
            schema_url,
            r#type,
            id_keys,
            description_keys,
        },
    );
    (attributes(), vec(entity, 0..2)).prop_map(|(attributes, entity_refs)| Resource {
        attributes,
        dropped_attributes_count: 0,
        entity_refs,
    })
}

/// Requests with everything that the protos have, in amounts that keep a case fast.
pub fn requests() -> impl Strategy<Value = ExportTraceServiceRequest> {
    let resource_spans = (option::of(resource()), vec(scope_spans(), 0..3), text())
        .prop_map(|(resource, scope_spans, schema_url)| ResourceSpans { resource, scope_spans, schema_url });
    vec(resource_spans, 0..3).prop_map(|resource_spans| ExportTraceServiceRequest { resource_spans })
}
