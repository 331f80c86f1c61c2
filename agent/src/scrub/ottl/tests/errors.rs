//! Statements that are refused.

#![forbid(unsafe_code)]

use serde_json::json;

use super::{plan, resolve};

#[test]
fn errors_say_where_and_what_there_is() {
    for (statement, place, says) in [
        (r#"set(attributes["a"], 1)"#, "line 1, column 5 ", "`span.attributes`"),
        (r#"sett(span.name, "x")"#, "column 1 ", "did you mean `set`?"),
        (r"flatten(span.attributes)", "column 1 ", "there are set, delete_key, delete_matching_keys"),
        (r"SHA256(span.name)", "column 1 ", "begins with an editor"),
        (r"set(span.name)", "column 1 ", "`value` is missing: set(target, value)"),
        (r#"set(span.name, "x", 1)"#, "column 21 ", "one too many"),
        (r#"set(span.name, what = "x")"#, "column 23 ", "no argument `what`"),
        (r#"set(target = span.name, "x")"#, "column 25 ", "positional ones come first"),
        (
            r#"set(span.name, "x") where span.kin == 1"#,
            "column 27 ",
            "no path `span.kin`; a span has attributes",
        ),
        (r#"set(span.name, "x") where 1"#, "column 27 ", "a condition compares"),
        (r#"set(span.name, "x") where span.name"#, "column 27 ", "a condition compares"),
        (r#"set(span.name, "x") wher true"#, "column 21 ", "`where`"),
        (r#"replace_pattern(span.name, "\d", "x")"#, "column 29 ", r"write `\\d`"),
        (r#"replace_pattern(span.name, "a(?!b)", "x")"#, "column 28 ", "look-around"),
        (r#"replace_pattern(span.name, "a", "x", SHA257)"#, "column 38 ", "did you mean `SHA256`?"),
        (r#"replace_pattern(span.name, "a", "x", Concat)"#, "column 38 ", "one text alone"),
        (r#"replace_pattern(span.name, "a", "x", SHA256, "%d")"#, "column 46 ", "`%s` once"),
        (r#"replace_match(span.name, "a[", "x")"#, "column 26 ", "without a `]`"),
        (r#"set(span.name["x"], "y")"#, "column 5 ", "has no keys"),
        (r#"set(span.attributes[0], "y")"#, "column 5 ", "names as keys"),
        (r#"set(span.attributes["a"], Conct(["x"], ""))"#, "column 27 ", "did you mean `Concat`?"),
        (r#"set(span.attributes["a"], UUIDv7())"#, "column 27 ", "there are Base64Decode"),
        (r#"set(span.attributes["a"], 1 + "b")"#, "column 31 ", "Concat"),
        (r#"set(span.attributes["a"], (1 == 1))"#, "column 27 ", "after `where`"),
        (r#"set(span.attributes["a"], (x) => x)"#, "column 27 ", "lambdas are not supported"),
        (r#"set(span.attributes["a"], SPAN_KIND_X)"#, "column 27 ", "SPAN_KIND_CLIENT"),
        (r#"set(span.attributes["a"], ConvertCase("x", "title"))"#, "column 44 ", "\"snake\""),
        (r#"set(span.attributes["a"], Time("x", "%Q"))"#, "column 37 ", "%Y"),
        (r#"set(span.attributes["a"], ExtractPatterns("x", "(a)"))"#, "column 48 ", "(?P<name>"),
        (r"set(span.events, 1)", "column 5 ", "spanevent"),
        (r"set(spanevent.name, spanlink.trace_state)", "column 21 ", "two statements"),
        (r"truncate_all(span.attributes, -1)", "column 31 ", "not below 0"),
        (r"truncate_all(span.name, 1)", "column 14 ", "a map"),
        (r#"limit(span.attributes, 1, ["a", "b"])"#, "column 24 ", "below the number of keys"),
        (r#"merge_maps(span.attributes, {}, "replace")"#, "column 33 ", "\"upsert\""),
        (r#"replace_all_patterns(span.attributes, "both", "a", "b")"#, "column 39 ", "\"key\""),
        (r#"set_semconv_span_name("1.0.0")"#, "column 23 ", "1.37.0"),
        (r#"append(span.attributes["a"])"#, "column 1 ", "`values` is missing"),
        (r#"set(span.name, "x"#, "column 16 ", "not closed"),
        ("set(span.name, \"x\\", "column 18 ", "not closed"),
        (r"set(span.name, 'x')", "column 16 ", "double quotes"),
        (r"set(span.attributes[nil], 1)", "column 21 ", "a key is"),
        (r"set(span.name, 0x0)", "column 16 ", "pairs of hex digits"),
        (r"set(span.name, 99999999999999999999)", "column 16 ", "64 bits"),
        (r"set(span.name, 1e999)", "column 16 ", "64 bits"),
        (r"set(span.name, 1x)", "column 16 ", "not a number"),
        (r#"set(span.name, {"a" 1})"#, "column 21 ", "expected `:`"),
        ("set(span.name,\n  ])", "line 2, column 3 ", "expected a value"),
        ("set(span.name, \"a\")\n  where span.nam == \"x\"", "line 2, column 9 ", "no path"),
        (r"", "column 1 ", "editor"),
    ] {
        let error = resolve(None, statement).expect_err(statement);
        assert!(error.contains(place) && error.contains(says), "{statement}: {error}");
    }
}

#[test]
fn a_group_s_context_bounds_its_paths() {
    let error = resolve(Some("span"), r#"set(spanevent.name, "x")"#).expect_err("an event");
    assert!(error.contains("column 5 ") && error.contains("write `context: spanevent`"), "{error}");
    let error = resolve(Some("spanlink"), r#"set(attributes["a"], spanevent.name)"#).expect_err("an event");
    assert!(error.contains("two statements"), "{error}");
    let error = resolve(Some("span"), r#"set(resource.cache["a"], 1)"#).expect_err("another's cache");
    assert!(error.contains("own context"), "{error}");
}

#[test]
fn a_statement_s_place_in_the_file_is_named() {
    let at = |processors| plan(&processors).map(|_| ()).expect_err("it is refused");
    let error = at(json!({"transform": {"trace_statements": [{"context": "span", "conditions": ["bad"],
        "statements": ["set(name, \"x\")"]}]}}));
    assert!(error.starts_with("test.yaml:1:"), "{error}");
    assert!(
        error.contains("trace_statements[0]::conditions[0]: line 1, column 1 of the statement"),
        "{error}"
    );
    let error = at(
        json!({"transform": {"trace_statements": [{"context": "spam", "statements": ["set(name, \"x\")"]}]}}),
    );
    assert!(error.contains("did you mean `span`?"), "{error}");
    let error = at(json!({"filter": {"traces": {"span": ["attributes["]}}}));
    assert!(error.contains("traces::span[0]") && error.contains("column 12 of the statement"), "{error}");
    for (processors, says) in [
        (json!({"filter": {}}), "nothing is asked"),
        (
            json!({"filter": {"metrics": {"metric": ["true"]}, "traces": {"span": ["true"]}}}),
            "`metrics` is known",
        ),
        (json!({"filter": {"traces": {}}}), "a list of conditions is required"),
        (json!({"span": {}}), "nothing is asked"),
        (json!({"span": {"name": {"to_attributes": {"rules": ["(a)"]}}}}), "names no group"),
        (json!({"span": {"status": {"code": "Ok", "description": "x"}}}), "belongs to `code: Error`"),
        (
            json!({"attributes": {"include": {"services": ["a"]}, "actions": [{"key": "a", "action": "delete"}]}}),
            "`match_type` is required",
        ),
        (
            json!({"attributes": {"include": {"match_type": "strict"}, "actions": [{"key": "a", "action": "delete"}]}}),
            "at least one of `services`",
        ),
        (
            json!({"attributes": {"actions": [{"key": "a", "action": "upsert", "from_context": "x"}]}}),
            "`from_context` is not supported",
        ),
        (json!({"attributes": {"actions": [{"key": "a", "action": "extract"}]}}), "`pattern` is required"),
        (
            json!({"attributes": {"actions": [{"key": "a", "action": "extract", "pattern": "(a)"}]}}),
            "names no group",
        ),
        (
            json!({"resource": {"attributes": [{"key": "a", "action": "convert"}]}}),
            "`converted_type` is required",
        ),
    ] {
        let error = plan(&processors).map(|_| ()).expect_err("it is refused");
        assert!(error.contains(says), "{processors}: {error}");
    }
}
