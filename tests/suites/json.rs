//! OTLP/JSON, held against prost and a JSON model built from the decoded message.

use proptest::prelude::*;
use prost::Message as _;
use serde_json::Value;
use spanwarden::otlp::{json, walk::Limits};
use spanwarden_tests::oracle::{
    self, Dice, model,
    strategies::requests,
    wire::{Freedom, rewrite},
};

fn read(text: &[u8]) -> json::Transcoded {
    json::to_protobuf(text, &Limits::default()).unwrap()
}

/// Leaves out what a writer may leave out: defaults of fields, and nulls.
fn without_defaults(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(without_defaults).collect(),
        Value::Object(fields) => {
            let set = |(name, value): &(&String, &Value)| {
                let default = match value {
                    Value::Null => true,
                    Value::Array(items) => items.is_empty() && *name != "values",
                    Value::String(text) => text.is_empty() || (*text == "0" && name.ends_with("UnixNano")),
                    Value::Number(number) => number.as_u64() == Some(0),
                    _ => false,
                };
                !default || name.ends_with("Value")
            };
            let fields =
                fields.iter().filter(set).map(|(name, value)| (name.clone(), without_defaults(value)));
            Value::Object(
                fields.filter(|(name, value)| name != "values" || *value != Value::Array(vec![])).collect(),
            )
        }
        other => other.clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_is_written_is_the_models_json(request in requests(), seed: u64) {
        let freedom = Freedom { order: true, unknown: true, long_lengths: true };
        let (data, _) = rewrite(&request.encode_to_vec(), &oracle::request_descriptor(), freedom, &mut Dice(seed));
        let mut out = Vec::new();
        json::to_json(&data, &mut out).unwrap();
        prop_assert!(!out.contains(&b'\n'));
        let written: Value = serde_json::from_slice(&out).unwrap();
        prop_assert_eq!(without_defaults(&written), without_defaults(&model::to_json(&request)));
        prop_assert_eq!(oracle::decode(&read(&out).data).encode_to_vec(), request.encode_to_vec());
    }

    #[test]
    fn the_models_json_is_read(request in requests()) {
        let model = model::to_json(&request);
        for text in [serde_json::to_vec(&model).unwrap(), serde_json::to_vec_pretty(&model).unwrap()] {
            let read = read(&text);
            prop_assert_eq!(read.unknown_fields, 0);
            prop_assert_eq!(oracle::decode(&read.data).encode_to_vec(), request.encode_to_vec());
        }
    }

    #[test]
    fn damaged_json_does_not_panic_and_what_is_read_decodes(request in requests(), seed: u64) {
        let mut dice = Dice(seed);
        let mut text = serde_json::to_vec(&model::to_json(&request)).unwrap();
        for _ in 0..=dice.below(3) {
            let at = dice.below(text.len());
            match dice.below(4) {
                0 => text.truncate(at),
                1 => text[at] ^= 1 << dice.below(8),
                2 => text.insert(at, b"{}[]\",:0e-\\u"[dice.below(12)]),
                _ => { text.remove(at); }
            }
            if text.is_empty() {
                break;
            }
        }
        if let Ok(read) = json::to_protobuf(&text, &Limits::default()) {
            oracle::decode(&read.data);
        }
    }

    #[test]
    fn damaged_protobuf_is_no_panic_for_the_writer(request in requests(), seed: u64) {
        let mut dice = Dice(seed);
        let mut data = request.encode_to_vec();
        for _ in 0..3 {
            if !data.is_empty() {
                let at = dice.below(data.len());
                data[at] = dice.roll() as u8;
            }
        }
        let mut out = Vec::new();
        if json::to_json(&data, &mut out).is_ok() {
            serde_json::from_slice::<Value>(&out).unwrap();
        }
    }
}

/// What the error says never quotes the request.
#[test]
fn errors_do_not_quote_the_sender() {
    for text in [
        r#"{"resourceSpans":"secret"}"#,
        r#"{"resourceSpans":[{"schemaUrl":{"secret":1}}]}"#,
        r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"kind":"secret"}]}]}]}"#,
        r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"secret"}]}]}]}"#,
        r#"{"resourceSpans" secret"#,
    ] {
        let error = json::to_protobuf(text.as_bytes(), &Limits::default()).unwrap_err().to_string();
        assert!(!error.contains("secret") && error.contains("line 1, column"), "{error}");
    }
}
