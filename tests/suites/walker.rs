//! The walker, the edit list, the split and the views, held against prost.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message as _;
use spanwarden::otlp::{
    edit::Edits,
    encode,
    split::Splitter,
    view::{self, ValueView},
    walk::{
        Keep, Kind, Leaf, Limits, Malformed, Part, Rewrite, Scratch, Slice, Summary, ValueKind, leaves, walk,
    },
};
use spanwarden_tests::{
    oracle::{
        self, Dice, model,
        strategies::requests,
        wire::{Freedom, rewrite},
    },
    proto::v1::{any_value::Value, *},
};

fn run(buf: &Bytes, rewrite: &mut impl Rewrite) -> Result<(Summary, Bytes), Malformed> {
    let mut edits = Edits::default();
    let summary = walk(buf, &Limits::default(), &mut Scratch::default(), rewrite, &mut edits)?;
    Ok((summary, edits.apply(buf)))
}

fn span_count(request: &ExportTraceServiceRequest) -> u32 {
    request.resource_spans.iter().flat_map(|rs| &rs.scope_spans).map(|ss| ss.spans.len() as u32).sum()
}

/// What happens to an attribute is a hash of the seed, the message and the key; so the model decides alike
/// without seeing what the walker saw.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Deed {
    Keep,
    Delete,
    NewText(usize),
    NewInt(i64),
    Rename(usize),
    /// Every string and every key inside a list gets this suffix in place of its text.
    Inside(usize),
}

fn deed(seed: u64, kind: Kind, key: &[u8]) -> Deed {
    let mut dice = Dice::about(seed, &[format!("{kind:?}").as_bytes(), key]);
    let len = [0, 5, 40, 119, 120, 128, 300][dice.below(7)];
    match dice.below(8) {
        0 => Deed::Delete,
        1 | 2 => Deed::NewText(len),
        3 => Deed::NewInt(dice.roll().cast_signed()),
        4 => Deed::Rename(len),
        5 | 6 => Deed::Inside(len),
        _ => Deed::Keep,
    }
}

fn new_text(seed: u64, kind: Kind, number: u32, text: &[u8]) -> Option<String> {
    let mut dice = Dice::about(seed, &[format!("{kind:?}").as_bytes(), &number.to_le_bytes(), text]);
    (dice.below(3) == 0).then(|| "t".repeat([0, 3, 127, 128, 500][dice.below(5)]))
}

fn insertion(seed: u64, kind: Kind) -> Option<(u32, &'static str)> {
    let number = match kind {
        Kind::Resource => 1,
        Kind::Scope | Kind::Event => 3,
        Kind::Span => 9,
        Kind::Link => 4,
        _ => return None,
    };
    (Dice::about(seed, &[b"insert", format!("{kind:?}").as_bytes()]).below(2) == 0)
        .then_some((number, "inserted"))
}

/// The deeds as edits of the wire bytes.
struct Doer {
    seed: u64,
}

impl Rewrite for Doer {
    fn part(&mut self, part: &Part<'_>, edits: &mut Edits) {
        // Any order within a part is allowed: the last first.
        for text in part.texts.iter().rev() {
            if let Some(new) = new_text(self.seed, part.kind, text.number, part.bytes(text.value)) {
                edits.replace(text.value, new.as_bytes());
            }
        }
        for attribute in part.attributes.iter().rev() {
            let number = u32::from(part.buf[attribute.field.start as usize] >> 3);
            let key = part.bytes(attribute.key);
            let text = std::str::from_utf8(key).unwrap();
            match deed(self.seed, part.kind, key) {
                Deed::Delete => edits.delete(attribute.field),
                Deed::NewText(len) if attribute.kind == ValueKind::String => {
                    edits.replace(attribute.value, "v".repeat(len).as_bytes());
                }
                Deed::NewText(len) => edits.replace_with(attribute.field, |out| {
                    encode::key_value(out, number, text, encode::Value::String(&"v".repeat(len)));
                }),
                Deed::NewInt(value) => edits.replace_with(attribute.field, |out| {
                    encode::key_value(out, number, text, encode::Value::Int(value));
                }),
                // A key that is not on the wire can't be edited in place.
                Deed::Rename(len) if attribute.key != Slice::default() => {
                    edits.replace(attribute.key, "k".repeat(len).as_bytes());
                }
                Deed::Rename(_) | Deed::Keep => {}
                Deed::Inside(len) => leaves(part.buf, attribute, &mut |leaf| match leaf {
                    Leaf::Key(at) => edits.replace(at, b"inner key"),
                    Leaf::Value { kind: ValueKind::String, value, .. } => {
                        edits.replace(value, "i".repeat(len).as_bytes());
                    }
                    Leaf::Value { .. } => {}
                }),
            }
        }
        if let Some((number, key)) = insertion(self.seed, part.kind) {
            edits.replace_with(Slice { start: part.insert_at, end: part.insert_at }, |out| {
                encode::key_value(out, number, key, encode::Value::Bool(true));
            });
        }
    }
}

