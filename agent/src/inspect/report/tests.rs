//! What is shown of what a sender wrote.

use super::*;
use crate::otlp::{encode, walk::ValueKind};

#[test]
fn text_is_fit_for_a_terminal() {
    for (text, wanted) in [
        ("plain é", "plain é"),
        ("a\nb\x1b[31m", "a\\u{a}b\\u{1b}[31m"),
        ("a\u{202e}b\u{200b}", "a\\u{202e}b\\u{200b}"),
    ] {
        assert_eq!(shown(text.as_bytes()), wanted);
    }
    assert_eq!(shown(b"\xffx"), "\u{fffd}x");
    assert_eq!(shown(&[b'x'; 1000]).chars().count(), MAX_SHOWN + 1);
}

#[test]
fn values_of_every_kind_are_written() {
    let varint = |number| {
        let mut out = Vec::new();
        encode::varint(&mut out, number);
        out
    };
    for (kind, content, wanted) in [
        (ValueKind::String, b"a\tb".to_vec(), "a\\u{9}b"),
        (ValueKind::Int, varint(4711), r#"{"intValue":"4711"}"#),
        (ValueKind::Bool, varint(1), r#"{"boolValue":true}"#),
        (ValueKind::Double, 0.5f64.to_le_bytes().to_vec(), r#"{"doubleValue":0.5}"#),
        (ValueKind::Bytes, b"abc".to_vec(), r#"{"bytesValue":"YWJj"}"#),
        (ValueKind::Array, Vec::new(), r#"{"arrayValue":{}}"#),
    ] {
        assert_eq!(value(&(kind, content)), wanted);
    }
}
