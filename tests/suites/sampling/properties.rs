//! Whatever the order of spans and the cut of batches: the same as the naive sampler over whole traces.

use std::{collections::BTreeMap, time::Duration};

use proptest::{prelude::*, sample::select};
use spanwarden::{otlp::Consumer, sampling::TailSampling};

use super::{
    model::{self, Policy},
    pass, pipeline, run,
    spans::{KeyValue, Sink, Span, Status, Value, attribute, batch_of, span, text},
    tail_sampling,
};

#[derive(Clone, Debug)]
struct Made {
    trace: u128,
    span: Span,
    resource: Vec<KeyValue>,
    /// Comes after the decision.
    late: bool,
    /// Where it comes among the others.
    order: u32,
}

fn policy() -> impl Strategy<Value = Policy> {
    let leaf = prop_oneof![
        1 => Just(Policy::Always),
        4 => select(vec![vec![2], vec![1], vec![0], vec![1, 2]]).prop_map(Policy::Status),
        4 => select(vec![(0, 0), (100, 0), (250, 0), (50, 150), (0, 100), (100, 200)])
            .prop_map(|(threshold, upper)| Policy::Latency(threshold, upper)),
        4 => select((0..model::SHARES.len()).collect::<Vec<_>>()).prop_map(Policy::Share),
        6 => (
            select(vec!["auth.result", "http.route", "service.name", "absent"]),
            select(vec![
                (vec!["denied", "payment"], false),
                (vec![""], false),
                (vec!["den"], true),
                (vec!["^/", "pay"], true),
                (vec!["z$"], true),
                (vec![".*"], true),
            ]),
            any::<bool>(),
        )
            .prop_map(|(key, (values, regex), invert)| Policy::Text { key, values, regex, invert }),
    ];
    leaf.prop_recursive(2, 6, 3, |leaf| proptest::collection::vec(leaf, 1..4).prop_map(Policy::And))
}

fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    let pair = (
        select(vec!["auth.result", "http.route", "service.name", "other"]),
        select(vec![
            Value::StringValue("denied".into()),
            Value::StringValue("ok".into()),
            Value::StringValue("/healthz".into()),
            Value::StringValue("payment".into()),
            Value::StringValue(String::new()),
            Value::IntValue(3),
            Value::BoolValue(true),
        ]),
    );
    proptest::collection::vec(pair.prop_map(|(key, value)| attribute(key, value)), 0..4)
}

fn made() -> impl Strategy<Value = Made> {
    (
        select((1..9u128).map(|n| (n << 64) | (n.pow(3) * 0x1234_5678_9abc)).collect::<Vec<_>>()),
        any::<u64>(),
        (0..300u64, 0..200u64),
        select(vec![None, Some(0), Some(1), Some(2)]),
        attributes(),
        select(vec![vec![], vec![text("service.name", "shop")], vec![text("service.name", "payment")]]),
        proptest::bool::weighted(0.2),
        any::<u32>(),
    )
        .prop_map(|(trace, id, (start, duration), status, attributes, resource, late, order)| {
            let status = status.map(|code| Status { code, ..Status::default() });
            Made {
                trace,
                span: Span { attributes, status, ..span(trace, id | 1, start, duration) },
                resource,
                late,
                order,
            }
        })
}

fn config(policies: &[Policy]) -> String {
    let policies = policies.iter().enumerate().map(|(index, policy)| policy.yaml(&format!("p{index}")));
    let policies = policies.collect::<Vec<_>>().join(", ");
    pipeline("tail_sampling", &format!("decision_wait: 10s, policies: [{policies}]"))
}

/// Feeds spans in their order, in batches of the given sizes; neighbours of one resource share it.
async fn feed(sampler: &TailSampling, mut spans: Vec<&Made>, sizes: &[usize]) {
    spans.sort_by_key(|made| made.order);
    let mut sizes = sizes.iter().copied().cycle();
    while !spans.is_empty() {
        let rest = spans.split_off(sizes.next().unwrap_or(1).min(spans.len()));
        for same in spans.chunk_by(|a, b| a.resource == b.resource) {
            let of_one = same.iter().map(|made| made.span.clone()).collect();
            sampler.consume(batch_of(same[0].resource.clone(), of_one)).await.unwrap();
        }
        spans = rest;
    }
}

/// Trace, resource, span, policy, and whether it followed an earlier decision.
type Outcome = Vec<(u128, String, Vec<u8>, String, bool)>;

fn outcome(sink: &Sink) -> Outcome {
    let mut kept: Outcome = sink
        .spans()
        .into_iter()
        .map(|kept| {
            let policy = kept.policy().expect("what is kept says why").to_owned();
            let late = kept.is_late();
            (
                kept.trace,
                format!("{:?}", kept.resource),
                prost::Message::encode_to_vec(&kept.span),
                policy,
                late,
            )
        })
        .collect();
    kept.sort();
    kept
}

fn expected(policies: &[Policy], spans: &[Made]) -> Outcome {
    let mut traces: BTreeMap<u128, Vec<&Made>> = BTreeMap::new();
    for made in spans {
        traces.entry(made.trace).or_default().push(made);
    }
    let mut kept = Vec::new();
    for (id, spans) in traces {
        // A trace of which everything is late is decided on that.
        let all_late = spans.iter().all(|made| made.late);
        let seen = spans.iter().filter(|made| all_late || !made.late);
        let whole = seen.map(|made| (made.resource.clone(), made.span.clone())).collect();
        if let Some(policy) = model::decide(policies, id, &whole) {
            kept.extend(spans.iter().map(|made| {
                let span = prost::Message::encode_to_vec(&made.span);
                (id, format!("{:?}", made.resource), span, format!("p{policy}"), made.late && !all_late)
            }));
        }
    }
    kept.sort();
    kept
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn decides_as_the_naive_sampler_does(
        policies in proptest::collection::vec(policy(), 1..5),
        spans in proptest::collection::vec(made(), 1..40),
        sizes in proptest::collection::vec(1..12usize, 1..6),
        shards in 1..4usize,
        gap in 0..900u64,
    ) {
        let kept = run(async {
            let sink = Sink::new();
            let sampler = TailSampling::new(&tail_sampling(&config(&policies)), sink.clone(), shards).unwrap();
            feed(&sampler, spans.iter().filter(|made| !made.late).collect(), &sizes).await;
            pass(Duration::from_millis(9_000 + gap)).await;
            assert_eq!(sink.batches().len(), 0, "nothing is decided before its time");
            pass(Duration::from_secs(3)).await;
            feed(&sampler, spans.iter().filter(|made| made.late).collect(), &sizes).await;
            sampler.shutdown(Duration::from_mins(1)).await;
            outcome(&sink)
        });
        prop_assert_eq!(kept, expected(&policies, &spans));
    }
}