fn string(text: String) -> AnyValue {
    AnyValue { value: Some(Value::StringValue(text)) }
}

/// The deeds on the decoded request.
fn do_model(seed: u64, request: &mut ExportTraceServiceRequest) {
    model::visit(request, &mut |message| {
        let kind = message.kind;
        for (number, text) in message.texts {
            // prost writes no empty string, so the walker is not shown one.
            if let Some(new) = new_text(seed, kind, number, text.as_bytes())
                .filter(|_| !text.is_empty() || number_is_list(kind, number))
            {
                *text = new;
            }
        }
        let Some(attributes) = message.attributes else { return };
        attributes.retain(|pair| deed(seed, kind, pair.key.as_bytes()) != Deed::Delete);
        for pair in attributes.iter_mut() {
            match deed(seed, kind, pair.key.as_bytes()) {
                Deed::Keep | Deed::Delete => {}
                Deed::NewText(len) => pair.value = Some(string("v".repeat(len))),
                Deed::NewInt(value) => pair.value = Some(AnyValue { value: Some(Value::IntValue(value)) }),
                Deed::Rename(len) => {
                    if !pair.key.is_empty() {
                        pair.key = "k".repeat(len);
                    }
                }
                Deed::Inside(len) => {
                    if let Some(value) = &mut pair.value {
                        let mut rename = |key: &mut String| {
                            if !key.is_empty() {
                                "inner key".clone_into(key);
                            }
                        };
                        model::visit_inside(value, &mut rename, &mut |text| *text = "i".repeat(len));
                    }
                }
            }
        }
        if let Some((_, key)) = insertion(seed, kind) {
            let value = Some(AnyValue { value: Some(Value::BoolValue(true)) });
            attributes.insert(0, KeyValue { key: key.to_owned(), value, ..KeyValue::default() });
        }
    });
}

/// Elements of a repeated string are on the wire also where they are empty.
fn number_is_list(kind: Kind, number: u32) -> bool {
    kind == Kind::EntityRef && number >= 3
}

