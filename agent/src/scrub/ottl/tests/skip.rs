//! `redaction.skip_conditions`.

#![forbid(unsafe_code)]

use serde_json::{Value as Json, json};

use super::{applied, plan, request, shown};
use crate::{
    auth::claims::Claims,
    config,
    otlp::{Batch, Context},
    scrub::{Plan, PlanScratch},
};

/// Masks `secret` wherever it stands, but for what these conditions skip.
fn redaction(conditions: &[&str]) -> Json {
    json!({"allow_all_keys": true, "blocked_values": ["secret"], "skip_conditions": conditions})
}

/// One of each message, with a secret in each.
fn everywhere(team: &str) -> Json {
    json!({
        "resource": {"attributes": {"team": team, "r": "secret"}},
        "scope": {"name": "lib", "attributes": {"c": "secret"}},
        "name": "secret",
        "attributes": {"a": "secret"},
        "status": {"message": "secret"},
        "events": [{"name": "one", "attributes": {"e": "secret"}}, {"name": "two", "attributes": {"e": "secret"}}],
        "links": [{"attributes": {"l": "secret"}}],
    })
}

/// The same with these parts masked.
fn masked(mut shape: Json, pointers: &[&str]) -> Json {
    for pointer in pointers {
        *shape.pointer_mut(pointer).expect(pointer) = json!("[REDACTED]");
    }
    shape
}

const SPAN: [&str; 6] = [
    "/name",
    "/attributes/a",
    "/status/message",
    "/events/0/attributes/e",
    "/events/1/attributes/e",
    "/links/0/attributes/l",
];
const SCOPE: &str = "/scope/attributes/c";
const RESOURCE: &str = "/resource/attributes/r";

fn check(plan: &Plan, before: &[Json], after: &[Json], what: &str) {
    let joined = |all: &[Json]| all.iter().flat_map(request).collect::<Vec<u8>>();
    let got = shown(&applied(plan, joined(before)).data);
    assert_eq!(got, shown(&joined(after)), "{what}");
}

