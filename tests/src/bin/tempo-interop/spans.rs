//! Spans with a planted value wherever one can stand.

use std::time::{SystemTime, UNIX_EPOCH};

use spanwarden_tests::proto::v1::{
    AnyValue, ArrayValue, ExportTraceServiceRequest, InstrumentationScope, KeyValue, KeyValueList, Resource,
    ResourceSpans, ScopeSpans, Span, Status, any_value::Value, span,
};

pub(crate) type Request = ExportTraceServiceRequest;

/// Traces, half of them of each of two services.
pub(crate) const TRACES: u64 = 40;
/// Two of each trace, in two requests.
pub(crate) const SPANS: u64 = 2 * TRACES;
/// What no output may show.
pub(crate) const SECRET: &str = "planted-value";

/// Two requests, so that Tempo has to join traces.
pub(crate) fn requests() -> [Request; 2] {
    [0, 1].map(|number| Request {
        resource_spans: (0..TRACES).map(|trace| resource_spans(trace, number)).collect(),
    })
}

fn resource_spans(trace: u64, number: u8) -> ResourceSpans {
    let service = if trace.is_multiple_of(2) { "cart \"a\"" } else { "shop" };
    ResourceSpans {
        resource: Some(Resource {
            attributes: vec![text("service.name", service), text("team", SECRET)],
            ..Resource::default()
        }),
        scope_spans: vec![ScopeSpans {
            scope: Some(InstrumentationScope {
                name: "lib".into(),
                version: format!("1 {SECRET}"),
                attributes: vec![text("scope.note", SECRET)],
                ..InstrumentationScope::default()
            }),
            spans: vec![span(trace, number)],
            ..ScopeSpans::default()
        }],
        ..ResourceSpans::default()
    }
}

fn span(trace: u64, number: u8) -> Span {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
    let start = now - 60_000_000_000 + trace * 1_000_000_000;
    // Half of the ids begin with zeros, which Tempo's search leaves out.
    let mut trace_id = vec![if trace % 4 < 2 { 0 } else { 7 }; 8];
    trace_id.extend((trace + 1).to_be_bytes());
    let nested = Value::KvlistValue(KeyValueList {
        values: vec![text("inner", SECRET), text("secret", "hidden"), text("fine", "fine")],
    });
    let list = Value::ArrayValue(ArrayValue {
        values: vec![AnyValue { value: Some(Value::StringValue(format!("in a list: {SECRET}"))) }],
    });
    Span {
        trace_id,
        span_id: (trace * 2 + u64::from(number) + 1).to_be_bytes().to_vec(),
        name: format!("GET /{SECRET}"),
        kind: span::SpanKind::Server as i32,
        trace_state: format!("vendor={SECRET}"),
        start_time_unix_nano: start,
        end_time_unix_nano: start + 1_000_000,
        attributes: vec![
            text("secret", "hidden"),
            text("note", &format!("it is {SECRET}.")),
            text("user.id", "4711"),
            text("fine", "fine"),
            value("nested", nested),
            value("list", list),
        ],
        events: vec![span::Event {
            time_unix_nano: start,
            name: format!("event {SECRET}"),
            attributes: vec![text("event.note", SECRET)],
            ..span::Event::default()
        }],
        links: vec![span::Link {
            trace_id: vec![9; 16],
            span_id: vec![9; 8],
            attributes: vec![text("link.note", SECRET)],
            ..span::Link::default()
        }],
        status: Some(Status { code: 2, message: format!("failed: {SECRET}") }),
        ..Span::default()
    }
}

fn text(key: &str, text: &str) -> KeyValue {
    value(key, Value::StringValue(text.to_owned()))
}

fn value(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}