/// Spans with everything that they are under, each as bytes.
fn flat(request: &ExportTraceServiceRequest) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut out = Vec::new();
    for rs in &request.resource_spans {
        for ss in &rs.scope_spans {
            for span in &ss.spans {
                let one = ResourceSpans {
                    scope_spans: vec![ScopeSpans { spans: vec![span.clone()], ..ss.clone() }],
                    ..rs.clone()
                };
                out.push((span.trace_id.clone(), one.encode_to_vec()));
            }
        }
    }
    out.sort();
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_request_that_needs_no_change_leaves_as_the_same_bytes(request in requests()) {
        let buf = Bytes::from(request.encode_to_vec());
        let (summary, out) = run(&buf, &mut Keep).unwrap();
        prop_assert_eq!(out.as_ptr(), buf.as_ptr());
        prop_assert_eq!(out.len(), buf.len());
        prop_assert_eq!(summary, Summary { spans: span_count(&request), unknown_fields: 0 });
    }

    #[test]
    fn order_and_long_lengths_are_the_writers_affair(request in requests(), seed: u64) {
        let freedom = Freedom { order: true, unknown: false, long_lengths: true };
        let (data, _) = rewrite(&request.encode_to_vec(), &oracle::request_descriptor(), freedom, &mut Dice(seed));
        let buf = Bytes::from(data);
        let (summary, out) = run(&buf, &mut Keep).unwrap();
        prop_assert_eq!(out.as_ptr(), buf.as_ptr());
        prop_assert_eq!(summary.spans, span_count(&request));
    }

    #[test]
    fn unknown_fields_are_stripped_at_every_level(request in requests(), seed: u64) {
        let freedom = Freedom { order: true, unknown: true, long_lengths: true };
        let (data, unknown) = rewrite(&request.encode_to_vec(), &oracle::request_descriptor(), freedom, &mut Dice(seed));
        let buf = Bytes::from(data);
        let (summary, out) = run(&buf, &mut Keep).unwrap();
        prop_assert_eq!(summary.unknown_fields, unknown);
        prop_assert_eq!(oracle::decode(&out).encode_to_vec(), request.encode_to_vec());
        let (again, same) = run(&out, &mut Keep).unwrap();
        prop_assert_eq!((again.unknown_fields, same.as_ptr()), (0, out.as_ptr()));
    }

    #[test]
    fn edits_equal_decode_edit_encode(request in requests(), seed: u64) {
        let buf = Bytes::from(request.encode_to_vec());
        let (_, out) = run(&buf, &mut Doer { seed }).unwrap();
        let mut wanted = request;
        do_model(seed, &mut wanted);
        // Byte for byte but for defaults that are written out, so both go through prost.
        prop_assert_eq!(oracle::decode(&out).encode_to_vec(), wanted.encode_to_vec());
        let (again, _) = run(&out, &mut Keep).unwrap();
        prop_assert_eq!(again.unknown_fields, 0);
    }

    #[test]
    fn edits_in_unusual_wire_forms(request in requests(), seed: u64) {
        let freedom = Freedom { order: true, unknown: true, long_lengths: true };
        let (data, _) = rewrite(&request.encode_to_vec(), &oracle::request_descriptor(), freedom, &mut Dice(seed));
        let (_, out) = run(&Bytes::from(data), &mut Doer { seed }).unwrap();
        let mut wanted = request;
        do_model(seed, &mut wanted);
        prop_assert_eq!(oracle::decode(&out).encode_to_vec(), wanted.encode_to_vec());
    }

    #[test]
    fn a_split_keeps_every_span_once_and_traces_together(request in requests(), seed: u64, targets in 1usize..5) {
        let freedom = Freedom { order: seed % 2 == 0, unknown: false, long_lengths: false };
        let (data, _) = rewrite(&request.encode_to_vec(), &oracle::request_descriptor(), freedom, &mut Dice(seed));
        let buf = Bytes::from(data);
        let owner = |id: &[u8]| Dice::about(seed, &[id]).below(targets);
        let outputs = Splitter::default().route(&buf, |id| owner(id)).unwrap();
        let mut all = Vec::new();
        for output in &outputs {
            let decoded = oracle::decode(&output.data);
            prop_assert_eq!(span_count(&decoded), output.spans);
            let spans = flat(&decoded);
            prop_assert!(!spans.is_empty() && spans.iter().all(|(id, _)| owner(id) == output.target));
            all.extend(spans);
        }
        all.sort();
        prop_assert_eq!(all, flat(&request));
        if let [only] = outputs.as_slice() {
            prop_assert_eq!(only.data.as_ptr(), buf.as_ptr());
        }
    }

    #[test]
    fn grouping_makes_a_request_of_each_trace(request in requests()) {
        let buf = Bytes::from(request.encode_to_vec());
        let traces = Splitter::default().group(&buf).unwrap();
        let ids: BTreeSet<_> = traces.iter().map(|trace| trace.id).collect();
        prop_assert_eq!(ids.len(), traces.len());
        let mut all = Vec::new();
        for trace in &traces {
            let spans = flat(&oracle::decode(&trace.data));
            prop_assert!(spans.len() == trace.spans as usize && spans.iter().all(|(id, _)| *id == trace.id));
            all.extend(spans);
        }
        all.sort();
        prop_assert_eq!(all, flat(&request));
    }

    #[test]
    fn views_read_what_prost_reads(request in requests(), seed: u64) {
        let freedom = Freedom { order: true, unknown: false, long_lengths: true };
        let (data, _) = rewrite(&request.encode_to_vec(), &oracle::request_descriptor(), freedom, &mut Dice(seed));
        let mut viewed = view::spans(&data);
        for rs in &request.resource_spans {
            for (ss, span) in rs.scope_spans.iter().flat_map(|ss| ss.spans.iter().map(move |span| (ss, span))) {
                let (resource, scope, view) = viewed.next().unwrap();
                let none = Vec::new();
                check_attributes(rs.resource.as_ref().map_or(&none, |r| &r.attributes), resource.attributes())?;
                let name = ss.scope.as_ref().map_or("", |scope| &scope.name);
                prop_assert_eq!(scope.name(), name);
                check_attributes(&span.attributes, view.attributes())?;
                prop_assert_eq!(view.trace_id.as_slice(), &span.trace_id);
                prop_assert_eq!(view.span_id.as_slice(), &span.span_id);
                let parent = span.parent_span_id.iter().any(|byte| *byte != 0).then_some(span.parent_span_id.as_slice());
                prop_assert_eq!(view.parent_span_id.as_ref().map(<[u8; 8]>::as_slice), parent);
                prop_assert_eq!((view.name, view.trace_state, view.flags), (&*span.name, &*span.trace_state, span.flags));
                prop_assert_eq!(view.kind, span.kind);
                prop_assert_eq!(view.start_time_unix_nano, span.start_time_unix_nano);
                prop_assert_eq!(view.end_time_unix_nano, span.end_time_unix_nano);
                let status = span.status.clone().unwrap_or_default();
                prop_assert_eq!((view.status_code, view.status_message), (status.code, &*status.message));
                let events: Vec<_> = view.events().map(|event| event.name()).collect();
                prop_assert_eq!(events, span.events.iter().map(|event| &*event.name).collect::<Vec<_>>());
            }
        }
        prop_assert!(viewed.next().is_none());
    }

    #[test]
    fn damaged_requests_neither_panic_nor_pass_what_prost_refuses(request in requests(), seed: u64, hits in 1usize..6) {
        let mut dice = Dice(seed);
        let mut data = request.encode_to_vec();
        for _ in 0..hits {
            if data.is_empty() {
                break;
            }
            let at = dice.below(data.len());
            match dice.below(5) {
                0 => data.truncate(at),
                1 => data[at] ^= 1 << dice.below(8),
                2 => data[at] = dice.roll() as u8,
                3 => data.insert(at, dice.roll() as u8),
                _ => { data.remove(at); }
            }
        }
        let buf = Bytes::from(data);
        if let Ok((summary, out)) = run(&buf, &mut Doer { seed }) {
            let read = ExportTraceServiceRequest::decode(buf.clone());
            prop_assert!(read.is_ok(), "passed what prost refuses: {:?}", read);
            prop_assert_eq!(span_count(&read.unwrap()), summary.spans);
            prop_assert_eq!(span_count(&oracle::decode(&out)), summary.spans);
            let (again, _) = run(&out, &mut Keep).unwrap();
            prop_assert_eq!(again, Summary { spans: summary.spans, unknown_fields: 0 });
        }
        // Unchecked bytes must not panic either.
        let _ = Splitter::default().group(&buf);
        let _ = view::spans(&buf).map(|(_, _, span)| span.attributes().count()).sum::<usize>();
    }
}

