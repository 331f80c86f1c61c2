//! What a request may cost, and what becomes of one that would cost more.

use super::*;
use crate::otlp::walk::Keep;

#[test]
fn a_value_that_costs_too_much_to_search_is_dropped_and_no_other() {
    let plan = plan(
        "  redaction:\n    allow_all_keys: true\n    blocked_values: [\"a[^z]*z|a\"]\n    summary: silent\n",
        false,
    );
    let long = "a".repeat(100_000);
    let before = [("x", text("b")), ("y", text(&long)), ("z", text("b"))];
    let after = [("x", text("b")), ("y", text("[DROPPED]")), ("z", text("b"))];
    let count = || DROPPED.with_label_values(&[] as &[&str]).get();
    let so_far = count();
    assert_eq!(applied(&plan, &request(&[], &before)), request(&[], &after));
    assert_eq!(count(), so_far + 1);
}

/// One resource attribute, and as many events as given, each with an attribute.
fn many_events(value: &str, events: usize) -> Bytes {
    let mut out = Vec::new();
    encode::field_with(&mut out, 1, |out| {
        encode::field_with(out, 1, |out| encode::key_value(out, 1, "k", text(value)));
        encode::field_with(out, 2, |out| {
            encode::field_with(out, 2, |out| {
                encode::field(out, 1, &[1; 16]);
                encode::field(out, 2, &[2; 8]);
                encode::key_value(out, 9, "k", text(value));
                for _ in 0..events {
                    encode::field_with(out, 11, |out| encode::key_value(out, 3, "e", text("secret")));
                }
                encode::field(out, 5, b"last");
            });
        });
    });
    Bytes::from(out)
}

/// A rule that looks at every message.
const EVERYWHERE: &str = "  redaction: {allow_all_keys: true, blocked_values: [never], summary: silent}\n";

fn transform(statement: &str) -> String {
    format!("  transform:\n    trace_statements: ['{statement}']\n")
}

/// A walk and a tree, each with a statement that reads a long value for every event, whatever its error mode.
#[test]
fn a_value_that_is_read_too_often_ends_the_request_and_nothing_unseen_passes() {
    let long = "x".repeat(4000);
    for statement in [
        "set(spanevent.attributes[\"n\"], 1) where IsMatch(resource.attributes[\"k\"], \"y\")",
        "set(spanevent.attributes[\"n\"], Len(resource.attributes[\"k\"])) where spanevent.attributes[\"e\"] != nil",
        "set(spanevent.attributes[\"n\"], 1) where IsMatch(span.attributes[\"k\"], \"y\")",
        "set(spanevent.attributes[\"copy\"], span.attributes[\"k\"])",
    ] {
        for mode in ["", "    error_mode: ignore\n"] {
            let plan = plan(&format!("{}{mode}{EVERYWHERE}", transform(statement)), true);
            let few = applied(&plan, &many_events(&long, 100));
            assert!(contains(&few, "secret") && contains(&few, "last"), "{statement}");

            let before = many_events(&long, 50_000);
            let count = || DROPPED.with_label_values(&[] as &[&str]).get();
            let (so_far, mut scratch) = (count(), PlanScratch::default());
            let mut sent = batch(before.clone());
            sent.context.origin = Some(Arc::new(origin()));
            let after = plan.apply(sent, &mut scratch).expect("well-formed").data;
            assert!(count() > so_far + 10_000, "{statement}");
            // The span comes after its events, and keeps its place and its ids.
            assert!(!contains(&after, "last") && contains(&after, "[DROPPED]"), "{statement}");
            // What this program says of the sender stays.
            assert!(contains(&after, "web-0"), "{statement}");
            assert!(after.len() < 30 * before.len(), "{statement}: {}", after.len());
            // What is read is looked at, and searched once more.
            let looked = scratch.looked() / before.len() as u64;
            assert!(looked < 45, "{statement}: {looked}");
            walk::walk(
                &after,
                &Limits::default(),
                &mut walk::Scratch::default(),
                &mut Keep,
                &mut Edits::default(),
            )
            .expect("what is left is well-formed");
        }
    }
}

/// One value is written to few of the occurrences of a key, and the others are removed.
#[test]
fn a_value_is_not_multiplied_by_naming_a_key_often() {
    let long = "x".repeat(100_000);
    let mut attributes = vec![("from", text(&long))];
    attributes.extend((0..16_000).map(|_| ("to", text("secret"))));
    let before = request(&[], &attributes);
    let action = "actions: [{key: to, from_attribute: from, action: upsert}]";
    for processor in [
        format!("  attributes: {{{action}}}\n"),
        format!("  attributes: {{include: {{match_type: regexp, span_names: [\"^G\"]}}, {action}}}\n"),
    ] {
        let after = applied(&plan(&processor, false), &before);
        assert!(after.len() < 10 * long.len(), "{processor}: {}", after.len());
        assert!(!contains(&after, "secret"), "{processor}");
    }
}

/// Tens of thousands of spans whose attributes are many, read by statements in all usual ways, are far from the bound.
#[test]
fn everyday_requests_are_never_cut_short() {
    let statements: Vec<String> = (0..60)
        .map(|number| {
            format!(
                "      - set(span.attributes[\"a{number}\"], span.attributes[\"key.3\"]) where resource.attributes[\"service.name\"] == \
                 \"shop\" and span.events[0] == nil and IsMatch(span.attributes[\"key.7\"], \"^v\")\n"
            )
        })
        .collect();
    let plan = plan(&format!("  transform:\n    trace_statements:\n{}", statements.concat()), false);
    let mut out = Vec::new();
    encode::field_with(&mut out, 1, |out| {
        encode::field_with(out, 1, |out| {
            for number in 0..20 {
                encode::key_value(out, 1, &format!("resource.{number}"), text("some value"));
            }
            encode::key_value(out, 1, "service.name", text("shop"));
        });
        encode::field_with(out, 2, |out| {
            for number in 0..500u64 {
                encode::field_with(out, 2, |out| {
                    encode::field(out, 1, &[1; 16]);
                    encode::field(out, 2, &(number + 1).to_be_bytes());
                    for number in 0..20 {
                        encode::key_value(out, 9, &format!("key.{number}"), text("v of 20 characters"));
                    }
                });
            }
        });
    });
    let mut scratch = PlanScratch::default();
    let after = plan.apply(batch(out.into()), &mut scratch).expect("well-formed").data;
    assert_eq!(memchr::memmem::find_iter(&after, b"a59").count(), 500);
    assert!(!contains(&after, "[DROPPED]"));
}
