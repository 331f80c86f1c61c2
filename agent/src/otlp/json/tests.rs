use super::*;
use crate::otlp::{
    edit::Edits,
    walk::{Keep, Scratch, walk},
};

fn read(json: &str) -> Result<Transcoded, BadJson> {
    to_protobuf(json.as_bytes(), &Limits::default())
}

fn again(json: &str) -> String {
    let data = read(json).unwrap().data;
    let mut out = Vec::new();
    to_json(&data, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// A request with one span attribute.
fn with_value(value: &str) -> String {
    format!(
        r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","attributes":[{{"key":"k","value":{value}}}]}}]}}]}}]}}"#
    )
}

/// The example of opentelemetry-proto, `examples/trace.json`.
#[test]
fn the_official_example() {
    let json = r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"my.service"}}]},"scopeSpans":[{"scope":{"name":"my.library","version":"1.0.0","attributes":[{"key":"my.scope.attribute","value":{"stringValue":"some scope attribute"}}]},"spans":[{"traceId":"5B8EFFF798038103D269B633813FC60C","spanId":"EEE19B7EC3C1B174","parentSpanId":"EEE19B7EC3C1B173","name":"I'm a server span","startTimeUnixNano":"1544712660000000000","endTimeUnixNano":"1544712661000000000","kind":2,"attributes":[{"key":"my.span.attr","value":{"stringValue":"some value"}}]}]}]}]}"#;
    let data = read(json).unwrap().data;
    let summary =
        walk(&data, &Limits::default(), &mut Scratch::default(), &mut Keep, &mut Edits::default()).unwrap();
    assert_eq!(summary.spans, 1);
    let back = again(json);
    assert!(back.contains(r#""traceId":"5b8efff798038103d269b633813fc60c""#), "{back}");
    assert!(back.contains(r#""kind":2,"startTimeUnixNano":"1544712660000000000""#), "{back}");
    assert_eq!(again(&back), back);
}

#[test]
fn values_in_every_notation() {
    for (given, written) in [
        (r#"{"stringValue":"a\u00e9\"\n\ud83d\ude00"}"#, r#"{"stringValue":"aé\"\n😀"}"#),
        (r#"{"string_value":""}"#, r#"{"stringValue":""}"#),
        (r#"{"intValue":"-9223372036854775808"}"#, r#"{"intValue":"-9223372036854775808"}"#),
        (r#"{"intValue":12}"#, r#"{"intValue":"12"}"#),
        (r#"{"intValue":1e3}"#, r#"{"intValue":"1000"}"#),
        (r#"{"intValue":0}"#, r#"{"intValue":"0"}"#),
        (r#"{"doubleValue":1}"#, r#"{"doubleValue":1.0}"#),
        (r#"{"doubleValue":1e-300}"#, r#"{"doubleValue":1e-300}"#),
        (r#"{"doubleValue":"NaN"}"#, r#"{"doubleValue":"NaN"}"#),
        (r#"{"doubleValue":"-Infinity"}"#, r#"{"doubleValue":"-Infinity"}"#),
        (r#"{"boolValue":false}"#, r#"{"boolValue":false}"#),
        (r#"{"bytesValue":"-_8"}"#, r#"{"bytesValue":"+/8="}"#),
        (r#"{"bytesValue":"+/8="}"#, r#"{"bytesValue":"+/8="}"#),
        (r#"{"stringValue":null,"intValue":3}"#, r#"{"intValue":"3"}"#),
        (
            r#"{"arrayValue":{"values":[{"intValue":1},{}]}}"#,
            r#"{"arrayValue":{"values":[{"intValue":"1"},{}]}}"#,
        ),
        (
            r#"{"kvlistValue":{"values":[{"key":"a","value":{"boolValue":true}}]}}"#,
            r#"{"kvlistValue":{"values":[{"key":"a","value":{"boolValue":true}}]}}"#,
        ),
        (r#"{"later":[{"x":1}],"intValue":1}"#, r#"{"intValue":"1"}"#),
    ] {
        assert_eq!(again(&with_value(given)), with_value(written));
    }
    assert_eq!(read(&with_value(r#"{"later":[{"x":1}],"intValue":1}"#)).unwrap().unknown_fields, 1);
}

#[test]
fn enums_by_name_and_snake_case() {
    let json = r#"{"resource_spans":[{"scope_spans":[{"spans":[{"trace_id":"5b8efff798038103d269b633813fc60c","kind":"SPAN_KIND_CLIENT","status":{"code":"STATUS_CODE_ERROR"}}]}]}]}"#;
    let back = again(json);
    assert!(back.contains(r#""kind":3,"status":{"code":2}"#), "{back}");
}

#[test]
fn bad_json_is_refused_for_what_it_is() {
    let deep = |n: usize| {
        with_value(&format!("{}{{}}{}", r#"{"arrayValue":{"values":["#.repeat(n), "]}}".repeat(n)))
    };
    for (json, what) in [
        ("", WhatJson::Syntax),
        ("{", WhatJson::Syntax),
        ("{} {}", WhatJson::Syntax),
        ("[]", WhatJson::Type),
        (r#"{"resourceSpans":{}}"#, WhatJson::Type),
        (r#"{"resourceSpans":[null]}"#, WhatJson::Type),
        (r#"{"resourceSpans":[{"resource":[]}]}"#, WhatJson::Type),
        (r#"{"resourceSpans":[],"resource_spans":[]}"#, WhatJson::Duplicate),
        (&with_value(r#"{"intValue":"x"}"#), WhatJson::Number),
        (&with_value(r#"{"intValue":9223372036854775808}"#), WhatJson::Number),
        (&with_value(r#"{"intValue":1.5}"#), WhatJson::Number),
        (&with_value(r#"{"intValue":true}"#), WhatJson::Type),
        (&with_value(r#"{"stringValue":1}"#), WhatJson::Type),
        (&with_value(r#"{"doubleValue":"inf"}"#), WhatJson::Number),
        (&with_value(r#"{"bytesValue":"*"}"#), WhatJson::Base64),
        (&with_value(r#"{"intValue":1,"boolValue":true}"#), WhatJson::Duplicate),
        (&with_value(r#"{"stringValue":"\ud800"}"#), WhatJson::Syntax),
        (&with_value("{}").replace("5b8e", "5b8"), WhatJson::Id),
        (&with_value("{}").replace("5b8e", "W47/"), WhatJson::Id),
        (&deep(30), WhatJson::Depth),
        (&deep(2000), WhatJson::Depth),
    ] {
        assert_eq!(read(json).unwrap_err().what, what, "{json}");
    }
    assert!(read(&deep(28)).is_ok());
    // What is skipped may nest as it likes: the reader skips it without recursion.
    let skipped = format!(r#"{{"x":{}1{}}}"#, "[".repeat(5000), "]".repeat(5000));
    assert_eq!(read(&skipped), Ok(Transcoded { data: Vec::new(), unknown_fields: 1 }));
    let error = read("{\n\"resourceSpans\": 7}").unwrap_err();
    assert_eq!(
        error.to_string(),
        "a field has another type than the OTLP trace protos give it (line 2, column 18 of the request)"
    );
}