fn check_attributes<'a>(
    wanted: &[KeyValue],
    viewed: impl Iterator<Item = view::AttributeView<'a>>,
) -> Result<(), TestCaseError> {
    let viewed: Vec<_> = viewed.collect();
    prop_assert_eq!(viewed.len(), wanted.len());
    for (view, pair) in viewed.iter().zip(wanted) {
        prop_assert_eq!(view.key, &*pair.key);
        let value = pair.value.as_ref().and_then(|value| value.value.as_ref());
        let same = match (view.value, value) {
            (ValueView::Empty, None) => true,
            (ValueView::String(a), Some(Value::StringValue(b))) => a == b,
            (ValueView::Bool(a), Some(Value::BoolValue(b))) => a == *b,
            (ValueView::Int(a), Some(Value::IntValue(b))) => a == *b,
            (ValueView::Double(a), Some(Value::DoubleValue(b))) => a.to_bits() == b.to_bits(),
            (ValueView::Bytes(a), Some(Value::BytesValue(b))) => a == b,
            (ValueView::Array(a), Some(Value::ArrayValue(b))) => {
                ArrayValue::decode(a).is_ok_and(|a| a.encode_to_vec() == b.encode_to_vec())
            }
            (ValueView::KvList(a), Some(Value::KvlistValue(b))) => {
                KeyValueList::decode(a).is_ok_and(|a| a.encode_to_vec() == b.encode_to_vec())
            }
            _ => false,
        };
        prop_assert!(same, "{:?} {:?}", view, pair);
    }
    Ok(())
}

