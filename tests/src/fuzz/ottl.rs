//! The parser of OTTL, and what runs a statement.

use prost::Message as _;
use serde_json::json;
use spanwarden::{
    config,
    otlp::{Batch, Context},
    scrub::{Plan, PlanScratch, canonical_statement},
};

use crate::proto::v1::{
    AnyValue, ExportTraceServiceRequest, InstrumentationScope, KeyValue, KeyValueList, Resource,
    ResourceSpans, ScopeSpans, Span, any_value::Value, span,
};

/// A statement or a condition: what is printed is read as the same, and what compiles runs on a request without a
/// panic and leaves it well-formed.
///
/// # Panics
/// When that does not hold.
pub fn ottl(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(printed) = canonical_statement(text) else { return };
    match canonical_statement(&printed) {
        Ok(again) => assert_eq!(again, printed),
        // Printing writes parentheses that the text need not have had.
        Err(error) => {
            assert!(["deep", "in a row", "at most"].iter().any(|bound| error.contains(bound)), "{error}");
        }
    }
    let Some(plan) = plan(text) else { return };
    let batch = Batch { data: request().into(), spans: 1, context: Context::default() };
    if let Ok(batch) = plan.apply(batch, &mut PlanScratch::default()) {
        let out = ExportTraceServiceRequest::decode(&batch.data[..]).expect("what is written is well-formed");
        let again = Plan::compile(&[], None).expect("nothing to compile");
        again.apply(batch, &mut PlanScratch::default()).expect("and passes the walker");
        assert!(out.resource_spans.len() <= 1);
    }
}

fn plan(statement: &str) -> Option<Plan> {
    let configuration = json!({
        "receivers": { "otlp": { "protocols": { "grpc": {} } } },
        "processors": { "transform": { "trace_statements": [statement] } },
        "exporters": { "debug": {} },
        "service": { "pipelines": {
            "traces": { "receivers": ["otlp"], "processors": ["transform"], "exporters": ["debug"] }
        } },
    });
    let text = configuration.to_string().replace('$', "$$");
    let config = config::parse(&text, "fuzz.yaml").ok()?;
    Plan::compile(&[&config.processors[0]], None).ok()
}

/// One span with something of everything.
fn request() -> Vec<u8> {
    let any = |value| Some(AnyValue { value: Some(value) });
    let pair = |key: &str, value| KeyValue { key: key.into(), value: any(value), ..KeyValue::default() };
    let attributes = vec![
        pair("a", Value::StringValue("a1 b2".into())),
        pair("a", Value::IntValue(-1)),
        pair("m", Value::KvlistValue(KeyValueList { values: vec![pair("k", Value::DoubleValue(0.5))] })),
        pair("b", Value::BytesValue(vec![0, 255])),
        pair("t", Value::BoolValue(true)),
    ];
    let span = Span {
        trace_id: vec![1; 16],
        span_id: vec![2; 8],
        name: "GET /é".into(),
        trace_state: "a=b,c=d".into(),
        start_time_unix_nano: 5,
        end_time_unix_nano: 9,
        events: vec![span::Event {
            name: "e".into(),
            attributes: attributes.clone(),
            ..span::Event::default()
        }],
        links: vec![span::Link { attributes: attributes.clone(), ..span::Link::default() }],
        attributes: attributes.clone(),
        ..Span::default()
    };
    let scope = InstrumentationScope { name: "lib".into(), ..InstrumentationScope::default() };
    let spans = ScopeSpans { scope: Some(scope), spans: vec![span], ..ScopeSpans::default() };
    let resource = Resource { attributes, ..Resource::default() };
    let all =
        ResourceSpans { resource: Some(resource), scope_spans: vec![spans], ..ResourceSpans::default() };
    ExportTraceServiceRequest { resource_spans: vec![all] }.encode_to_vec()
}
