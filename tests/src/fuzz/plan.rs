//! The whole plan: fixed configurations, any bytes as the request.

use std::cell::RefCell;

use bytes::Bytes;
use prost::Message as _;
use spanwarden::{
    config::{self, Config},
    otlp::{
        Batch, Context, RefusalKind,
        edit::Edits,
        walk::{Keep, Limits, Scratch, walk},
    },
    pipeline,
    scrub::{Did, Plan, PlanScratch},
};

use crate::proto::v1::ExportTraceServiceRequest;

/// Every kind of rule, in a way that makes them meet: keys that rules rename, values that rules make.
pub(crate) const EVERYTHING: &str = r#"
receivers: {otlp: {protocols: {grpc: }}}
processors:
  redaction:
    allowed_keys: [http.url, k, user.id, user.email, note]
    ignored_keys: [k8s.pod.name]
    ignored_key_patterns: ["^safe\\."]
    blocked_keys: [db.statement, secret]
    blocked_key_patterns: ["(?i)token$", "^$"]
    blocked_values: ["[0-9]{4,}", "[a-z]+@[a-z.]+", "(?i)select|from", "a{3,}", "RED"]
    allowed_values: ["^fine"]
    redact_all_types: true
    summary: debug
  transform:
    trace_statements:
      - set(span.attributes["user.id"], SHA256(span.attributes["user.id"])) where span.attributes["user.id"] != nil
      - set(span.attributes["both"], Concat([span.attributes["k"], resource.attributes["k"]], "-"))
      - set(span.name, span.attributes["k"]) where IsMatch(span.attributes["k"], "^[a-z]+$")
      - replace_pattern(span.attributes["http.url"], "/([a-z]+)/([0-9]+)", "/$1/{$2}")
      - replace_pattern(span.status.message, "[0-9]+", "$0", SHA256, "<%s>")
      - replace_all_patterns(resource.attributes, "key", "^x\\.", "y.")
      - replace_all_patterns(spanevent.attributes, "value", "\\s+", " ")
      - delete_matching_keys(scope.attributes, "^internal")
      - keep_keys(spanlink.attributes, ["k", "note"])
      - truncate_all(span.attributes, 40)
      - set(span.cache["k"], span.attributes["k"])
      - set(span.attributes["cached"], span.cache["k"]) where span.cache["k"] != nil
  filter: {traces: {span: ['IsMatch(name, "^drop")'], spanevent: ['attributes["k"] == "noise"']}}
  attributes:
    actions:
      - {key: k, action: upsert, from_attribute: http.url}
      - {key: env, action: insert, value: 7}
      - {pattern: "^user", key: none, action: hash}
      - {key: note, action: delete}
  resource:
    attributes: [{key: k, action: update, value: 0.5}]
exporters: {debug: {}}
service:
  pipelines: {traces: {receivers: [otlp], processors: [redaction, transform, filter, attributes, resource], exporters: [debug]}}
"#;

/// The rules of the reference's document.
const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/configs/000-step1-scrubbing.yaml");

/// The built-in detectors.
const DETECTORS: &str = "
receivers: {otlp: {protocols: {grpc: }}}
processors: {scrub: {}}
exporters: {debug: {}}
service: {pipelines: {traces: {receivers: [otlp], processors: [scrub], exporters: [debug]}}}
";

thread_local! {
    static PLANS: RefCell<Vec<(Plan, PlanScratch)>> = RefCell::new(plans());
}

fn plans() -> Vec<(Plan, PlanScratch)> {
    let configs = [
        config::parse(EVERYTHING, "everything.yaml"),
        config::default_config(),
        config::load(DOCUMENT.as_ref()),
        config::parse(DETECTORS, "detectors.yaml"),
    ];
    let plan = |config: Config| {
        let plan = pipeline::plan_of(&config, &config.service.pipelines[0]);
        (plan.unwrap_or_else(|error| panic!("{error}")), PlanScratch::default())
    };
    configs.into_iter().map(|config| plan(config.unwrap_or_else(|errors| panic!("{errors}")))).collect()
}

/// The first byte chooses the rules. What passes is a request that prost reads and the walker takes; what is recorded is what is
/// done; a scratch that has seen everything before does what a new one does.
///
/// # Panics
/// When that does not hold.
pub fn plan(data: &[u8]) {
    let Some((&which, data)) = data.split_first() else { return };
    let request = Bytes::copy_from_slice(data);
    let batch = || Batch { data: request.clone(), spans: 0, context: Context::default() };
    PLANS.with_borrow_mut(|plans| {
        let count = plans.len();
        let (plan, scratch) = &mut plans[usize::from(which) % count];
        let ours = plan.apply(batch(), scratch);
        let recorded = plan.apply_recorded(batch(), &mut PlanScratch::default(), true);
        let (ours, (again, records)) = match (ours, recorded) {
            (Ok(ours), Ok(recorded)) => (ours, recorded),
            (Err(one), Err(other)) => {
                assert_eq!((one.kind, one.cause), (other.kind, other.cause));
                assert!(matches!(one.kind, RefusalKind::Malformed | RefusalKind::TooLarge), "{one:?}");
                return;
            }
            (one, other) => panic!("{one:?} and {other:?}"),
        };
        assert_eq!(ours.data, again.data);
        ExportTraceServiceRequest::decode(data).expect("prost reads what the plan takes");
        let read = ExportTraceServiceRequest::decode(&ours.data[..]).expect("and what it makes of it");
        let spans = read.resource_spans.iter().flat_map(|rs| &rs.scope_spans).map(|ss| ss.spans.len() as u32);
        assert_eq!(spans.sum::<u32>(), ours.spans);
        let (mut scratch, mut edits) = (Scratch::default(), Edits::default());
        let walked = walk(&ours.data, &Limits::default(), &mut scratch, &mut Keep, &mut edits);
        assert_eq!(walked.expect("what a plan writes is well-formed").unknown_fields, 0);
        let unknown = walk(&request, &Limits::default(), &mut scratch, &mut Keep, &mut edits);
        let changes = records.iter().any(|record| record.did != Did::Failed);
        if unknown.expect("it passed before").unknown_fields == 0 && !changes {
            assert_eq!(ours.data, request, "what no rule has hit is the same bytes");
        }
        for record in &records {
            assert!(record.rule.index() < plan.rules().len());
        }
    });
}