/// The parts are shown in the order that `Rewrite` promises, whatever the order on the wire.
#[test]
fn resource_and_scope_come_before_their_spans() {
    struct Order(Vec<Kind>);
    impl Rewrite for Order {
        fn part(&mut self, part: &Part<'_>, _: &mut Edits) {
            self.0.push(part.kind);
        }
    }
    let span = Span { trace_id: vec![1; 16], span_id: vec![1; 8], ..Span::default() };
    let scope =
        ScopeSpans { scope: Some(InstrumentationScope::default()), spans: vec![span], ..Default::default() };
    let rs = ResourceSpans { resource: None, scope_spans: vec![scope], ..Default::default() };
    let data = ExportTraceServiceRequest { resource_spans: vec![rs] }.encode_to_vec();
    let wanted = [Kind::Resource, Kind::Scope, Kind::Span, Kind::ScopeSpans, Kind::ResourceSpans];
    for seed in 0..50 {
        let freedom = Freedom { order: true, ..Freedom::default() };
        let (data, _) = rewrite(&data, &oracle::request_descriptor(), freedom, &mut Dice(seed));
        let mut order = Order(Vec::new());
        run(&data.into(), &mut order).unwrap();
        assert_eq!(order.0, wanted);
    }
}

/// Every class of bad request, with the cause that is counted for it.
#[test]
fn bad_requests_are_refused_for_what_they_are() {
    let mut causes = BTreeMap::new();
    for (name, data, cause) in bad() {
        let error = run(&Bytes::from(data), &mut Keep).expect_err(name);
        assert_eq!(error.what.cause(), cause, "{name}: {error}");
        causes.insert(cause, error.to_string());
    }
    assert_eq!(causes.len(), 14, "{causes:#?}");
    for text in causes.values() {
        assert!(!text.contains("secret") && text.contains("at byte"), "{text}");
    }
}

/// A request whose span consists of what is given.
fn with_span(span: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode::field_with(&mut out, 1, |out| encode::field_with(out, 2, |out| encode::field(out, 2, span)));
    out
}

/// A valid span, then the given bytes.
fn span_and(more: &[u8]) -> Vec<u8> {
    let mut span = Vec::new();
    encode::field(&mut span, 1, &[7; 16]);
    encode::field(&mut span, 2, &[8; 8]);
    span.extend_from_slice(more);
    with_span(&span)
}

fn field(number: u32, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode::field(&mut out, number, content);
    out
}

fn attribute(value: &[u8]) -> Vec<u8> {
    span_and(&field(9, &[field(1, b"secret"), field(2, value)].concat()))
}

fn ids(trace: &[u8], span: &[u8]) -> Vec<u8> {
    with_span(&[field(1, trace), field(2, span)].concat())
}

fn nested(levels: usize) -> Vec<u8> {
    let mut value = field(1, b"secret");
    for _ in 0..levels {
        value = field(5, &field(1, &value));
    }
    attribute(&value)
}