#[test]
fn what_a_condition_holds_for_is_left_with_all_that_is_under_it() {
    let all = [&SPAN[..], &[SCOPE, RESOURCE]].concat();
    let but = |kept: &[&str]| all.iter().copied().filter(|one| !kept.contains(one)).collect::<Vec<_>>();
    let (red, blue) = (everywhere("red"), everywhere("blue"));
    for (conditions, left) in [
        (&[r#"resource.attributes["team"] == "red""#][..], vec![]),
        (&[r#"resource.attributes["team"] == "green""#], all.clone()),
        (&[r#"resource.attributes["team"] == "green""#, r#"resource.attributes["team"] == "red""#], vec![]),
        (&[r#"scope.name == "lib" and resource.attributes["team"] == "red""#], vec![RESOURCE]),
        (
            &[r#"span.kind == SPAN_KIND_UNSPECIFIED and resource.attributes["team"] == "red""#],
            vec![SCOPE, RESOURCE],
        ),
        (
            &[r#"resource.attributes["team"] == "red" and spanevent.name == "two""#],
            but(&["/events/1/attributes/e"]),
        ),
        (
            &[r#"resource.attributes["team"] == "red" and spanlink.attributes["l"] != nil"#],
            but(&["/links/0/attributes/l"]),
        ),
        (
            &[
                r#"resource.attributes["team"] == "red" and spanevent.name == "one""#,
                r#"resource.attributes["team"] == "red" and Len(span.events) == 2 and Len(span.links) == 1"#,
            ],
            vec![SCOPE, RESOURCE],
        ),
    ] {
        let plan = plan(&json!({"redaction": redaction(conditions)})).expect("it compiles");
        let after = [masked(red.clone(), &left), masked(blue.clone(), &all)];
        check(&plan, &[red.clone(), blue.clone()], &after, &format!("{conditions:?}"));
        check(&plan, &[blue.clone(), red.clone()], &[after[1].clone(), after[0].clone()], "in turn");
    }
}

#[test]
fn a_doubt_never_skips() {
    let condition = [r#"span.attributes["k"] == "ok""#];
    let parsed = [r#"ParseJSON(span.attributes["k"])["a"] == 1"#];
    let negated = [r#"not (ParseJSON(span.attributes["k"])["a"] == 1)"#];
    let different = [r#"span.attributes["k"] != "bad""#];
    let many: Vec<Json> = (0..9).map(|_| json!(["k", "ok"])).chain([json!(["a", "secret"])]).collect();
    let pair = |values: [&str; 2]| json!([["k", values[0]], ["k", values[1]], ["a", "secret"]]);
    for (conditions, attributes, skips) in [
        (condition, json!([["k", "ok"], ["a", "secret"]]), true),
        (condition, pair(["ok", "ok"]), true),
        (condition, pair(["ok", "no"]), false),
        (condition, pair(["no", "ok"]), false),
        (condition, json!(many), false),
        (different, pair(["ok", "no"]), true),
        (different, pair(["ok", "bad"]), false),
        (parsed, json!([["k", "{\"a\": 1}"], ["a", "secret"]]), true),
        (parsed, json!([["k", "{"], ["a", "secret"]]), false),
        (negated, json!([["k", "{\"a\": 2}"], ["a", "secret"]]), true),
        (negated, json!([["k", "{"], ["a", "secret"]]), false),
        (negated, json!([["a", "secret"]]), false),
    ] {
        let plan = plan(&json!({"redaction": redaction(&conditions)})).expect("it compiles");
        let before = request(&json!({"attributes": attributes}));
        let out = applied(&plan, before);
        let kept = shown(&out.data).to_string().contains("secret");
        assert_eq!(kept, skips, "{conditions:?} {attributes}");
    }
}

/// The conditions see what the processors before have made; a redactor has its own; nothing is said of what is skipped.
#[test]
fn each_redactor_asks_in_its_turn() {
    let mut first = redaction(&[r#"span.attributes["k"] == "made""#]);
    first["summary"] = json!("debug");
    let mut second = redaction(&[r#"span.attributes["k"] == "other""#]);
    second["blocked_values"] = json!(["hidden"]);
    let attributes = json!({"actions": [{"key": "k", "value": "made", "action": "update"}]});
    let plan = plan(&json!({
        "attributes": attributes,
        "redaction/1": first,
        "redaction/2": second,
        "redaction/3": {"allow_all_keys": true, "blocked_values": ["last"]},
    }))
    .expect("it compiles");
    for (before, after) in [
        (
            json!({"k": "", "a": "secret hidden last"}),
            json!({"k": "made", "a": "secret [REDACTED] [REDACTED]"}),
        ),
        (
            json!({"a": "secret hidden last"}),
            json!({
                "a": "[REDACTED] [REDACTED] [REDACTED]", "redaction.masked.count": 1, "redaction.masked.keys": "a",
            }),
        ),
    ] {
        let (before, after) = (json!({"attributes": before}), json!({"attributes": after}));
        check(&plan, std::slice::from_ref(&before), std::slice::from_ref(&after), "in turn");
    }
}

/// What this program says of the sender counts, not what the sender claims.
#[test]
fn a_claim_does_not_skip() {
    let text = r#"
receivers: {otlp: {protocols: {grpc: }}}
processors:
  redaction:
    allow_all_keys: true
    blocked_values: [secret]
    skip_conditions: ['resource.attributes["k8s.namespace.name"] == "open"']
exporters: {debug: {}}
service: {pipelines: {traces: {receivers: [otlp], processors: [redaction], exporters: [debug]}}}
"#;
    let config = config::parse(text, "test.yaml").unwrap_or_else(|errors| panic!("{errors}"));
    let before = json!({
        "resource": {"attributes": {"k8s.namespace.name": "open"}}, "attributes": {"a": "secret"},
    });
    for (stamp, skips) in [(None, true), (Some(Claims::default()), false)] {
        let plan = Plan::compile(&[&config.processors[0]], stamp.as_ref()).expect("it compiles");
        let batch = Batch { data: request(&before).into(), spans: 1, context: Context::default() };
        let out = plan.apply(batch, &mut PlanScratch::default()).expect("well-formed");
        assert_eq!(shown(&out.data).to_string().contains("secret"), skips, "{stamp:?}");
    }
}

#[test]
fn a_condition_that_can_not_be_asked_is_refused_at_its_place() {
    for (condition, wanted) in [
        ("true", "no path says what this works on"),
        (r#"attributes["k"] == 1"#, "needs its context"),
        ("span.nam == 1", "there is no path `span.nam`"),
        (r#"IsMatch(span.name, "(")"#, "skip_conditions[0]"),
    ] {
        let refused = plan(&json!({"redaction": redaction(&[condition])})).expect_err(condition);
        assert!(refused.contains(wanted) && refused.contains("skip_conditions[0]"), "{condition}: {refused}");
    }
}
