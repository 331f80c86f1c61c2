//! What a dry run tells of a request with something in every message.

use super::*;
use crate::{
    config,
    otlp::{
        Batch, Context,
        encode::{self, Value},
    },
    scrub::{Plan, PlanScratch},
};

const CONFIG: &str = r#"
receivers: {otlp: {protocols: {grpc: }}}
processors:
  redaction/pii:
    allow_all_keys: true
    blocked_keys: [secret]
    blocked_values: ["nothing-like-this", "[0-9]{3}-[0-9]{2}-[0-9]{4}", "[a-z]+@[a-z.]+"]
    allowed_values: ["^fine@"]
  transform:
    trace_statements:
      - set(span.attributes["user.id"], SHA256(span.attributes["user.id"])) where span.attributes["user.id"] != nil
  attributes:
    actions:
      - {key: env, value: prod, action: insert}
exporters: {debug: {}}
service:
  pipelines:
    traces: {receivers: [otlp], processors: [redaction/pii, transform, attributes], exporters: [debug]}
"#;

fn plan() -> Plan {
    let config = config::parse(CONFIG, "test.yaml").unwrap_or_else(|errors| panic!("{errors}"));
    let processors = &config.service.pipelines[0].processors;
    let components: Vec<_> = processors.iter().map(|id| config.processor(id).expect("defined")).collect();
    Plan::compile(&components, None).unwrap_or_else(|error| panic!("{error}"))
}

fn batch() -> Batch {
    let mut data = Vec::new();
    encode::field_with(&mut data, 1, |out| {
        encode::field_with(out, 2, |out| {
            encode::field_with(out, 2, |out| {
                encode::field(out, 1, &[1; 16]);
                encode::field(out, 2, &[2; 8]);
                encode::field(out, 5, b"mail alice@example.com");
                encode::key_value(out, 9, "user.id", Value::String("4711"));
                encode::key_value(out, 9, "secret", Value::String("s"));
                encode::key_value(out, 9, "two", Value::String("bob@x.org 123-45-6789"));
                encode::key_value(out, 9, "kept", Value::String("fine@x.org"));
                encode::field_with(out, 11, |out| {
                    encode::key_value(out, 3, "bob@x.org", Value::String("v"));
                });
            });
        });
    });
    Batch { data: data.into(), spans: 1, context: Context::default() }
}

#[test]
fn every_hit_is_told_with_its_rule_and_place() {
    let plan = plan();
    let (scrubbed, records) =
        plan.apply_recorded(batch(), &mut PlanScratch::default(), false).expect("well-formed");
    let told: Vec<String> = records
        .iter()
        .map(|record| {
            assert_eq!(
                (&record.before, &record.after),
                (&None, &None),
                "values only where they are asked for"
            );
            let rule = &plan.rules()[record.rule.index()];
            let field = match &record.field {
                Field::Attribute(key) => String::from_utf8_lossy(key).into_owned(),
                Field::Text(number) => format!("text {number}"),
                Field::Message => "message".to_owned(),
            };
            format!("{:?} {field}: {} {} {}", record.kind, record.did.as_str(), rule.processor, rule.name)
        })
        .collect();
    assert_eq!(
        told,
        [
            "Event [REDACTED]: masked redaction/pii blocked_values[2]",
            "Span secret: removed redaction/pii blocked_keys",
            "Span two: masked redaction/pii blocked_values[1]",
            "Span two: masked redaction/pii blocked_values[2]",
            "Span text 5: masked redaction/pii blocked_values[2]",
            "Span user.id: hashed transform trace_statements[0]",
            "Span env: set attributes actions[0]",
        ]
    );
    let unrecorded = plan.apply(batch(), &mut PlanScratch::default()).expect("well-formed");
    assert_eq!(unrecorded.data, scrubbed.data, "a recorded run does the same");
}

#[test]
fn values_are_told_before_and_after() {
    let plan = plan();
    let (_, records) = plan.apply_recorded(batch(), &mut PlanScratch::default(), true).expect("well-formed");
    let of = |key: &str| {
        let found = records.iter().find(|record| record.field == Field::Attribute(key.into()));
        let found = found.expect("it was hit");
        let text = |content: &Option<Content>| {
            content.as_ref().map(|(_, text)| String::from_utf8_lossy(text).into_owned())
        };
        (text(&found.before), text(&found.after))
    };
    assert_eq!(of("secret"), (Some("s".to_owned()), None));
    let both = (Some("bob@x.org 123-45-6789".to_owned()), Some("[REDACTED] [REDACTED]".to_owned()));
    assert_eq!(of("two"), both);
    assert_eq!(of("env"), (None, Some("prod".to_owned())));
}

#[test]
fn a_refused_request_counts_nothing() {
    let plan = plan();
    let mut scratch = PlanScratch::default();
    let mut broken = batch();
    broken.data = [&broken.data[..], &[0x0a, 0x05, 0x01][..]].concat().into();
    plan.apply_recorded(broken, &mut scratch, false).expect_err("cut off");
    let (_, records) = plan.apply_recorded(batch(), &mut scratch, false).expect("well-formed");
    assert_eq!(records.len(), 7);
}
