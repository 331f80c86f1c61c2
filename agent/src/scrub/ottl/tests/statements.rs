//! Statements, with a span before and after.

#![forbid(unsafe_code)]

use serde_json::{Value as Json, json};

use super::{applied, plan, request, shown};

/// Runs statements of no context as they are, and once more behind one that only a tree can run: both ways of
/// running must do the same.
fn check(statements: &[&str], before: &Json, after: &Json) {
    let wanted = shown(&request(after));
    let alone: Vec<String> = statements.iter().map(|&statement| statement.to_owned()).collect();
    let behind: Vec<String> =
        [r#"set(span.cache["x"], 1)"#.to_owned()].into_iter().chain(alone.clone()).collect();
    for list in [alone, behind] {
        let plan = plan(&json!({"transform": {"trace_statements": list}}))
            .unwrap_or_else(|error| panic!("{statements:?}: {error}"));
        let data = request(before);
        let out = applied(&plan, data.clone());
        let shown = shown(&out.data);
        assert_eq!(shown, wanted, "\n{list:?}\ngot    {shown}\nwanted {wanted}");
        assert_eq!(out.spans, 1);
    }
}

fn a(value: &Json) -> Json {
    json!({"attributes": {"a": value}})
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn editors() {
    let five = || json!({"attributes": {"a": "x1", "b": "x2y", "c": 3, "d": "é€", "e": ["x", "y"]}});
    for (statement, before, after) in [
        (r#"set(span.attributes["a"], "b")"#, json!({}), a(&json!("b"))),
        (r#"set(span.attributes["a"], nil)"#, a(&json!(1)), a(&json!(1))),
        (r#"set(span.attributes["a"], 0x00ff)"#, json!({}), a(&json!({"$bytes": "AP8="}))),
        (r#"set(span.attributes["a"], [1, "b", 2.5, true])"#, json!({}), a(&json!([1, "b", 2.5, true]))),
        (r#"set(span.attributes["a"], {"k": {"l": [1]}})"#, json!({}), a(&json!({"k": {"l": [1]}}))),
        (r#"set(span.attributes["a"]["k"], 2)"#, a(&json!({"k": 1, "l": 0})), a(&json!({"k": 2, "l": 0}))),
        (
            r#"set(span.attributes["a"]["m"]["n"], 2)"#,
            a(&json!({"k": 1})),
            a(&json!({"k": 1, "m": {"n": 2}})),
        ),
        (r#"set(span.attributes["a"][1], "z")"#, a(&json!(["x", "y"])), a(&json!(["x", "z"]))),
        (r#"set(span.attributes, {"a": 1})"#, five(), a(&json!(1))),
        (
            r#"set(span.attributes["a"], span.attributes["b"])"#,
            json!({"attributes": {"b": 5}}),
            json!({"attributes": {"a": 5, "b": 5}}),
        ),
        (
            r"set(span.attributes[span.name], 1)",
            json!({"name": "k"}),
            json!({"name": "k", "attributes": {"k": 1}}),
        ),
        (
            r#"delete_key(span.attributes, "a")"#,
            json!({"attributes": [["a", 1], ["b", 2], ["a", 3]]}),
            json!({"attributes": {"b": 2}}),
        ),
        (r#"delete_key(span.attributes["a"], "k")"#, a(&json!({"k": 1, "l": 2})), a(&json!({"l": 2}))),
        (
            r#"delete_matching_keys(span.attributes, "^[a-d]$")"#,
            five(),
            json!({"attributes": {"e": ["x", "y"]}}),
        ),
        (r#"keep_keys(span.attributes, ["c", "z"])"#, five(), json!({"attributes": {"c": 3}})),
        (r#"keep_matching_keys(span.attributes, "[cz]")"#, five(), json!({"attributes": {"c": 3}})),
        (
            r#"replace_pattern(span.attributes["b"], "x(\\d)", "<$1>")"#,
            json!({"attributes": [["b", "x1x2"], ["b", "x3"], ["b", 4]]}),
            json!({"attributes": [["b", "<1><2>"], ["b", "<3>"], ["b", 4]]}),
        ),
        (
            r#"replace_pattern(span.attributes["a"], "x(\\d)", "$1", MD5, "md5:%s!")"#,
            a(&json!("ax1")),
            a(&json!("amd5:c4ca4238a0b923820dcc509a6f75849b!")),
        ),
        (r#"replace_pattern(span.attributes["a"], "x", span.name)"#, a(&json!("x")), a(&json!("GET /"))),
        (
            r#"replace_pattern(span.attributes["a"]["k"], "x", "y")"#,
            a(&json!({"k": "x"})),
            a(&json!({"k": "y"})),
        ),
        (
            r#"replace_all_patterns(span.attributes, "value", "x(\\d)", "$1")"#,
            five(),
            json!({"attributes": {"a": "1", "b": "2y", "c": 3, "d": "é€", "e": ["x", "y"]}}),
        ),
        (
            r#"replace_all_patterns(span.attributes, "key", "^(.)$", "k.$1")"#,
            json!({"attributes": {"a": 1, "bb": 2}}),
            json!({"attributes": {"k.a": 1, "bb": 2}}),
        ),
        (r#"replace_match(span.attributes["a"], "x*", "all")"#, a(&json!("xyz")), a(&json!("all"))),
        (r#"replace_match(span.attributes["a"], "y*", "all")"#, a(&json!("xyz")), a(&json!("xyz"))),
        (
            r#"replace_match(span.name, "GET *", "n", SHA1, "<%s>")"#,
            json!({}),
            json!({"name": "<d1854cae891ec7b29161ccaf79a24b00c274bdaa>"}),
        ),
        (
            r#"replace_all_matches(span.attributes, "x?", "?")"#,
            five(),
            json!({"attributes": {"a": "?", "b": "x2y", "c": 3, "d": "é€", "e": ["x", "y"]}}),
        ),
        (
            r"truncate_all(span.attributes, 2)",
            five(),
            json!({"attributes": {"a": "x1", "b": "x2", "c": 3, "d": "é", "e": ["x", "y"]}}),
        ),
        (
            r#"limit(span.attributes, 2, ["d"])"#,
            json!({"attributes": [["a", 1], ["b", 2], ["d", 3], ["e", 4]]}),
            json!({"attributes": [["a", 1], ["d", 3]]}),
        ),
        (
            r#"merge_maps(span.attributes, {"a": 9, "z": 9}, "insert")"#,
            json!({"attributes": {"a": 1}}),
            json!({"attributes": {"a": 1, "z": 9}}),
        ),
        (r#"merge_maps(span.attributes, {"a": 9, "z": 9}, "update")"#, a(&json!(1)), a(&json!(9))),
        (
            r#"merge_maps(span.attributes, ParseJSON(span.attributes["a"]), "upsert")"#,
            a(&json!(r#"{"a": [1, 2.5, null], "b": {"c": "d"}}"#)),
            json!({"attributes": {"a": [1, 2.5, null], "b": {"c": "d"}}}),
        ),
        (r#"append(span.attributes["a"], "z")"#, a(&json!(["x"])), a(&json!(["x", "z"]))),
        (r#"append(span.attributes["a"], values = [1, 2])"#, a(&json!("x")), a(&json!(["x", 1, 2]))),
        (
            r#"set_semconv_span_name("1.37.0", "was")"#,
            json!({"kind": 2, "attributes": {"http.request.method": "GET", "http.route": "/u/{id}"}}),
            json!({"kind": 2, "name": "GET /u/{id}", "attributes":
                {"http.request.method": "GET", "http.route": "/u/{id}", "was": "GET /"}}),
        ),
        (
            r#"set_semconv_span_name("1.43.0")"#,
            json!({"kind": 3, "attributes": {"db.system": "mysql", "db.operation": "SELECT", "db.name": "s"}}),
            json!({"kind": 3, "name": "SELECT s", "attributes":
                {"db.system": "mysql", "db.operation": "SELECT", "db.name": "s"}}),
        ),
    ] {
        check(&[statement], &before, &after);
    }
}

/// Every converter: `set(span.attributes["a"], …)` of a span with this attribute `v`.
#[test]
fn converters() {
    for (expression, value, result) in [
        (
            r#"SHA512(span.attributes["v"])"#,
            json!(""),
            json!(
                "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e"
            ),
        ),
        (r#"FNV(span.attributes["v"])"#, json!("a"), json!(-5_808_556_873_153_909_620_i64)),
        (r#"XXH3(span.attributes["v"])"#, json!(""), json!("2d06800538d394c2")),
        (
            r#"Concat([span.attributes["v"], 1, 2.5, true, nil, 0xff, ["x"]], "|")"#,
            json!("a"),
            json!("a|1|2.5|true|<nil>|ff|[\"x\"]"),
        ),
        (r#"Substring(span.attributes["v"], 1, 2)"#, json!("abcd"), json!("bc")),
        (r#"Len(span.attributes["v"])"#, json!(["x", 1]), json!(2)),
        (r#"ToLowerCase(span.attributes["v"])"#, json!("ÀB"), json!("àb")),
        (r#"ToUpperCase(span.attributes["v"])"#, json!("ab"), json!("AB")),
        (r#"ConvertCase(span.attributes["v"], "snake")"#, json!("fooBar"), json!("foo_bar")),
        (r#"Int(span.attributes["v"])"#, json!("12"), json!(12)),
        (r#"Int(span.attributes["v"])"#, json!(2.9), json!(2)),
        (r#"String(span.attributes["v"])"#, json!({"k": [1]}), json!("{\"k\":[1]}")),
        (r#"Double(span.attributes["v"])"#, json!("1.5"), json!(1.5)),
        (r#"Bool(span.attributes["v"])"#, json!("true"), json!(true)),
        (r#"Split(span.attributes["v"], ",")[1]"#, json!("a,b"), json!("b")),
        (r#"IsMatch(span.attributes["v"], "^a")"#, json!("ab"), json!(true)),
        (r#"IsString(span.attributes["v"])"#, json!(1), json!(false)),
        (r#"IsMap(span.attributes["v"])"#, json!({"a": 1}), json!(true)),
        (r#"IsList(span.attributes["v"])"#, json!([]), json!(true)),
        (r#"HasPrefix(span.attributes["v"], "a")"#, json!("ab"), json!(true)),
        (r#"HasSuffix(span.attributes["v"], "a")"#, json!("ab"), json!(false)),
        (r#"IsValidLuhn(span.attributes["v"])"#, json!("4111111111111111"), json!(true)),
        (
            r#"ExtractPatterns(span.attributes["v"], "(?P<user>\\w+)@(?P<host>\\w+)")"#,
            json!("<bob@x>"),
            json!({"user": "bob", "host": "x"}),
        ),
        (r#"URL(span.attributes["v"])["url.domain"]"#, json!("https://e.org:1/p"), json!("e.org")),
        (r#"Trim(span.attributes["v"], "_")"#, json!("__a_"), json!("a")),
        (r#"TrimPrefix(span.attributes["v"], "a")"#, json!("ab"), json!("b")),
        (r#"TrimSuffix(span.attributes["v"], "b")"#, json!("ab"), json!("a")),
        (r#"Hex(span.attributes["v"])"#, json!("ab"), json!("6162")),
        (r#"Base64Decode(span.attributes["v"])"#, json!("YWI="), json!("ab")),
        (r#"Keys(span.attributes["v"])"#, json!({"k": 1}), json!(["k"])),
        (r#"Values(span.attributes["v"])"#, json!({"k": 1}), json!([1])),
        (r#"ContainsValue(span.attributes["v"], 2)"#, json!([1, 2]), json!(true)),
        (r#"Index(span.attributes["v"], "b")"#, json!("ab"), json!(1)),
        (r#"(span.attributes["v"] + 1) * 2 - 6 / 4"#, json!(3), json!(7)),
        (r#"span.attributes["v"] / 4"#, json!(3.0), json!(0.75)),
        (
            r#"UnixNano(Time(span.attributes["v"], "%Y-%m-%d"))"#,
            json!("1970-01-02"),
            json!(86_400_000_000_000_i64),
        ),
        (r#"FormatTime(Unix(span.attributes["v"]), "%F %T")"#, json!(0), json!("1970-01-01 00:00:00")),
        (r#"Hours(Duration(span.attributes["v"]))"#, json!("90m"), json!(1.5)),
        (r#"Year(Unix(span.attributes["v"]))"#, json!(0), json!(1970)),
        (
            r#"UnixSeconds(TruncateTime(Unix(span.attributes["v"]), Duration("1h")))"#,
            json!(3_700),
            json!(3_600),
        ),
        (r#"span.attributes["v"]["k"][1]"#, json!({"k": [1, "z"]}), json!("z")),
    ] {
        let before = json!({"attributes": {"v": value}});
        let after = json!({"attributes": {"v": value, "a": result}});
        check(&[&format!("set(span.attributes[\"a\"], {expression})")], &before, &after);
    }
}

#[test]
fn conditions() {
    let span =
        || json!({"kind": 2, "attributes": {"n": 5, "t": "abc", "m": {"k": 1}}, "status": {"code": 2}});
    for (condition, holds) in [
        (r#"span.attributes["n"] > 4 and span.attributes["n"] <= 5"#, true),
        (r#"span.attributes["n"] < 4.5"#, false),
        (r#"span.attributes["n"] == 5.0"#, true),
        (r#"span.attributes["t"] >= "abb""#, true),
        (r#"span.attributes["t"] > 1"#, false),
        (r#"span.attributes["t"] != 1"#, true),
        (r#"span.attributes["gone"] == nil"#, true),
        (r#"span.attributes["gone"] < 1"#, false),
        (r#"span.attributes["m"] == {"k": 1}"#, true),
        (r#"span.attributes["m"]["k"] == 1"#, true),
        (r#"not (span.attributes["n"] == 5 or false)"#, false),
        (r#"not span.attributes["n"] == 6 and IsMatch(span.attributes["n"], "^5$")"#, true),
        (r#"IsMatch(span.attributes["m"], "\"k\":1")"#, true),
        (r#"span.kind == SPAN_KIND_SERVER and span.kind.string == "Server""#, true),
        (r"span.status.code == STATUS_CODE_ERROR", true),
        (r"IsRootSpan()", true),
        (r"span.trace_id == TraceID(0x01010101010101010101010101010101)", true),
        (r#"span.span_id.string == "0202020202020202""#, true),
        (r#"resource.attributes["team"] == "red" and scope.name == "lib""#, true),
        (r"Len(span.attributes) == 3", true),
        (r#"(span.attributes["n"] + 1) * 2 == 12"#, true),
        (r#"HasPrefix(ToUpperCase(span.attributes["t"]), "AB")"#, true),
    ] {
        let mut after = span();
        if holds {
            after["attributes"]["hit"] = json!(true);
        }
        check(&[&format!("set(span.attributes[\"hit\"], true) where {condition}")], &span(), &after);
    }
}

#[test]
fn every_position_has_a_path() {
    let before = json!({
        "resource": {"attributes": {"r": "secret"}, "droppedAttributesCount": 7},
        "scope": {"name": "secret", "version": "secret", "attributes": {"s": "secret"}},
        "resourceUrl": "https://secret/",
        "name": "secret", "traceState": "a=secret,b=c", "status": {"message": "secret", "code": 1},
        "attributes": {"p": "secret"}, "startTimeUnixNano": "5", "endTimeUnixNano": "9", "flags": 3,
        "events": [{"name": "secret", "attributes": {"e": "secret"}, "timeUnixNano": "7"}, {"name": "other"}],
        "links": [{"traceState": "secret", "attributes": {"l": "secret"}}],
    });
    let after = json!({
        "resource": {"attributes": {"r": "x"}, "droppedAttributesCount": 8},
        "scope": {"name": "x", "version": "x", "attributes": {"s": "x"}},
        "resourceUrl": "https://x/",
        "name": "x", "traceState": "a=x,b=c", "status": {"message": "x", "code": 2}, "kind": 3,
        "attributes": {"p": "x"}, "startTimeUnixNano": "6", "endTimeUnixNano": "9", "flags": 4,
        "droppedAttributesCount": 1, "parentSpanId": "0303030303030303",
        "events": [{"name": "x", "attributes": {"e": "x"}, "timeUnixNano": "8"},
            {"name": "other", "attributes": {"i": 1}}],
        "links": [{"traceState": "x", "attributes": {"l": "x"}, "flags": 9}],
    });
    let statements = [
        r#"replace_pattern(resource.attributes["r"], "secret", "x")"#,
        "set(resource.dropped_attributes_count, resource.dropped_attributes_count + 1)",
        r#"replace_pattern(resource.schema_url, "secret", "x")"#,
        r#"replace_pattern(scope.name, "secret", "x")"#,
        r#"replace_pattern(instrumentation_scope.version, "secret", "x")"#,
        r#"replace_pattern(scope.attributes["s"], "secret", "x")"#,
        r#"replace_pattern(span.name, "secret", "x")"#,
        r#"set(span.trace_state["a"], "x")"#,
        r#"replace_pattern(span.status.message, "secret", "x")"#,
        "set(span.status.code, STATUS_CODE_ERROR)",
        r#"set(span.kind.string, "Client")"#,
        r#"replace_pattern(span.attributes["p"], "secret", "x")"#,
        "set(span.start_time_unix_nano, span.start_time_unix_nano + 1)",
        "set(span.flags, span.flags + 1)",
        "set(span.dropped_attributes_count, 1)",
        r#"set(span.parent_span_id.string, "0303030303030303")"#,
        r#"replace_pattern(spanevent.name, "secret", "x")"#,
        r#"replace_pattern(spanevent.attributes["e"], "secret", "x")"#,
        r#"set(spanevent.time, spanevent.time + Duration("1ns")) where spanevent.event_index == 0"#,
        r#"set(spanevent.attributes["i"], spanevent.event_index) where spanevent.name == "other""#,
        r#"replace_pattern(spanlink.trace_state, "secret", "x")"#,
        r#"replace_pattern(spanlink.attributes["l"], "secret", "x")"#,
        "set(spanlink.flags, 9)",
    ];
    check(&statements, &before, &after);
}

#[test]
fn messages_reach_those_around_them() {
    let before = json!({
        "attributes": {"q": "s"},
        "events": [{"name": "exception", "attributes": {"exception.message": "boom"}}, {"name": "log"}],
    });
    let after = json!({
        "resource": {"attributes": {"team": "red", "spans": "GET /"}},
        "attributes": {"q": "s", "error": "boom", "n": 2}, "status": {"code": 2, "message": "boom"},
        "events": [{"name": "exception", "attributes": {"exception.message": "boom", "of": "GET / s lib red"}},
            {"name": "log", "attributes": {"of": "GET / s lib red"}}],
    });
    let statements = [
        r#"set(span.attributes["error"], spanevent.attributes["exception.message"]) where spanevent.name == "exception""#,
        r#"set(span.status.message, span.attributes["error"]) where span.attributes["error"] != nil"#,
        r#"set(span.status.code, STATUS_CODE_ERROR) where span.status.message == "boom""#,
        r#"set(spanevent.attributes["of"], Concat([span.name, span.attributes["q"], scope.name, resource.attributes["team"]], " "))"#,
        r#"set(span.attributes["n"], Len(span.events))"#,
        r#"set(resource.attributes["spans"], span.name)"#,
    ];
    check(&statements, &before, &after);
}

/// A scrubber must not be led past a value by a second one of the same key.
#[test]
fn keys_that_occur_twice() {
    for (statement, before, after) in [
        (
            r#"set(span.attributes["a"], "x") where span.attributes["a"] == 2"#,
            json!([["a", 1], ["a", 2]]),
            json!([["a", 1], ["a", "x"]]),
        ),
        (
            r#"set(span.attributes["a"], "x") where ToLowerCase(span.attributes["b"]) == "y""#,
            json!([["a", 1], ["a", 2], ["b", "Z"], ["b", "Y"]]),
            json!([["a", "x"], ["a", "x"], ["b", "Z"], ["b", "Y"]]),
        ),
        (
            r#"set(span.attributes["a"], ToUpperCase(span.attributes["a"]))"#,
            json!([["a", "k"], ["a", "l"]]),
            json!([["a", "K"], ["a", "L"]]),
        ),
        (
            r#"set(span.attributes["a"]["k"], "x")"#,
            json!([["a", {"k": 1}], ["a", {"k": 2}]]),
            json!([["a", {"k": "x"}], ["a", {"k": "x"}]]),
        ),
        (
            r#"replace_match(span.attributes["a"], "s*", "x") where not IsMatch(span.attributes["b"], "safe")"#,
            json!([["a", "s1"], ["a", "s2"], ["b", "safe"], ["b", "no"]]),
            json!([["a", "x"], ["a", "x"], ["b", "safe"], ["b", "no"]]),
        ),
    ] {
        check(&[statement], &json!({"attributes": before}), &json!({"attributes": after}));
    }
}

/// No more than a few occurrences of a key are treated one by one; the others go.
#[test]
fn occurrences_beyond_a_bound_are_removed() {
    let many: Vec<Json> = (0..200).map(|number| json!(["a", number])).collect();
    let set: Vec<Json> = (0..64).map(|_| json!(["a", "x"])).collect();
    let plan = plan(
        &json!({"transform": {"trace_statements": [r#"set(span.attributes["a"], "x") where span.kind == 0"#]}}),
    );
    let out = applied(&plan.expect("it compiles"), request(&json!({"attributes": many})));
    assert_eq!(shown(&out.data), shown(&request(&json!({"attributes": set}))));
}

#[test]
fn a_group_shares_its_cache_and_its_conditions() {
    let group = json!({"transform": {"trace_statements": [{
        "context": "span",
        "conditions": [r#"attributes["a"] == 1"#, r#"attributes["a"] == 2"#],
        "statements": [
            r#"set(cache["user"], ExtractPatterns(name, "(?P<user>\\w+)@"))"#,
            r#"set(attributes["user"], cache["user"]["user"])"#,
            r#"delete_key(cache, "user")"#,
            r#"set(attributes["left"], Len(cache))"#,
        ],
    }]}});
    let plan = plan(&group).expect("it compiles");
    for (value, more) in [(1, true), (2, true), (3, false)] {
        let before = json!({"name": "bob@x", "attributes": {"a": value}});
        let mut after = before.clone();
        if more {
            after["attributes"]["user"] = json!("bob");
            after["attributes"]["left"] = json!(0);
        }
        assert_eq!(shown(&applied(&plan, request(&before)).data), shown(&request(&after)), "{value}");
    }
}

#[test]
fn what_can_t_be_handled_follows_the_error_mode() {
    for (statement, before, dropped) in [
        (
            r#"set(span.attributes["a"], Int(span.attributes["m"]))"#,
            json!({"a": 1, "m": {}}),
            json!({"m": {}}),
        ),
        (r#"set(span.attributes["a"], 1 / 0)"#, json!({"a": 1}), json!({})),
        (r#"set(span.attributes["a"]["k"], 1)"#, json!({"a": "text"}), json!({})),
        (r#"set(span.attributes["a"], Now())"#, json!({"a": 1}), json!({})),
        (r#"replace_pattern(span.attributes["a"], "x", "", SpanID)"#, json!({"a": "x"}), json!({})),
        (r#"delete_key(span.attributes["a"], "k")"#, json!({"a": "text"}), json!({})),
        (
            r#"delete_key(span.attributes, "a") where ToLowerCase(span.attributes["n"]) == "x""#,
            json!({"a": 1, "n": 5}),
            json!({"n": 5}),
        ),
        (
            r#"set(span.attributes["a"], "masked") where not HasPrefix(span.attributes["n"], "x")"#,
            json!({"a": 1, "n": 5}),
            json!({"a": "masked", "n": 5}),
        ),
    ] {
        let before = json!({"attributes": before});
        for (mode, after) in [("drop_value", json!({"attributes": dropped})), ("ignore", before.clone())] {
            let plan = plan(&json!({"transform": {"error_mode": mode, "trace_statements": [statement]}}));
            let out = applied(&plan.expect(statement), request(&before));
            assert_eq!(shown(&out.data), shown(&request(&after)), "{mode} {statement}");
        }
        let plan = plan(&json!({"transform": {"error_mode": "propagate", "trace_statements": [statement]}}));
        let batch =
            super::Batch { data: request(&before).into(), spans: 1, context: super::BatchContext::default() };
        let refusal = plan.expect(statement).apply(batch, &mut super::PlanScratch::default());
        assert_eq!(refusal.expect_err(statement).cause, "statement_failed");
    }
}

#[test]
fn an_unchanged_request_is_the_same_bytes() {
    let plan = plan(&json!({"transform": {"trace_statements": [
        r#"set(span.status.message, "x") where span.kind == SPAN_KIND_SERVER"#,
        r#"replace_match(spanevent.name, "never*", "x")"#,
    ]}}));
    let data = bytes::Bytes::from(request(&json!({"attributes": {"a": 1}, "events": [{"name": "e"}]})));
    let batch = super::Batch { data: data.clone(), spans: 1, context: super::BatchContext::default() };
    let out =
        plan.expect("it compiles").apply(batch, &mut super::PlanScratch::default()).expect("well-formed");
    assert_eq!(out.data.as_ptr(), data.as_ptr());
}
