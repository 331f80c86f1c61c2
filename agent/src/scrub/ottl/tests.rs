//! What statements do, which are taken, and what the others are told.

#![forbid(unsafe_code)]

use serde_json::{Value as Json, json};

use super::{grammar, lower::lower, program::Context, resolve::Resolver};
use crate::{
    config::{self, Location, processors::ErrorMode},
    otlp::{Batch, Context as BatchContext, json as otlp_json, walk::Limits},
    scrub::{Plan, PlanScratch, builder::Builder, rule::RuleId},
};

mod errors;
mod processors;
mod skip;
mod statements;

/// Where a statement runs: the message of the walk, or `tree` and its context.
fn resolve(context: Option<&str>, statement: &str) -> Result<String, String> {
    let mut builder = Builder::default();
    let at = Location { file: "test".into(), line: 1, column: 1, path: "statements[0]".into() };
    let context = context.map(|name| Context::named(name).expect("a context"));
    let statement = Resolver::new(&mut builder.patterns, context, &at)
        .statement(statement, &[], ErrorMode::DropValue, RuleId::at(0))
        .map_err(|error| error.message)?;
    Ok(match lower(&statement, &mut builder) {
        Some((kind, _)) => format!("{kind:?}"),
        None => format!("tree {:?}", statement.context),
    })
}

/// A plan of these processors, as JSON.
fn plan(processors: &Json) -> Result<Plan, String> {
    let names: Vec<&String> = processors.as_object().expect("processors").keys().collect();
    let text = json!({
        "receivers": {"otlp": {"protocols": {"grpc": null}}},
        "processors": processors,
        "exporters": {"debug": {}},
        "service": {"pipelines": {"traces": {"receivers": ["otlp"], "processors": names, "exporters": ["debug"]}}},
    });
    let text = text.to_string().replace('$', "$$");
    let config = config::parse(&text, "test.yaml").map_err(|errors| errors.to_string())?;
    let wanted = &config.service.pipelines[0].processors;
    let components: Vec<_> = wanted.iter().map(|id| config.processor(id).expect("defined")).collect();
    Plan::compile(&components, None).map_err(|error| error.to_string())
}

/// A request of one span. `attributes` are maps, or lists of pairs where a key occurs twice; `events` and `links`
/// are lists of such objects; `resource` and `scope` are what stands above. The rest is OTLP's JSON.
fn request(shape: &Json) -> Vec<u8> {
    let mut span = shape.clone();
    let fields = span.as_object_mut().expect("an object");
    let mut resource = fields.remove("resource").unwrap_or(json!({"attributes": {"team": "red"}}));
    let mut scope = fields.remove("scope").unwrap_or(json!({"name": "lib"}));
    let mut above = json!({"scopeSpans": []});
    for (name, whole) in [("resourceUrl", &mut above)] {
        if let Some(url) = fields.remove(name) {
            whole["schemaUrl"] = url;
        }
    }
    for (name, value) in
        [("traceId", "01".repeat(16)), ("spanId", "02".repeat(8)), ("name", "GET /".to_owned())]
    {
        fields.entry(name).or_insert(value.into());
    }
    for list in ["events", "links"] {
        for item in fields.get_mut(list).and_then(Json::as_array_mut).into_iter().flatten() {
            if list == "links" {
                let ids = [("traceId", "03".repeat(16)), ("spanId", "04".repeat(8))];
                let item = item.as_object_mut().expect("an object");
                for (name, id) in ids {
                    item.entry(name).or_insert(id.into());
                }
            }
            expand(item);
        }
    }
    for part in [&mut span, &mut resource, &mut scope] {
        expand(part);
    }
    above["resource"] = resource;
    above["scopeSpans"] = json!([{"scope": scope, "spans": [span]}]);
    let text = json!({"resourceSpans": [above]}).to_string();
    otlp_json::to_protobuf(text.as_bytes(), &Limits::default()).expect("OTLP").data.clone()
}

fn expand(message: &mut Json) {
    let pairs: Vec<(String, Json)> = match message.get("attributes") {
        Some(Json::Object(map)) => map.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
        Some(Json::Array(list)) => {
            list.iter().map(|pair| (pair[0].as_str().expect("a key").to_owned(), pair[1].clone())).collect()
        }
        _ => return,
    };
    message["attributes"] =
        pairs.iter().map(|(key, value)| json!({"key": key, "value": any(value)})).collect::<Vec<_>>().into();
}

fn any(value: &Json) -> Json {
    match value {
        Json::Null => json!({}),
        Json::Bool(flag) => json!({"boolValue": flag}),
        Json::Number(number) if number.is_i64() => json!({"intValue": number.to_string()}),
        Json::Number(number) => json!({"doubleValue": number}),
        Json::String(text) => json!({"stringValue": text}),
        Json::Array(list) => json!({"arrayValue": {"values": list.iter().map(any).collect::<Vec<_>>()}}),
        Json::Object(map) => {
            if let Some(bytes) = map.get("$bytes") {
                json!({"bytesValue": bytes})
            } else {
                let pairs = map.iter().map(|(key, value)| json!({"key": key, "value": any(value)}));
                json!({"kvlistValue": {"values": pairs.collect::<Vec<_>>()}})
            }
        }
    }
}

/// OTLP's JSON, attributes and members of maps in the order of their keys: it means nothing.
fn shown(data: &[u8]) -> Json {
    let mut text = Vec::new();
    otlp_json::to_json(data, &mut text).expect("OTLP");
    let mut shown: Json = serde_json::from_slice(&text).expect("JSON");
    sort(&mut shown);
    shown
}