fn bad() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let good = attribute(&field(1, b"secret"));
    let twice = |field: &[u8]| [field, field].concat();
    let mut cut = good.clone();
    cut.truncate(good.len() - 1);
    let mut past = good.clone();
    past[3] += 1;
    vec![
        ("cut off", cut, "truncated"),
        ("a length past its parent", past, "truncated"),
        ("a length past the request", vec![0x0a, 0x05, 0x00], "truncated"),
        (
            "a huge length",
            vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            "truncated",
        ),
        ("a fixed64 that ends early", span_and(&[0x39, 1, 2]), "truncated"),
        ("a varint of eleven bytes", span_and(&[&[0x30][..], &[0xff; 10], &[1]].concat()), "varint"),
        ("a varint over 64 bits", span_and(&[&[0x30][..], &[0xff; 9], &[2]].concat()), "varint"),
        ("field 0", vec![0x00, 0x00], "field_number"),
        ("field 0 in an attribute", attribute(&[0x02, 0x00]), "field_number"),
        ("a tag over 32 bits", vec![0xff, 0xff, 0xff, 0xff, 0x7f, 0x00], "field_number"),
        ("a group", vec![0x1b, 0x1c], "group"),
        ("a group of a known number", span_and(&[0x4b, 0x4c]), "group"),
        ("a group in a value", attribute(&[0x0b, 0x0c]), "group"),
        ("wire type 6", span_and(&[0x66, 0x00]), "wire_type"),
        ("wire type 7 of a known number", span_and(&[0x2f]), "wire_type"),
        ("a name that is a number", span_and(&[0x28, 0x01]), "field_type"),
        ("a kind that is text", span_and(&field(6, b"secret")), "field_type"),
        ("an int value that is text", attribute(&field(3, b"secret")), "field_type"),
        ("a key reference that is text", span_and(&field(9, &field(3, b"secret"))), "field_type"),
        ("a value reference that is text", attribute(&field(8, b"secret")), "field_type"),
        ("resource spans that are a number", vec![0x08, 0x01], "field_type"),
        ("two names", span_and(&twice(&field(5, b"secret"))), "duplicate_field"),
        ("two statuses", span_and(&twice(&field(15, b""))), "duplicate_field"),
        ("two flags", span_and(&twice(&[0x85, 0x01, 0, 0, 0, 0])), "duplicate_field"),
        ("two keys", span_and(&field(9, &twice(&field(1, b"secret")))), "duplicate_field"),
        ("two values", span_and(&field(9, &twice(&field(2, b"")))), "duplicate_field"),
        (
            "two members of the oneof",
            attribute(&[&field(1, b"secret")[..], &[0x10, 1]].concat()),
            "duplicate_field",
        ),
        ("two resources", field(1, &twice(&field(1, b""))), "duplicate_field"),
        ("two scopes", field(1, &field(2, &twice(&field(1, b"")))), "duplicate_field"),
        ("too deep", nested(30), "depth"),
        ("far too deep", nested(20_000), "depth"),
        ("a value that is not UTF-8", attribute(&field(1, b"secret\xff")), "utf8"),
        ("a key that is not UTF-8", span_and(&field(9, &field(1, b"\xc3"))), "utf8"),
        (
            "a nested string that is not UTF-8",
            attribute(&field(5, &field(1, &field(1, b"\xed\xa0\x80")))),
            "utf8",
        ),
        ("a name that is not UTF-8", span_and(&field(5, b"\xf5")), "utf8"),
        ("a schema URL that is not UTF-8", field(1, &field(3, b"\x80")), "utf8"),
        ("a trace id of 15 bytes", ids(&[1; 15], &[1; 8]), "trace_id"),
        ("a trace id of 32 hex digits", ids(&[b'a'; 32], &[1; 8]), "trace_id"),
        ("no trace id", with_span(&field(2, &[1; 8])), "trace_id"),
        ("a link's trace id of 8 bytes", span_and(&field(13, &field(1, &[1; 8]))), "trace_id"),
        ("a span id of 9 bytes", ids(&[1; 16], &[1; 9]), "span_id"),
        ("no span id", with_span(&field(1, &[1; 16])), "span_id"),
        ("a parent id of 4 bytes", span_and(&field(4, &[1; 4])), "span_id"),
        ("a link's span id of 16 bytes", span_and(&field(13, &field(2, &[1; 16]))), "span_id"),
        ("a zero trace id", ids(&[0; 16], &[1; 8]), "zero_id"),
        ("a zero span id", ids(&[1; 16], &[0; 8]), "zero_id"),
        ("too many attributes", span_and(&[0x4a, 0].repeat(20_000)), "too_many_attributes"),
        (
            "too many entity keys",
            field(1, &field(1, &field(3, &[0x1a, 0].repeat(20_000)))),
            "too_many_attributes",
        ),
    ]
    .into_iter()
    .chain([
        ("a truncated varint", vec![0x0a, 0x80], "truncated"),
        ("too many unknown fields", span_and(&[0x98, 0x06, 0].repeat(70_000)), "too_many_unknown_fields"),
        ("unknown fields everywhere", [0x98, 0x06, 0].repeat(70_000), "too_many_unknown_fields"),
        ("too deep in key-value lists", kvlists(20), "depth"),
    ])
    .collect()
}

fn kvlists(levels: usize) -> Vec<u8> {
    let mut value = field(1, b"secret");
    for _ in 0..levels {
        value = field(6, &field(1, &field(2, &value)));
    }
    attribute(&value)
}

#[test]
fn limits_of_size_and_spans() {
    let data = Bytes::from(attribute(&field(1, b"x")));
    let refuse = |limits: Limits| {
        walk(&data, &limits, &mut Scratch::default(), &mut Keep, &mut Edits::default())
            .unwrap_err()
            .what
            .cause()
    };
    assert_eq!(refuse(Limits { bytes: data.len() as u32 - 1, ..Limits::default() }), "too_large");
    assert_eq!(refuse(Limits { spans: 0, ..Limits::default() }), "too_many_spans");
    // The deepest values that pass are read by prost, whose own limit is 100, and by serde_json's 128.
    let mut json = Vec::new();
    for data in [nested(29), kvlists(19)] {
        let data = Bytes::from(data);
        run(&data, &mut Keep).unwrap();
        oracle::decode(&data);
        json.clear();
        spanwarden::otlp::json::to_json(&data, &mut json).unwrap();
        serde_json::from_slice::<serde_json::Value>(&json).unwrap();
    }
}
