//! The bodies of the fuzz targets (`tests/fuzz`), as plain functions: the suite `fuzz` runs them over the
//! committed corpus and thousands of its mutations on any toolchain.
//!
//! Each takes any bytes and panics when a promise is broken.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use prost::Message as _;
use spanwarden::{
    auth::oidc::{claims, token},
    config::auth::OidcProvider,
    otlp::{
        edit::Edits,
        json,
        split::Splitter,
        view,
        walk::{Keep, Leaf, Limits, Part, Rewrite, Scratch, Slice, ValueKind, leaves, walk},
    },
};

use crate::{oracle::Dice, proto::v1::ExportTraceServiceRequest};

/// What a target does with some bytes.
pub type Body = fn(&[u8]);

/// The targets by their names in `tests/fuzz/Cargo.toml`.
pub const TARGETS: &[(&str, Body)] = &[
    ("walker", walker),
    ("json", json_both_ways),
    ("proto", bpf_parsers),
    ("token", token),
    ("sql", sanitizers::sql),
    ("url", sanitizers::url),
    ("nosql", sanitizers::nosql),
    ("ottl", ottl::ottl),
    ("plan", plan::plan),
    ("pattern", patterns::pattern),
];

pub mod ottl;
pub mod patterns;
pub mod plan;
pub mod sanitizers;

/// Edits whatever it is shown, as the bytes themselves say.
struct Anything(Dice);

impl Rewrite for Anything {
    fn part(&mut self, part: &Part<'_>, edits: &mut Edits) {
        let dice = &mut self.0;
        let new = "x".repeat([0, 1, 126, 130][dice.below(4)]);
        for text in part.texts {
            match dice.below(4) {
                0 => edits.replace(text.value, new.as_bytes()),
                1 => edits.delete(text.field),
                _ => {}
            }
        }
        for attribute in part.attributes {
            match dice.below(6) {
                0 => edits.delete(attribute.field),
                1 if attribute.kind == ValueKind::String => edits.replace(attribute.value, new.as_bytes()),
                2 if attribute.key != Slice::default() => edits.replace(attribute.key, new.as_bytes()),
                3 => leaves(part.buf, attribute, &mut |leaf| match leaf {
                    Leaf::Key(at) => edits.replace(at, new.as_bytes()),
                    Leaf::Value { any, .. } => edits.replace_with(any, |out| {
                        spanwarden::otlp::encode::any_value(
                            out,
                            spanwarden::otlp::encode::Value::String(&new),
                        );
                    }),
                }),
                _ => {}
            }
        }
    }
}

/// The walker, the edits, the split and the views: nothing panics, nothing passes that prost refuses, and what is
/// written is well-formed and has the same spans.
///
/// # Panics
/// When that does not hold.
pub fn walker(data: &[u8]) {
    let buf = Bytes::copy_from_slice(data);
    let _ = Splitter::default().group(&buf);
    let _ = view::spans(&buf)
        .map(|(_, _, span)| span.attributes().count() + span.events().count())
        .sum::<usize>();
    let (mut scratch, mut edits) = (Scratch::default(), Edits::default());
    let limits = Limits::default();
    let Ok(kept) = walk(&buf, &limits, &mut scratch, &mut Keep, &mut edits) else { return };
    let stripped = edits.apply(&buf);
    assert_eq!(kept.unknown_fields == 0, stripped.as_ptr() == buf.as_ptr() || buf.is_empty());
    // Unknown fields may hold what prost does not look at, so that the stripped bytes say more.
    let read = ExportTraceServiceRequest::decode(data).expect("prost reads what the walker passes");
    let clean = ExportTraceServiceRequest::decode(&stripped[..]).expect("prost reads what the walker writes");
    assert_eq!(count(&read), kept.spans);
    assert_eq!(count(&clean), kept.spans);

    let mut anything = Anything(Dice::about(0, &[data]));
    let edited = walk(&stripped, &limits, &mut scratch, &mut anything, &mut edits).expect("it passed before");
    assert_eq!((edited.spans, edited.unknown_fields), (kept.spans, 0));
    let out = edits.apply(&stripped);
    assert_eq!(
        count(&ExportTraceServiceRequest::decode(&out[..]).expect("edits keep it well-formed")),
        kept.spans
    );
    walk(&out, &limits, &mut scratch, &mut Keep, &mut edits).expect("edits keep it well-formed");
    assert!(edits.is_empty());

    let traces = Splitter::default().group(&stripped).expect("it passed the walker");
    assert_eq!(traces.iter().map(|trace| trace.spans).sum::<u32>(), kept.spans);
    for trace in traces {
        let (_, _, span) = view::spans(&trace.data).next().expect("a trace has a span");
        assert_eq!(span.trace_id, trace.id);
    }
}