fn sort(json: &mut Json) {
    match json {
        Json::Object(map) => {
            for (key, value) in map.iter_mut() {
                sort(value);
                if matches!(key.as_str(), "attributes" | "values")
                    && let Some(list) = value.as_array_mut()
                {
                    list.sort_by_key(|one| one["key"].as_str().map(str::to_owned));
                }
            }
            map.retain(|_, value| *value != json!([]) && *value != json!({}));
        }
        Json::Array(list) => list.iter_mut().for_each(sort),
        _ => {}
    }
}

/// What a plan makes of a request.
fn applied(plan: &Plan, data: Vec<u8>) -> Batch {
    let batch = Batch { data: data.into(), spans: 1, context: BatchContext::default() };
    plan.apply(batch, &mut PlanScratch::default()).expect("well-formed")
}

#[test]
fn statements_run_in_a_walk_where_one_is_enough() {
    for (context, statement, place) in [
        (Some("span"), r#"replace_pattern(attributes["a"], "x\\d", "$1")"#, "Span"),
        (None, r#"replace_pattern(span.name, "x", "y")"#, "Span"),
        (Some("span"), r#"replace_pattern(status.message, "x", "y", SHA256, "<%s>")"#, "Status"),
        (None, r#"set(resource.attributes["a"], 1) where resource.attributes["b"] == nil"#, "Resource"),
        (Some("scope"), r#"set(instrumentation_scope.version, "v")"#, "Scope"),
        (Some("spanevent"), r#"delete_matching_keys(attributes, "^x")"#, "Event"),
        (Some("spanlink"), r#"replace_pattern(trace_state, "a", "b")"#, "Link"),
        (
            None,
            r#"keep_keys(span.attributes, ["a", "b"]) where not (span.name == "x" or true) and false"#,
            "Span",
        ),
        (None, r#"set(span.attributes["a"], Concat([resource.attributes["b"], "c"], "-"))"#, "Span"),
        (Some("span"), r#"set(attributes["a"], "b") where resource.attributes["team"] != "x""#, "Span"),
        (Some("resource"), "truncate_all(target = attributes, limit = 64)", "Resource"),
        (
            Some("span"),
            "set(attributes[\"a\"],\n  SHA256(attributes[\"a\"]))\n  where attributes[\"a\"] != nil",
            "Span",
        ),
        (Some("span"), r#"replace_all_patterns(attributes, "key", "a\"\\.", "\u00e9")"#, "Span"),
        (None, r#"replace_pattern(resource.schema_url, "a", "b")"#, "ResourceSpans"),
        (None, r#"replace_pattern(scope.schema_url, "a", "b")"#, "ScopeSpans"),
        (None, r#"set(span.attributes["a"], MD5(span.attributes["a"])) where Len(span.name) > 3"#, "Span"),
        (None, r#"set(span.attributes["a"], span.attributes["m"]["k"][0])"#, "Span"),
        (None, r#"set(span.attributes["a"], "b") where span.kind == SPAN_KIND_SERVER"#, "tree Span"),
        (None, r#"set(span.attributes["a"]["b"], 1)"#, "tree Span"),
        (None, r#"set(span.attributes["a"], scope.name)"#, "tree Span"),
        (None, r#"set(spanevent.attributes["a"], span.name)"#, "tree SpanEvent"),
        (None, r#"set(span.attributes["a"], spanevent.name)"#, "tree SpanEvent"),
        (None, r#"set(span.status.message, "x")"#, "tree Span"),
        (None, r#"delete_key(span.attributes, "a") where IsRootSpan()"#, "tree Span"),
        (Some("span"), r#"set(resource.attributes["a"], "b")"#, "tree Span"),
        (None, r#"replace_match(span.attributes["a"], "x*", "y")"#, "tree Span"),
    ] {
        assert_eq!(resolve(context, statement).as_deref(), Ok(place), "{statement}");
    }
}

#[test]
fn depth_is_bounded() {
    let deep = format!("set(span.name, \"x\") where {}true{}", "(".repeat(1000), ")".repeat(1000));
    assert!(resolve(None, &deep).expect_err("too deep").contains("deep"));
    let not = format!("{}true", "not ".repeat(1000));
    assert!(grammar::condition(&not).is_err());
    let sum = format!("set(span.attributes[\"a\"], 1{})", " + 1".repeat(1000));
    assert!(resolve(None, &sum).expect_err("too deep").contains("in a row"));
    let long = format!("set(span.name, \"{}\")", "x".repeat(100_000));
    assert!(resolve(None, &long).expect_err("too long").contains("at most 64 KiB"));
}

#[test]
fn what_is_printed_is_read_as_the_same() {
    for statement in [
        r#"set(span.attributes["a"]["b"][0], {"k": [1, -2.5, 1e300, nil, true, 0x0aff], "l": {}}) where not a.b == 1"#,
        r#"set(span.name, "\"\\\n\u00e9$1") where (a + 1) * 2 >= 3 - -1 and (x == y or not IsMatch(z, "q"))"#,
        r#"append(target = span.attributes["a"], value = Split("a,b", ",")[0], values = [SPAN_KIND_SERVER, SHA256])"#,
        "delete_key(cache, \"k\") where a and b and (c and d) or (e or f)",
        "set(a.b, 1 - 1 / 2 - 3)",
    ] {
        let tree = grammar::statement(statement).unwrap_or_else(|error| panic!("{statement}: {error}"));
        let printed = tree.to_string();
        assert_eq!(grammar::statement(&printed).as_ref(), Ok(&tree), "{printed}");
        assert_eq!(super::canonical(&printed), Ok(printed.clone()));
    }
}
