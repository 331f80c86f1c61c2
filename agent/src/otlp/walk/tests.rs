use bytes::Bytes;

use super::super::encode::{self, Value};
use super::*;

/// A rewrite given as a closure.
struct Do<F>(F);

impl<F: FnMut(&Part<'_>, &mut Edits)> Rewrite for Do<F> {
    fn part(&mut self, part: &Part<'_>, edits: &mut Edits) {
        (self.0)(part, edits);
    }
}

fn run(buf: &[u8], rewrite: impl FnMut(&Part<'_>, &mut Edits)) -> Result<(Summary, Bytes), Malformed> {
    let mut edits = Edits::default();
    let buf = Bytes::copy_from_slice(buf);
    let summary = walk(&buf, &Limits::default(), &mut Scratch::default(), &mut Do(rewrite), &mut edits)?;
    Ok((summary, edits.apply(&buf)))
}

/// One span with a name, then what `more` adds.
fn request(more: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    wrapped(
        |_| {},
        |span| {
            encode::field(span, 1, &[7; 16]);
            encode::field(span, 2, &[8; 8]);
            encode::field(span, 5, b"GET /");
            more(span);
        },
    )
}

fn wrapped(resource_spans: impl Fn(&mut Vec<u8>), span: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    encode::field_with(&mut out, 1, |out| {
        resource_spans(out);
        encode::field_with(out, 2, |out| encode::field_with(out, 2, |out| span(out)));
    });
    out
}

#[test]
fn an_edit_grows_all_lengths_around_it() {
    for n in [0, 1, 30, 90, 120, 127, 128, 200, 20_000] {
        let text = "x".repeat(n);
        for old in [
            "",
            "secret",
            "secret secret secret secret secret secret secret secret secret secret secret secret secret secret secret",
        ] {
            let before = request(|span| encode::key_value(span, 9, "key", Value::String(old)));
            let after = request(|span| encode::key_value(span, 9, "key", Value::String(&text)));
            let (_, out) = run(&before, |part, edits| {
                if let [attribute] = part.attributes {
                    edits.replace(attribute.value, text.as_bytes());
                }
            })
            .unwrap();
            assert_eq!(out, after, "{n} {old}");
        }
    }
}

#[test]
fn nested_values_are_edited_at_their_place() {
    let build = |leaf: &str| {
        request(|span| {
            encode::field_with(span, 9, |kv| {
                encode::field(kv, 1, b"list");
                encode::field_with(kv, 2, |any| {
                    encode::field_with(any, 6, |list| {
                        encode::key_value(list, 1, "a", Value::Int(1));
                        encode::key_value(list, 1, "b", Value::String(leaf));
                        encode::key_value(list, 1, "c", Value::String(""));
                    });
                });
            });
        })
    };
    for new in ["", "short", &"long".repeat(100)] {
        let (_, out) = run(&build("old"), |part, edits| {
            for attribute in part.attributes {
                leaves(part.buf, attribute, &mut |leaf| {
                    if let Leaf::Value { kind: ValueKind::String, value, key, .. } = leaf
                        && part.bytes(key) == b"b"
                    {
                        edits.replace(value, new.as_bytes());
                    }
                });
            }
        })
        .unwrap();
        assert_eq!(out, build(new));
    }
}

#[test]
fn a_missing_resource_is_shown_and_can_be_filled() {
    let stamp = |part: &Part<'_>, edits: &mut Edits| {
        if part.kind == Kind::Resource {
            edits.replace_with(Slice { start: part.insert_at, end: part.insert_at }, |out| {
                encode::key_value(out, 1, "k8s.pod.name", Value::String("web-1"));
            });
        }
    };
    let span = |span: &mut Vec<u8>| {
        encode::field(span, 1, &[7; 16]);
        encode::field(span, 2, &[8; 8]);
    };
    let wanted = wrapped(
        |out| {
            encode::field_with(out, 1, |out| {
                encode::key_value(out, 1, "k8s.pod.name", Value::String("web-1"));
            });
        },
        span,
    );
    assert_eq!(run(&wrapped(|_| {}, span), stamp).unwrap().1, wanted);
    assert_eq!(run(&wrapped(|out| encode::field(out, 1, &[]), span), stamp).unwrap().1, wanted);
}

#[test]
fn unknown_fields_go_even_inside_what_is_replaced() {
    let unknown = |out: &mut Vec<u8>| encode::field(out, 99, b"hidden");
    let with = request(|span| {
        unknown(span);
        encode::field_with(span, 9, |kv| {
            unknown(kv);
            encode::field(kv, 1, b"key");
            encode::field_with(kv, 2, |any| {
                unknown(any);
                encode::any_value(any, Value::Bool(true));
            });
        });
        encode::key_value(span, 9, "other", Value::Int(-1));
    });
    let clean = request(|span| {
        encode::key_value(span, 9, "key", Value::Bool(true));
        encode::key_value(span, 9, "other", Value::Int(-1));
    });
    let (summary, out) = run(&with, |_, _| {}).unwrap();
    assert_eq!((summary.unknown_fields, out), (3, Bytes::from(clean)));
    let (_, out) = run(&with, |part, edits| {
        if let [first, ..] = part.attributes {
            edits.delete(first.field);
        }
    })
    .unwrap();
    assert_eq!(out, request(|span| encode::key_value(span, 9, "other", Value::Int(-1))));
}

#[test]
fn a_resource_after_its_spans_is_shown_before_them() {
    let mut late = Vec::new();
    encode::field_with(&mut late, 1, |out| {
        encode::field_with(out, 2, |out| {
            encode::field_with(out, 2, |span| {
                encode::field(span, 1, &[7; 16]);
                encode::field(span, 2, &[8; 8]);
            });
            encode::field_with(out, 1, |scope| encode::field(scope, 1, b"lib"));
        });
        encode::field_with(out, 1, |out| encode::key_value(out, 1, "a", Value::Bool(true)));
    });
    let mut order = Vec::new();
    let (_, out) = run(&late, |part, edits| {
        order.push(part.kind);
        for text in part.texts {
            edits.replace(text.value, b"library");
        }
        for attribute in part.attributes {
            edits.delete(attribute.field);
        }
    })
    .unwrap();
    assert_eq!(order, [Kind::Resource, Kind::Scope, Kind::Span, Kind::ScopeSpans, Kind::ResourceSpans]);
    let text = b"\x0a\x07library";
    assert!(out.windows(text.len()).any(|window| window == text));
    assert!(run(&out, |part, _| assert!(part.attributes.is_empty())).is_ok());
}

#[test]
fn an_unchanged_request_is_the_same_bytes() {
    let buf = Bytes::from(request(|_| {}));
    let mut edits = Edits::default();
    walk(&buf, &Limits::default(), &mut Scratch::default(), &mut Keep, &mut edits).unwrap();
    assert_eq!(edits.apply(&buf).as_ptr(), buf.as_ptr());
}