fn count(request: &ExportTraceServiceRequest) -> u32 {
    request.resource_spans.iter().flat_map(|rs| &rs.scope_spans).map(|ss| ss.spans.len() as u32).sum()
}

/// JSON to protobuf and back, and the other way: what is read decodes, and reads back as itself.
///
/// # Panics
/// When that does not hold.
pub fn json_both_ways(data: &[u8]) {
    let limits = Limits::default();
    let mut text = Vec::new();
    if let Ok(read) = json::to_protobuf(data, &limits) {
        ExportTraceServiceRequest::decode(&read.data[..]).expect("what is read from JSON is protobuf");
        json::to_json(&read.data, &mut text).expect("and is written as JSON again");
        let again = json::to_protobuf(&text, &limits).expect("which is read again");
        let mut same = Vec::new();
        json::to_json(&again.data, &mut same).expect("and written");
        assert_eq!(text, same);
        assert_eq!(again.unknown_fields, 0);
    }
    text.clear();
    let walked = walk(data, &limits, &mut Scratch::default(), &mut Keep, &mut Edits::default());
    let written = json::to_json(data, &mut text);
    if walked.is_ok() {
        written.expect("what passed the walker is written");
        json::to_protobuf(&text, &limits).expect("and read");
    }
}

/// The parsers that run in the kernel: the verdict does not depend on where the packets are cut. The first byte
/// says where.
///
/// # Panics
/// When that does not hold.
pub fn bpf_parsers(data: &[u8]) {
    if let Some((&at, bytes)) = data.split_first() {
        spanwarden_ebpf::proto::check_split(bytes, at.into());
    }
}

/// A token, or the claims of one: what is read is canonical, and what is believed is within its bounds.
///
/// # Panics
/// When that does not hold.
pub fn token(data: &[u8]) {
    if let Ok(read) = token::parse(data) {
        let signature = URL_SAFE_NO_PAD.encode(&read.signature);
        assert_eq!([read.signed, b".", signature.as_bytes()].concat(), data, "one text for one content");
        believed(&read.claims);
    }
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256","kid":"a"}"#);
    let text = format!("{header}.{}.c2ln", URL_SAFE_NO_PAD.encode(data));
    let Ok(read) = token::parse(text.as_bytes()) else { return };
    let plain: serde_json::Value = serde_json::from_slice(data).expect("what is read is JSON");
    assert_eq!(plain.as_object(), Some(&read.claims));
    believed(&read.claims);
}

fn believed(claims: &serde_json::Map<String, serde_json::Value>) {
    let provider = OidcProvider {
        issuer_url: "https://issuer.example".to_owned(),
        audience: "spanwarden".to_owned(),
        issuer_ca_path: None,
        public_keys_file: None,
        jwks_url: None,
        username_claim: "sub".to_owned(),
        groups_claim: Some("groups".to_owned()),
        leeway: Duration::from_secs(10),
        max_token_lifetime: Duration::from_hours(24),
        allow_multiple_audiences: false,
        bearer_token_file: None,
    };
    // The corpus is of that time.
    let now = Duration::from_hours(500_000);
    let principal = match claims::check(claims, &provider, now) {
        Ok(principal) => principal,
        Err(fault) => {
            let message = fault.to_string();
            assert!(message.len() < 4096 && !message.contains(char::is_control), "{message:?}");
            return;
        }
    };
    let aud = &claims["aud"];
    assert!(
        aud == "spanwarden" || aud.as_array().is_some_and(|list| list.iter().all(|one| one == "spanwarden"))
    );
    assert_eq!(claims["iss"], "https://issuer.example");
    let expires = claims["exp"].as_f64().expect("a number");
    assert!(expires > 1_799_999_989.0 && expires - claims["iat"].as_f64().expect("a number") <= 86_400.001);
    assert!(principal.groups.len() <= 256 && principal.claims.len() <= 64);
    let account = principal.service_account.as_ref();
    if let Some(account) = account {
        assert_eq!(principal.name, format!("system:serviceaccount:{}:{}", account.namespace, account.name));
    }
    assert!(principal.pod.is_none() || account.is_some());
    let names = principal.groups.iter().chain([&principal.name]);
    assert!(names.into_iter().all(|name| !name.is_empty() && !name.contains(char::is_control)));
}
