//! The canary of each built-in detector, in every position and in every encoding that it sees through.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use spanwarden::{
    config::detectors::{self, DetectorSet},
    otlp::{
        Batch, Context,
        encode::{Value, any_value, field, field_with, key_value},
    },
    scrub::{Plan, PlanScratch},
};
use spanwarden_tests::{
    oracle::{
        Dice,
        canary::{Canary, canaries},
    },
    pii::{self, secrets},
};

use super::contains_bytes;

/// What is planted: a text, and the part of it that must not be left.
struct Planted {
    text: String,
    secret: String,
}

fn planted(detector: &str, seed: u64) -> Planted {
    let secret = secrets::secret(detector, &mut Dice::about(seed, &[detector.as_bytes()]));
    Planted { text: secret.carrier.replace("{}", &secret.text), secret: secret.text }
}

fn apply(plan: &Plan, scratch: &mut PlanScratch, data: Vec<u8>) -> Option<Bytes> {
    let batch = Batch { data: data.into(), spans: 1, context: Context::default() };
    plan.apply(batch, scratch).ok().map(|batch| batch.data)
}

/// All detectors; what is wrong with some of them is told at the end.
fn each(check: impl Fn(&'static str, DetectorSet, &Plan, &mut PlanScratch) -> Vec<String>) {
    let plan = pii::plan("    sets: [secrets, personal, network]");
    let mut scratch = PlanScratch::default();
    let mut wrong = Vec::new();
    for (name, set) in detectors::all() {
        wrong.extend(check(name, set, &plan, &mut scratch).into_iter().map(|what| format!("{name}: {what}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_detector_finds_its_canary_in_every_position() {
    let empty = canaries("");
    each(|name, _, plan, scratch| {
        let planted = planted(name, 3);
        let mut left = Vec::new();
        for Canary { path, data } in canaries(&planted.text) {
            assert!(contains_bytes(&data, planted.secret.as_bytes()), "{name}: planted");
            match apply(plan, scratch, data) {
                // Sixteen bytes are an id where ids stand.
                Some(_) if path.ends_with("_id") => {}
                Some(out) if contains_bytes(&out, planted.secret.as_bytes()) => left.push(path),
                None => assert!(path.ends_with("_id"), "{name}: {path} is refused"),
                Some(_) => {}
            }
        }
        if left.is_empty() { vec![] } else { vec![format!("{left:?}")] }
    });
    assert!(empty.len() > 50, "{} positions", empty.len());
}

/// A request of one span with what is written into it after its ids.
fn with_span(write: &dyn Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut request = Vec::new();
    field_with(&mut request, 1, |resource_spans| {
        field_with(resource_spans, 2, |scope_spans| {
            field_with(scope_spans, 2, |span| {
                field(span, 1, &[7; 16]);
                field(span, 2, &[8; 8]);
                write(span);
            });
        });
    });
    request
}

/// Spans with the text as the value of an attribute: a string, in an array, in a map.
fn spans(text: &str) -> [Vec<u8>; 3] {
    let attribute = |any: &dyn Fn(&mut Vec<u8>)| {
        with_span(&|span| {
            field_with(span, 9, |attribute| {
                field(attribute, 1, b"note");
                field_with(attribute, 2, |value| any(value));
            });
        })
    };
    [
        with_span(&|span| key_value(span, 9, "note", Value::String(text))),
        attribute(&|value| {
            field_with(value, 5, |array| field_with(array, 1, |item| any_value(item, Value::String(text))));
        }),
        attribute(&|value| {
            field_with(value, 6, |map| key_value(map, 1, "inner", Value::String(text)));
        }),
    ]
}

#[test]
fn every_encoding_is_seen_through() {
    each(|name, set, plan, scratch| {
        let mut wrong = Vec::new();
        for seed in 0..8 {
            let Planted { text, secret } = planted(name, seed);
            let mut forms = vec![
                ("percent", pii::percent(&text), pii::percent(&secret)),
                ("percent twice", pii::percent(&pii::percent(&text)), pii::percent(&pii::percent(&secret))),
                ("JSON", format!("{{\"a\":\"{}\"}}", pii::json(&text)), pii::json(&secret)),
                (
                    "JSON in JSON",
                    format!("\"{}\"", pii::json(&pii::json(&text))),
                    pii::json(&pii::json(&secret)),
                ),
                ("upper escapes", escaped(&text), escaped(&secret)),
            ];
            if set == DetectorSet::Personal {
                forms.push(("zero width", sprinkled(&text), sprinkled(&secret)));
                forms.push(("full width", full_width(&text), full_width(&secret)));
            }
            for (form, text, secret) in forms {
                for data in spans(&text) {
                    let out = apply(plan, scratch, data).expect("it is well-formed");
                    if contains_bytes(&out, secret.as_bytes()) {
                        wrong.push(format!("as {form}: {text:?} gives {:?}", String::from_utf8_lossy(&out)));
                    }
                }
            }
        }
        wrong.truncate(2);
        wrong
    });
}

/// Every character as JSON may escape it.
fn escaped(text: &str) -> String {
    let escapes: Vec<String> = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
    escapes.concat()
}

fn sprinkled(text: &str) -> String {
    text.chars().flat_map(|c| [c, '\u{200b}']).collect()
}

fn full_width(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            ' ' => '\u{3000}',
            '!'..='~' => char::from_u32(c as u32 + 0xfee0).expect("a full-width form"),
            other => other,
        })
        .collect()
}

#[test]
fn base64_is_looked_into_where_that_is_asked() {
    let plan = pii::plan("    decode: [base64]\n    sets: [secrets, personal, network]");
    let mut scratch = PlanScratch::default();
    for (name, _) in detectors::all() {
        let text = STANDARD.encode(format!("before {} after", planted(name, 5).text));
        for data in spans(&format!("payload {text};")) {
            let out = apply(&plan, &mut scratch, data).expect("it is well-formed");
            assert!(!contains_bytes(&out, text.as_bytes()), "{name}: {text}");
        }
    }
}

/// One value of more than a megabyte with everything in it, from its first byte to its last.
#[test]
fn values_of_a_megabyte_are_read_to_their_end() {
    let plan = pii::plan("    sets: [secrets, personal, network]");
    let filler = "all quiet, nothing here. ".repeat(500);
    let all: Vec<_> = detectors::all().map(|(name, _)| (name, planted(name, 9))).collect();
    let texts: Vec<&str> = all.iter().map(|(_, planted)| planted.text.as_str()).collect();
    let value = texts.join(&format!(" {filler}"));
    assert!(value.len() > 1_000_000);
    let [string, ..] = spans(&value);
    let out = apply(&plan, &mut PlanScratch::default(), string).expect("it is well-formed");
    for (name, planted) in all {
        assert!(!contains_bytes(&out, planted.secret.as_bytes()), "{name}");
    }
}

/// The wire's own tricks: a key that occurs twice, a value before its key, values that are there twice.
#[test]
fn what_the_wire_allows_hides_nothing() {
    each(|name, _, plan, scratch| {
        let Planted { text, secret } = planted(name, 11);
        let twice = with_span(&|span| {
            key_value(span, 9, "note", Value::String("nothing"));
            key_value(span, 9, "note", Value::String(&text));
            key_value(span, 9, "note", Value::Bytes(text.as_bytes()));
        });
        let value_first = with_span(&|span| {
            field_with(span, 9, |attribute| {
                field_with(attribute, 2, |value| any_value(value, Value::String(&text)));
                field(attribute, 1, b"note");
            });
        });
        let mut wrong = Vec::new();
        for (what, data) in [("twice", twice), ("value first", value_first)] {
            let out = apply(plan, scratch, data).expect("it is well-formed");
            if contains_bytes(&out, secret.as_bytes()) {
                wrong.push(what.to_owned());
            }
        }
        let two_values = with_span(&|span| {
            field_with(span, 9, |attribute| {
                field(attribute, 1, b"note");
                field_with(attribute, 2, |value| any_value(value, Value::String(&text)));
                field_with(attribute, 2, |value| any_value(value, Value::String("nothing")));
            });
        });
        let out = apply(plan, scratch, two_values);
        if out.is_some_and(|out| contains_bytes(&out, secret.as_bytes())) {
            wrong.push("two values".to_owned());
        }
        wrong
    });
}

/// Values that go by their key, at every depth, whatever they are.
#[test]
fn values_under_keys_that_name_a_secret_are_masked_whole() {
    let plan = pii::plan("    blocked_keys: {add: [my.key], except: [session.token]}");
    let mut scratch = PlanScratch::default();
    for (key, blocked) in [
        ("password", true),
        ("http.request.header.authorization", true),
        ("http.request.header.set-cookie", true),
        ("x-api-key", true),
        ("accessToken", true),
        ("my.key", true),
        ("session.token", false),
        ("http.route", false),
    ] {
        let nested = |inner: &dyn Fn(&mut Vec<u8>)| with_span(&|span| field_with(span, 9, |out| inner(out)));
        let string = nested(&|attribute| {
            field(attribute, 1, key.as_bytes());
            field_with(attribute, 2, |value| any_value(value, Value::String("tweet")));
        });
        let inside = nested(&|attribute| {
            field(attribute, 1, b"headers");
            field_with(attribute, 2, |value| {
                field_with(value, 6, |map| {
                    field_with(map, 1, |entry| {
                        field(entry, 1, key.as_bytes());
                        field_with(entry, 2, |value| {
                            field_with(value, 5, |array| {
                                field_with(array, 1, |item| any_value(item, Value::String("tweet")));
                            });
                        });
                    });
                });
            });
        });
        for data in [string, inside] {
            let out = apply(&plan, &mut scratch, data).expect("it is well-formed");
            assert_eq!(contains_bytes(&out, b"tweet"), !blocked, "{key}");
        }
    }
}
