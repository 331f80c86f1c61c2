//! The short way and the long way through a plan do the same.

use std::rc::Rc;

use proptest::prelude::*;

use super::*;
use crate::scrub::metrics::EDITS;

const MORE: &str = r#"
  transform/more:
    trace_statements:
      - context: span
        statements:
          - delete_key(attributes, "session")
          - replace_pattern(attributes["http.url"], "EMAIL", "$$0") where attributes["user.id"] != "user-1"
          - replace_pattern(attributes["user.id"], "[0-9a-f]{60}", "") where attributes["user.id"] != nil
"#;

/// What a recorder is there for can only be seen on the long way.
fn the_long_way(plan: &Plan, data: &Bytes) -> Bytes {
    let mut scratch = PlanScratch::default();
    plan.apply_recorded(batch(data.clone()), &mut scratch, false).expect("well-formed").0.data
}

fn took_the_long_way(plan: &Plan, data: &Bytes) -> bool {
    let mut scratch = PlanScratch::default();
    plan.apply(batch(data.clone()), &mut scratch).expect("well-formed");
    !scratch.work.list.items.is_empty()
}

#[test]
fn what_is_usual_goes_the_short_way_and_the_rest_does_not() {
    let plan = plan(DOCUMENT, false);
    let long = |span: &[(&str, Value<'_>)]| took_the_long_way(&plan, &request(&[("a", text("b"))], span));
    let url = ("http.url", text("https://x/u/alice@example.com"));
    assert!(!long(&[url, ("user.id", text("user-1")), ("n", Value::Int(7))]));
    assert!(!long(&[url, ("http.request.header.cookie", text("a=b"))]));
    assert!(long(&[url, url]), "a key that stands twice");
    assert!(long(&[("user.id", Value::Int(7))]), "a value that SHA256 can't take");
    assert!(long(&[url, ("other", text("Bearer c2VjcmV0"))]), "the gate finds something");
}

#[test]
fn both_ways_count_the_same() {
    // Names of its own, because counters are shared by all plans of a process.
    let plan = plan(&DOCUMENT.replace("/pii:", "/ways:").replace("-user-ids:", "-ways:"), false);
    let edits = || {
        [("redaction/ways", "deleted"), ("transform/hash-ways", "hashed")]
            .map(|labels| EDITS.with_label_values(&[labels.0, labels.1]).get())
    };
    let data = request(&[], &[("http.request.header.cookie", text("a=b")), ("user.id", text("user-1"))]);
    assert!(!took_the_long_way(&plan, &data));
    assert_eq!(edits(), [1, 1]);
    the_long_way(&plan, &data);
    assert_eq!(edits(), [2, 2]);
}

fn attribute() -> impl Strategy<Value = (&'static str, String, bool)> {
    let key = prop_oneof![
        3 => Just("http.url"),
        3 => Just("db.statement"),
        3 => Just("user.id"),
        2 => Just("session"),
        1 => Just("http.request.header.cookie"),
        4 => Just("other"),
        2 => Just("http.route"),
    ];
    let value = prop_oneof![
        "(https://x/(u|alice@example\\.com|b@c\\.de|EMAIL)\\?){0,2}",
        "SELECT '(a|b)' WHERE x = [0-9]{3,5}( AND y = 'unterminated)?",
        "user-[0-9]{1,2}",
        "(Bearer [a-z]{8}|123-45-6789|4111 1111 1111 1111|)",
    ];
    (key, value, prop::bool::weighted(0.9))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn both_ways_write_the_same(
        spans in prop::collection::vec(prop::collection::vec(attribute(), 0..6), 2..5),
    ) {
        let plans = PLANS.with(Rc::clone);
        for (span, plan) in spans.iter().zip(plans.iter().cycle()) {
            let values: Vec<_> = span
                .iter()
                .map(|(key, value, is_text)| {
                    (*key, if *is_text { text(value) } else { Value::Bytes(value.as_bytes()) })
                })
                .collect();
            let data = request(&[], &values);
            prop_assert_eq!(applied(plan, &data), the_long_way(plan, &data));
        }
    }
}

thread_local! {
    static PLANS: Rc<[Plan; 2]> = Rc::new([plan(DOCUMENT, false), plan(&format!("{DOCUMENT}{MORE}"), false)]);
}
