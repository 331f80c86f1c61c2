//! No position of OTLP escapes the scrubbers: a canary in each string and bytes field that the trace protos have
//! is gone afterwards, or the request is refused. The positions come from the descriptors, so that a field which
//! a newer proto brings is tested without anybody remembering it.

use std::collections::BTreeMap;

use spanwarden::{
    config::{self, Config, DEFAULT, processors::Processor},
    otlp::{Batch, Context, Refusal},
    scrub::{Plan, PlanScratch},
};
use spanwarden_tests::oracle::canary::{Canary, canaries};

#[path = "canary/detectors.rs"]
mod detectors;

/// Not of any id's length, and what both configurations take for personal data.
const CANARY: &str = "canary.bird@mine.example";

const SCRUB: &str = r"
receivers:
  otlp: {protocols: {grpc: }}
processors:
  scrub/default: {}
exporters:
  debug: {}
service:
  pipelines:
    traces: {receivers: [otlp], processors: [scrub/default], exporters: [debug]}
";

const REDACTION: &str = r"
receivers:
  otlp: {protocols: {grpc: }}
processors:
  redaction:
    allow_all_keys: true
    blocked_values: ['[a-z.]+@[a-z.]+\.example']
exporters:
  debug: {}
service:
  pipelines:
    traces: {receivers: [otlp], processors: [redaction], exporters: [debug]}
";

fn plan(text: &str) -> Plan {
    let config: Config = config::parse(text, "test.yaml").unwrap_or_else(|errors| panic!("{errors}"));
    let scrubbing: Vec<_> = config
        .processors
        .iter()
        .filter(|component| {
            use Processor::{Attributes, Redaction, Resource, Scrub, Transform};
            matches!(component.config, Redaction(_) | Scrub(_) | Transform(_) | Attributes(_) | Resource(_))
        })
        .collect();
    assert!(!scrubbing.is_empty());
    Plan::compile(&scrubbing, None).unwrap_or_else(|error| panic!("{error}"))
}

/// What became of the canary: `None` for a refusal, else whether it is still there.
fn outcome(plan: &Plan, canary: &Canary) -> (Option<bool>, Result<Batch, Refusal>) {
    let batch = Batch { data: canary.data.clone().into(), spans: 1, context: Context::default() };
    let result = plan.apply(batch, &mut PlanScratch::default());
    let left = result.as_ref().ok().map(|batch| contains(&batch.data, CANARY));
    (left, result)
}

fn contains(data: &[u8], text: &str) -> bool {
    contains_bytes(data, text.as_bytes())
}

fn contains_bytes(data: &[u8], part: &[u8]) -> bool {
    let Some((first, rest)) = part.split_first() else { return true };
    data.iter().enumerate().any(|(at, byte)| byte == first && data[at + 1..].starts_with(rest))
}

#[test]
fn a_canary_in_every_position_is_gone() {
    for (name, config) in [("redaction", REDACTION), ("scrub", SCRUB), ("default", DEFAULT)] {
        let plan = plan(config);
        let mut left = Vec::new();
        for canary in canaries(CANARY) {
            assert!(contains(&canary.data, CANARY), "{} is planted", canary.path);
            match outcome(&plan, &canary) {
                (Some(true), _) => left.push(canary.path),
                // Only ids can't be anything but what they are, and so make the request malformed.
                (None, result) => assert!(canary.path.ends_with("_id"), "{}: {result:?}", canary.path),
                (Some(false), _) => {}
            }
        }
        assert_eq!(left, Vec::<String>::new(), "{name}: not scrubbed");
    }
}

/// The test above can fail: without scrubbing the canary stays wherever the request is taken.
#[test]
fn without_scrubbing_the_canary_stays() {
    let plan = Plan::compile(&[], None).unwrap_or_else(|error| panic!("{error}"));
    let mut seen = BTreeMap::new();
    for canary in canaries(CANARY) {
        let (left, _) = outcome(&plan, &canary);
        assert_eq!(left, (!canary.path.ends_with("_id")).then_some(true), "{}", canary.path);
        seen.insert(canary.path, left);
    }
    for position in [
        "resource_spans.schema_url",
        "resource_spans.resource.entity_refs.id_keys",
        "resource_spans.resource.attributes.key",
        "resource_spans.scope_spans.scope.version",
        "resource_spans.scope_spans.spans.trace_id",
        "resource_spans.scope_spans.spans.trace_state",
        "resource_spans.scope_spans.spans.status.message",
        "resource_spans.scope_spans.spans.links.trace_state",
        "resource_spans.scope_spans.spans.events.attributes.value.bytes_value",
        "resource_spans.scope_spans.spans.attributes.value.kvlist_value.values.value.array_value.values.string_value",
    ] {
        assert!(seen.contains_key(position), "{position} is not reached: {:#?}", seen.keys());
    }
}
