//! What a sender can make a statement do: no more than a multiple of what its message holds.

use crate::{
    config,
    otlp::{
        Batch, Context,
        encode::{self, Value},
        view,
    },
    scrub::{Did, Plan, PlanScratch},
};

fn plan(statement: &str) -> Plan {
    let text = format!(
        "receivers: {{otlp: {{protocols: {{grpc: }}}}}}\nexporters: {{debug: {{}}}}\nprocessors:\n  transform:\n    \
         trace_statements:\n      - {statement}\nservice: {{pipelines: {{traces: {{receivers: [otlp], processors: \
         [transform], exporters: [debug]}}}}}}\n"
    );
    let config = config::parse(&text, "test.yaml").unwrap_or_else(|errors| panic!("{errors}"));
    Plan::compile(&[&config.processors[0]], None).unwrap_or_else(|error| panic!("{error}"))
}

/// One span with these attributes, under a resource with one.
fn batch(resource: (&str, &str), attributes: &[(&str, String)]) -> Batch {
    let mut data = Vec::new();
    encode::field_with(&mut data, 1, |out| {
        encode::field_with(out, 1, |out| encode::key_value(out, 1, resource.0, Value::String(resource.1)));
        encode::field_with(out, 2, |out| {
            encode::field_with(out, 2, |out| {
                encode::field(out, 1, &[1; 16]);
                encode::field(out, 2, &[2; 8]);
                for (key, value) in attributes {
                    encode::key_value(out, 9, key, Value::String(value));
                }
            });
        });
    });
    Batch { data: data.into(), spans: 1, context: Context::default() }
}

/// What is left of `secret`, and how often a rule failed.
fn left(statement: &str, batch: Batch) -> (Vec<String>, usize) {
    let (scrubbed, records) =
        plan(statement).apply_recorded(batch, &mut PlanScratch::default(), false).expect("well-formed");
    let (_, _, span) = view::spans(&scrubbed.data).next().expect("a span");
    let values = span.attributes().filter(|attribute| attribute.key == "secret");
    let values = values.map(|attribute| match attribute.value {
        view::ValueView::String(text) => text.to_owned(),
        other => panic!("{other:?}"),
    });
    (values.collect(), records.iter().filter(|record| record.did == Did::Failed).count())
}

#[test]
fn repeated_keys_are_treated_and_the_rest_goes() {
    let many: Vec<(&str, String)> = (0..500).map(|number| ("secret", format!("value {number}"))).collect();
    let (values, _) = left("set(span.attributes[\"secret\"], \"hidden\")", batch(("r", ""), &many));
    assert_eq!(values, vec!["hidden"; super::MAX_CHOICES]);
}

/// Thousands of occurrences of two keys: the condition is not tried for each pair, and the value is not kept.
#[test]
fn what_can_not_be_decided_is_not_kept() {
    let pairs: Vec<(&str, String)> = (0..8000)
        .flat_map(|number| [("secret", format!("value {number}")), ("other", format!("other {number}"))])
        .collect();
    for condition in [
        "IsMatch(span.attributes[\"other\"], \"^never\")",
        "span.attributes[\"other\"] == \"never\"",
        "not (span.attributes[\"other\"] == \"other 1\" or IsMatch(span.attributes[\"other\"], \".\"))",
    ] {
        let statement = format!("'set(span.attributes[\"secret\"], \"hidden\") where {condition}'");
        let (values, _) = left(&statement, batch(("r", ""), &pairs));
        assert_eq!(values, vec!["hidden"; super::MAX_CHOICES], "{condition}");
    }
}

/// Each span would read it again: a megabyte above ten thousand spans would be ten gigabytes.
#[test]
fn a_long_value_of_the_resource_is_not_read_by_each_span() {
    let long = "x".repeat(super::MAX_FROM_ABOVE + 1);
    let secret = [("secret", "value".to_owned())];
    let statement = "set(span.attributes[\"secret\"], resource.attributes[\"r\"])";
    assert_eq!(left(statement, batch(("r", &long), &secret)), (Vec::new(), 1), "dropped, and counted");
    assert_eq!(left(statement, batch(("r", &long[1..]), &secret)).0, [&long[1..]]);
    let statement =
        "set(span.attributes[\"secret\"], \"hidden\") where IsMatch(resource.attributes[\"r\"], \"^y\")";
    assert_eq!(left(statement, batch(("r", &long), &secret)).0, ["hidden"]);
    assert_eq!(left(statement, batch(("r", "x"), &secret)).0, ["value"]);
}
