//! `filter`, `span`, and `attributes` on chosen spans.

#![forbid(unsafe_code)]

use serde_json::{Value as Json, json};

use super::{applied, plan, request, shown};
use crate::otlp::Batch;

fn run(processors: &Json, before: &Json) -> Batch {
    applied(&plan(processors).unwrap_or_else(|error| panic!("{processors}: {error}")), request(before))
}

fn check(processors: &Json, before: &Json, after: &Json) {
    let got = shown(&run(processors, before).data);
    let wanted = shown(&request(after));
    assert_eq!(got, wanted, "\n{processors}\ngot    {got}\nwanted {wanted}");
}

/// Requests as one: their resources in a row.
fn joined(all: &[Json]) -> Vec<u8> {
    all.iter().flat_map(request).collect()
}

#[test]
fn a_filter_drops_what_matches_and_what_it_leaves_empty() {
    let spans = [
        json!({"name": "GET /healthz", "attributes": {"k": "v"}}),
        json!({"name": "GET /", "resource": {"attributes": {"team": "blue"}}}),
        json!({"name": "POST /", "kind": 3, "scope": {"name": "other"}}),
    ];
    for (filter, left) in [
        (json!({"traces": {"span": [r#"name == "GET /healthz""#]}}), &[1, 2][..]),
        (json!({"traces": {"span": [r#"IsMatch(name, "^GET")"#, "kind == SPAN_KIND_CLIENT"]}}), &[]),
        (json!({"trace_conditions": [r#"resource.attributes["team"] == "blue""#]}), &[0, 2]),
        (json!({"trace_conditions": [{"context": "scope", "conditions": [r#"name == "other""#]}]}), &[0, 1]),
        (
            json!({"trace_conditions": [r#"span.attributes["k"] == "v" and resource.attributes["team"] == "red""#]}),
            &[1, 2],
        ),
        (json!({"traces": {"span": ["false"]}}), &[0, 1, 2]),
        (json!({"spans": {"include": {"match_type": "regexp", "span_names": ["^GET"]}}}), &[0, 1]),
        (
            json!({"spans": {"exclude": {"match_type": "strict", "span_kinds": ["SPAN_KIND_CLIENT"]}}}),
            &[0, 1],
        ),
    ] {
        let out = applied(&plan(&json!({"filter": filter})).expect("it compiles"), joined(&spans));
        let wanted: Vec<Json> = left.iter().map(|number: &usize| spans[*number].clone()).collect();
        assert_eq!(shown(&out.data), shown(&joined(&wanted)), "{filter}");
        assert_eq!(out.spans as usize, left.len(), "{filter}");
    }
}

#[test]
fn a_filter_drops_events_and_links_and_keeps_their_span() {
    let before = json!({
        "events": [{"name": "secret"}, {"name": "kept"}],
        "links": [{"attributes": {"l": 1}}, {"attributes": {"l": 2}}],
    });
    let after = json!({"events": [{"name": "kept"}], "links": [{"attributes": {"l": 2}}]});
    let filter = json!({"filter": {"traces": {
        "spanevent": [r#"name == "secret" and span.name == "GET /""#],
        "spanlink": [r#"attributes["l"] == 1"#],
    }}});
    check(&filter, &before, &after);
    let all = json!({"filter": {"traces": {"spanevent": ["true"]}}});
    check(&all, &json!({"events": [{"name": "a"}, {"name": "b"}]}), &json!({}));
}

#[test]
fn a_condition_that_fails_drops_by_default() {
    let failing = |mode: &str| json!({"filter": {"error_mode": mode, "traces": {"span": [r#"ToLowerCase(attributes["n"]) == "x""#]}}});
    let before = json!({"attributes": {"n": 5}});
    assert_eq!(run(&failing("drop_value"), &before).spans, 0);
    assert_eq!(run(&failing("ignore"), &before).spans, 1);
    assert_eq!(run(&failing("silent"), &json!({"attributes": {"n": "X"}})).spans, 0);
    let batch = Batch { data: request(&before).into(), spans: 1, context: super::BatchContext::default() };
    let refusal =
        plan(&failing("propagate")).expect("it compiles").apply(batch, &mut super::PlanScratch::default());
    assert_eq!(refusal.expect_err("refused").cause, "statement_failed");
}

#[test]
fn processors_after_a_filter_see_what_it_leaves() {
    let processors = json!({
        "filter": {"traces": {"spanevent": [r#"name == "drop""#]}},
        "redaction": {"allow_all_keys": true, "blocked_values": ["secret"]},
    });
    let before = json!({"attributes": {"a": "secret"}, "events": [{"name": "drop"}, {"name": "secret"}]});
    let out = run(&processors, &before);
    let text = shown(&out.data).to_string();
    assert!(!text.contains("secret") && !text.contains("drop") && text.contains("[REDACTED]"), "{text}");
}

#[test]
fn names_of_attributes_and_attributes_of_names() {
    let from = json!({"span": {"name": {"from_attributes": ["db.svc", "n"], "separator": "::"}}});
    check(
        &from,
        &json!({"attributes": {"db.svc": "loc", "n": 5}}),
        &json!({"name": "loc::5", "attributes": {"db.svc": "loc", "n": 5}}),
    );
    check(&from, &json!({"attributes": {"n": 5}}), &json!({"attributes": {"n": 5}}));
    let to = |more: Json| {
        let mut to = json!({"rules": [r"^/api/(?P<version>v\d)/document/(?P<documentId>.*)/update$", r"(?P<rest>update)"]});
        to.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        json!({"span": {"name": {"to_attributes": to}}})
    };
    let before = json!({"name": "/api/v1/document/12345678/update", "attributes": {"documentId": "old"}});
    check(
        &to(json!({})),
        &before,
        &json!({"name": "/api/{version}/document/{documentId}/{rest}",
            "attributes": {"version": "v1", "documentId": "12345678", "rest": "update"}}),
    );
    check(
        &to(json!({"break_after_match": true})),
        &before,
        &json!({"name": "/api/{version}/document/{documentId}/update",
            "attributes": {"version": "v1", "documentId": "12345678"}}),
    );
    check(
        &to(json!({"break_after_match": true, "keep_original_name": true})),
        &before,
        &json!({"name": "/api/v1/document/12345678/update",
            "attributes": {"version": "v1", "documentId": "12345678"}}),
    );
}

#[test]
fn a_status_is_set_on_chosen_spans() {
    let chosen = |include: Json| json!({"span": {"status": {"code": "Error", "description": "bad"}, "include": include}});
    let before = json!({"attributes": [["code", 400], ["code", 200]], "kind": 2});
    let mut after = before.clone();
    after["status"] = json!({"code": 2, "message": "bad"});
    for (include, matches) in [
        (json!({"match_type": "strict", "attributes": [{"key": "code", "value": 400}]}), true),
        (json!({"match_type": "strict", "attributes": [{"key": "code", "value": "400"}]}), false),
        (json!({"match_type": "strict", "attributes": [{"key": "code", "value": 404}]}), false),
        (json!({"match_type": "regexp", "attributes": [{"key": "code", "value": "^4"}]}), true),
        (json!({"match_type": "strict", "attributes": [{"key": "code"}, {"key": "gone"}]}), false),
        (json!({"match_type": "strict", "resources": [{"key": "team", "value": "red"}]}), true),
        (json!({"match_type": "strict", "services": ["cart"]}), false),
        (json!({"match_type": "strict", "libraries": [{"name": "lib"}]}), true),
        (json!({"match_type": "strict", "libraries": [{"name": "lib", "version": "1"}]}), false),
        (
            json!({"match_type": "strict", "span_names": ["a", "GET /"], "span_kinds": ["SPAN_KIND_SERVER"]}),
            true,
        ),
    ] {
        check(&chosen(include), &before, if matches { &after } else { &before });
    }
    let excluded = json!({"span": {"status": {"code": "Error", "description": "bad"},
        "exclude": {"match_type": "strict", "attributes": [{"key": "code", "value": 400}]}}});
    check(&excluded, &before, &after);
}

#[test]
fn every_action_on_all_spans_and_on_chosen_ones() {
    let actions = json!([
        {"key": "new", "action": "insert", "value": 1},
        {"key": "a", "action": "insert", "value": "not this"},
        {"key": "b", "action": "update", "from_attribute": "a"},
        {"key": "gone", "action": "update", "value": 1},
        {"key": "c", "action": "upsert", "value": true},
        {"key": "d", "action": "delete"},
        {"pattern": "^h\\.", "action": "hash"},
        {"key": "url", "action": "extract", "pattern": "^(?P<scheme>\\w+)://(?P<host>[^/]+)"},
        {"key": "n", "action": "convert", "converted_type": "int"},
        {"key": "m", "action": "convert", "converted_type": "string"},
        {"key": "o", "action": "convert", "converted_type": "double"},
        {"key": "p", "action": "convert", "converted_type": "int"},
    ]);
    let before = json!({"attributes": [
        ["a", "x"], ["b", 1], ["b", 2], ["d", 1], ["d", 2], ["h.1", "test"], ["host", "old"],
        ["url", "https://e.org/p"], ["n", "12"], ["n", "x"], ["m", 5], ["o", "1.5"], ["p", 2.9],
    ]});
    let after = json!({"attributes": [
        ["a", "x"], ["b", "x"], ["b", "x"], ["c", true],
        ["h.1", "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"],
        ["host", "e.org"], ["scheme", "https"], ["new", 1],
        ["url", "https://e.org/p"], ["n", 12], ["n", "x"], ["m", "5"], ["o", 1.5], ["p", 2],
    ]});
    let chosen = |include: Json| json!({"attributes": {"actions": actions, "include": include}});
    check(&json!({"attributes": {"actions": actions}}), &before, &after);
    check(&chosen(json!({"match_type": "regexp", "span_names": ["^GET"]})), &before, &after);
    check(&chosen(json!({"match_type": "strict", "span_names": ["POST /"]})), &before, &before);
}

/// The walk and the tree choose the same spans.
#[test]
fn spans_are_chosen_alike_in_a_walk_and_on_a_tree() {
    let spans = [
        json!({"attributes": {"k": "v", "n": 1, "gone": 1}, "resource": {"attributes": {"service.name": "a"}}}),
        json!({"name": "POST /", "attributes": [["k", "v"], ["k", "w"], ["gone", 1]]}),
        json!({"attributes": {"k": "w", "n": 2, "gone": 1}, "resource": {"attributes": [["service.name", "a"], ["service.name", "b"]]}}),
        json!({"name": "", "attributes": {"gone": 1}, "resource": {"attributes": {"team": "x".repeat(5000)}}}),
    ];
    let strict = |properties: Json| {
        let mut all = properties;
        all["match_type"] = json!("strict");
        all
    };
    let regexp = |properties: Json| {
        let mut all = properties;
        all["match_type"] = json!("regexp");
        all
    };
    for (choice, wanted) in [
        (strict(json!({"services": ["a"]})), [true, false, true, false]),
        (strict(json!({"services": ["b", "c"]})), [false, false, true, false]),
        (strict(json!({"span_names": ["GET /"]})), [true, false, true, false]),
        (regexp(json!({"span_names": ["^$", "POST"]})), [false, true, false, true]),
        (strict(json!({"attributes": [{"key": "k", "value": "v"}]})), [true, true, false, false]),
        (
            strict(json!({"attributes": [{"key": "k"}, {"key": "n", "value": 2}]})),
            [false, false, true, false],
        ),
        (regexp(json!({"attributes": [{"key": "k", "value": "w"}]})), [false, true, true, false]),
        (regexp(json!({"resources": [{"key": "service.name", "value": "^b"}]})), [false, false, true, false]),
        (
            strict(json!({"resources": [{"key": "team"}], "span_names": ["", "POST /"]})),
            [false, true, false, true],
        ),
    ] {
        let actions = json!([{"key": "gone", "action": "delete"}]);
        // Kinds of spans are not shown in a walk, and what follows on the tree stays there.
        let never = strict(json!({"span_kinds": ["SPAN_KIND_PRODUCER"]}));
        let on_tree = json!({"actions": actions, "include": never});
        for side in ["include", "exclude"] {
            let mut chosen = json!({"actions": actions});
            chosen[side] = choice.clone();
            let walk = plan(&json!({"attributes": chosen})).expect("it compiles");
            let tree = plan(&json!({"attributes/0": on_tree, "attributes/1": chosen})).expect("it compiles");
            let out = [&walk, &tree].map(|plan| shown(&applied(plan, joined(&spans)).data));
            assert_eq!(out[0], out[1], "{side} {choice}");
            if side == "include" {
                let deleted = spans.iter().map(|span| {
                    let one = shown(&applied(&walk, request(span)).data).to_string();
                    !one.contains("gone")
                });
                assert_eq!(deleted.collect::<Vec<_>>(), wanted, "{choice}");
            }
        }
    }
}

/// A message takes two bytes of the sender's, and some hundred of ours.
#[test]
fn too_many_messages_are_refused() {
    use crate::otlp::encode;
    let mut data = Vec::new();
    encode::field_with(&mut data, 1, |out| {
        encode::field_with(out, 2, |out| {
            encode::field_with(out, 2, |out| {
                encode::field(out, 1, &[1; 16]);
                encode::field(out, 2, &[2; 8]);
                (0..300_000).for_each(|_| encode::field(out, 11, &[]));
            });
        });
    });
    let batch = |data: &Vec<u8>| Batch {
        data: data.clone().into(),
        spans: 1,
        context: super::BatchContext::default(),
    };
    let skip = json!({"allow_all_keys": true, "skip_conditions": ["spanevent.name == \"x\""]});
    for processors in [
        json!({"filter": {"traces": {"spanevent": ["false"]}}}),
        json!({"transform": {"trace_statements": ["set(span.kind, 1)"]}}),
        json!({"redaction": skip}),
    ] {
        let plan = plan(&processors).expect("it compiles");
        let refused = plan.apply(batch(&data), &mut super::PlanScratch::default());
        let cause = refused.map(|batch| batch.spans).expect_err("too many").cause;
        assert_eq!(cause, "too_many_messages", "{processors}");
    }
    // Who does not look into the span does not have to read it.
    let plan = plan(&json!({"filter": {"traces": {"span": ["name == \"x\""]}}})).expect("it compiles");
    let out = plan.apply(batch(&data), &mut super::PlanScratch::default()).expect("nothing is opened");
    assert_eq!(out.data, data);
}

/// Values as they came, and as the last step has left them, wherever they stand.
#[test]
fn values_on_the_tree_are_told_before_and_after() {
    let before = json!({
        "kind": 3, "resourceUrl": "https://old", "attributes": [["a", "one"], ["a", "two"], ["gone", "x"]],
        "status": {"message": "old"}, "events": [{"name": "e", "attributes": {"n": "old"}}],
    });
    let only = " where span.kind == SPAN_KIND_CLIENT";
    let group = |statements: Json| json!({"transform": {"trace_statements": statements}});
    let plan = plan(&group(json!([
        format!(r#"set(span.attributes["a"], "between"){only}"#),
        format!(r#"set(span.attributes["a"], "new"){only}"#),
        format!(r#"set(span.name, "new"){only}"#),
        format!(r#"set(span.status.message, "new"){only}"#),
        format!(r#"set(spanevent.attributes["n"], "new"){only}"#),
        format!(r#"delete_key(span.attributes, "gone"){only}"#),
        r#"set(resource.schema_url, Concat([resource.schema_url, "new"], "/")) where resource.attributes["team"] != nil"#,
    ])))
    .expect("it compiles");
    let batch = Batch { data: request(&before).into(), spans: 1, context: super::BatchContext::default() };
    let (_, records) =
        plan.apply_recorded(batch, &mut super::PlanScratch::default(), true).expect("well-formed");
    let text = |content: &Option<crate::scrub::Content>| {
        content.as_ref().map(|(_, content)| String::from_utf8_lossy(content).into_owned())
    };
    let values: Vec<_> = records
        .iter()
        .map(|record| (record.rule.index(), text(&record.before), text(&record.after)))
        .collect();
    let told = |rule, before: &str| (rule, Some(before.to_owned()), Some("new".to_owned()));
    let is = |rule: usize| {
        values.iter().filter(move |(number, _, _)| *number == rule).cloned().collect::<Vec<_>>()
    };
    assert_eq!(is(0), [told(0, "one"), told(0, "one")]);
    assert_eq!(is(1), [told(1, "one"), told(1, "one")]);
    assert_eq!(is(2), [told(2, "GET /")]);
    assert_eq!(is(3), [told(3, "old")]);
    assert_eq!(is(4), [told(4, "old")]);
    let [(5, Some(whole), Some(left))] = &is(5)[..] else { panic!("{values:?}") };
    assert!(whole.contains("gone") && !left.contains("gone") && left.contains("new"));
    assert_eq!(is(6), [(6, Some("https://old".to_owned()), Some("https://old/new".to_owned()))]);
}

/// A dry run tells what was done on the tree too.
#[test]
fn what_is_done_on_the_tree_is_recorded() {
    use crate::{
        otlp::walk::Kind,
        scrub::{Did, Field},
    };
    let plan = plan(&json!({
        "transform": {"trace_statements": [
            r#"set(span.attributes["a"], "x") where span.kind == SPAN_KIND_CLIENT"#,
            r#"set(spanevent.attributes["n"], SHA256(span.name))"#,
            r#"set(span.attributes["b"], 1 / 0)"#,
        ]},
        "filter": {"traces": {"spanevent": [r#"name == "drop""#]}},
    }))
    .expect("it compiles");
    let before = json!({"kind": 3, "attributes": {"a": 1, "b": 2}, "events": [{"name": "drop"}]});
    let batch = Batch { data: request(&before).into(), spans: 1, context: super::BatchContext::default() };
    let (_, records) =
        plan.apply_recorded(batch, &mut super::PlanScratch::default(), true).expect("well-formed");
    let shown: Vec<_> = records
        .iter()
        .map(|record| {
            let rule = &plan.rules()[record.rule.index()];
            let text = |content: &Option<crate::scrub::Content>| {
                content.as_ref().map(|(_, content)| String::from_utf8_lossy(content).into_owned())
            };
            let values = (text(&record.before), text(&record.after));
            let what = (rule.processor.as_str(), rule.name.as_str(), record.did);
            (what, record.kind, record.field.clone(), values)
        })
        .collect();
    let key = |key: &str| Field::Attribute(key.as_bytes().to_vec());
    let statement = |number: usize| format!("trace_statements[{number}]");
    let names = [statement(0), statement(1), statement(2)];
    // The order of a JSON object's keys is that of the alphabet.
    let was = |number: u8| Some(String::from(char::from(number)));
    let wanted = [
        (("filter", "traces::spanevent[0]", Did::Removed), Kind::Event, Field::Message, (None, None)),
        (("transform", &*names[0], Did::Set), Kind::Span, key("a"), (was(1), Some("x".to_owned()))),
        (("transform", &*names[2], Did::Failed), Kind::Span, key("b"), (was(2), None)),
        (("transform", &*names[2], Did::Removed), Kind::Span, key("b"), (was(2), None)),
    ];
    assert_eq!(shown, wanted);
}
