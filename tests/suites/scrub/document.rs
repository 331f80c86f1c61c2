//! Step 1 of the reference's document on tracing backends, as it stands there.

use prost::Message;
use spanwarden::{
    config,
    scrub::{Plan, PlanScratch},
};
use spanwarden_tests::proto::v1::{any_value::Value, *};

use super::{batch, sha256};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/configs/000-step1-scrubbing.yaml");

/// The rules, compiled.
pub(crate) fn plan() -> Plan {
    let config = config::load(FILE.as_ref()).unwrap_or_else(|errors| panic!("{errors}"));
    let wanted = ["redaction/pii", "transform/scrub-urls", "transform/hash-user-ids"];
    let processors: Vec<_> = wanted
        .iter()
        .map(|name| {
            let found = config.processors.iter().find(|component| component.id.to_string() == *name);
            found.unwrap_or_else(|| panic!("the document has {name}"))
        })
        .collect();
    Plan::compile(&processors, None).unwrap_or_else(|error| panic!("{error}"))
}

fn text(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: Some(AnyValue { value: Some(Value::StringValue(value.into())) }),
        ..KeyValue::default()
    }
}

fn span(attributes: Vec<KeyValue>) -> ExportTraceServiceRequest {
    let event = span::Event { name: "ssn 123-45-6789".into(), ..span::Event::default() };
    let span = Span {
        trace_id: vec![1; 16],
        span_id: vec![2; 8],
        name: "GET /".into(),
        attributes,
        events: vec![event],
        ..Span::default()
    };
    let scope_spans = vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }];
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }],
    }
}

/// What each attribute becomes; `None`: it is gone. Duplicate keys are meant.
#[test]
fn the_rules_do_what_the_document_says() {
    let key = format!("sk-{}", "Ab3".repeat(12));
    let hash = sha256(b"alice");
    let table: Vec<(&str, String, Option<&str>)> = vec![
        ("http.request.header.authorization", "Basic YTpi".into(), None),
        ("http.request.header.cookie", "a=b".into(), None),
        ("http.response.header.set-cookie", "a=b".into(), None),
        ("http.request.header.x-api-key", "x".into(), None),
        ("http.request.header.x-auth-token", "x".into(), None),
        ("http.request.header.cookie", "again".into(), None),
        ("http.target", "/api/users/alice@example.com".into(), Some("/api/users/[EMAIL-REDACTED]")),
        ("http.target", "/again/bob@example.org".into(), Some("/again/[EMAIL-REDACTED]")),
        (
            "http.url",
            "https://h/u?mail=alice@example.com&cc=b.c+d@e-f.co.uk#x".into(),
            Some("https://h/u?mail=[EMAIL-REDACTED]&cc=[EMAIL-REDACTED]#x"),
        ),
        ("http.route", "/u/alice@example.com".into(), Some("/u/alice@example.com")),
        (
            "db.statement",
            "SELECT * FROM users WHERE email = 'alice@example.com' AND id = 12345 AND n = 12".into(),
            Some("SELECT * FROM users WHERE email = '?' AND id = ? AND n = 12"),
        ),
        (
            "db.statement",
            "DELETE FROM t WHERE a = '' AND b = 'x'".into(),
            Some("DELETE FROM t WHERE a = '?' AND b = '?'"),
        ),
        ("user.id", "alice".into(), Some(&hash)),
        ("user.id", "alice".into(), Some(&hash)),
        ("a", "token Bearer abc-._~+/123== end".into(), Some("token [REDACTED] end")),
        ("b", "BEARER\tx".into(), Some("[REDACTED]")),
        ("c", "123-45-6789 and 123-45-67890".into(), Some("[REDACTED] and 123-45-67890")),
        ("d", "card 4111-1111 1111 1111.".into(), Some("card [REDACTED].")),
        ("e", format!("({key})"), Some("([REDACTED])")),
        ("f", "sk-short".into(), Some("sk-short")),
        ("g", "550e8400-e29b-41d4-a716-446655440000".into(), Some("550e8400-e29b-41d4-a716-446655440000")),
    ];
    let before = span(table.iter().map(|(key, value, _)| text(key, value)).collect());
    let mut after = span(table.iter().filter_map(|(key, _, value)| Some(text(key, (*value)?))).collect());
    after.resource_spans[0].scope_spans[0].spans[0].events[0].name = "ssn [REDACTED]".into();
    let out = plan()
        .apply(batch(before.encode_to_vec()), &mut PlanScratch::default())
        .expect("a well-formed request");
    assert_eq!(out.spans, 1);
    assert_eq!(ExportTraceServiceRequest::decode(out.data).expect("prost reads it"), after);
}
