//! Scrubbing: the reference document's rules do what the document says, generated configurations do on generated
//! requests what a naive model does, and what is not well-formed is refused with its cause.

#[path = "scrub/document.rs"]
mod document;
#[path = "scrub/model.rs"]
mod model;

use std::{collections::HashMap, fmt::Write as _, sync::LazyLock};

use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select, subsequence},
};
use prost::Message;
use sha2::{Digest, Sha256};
use spanwarden::{
    config,
    otlp::{Batch, Context, RefusalKind, walk::Kind},
    scrub::{Field, Plan, PlanScratch, Record},
};
use spanwarden_tests::{
    oracle::{self, Dice, model::visit, strategies, wire},
    proto::v1::{any_value::Value, *},
};

use model::{Op, Owner, Pattern};

/// Compiles all processors of a configuration, in the order of its pipeline.
fn plan(text: &str) -> Plan {
    let config = config::parse(text, "test.yaml").unwrap_or_else(|errors| panic!("{errors}\n{text}"));
    let wanted = &config.service.pipelines[0].processors;
    let processors: Vec<_> = wanted.iter().map(|id| config.processor(id).expect("defined")).collect();
    Plan::compile(&processors, None).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn batch(data: Vec<u8>) -> Batch {
    Batch { data: data.into(), spans: 0, context: Context::default() }
}

fn sha256(content: &[u8]) -> String {
    let mut hex = String::new();
    for byte in Sha256::digest(content) {
        write!(hex, "{byte:02x}").expect("a string takes everything");
    }
    hex
}

/// Both dialects of a pattern, where they differ written twice.
const PATTERNS: [Pattern; 9] = [
    ("(?i)Bearer\\s+[A-Za-z0-9\\-._~+/]+=*", "(?i)Bearer[\\t\\n\\f\\r ]+[A-Za-z0-9\\-._~+/]+=*"),
    ("\\b\\d{3}-\\d{2}-\\d{4}\\b", "(?-u:\\b)[0-9]{3}-[0-9]{2}-[0-9]{4}(?-u:\\b)"),
    ("\\b(?:\\d[ -]*?){13,16}\\b", "(?-u:\\b)(?:[0-9][ -]*?){13,16}(?-u:\\b)"),
    ("sk-[A-Za-z0-9]{32,}", "sk-[A-Za-z0-9]{32,}"),
    ("[a-zA-Z0-9._%+-]+@[a-zA-Z0-9.-]+\\.[a-zA-Z]{2,}", "[a-zA-Z0-9._%+-]+@[a-zA-Z0-9.-]+\\.[a-zA-Z]{2,}"),
    ("'[^']*'", "'[^']*'"),
    ("= [0-9]{4,}", "= [0-9]{4,}"),
    ("(a|é)+x?", "(a|é)+x?"),
    ("RED\\w*", "RED[0-9A-Za-z_]*"),
];

const KEYS: [&str; 7] = ["http.url", "db.statement", "user.id", "user.email", "k", "k8s.pod.name", "new"];

/// What the generated texts are made of: whole matches, near ones, and their pieces.
const PIECES: [&str; 20] = [
    "alice@example.com",
    "@",
    ".org",
    "123-45-6789",
    "9123-45-6789",
    "4111 1111 1111 1111",
    "4111",
    "1111",
    "-",
    " ",
    "bearer abc.d==",
    "Bearer\u{a0}x",
    "sk-abcdefghijklmnopqrstuvwxyz012345",
    "sk-",
    "'it'",
    "= 12345",
    "é",
    "ax",
    "RED",
    "\n",
];

fn pattern() -> impl Strategy<Value = Pattern> {
    select(&PATTERNS[..])
}

fn owner() -> impl Strategy<Value = Owner> {
    select(vec![Owner::Resource, Owner::Scope, Owner::Span, Owner::Event, Owner::Link])
}

fn key_pattern() -> impl Strategy<Value = Pattern> {
    select(vec![("^user", "^user"), ("\\d", "[0-9]"), ("k$", "k$"), ("(?i)URL|^$", "(?i)URL|^$")])
}

fn action() -> impl Strategy<Value = Op> {
    let owner = select(vec![Owner::Resource, Owner::Span]);
    let what = select(vec![
        ("insert", Some("inserted")),
        ("update", Some("updated é")),
        ("upsert", Some("alice@example.com")),
        ("delete", None),
    ]);
    (owner, what, select(&KEYS[..]))
        .prop_map(|(owner, (word, value), key)| Op::Action(owner, word, key, value))
}

fn op() -> impl Strategy<Value = Op> {
    let key = || select(&KEYS[..]);
    let keys = || subsequence(&KEYS[..], 0..=3);
    let with = || select(vec!["x", "[$0]", "$1$1", "${1}a", "RED$$", "sk-"]);
    prop_oneof![
        6 => (
            prop::bool::weighted(0.8),
            keys(),
            keys(),
            keys(),
            vec(pattern(), 0..5),
            prop_oneof![3 => Just(Vec::new()), 1 => vec(pattern(), 1..2)],
            prop_oneof![3 => Just(Vec::new()), 1 => vec(key_pattern(), 1..3)],
            prop_oneof![5 => Just(Vec::new()), 1 => vec(key_pattern(), 1..2)],
            prop::bool::weighted(0.2),
        )
            .prop_map(
                |(allow_all, allowed, blocked, ignored, values, fine, masked_keys, ignored_keys, all_types)| {
                    Op::Redact {
                        allow_all, allowed, blocked, ignored, values, fine, masked_keys, ignored_keys, all_types
                    }
                }
            ),
        2 => action(),
        4 => (owner(), key(), pattern(), with()).prop_map(|(o, k, p, w)| Op::ReplacePattern(o, k, p, w)),
        1 => (owner(), pattern(), with()).prop_map(|(o, p, w)| Op::ReplaceAll(o, p, w)),
        1 => (pattern(), with()).prop_map(|(p, w)| Op::ReplaceName(p, w)),
        1 => (pattern(), with()).prop_map(|(p, w)| Op::ReplaceMessage(p, w)),
        2 => (owner(), key()).prop_map(|(o, k)| Op::Hash(o, k)),
        1 => (owner(), key()).prop_map(|(o, k)| Op::Set(o, k, "set é")),
        1 => (owner(), key(), key(), pattern()).prop_map(|(o, k, other, p)| Op::SetWhere(o, k, other, p)),
        1 => (owner(), key()).prop_map(|(o, k)| Op::Delete(o, k)),
        1 => (owner(), key_pattern()).prop_map(|(o, p)| Op::DeleteMatching(o, p)),
        1 => (owner(), key_pattern()).prop_map(|(o, p)| Op::KeepMatching(o, p)),
        1 => (owner(), pattern(), with()).prop_map(|(o, p, w)| Op::ReplaceKeys(o, p, w)),
        1 => (owner(), 0..30usize).prop_map(|(o, limit)| Op::Truncate(o, limit)),
        1 => (owner(), keys()).prop_map(|(o, k)| Op::Keep(o, k)),
    ]
}

/// Replaces most texts of a request by such as the patterns care for.
fn salt(request: &mut ExportTraceServiceRequest, dice: &mut Dice) {
    let mut some = |rarely: usize| {
        (dice.below(rarely) == 0)
            .then(|| (0..dice.below(5)).map(|_| PIECES[dice.below(PIECES.len())]).collect::<String>())
    };
    visit(request, &mut |message| {
        for (_, text) in message.texts {
            *text = some(2).unwrap_or_else(|| std::mem::take(text));
        }
        for attribute in message.attributes.into_iter().flatten() {
            attribute.key = some(12).unwrap_or_else(|| std::mem::take(&mut attribute.key));
            if let Some(value) = &mut attribute.value {
                salt_value(value, &mut some);
            }
        }
    });
}

fn salt_value(value: &mut AnyValue, some: &mut dyn FnMut(usize) -> Option<String>) {
    match &mut value.value {
        Some(Value::StringValue(text)) => *text = some(2).unwrap_or_else(|| std::mem::take(text)),
        Some(Value::BytesValue(bytes)) => {
            if let Some(text) = some(2) {
                bytes.extend_from_slice(text.as_bytes());
                bytes.push(0xff);
            }
        }
        Some(Value::ArrayValue(array)) => array.values.iter_mut().for_each(|value| salt_value(value, some)),
        Some(Value::KvlistValue(list)) => {
            for pair in &mut list.values {
                pair.key = some(4).unwrap_or_else(|| std::mem::take(&mut pair.key));
                if let Some(value) = &mut pair.value {
                    salt_value(value, some);
                }
            }
        }
        _ => {}
    }
}

/// New attributes come first on the wire and last in the model: order among different keys means nothing, so both
/// are sorted by key and bytes before they are compared. No value and an empty one mean the same, and so do no
/// resource and an empty one: the model makes one for an attribute that a later step deletes, the plan does not.
fn canonical(mut request: ExportTraceServiceRequest) -> Vec<u8> {
    for spans in &mut request.resource_spans {
        spans.resource.take_if(|resource| *resource == Resource::default());
    }
    visit(&mut request, &mut |message| {
        if let Some(list) = message.attributes {
            list.iter_mut().for_each(fill);
            list.sort_by_cached_key(|attribute| (attribute.key.clone(), attribute.encode_to_vec()));
        }
    });
    request.encode_to_vec()
}

static DOCUMENT: LazyLock<Plan> = LazyLock::new(document::plan);

fn fill(attribute: &mut KeyValue) {
    fill_value(attribute.value.get_or_insert_default());
}

fn fill_value(value: &mut AnyValue) {
    match &mut value.value {
        Some(Value::ArrayValue(array)) => array.values.iter_mut().for_each(fill_value),
        Some(Value::KvlistValue(list)) => list.values.iter_mut().for_each(fill),
        _ => {}
    }
}

/// What of a message's is there how often: its kind, the field, and what it holds.
fn inventory(data: &[u8]) -> HashMap<(Kind, Field, Vec<u8>), i64> {
    let mut inventory = HashMap::new();
    visit(&mut oracle::decode(data), &mut |message| {
        for (number, text) in message.texts.into_iter().filter(|(_, text)| !text.is_empty()) {
            let place = (message.kind, Field::Text(number), text.clone().into_bytes());
            *inventory.entry(place).or_default() += 1;
        }
        for attribute in message.attributes.into_iter().flatten() {
            fill(attribute);
            let field = Field::Attribute(attribute.key.clone().into_bytes());
            *inventory.entry((message.kind, field, attribute.encode_to_vec())).or_default() += 1;
        }
    });
    inventory
}

/// Nothing may change that no record tells: whatever is there after and was not before has a record of its kind and field, and
/// nothing is gone where there is no record at all of its kind.
fn accounted(before: &[u8], after: &[u8], records: &[Record]) {
    let (mut old, new) = (inventory(before), inventory(after));
    for ((kind, field, content), count) in new {
        let was = old.remove(&(kind, field.clone(), content)).unwrap_or_default();
        // What a statement does to a whole map is told of the message.
        let fits = |told: &Field| *told == field || *told == Field::Message;
        let told = records.iter().any(|record| record.kind == kind && fits(&record.field));
        assert!(count <= was || told, "{kind:?} {field:?} is new, and no record says why: {records:?}");
        assert!(
            count >= was || told || records.iter().any(|record| record.kind == kind),
            "{kind:?} {field:?}"
        );
    }
    for (kind, field, _) in old.into_keys() {
        assert!(records.iter().any(|record| record.kind == kind), "{kind:?} {field:?} is gone: {records:?}");
    }
}

proptest! {
    // A case compiles a configuration of its own, which without optimisation takes most of its time.
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn plans_do_what_the_model_does(
        ops in vec(op(), 1..5),
        mut request in strategies::requests(),
        seed in any::<u64>(),
        order in any::<bool>(),
        unknown in any::<bool>(),
        tree in any::<bool>(),
    ) {
        let mut dice = Dice(seed);
        salt(&mut request, &mut dice);
        if tree {
            // On a tree a scope is made where there is none, in a walk it is not.
            for spans in request.resource_spans.iter_mut().flat_map(|spans| &mut spans.scope_spans) {
                spans.scope.get_or_insert_default();
            }
        }
        let freedom = wire::Freedom { order, unknown, long_lengths: order };
        let before = request.encode_to_vec();
        let (data, strange) = wire::rewrite(&before, &oracle::request_descriptor(), freedom, &mut dice);
        let configuration = model::yaml(&ops, tree);
        let sent = batch(data);
        let address = sent.data.as_ptr();
        let plan = plan(&configuration);
        let (recorded, records) =
            plan.apply_recorded(sent.clone(), &mut PlanScratch::default(), true).expect("well-formed");
        let ours = plan.apply(sent, &mut PlanScratch::default()).expect("well-formed");
        prop_assert_eq!(&recorded.data, &ours.data, "a dry run does the same");
        accounted(&before, &ours.data, &records);
        model::apply(&ops, &mut request);
        if strange == 0 && request.encode_to_vec() == before {
            prop_assert_eq!(ours.data.as_ptr(), address, "an unchanged request is the same bytes");
        }
        let ours = oracle::decode(&ours.data);
        prop_assert_eq!(
            canonical(ours.clone()) == canonical(request.clone()), true,
            "{}\nours:  {:?}\nmodel: {:?}", configuration, ours, request
        );
    }

    #[test]
    fn broken_requests_are_refused_or_pass_the_walker(
        request in strategies::requests(),
        at in any::<Index>(),
        byte in any::<u8>(),
    ) {
        let mut data = request.encode_to_vec();
        prop_assume!(!data.is_empty());
        let at = at.index(data.len());
        let plan = &*DOCUMENT;
        let cut = plan.apply(batch(data[..at].to_vec()), &mut PlanScratch::default());
        if let Err(refusal) = cut {
            prop_assert_eq!(refusal.kind, RefusalKind::Malformed);
            prop_assert!(!refusal.cause.is_empty());
        }
        data[at] = byte;
        match plan.apply(batch(data), &mut PlanScratch::default()) {
            Ok(batch) => {
                oracle::decode(&batch.data);
            }
            Err(refusal) => prop_assert_eq!(refusal.kind, RefusalKind::Malformed),
        }
    }
}

#[test]
fn each_fault_has_its_cause() {
    let id = [&[0x0a, 16][..], &[1; 16], &[0x12, 8], &[2; 8]].concat();
    let span = |more: &[u8]| {
        let span = [&id[..], more].concat();
        let scope = [&[0x12, span.len() as u8][..], &span].concat();
        let resource = [&[0x12, scope.len() as u8][..], &scope].concat();
        [&[0x0a, resource.len() as u8][..], &resource].concat()
    };
    let plan = &*DOCUMENT;
    for (data, cause) in [
        (span(&[0x2a, 9, b'x']), "truncated"),
        (span(&[0x2a, 1, 0xff]), "utf8"),
        (span(&[0x2a, 1, b'a', 0x2a, 1, b'b']), "duplicate_field"),
        (span(&[0x2b]), "group"),
        (span(&[0x28, 1]), "field_type"),
        (span(&[0x00]), "field_number"),
    ] {
        let refusal = plan.apply(batch(data), &mut PlanScratch::default()).expect_err(cause);
        assert_eq!((refusal.kind, refusal.cause), (RefusalKind::Malformed, cause));
    }
    assert!(plan.apply(batch(span(&[0x2a, 1, b'x'])), &mut PlanScratch::default()).is_ok());
}
