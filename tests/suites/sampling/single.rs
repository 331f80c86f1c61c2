//! One property each of `tail_sampling`.

use std::{sync::Arc, time::Duration};

use spanwarden::{
    otlp::{Consumer, Refusal, RefusalKind},
    sampling::{TailSampling, hash::Probabilistic},
};
use tokio::runtime::Handle;

use super::{
    model::fnv,
    pass, pipeline, run,
    spans::{Request, ResourceSpans, ScopeSpans, Sink, Span, Status, batch, batch_of, span, text},
    tail_sampling,
};

const ERRORS: &str = "policies: [{name: errors, type: status_code, status_code: {status_codes: [ERROR]}}]";

fn sampler(body: &str, sink: &Arc<Sink>, shards: usize) -> TailSampling {
    TailSampling::new(&tail_sampling(&pipeline("tail_sampling", body)), sink.clone(), shards).unwrap()
}

fn error(span: Span) -> Span {
    Span { status: Some(Status { code: 2, ..Status::default() }), ..span }
}

#[test]
fn a_latency_window_does_not_depend_on_the_order_of_spans() {
    // 0-50 ms and then 150-200 ms: the whole trace is 200 ms, outside of the window, whichever comes first.
    for order in [[0, 150], [150, 0]] {
        run(async {
            let sink = Sink::new();
            let window =
                "policies: [{name: w, type: latency, latency: {threshold_ms: 10, upper_threshold_ms: 60}}]";
            let sampler = sampler(window, &sink, 1);
            for start in order {
                sampler.consume(batch_of(vec![], vec![span(1, start + 1, start, 50)])).await.unwrap();
            }
            sampler.consume(batch_of(vec![], vec![span(2, 1, 0, 50)])).await.unwrap();
            pass(Duration::from_secs(32)).await;
            let kept: Vec<u128> = sink.spans().iter().map(|kept| kept.trace).collect();
            assert_eq!(kept, [2]);
        });
    }
}

#[test]
fn the_share_is_the_collectors() {
    // Hashes and thresholds from the model; the Collector keeps `hash <= threshold`.
    let thresholds = [(5.0, 922_337_203_685_477_631u64), (50.0, 9_223_372_036_854_775_807)];
    for (percentage, threshold) in thresholds {
        let share = Probabilistic::new("default-hash-seed", percentage);
        let mut kept = 0;
        for n in 0..10_000u128 {
            let id = n.wrapping_mul(0xfedc_ba98_7654_3210_f00d_cafe_1234_5679);
            let samples = share.samples(&id.to_be_bytes());
            assert_eq!(samples, fnv(id) <= threshold, "{id:032x}");
            kept += u32::from(samples);
        }
        let off = f64::from(kept) / 100.0 - percentage;
        assert!(off.abs() < 1.5, "{kept} of 10,000 at {percentage} %");
    }
}

#[test]
fn an_eviction_is_a_decision() {
    run(async {
        let sink = Sink::new();
        let sampler = sampler(&format!("num_traces: 2, {ERRORS}"), &sink, 1);
        sampler.consume(batch_of(vec![], vec![error(span(1, 1, 0, 1))])).await.unwrap();
        for trace in 2..5 {
            sampler.consume(batch_of(vec![], vec![span(trace, 1, 0, 1)])).await.unwrap();
        }
        pass(Duration::from_secs(2)).await;
        let spans = sink.spans();
        assert_eq!(spans.len(), 1, "the oldest is decided when the third trace comes");
        assert_eq!((spans[0].trace, spans[0].policy()), (1, Some("errors")));
        // 1 was kept and 2 was not; late spans follow, whatever they say. 4 waits.
        let late = vec![span(1, 2, 0, 1), error(span(2, 2, 0, 1)), error(span(4, 2, 0, 1))];
        sampler.consume(batch_of(vec![], late)).await.unwrap();
        sampler.shutdown(Duration::from_secs(5)).await;
        let mut kept: Vec<(u128, u64)> = sink
            .spans()
            .iter()
            .map(|kept| (kept.trace, u64::from_be_bytes(kept.span.span_id.as_slice().try_into().unwrap())))
            .collect();
        kept.sort_unstable();
        assert_eq!(kept, [(1, 1), (1, 2), (4, 1), (4, 2)]);
    });
}

#[test]
fn a_flood_within_a_small_budget_loses_nothing() {
    run(async {
        let sink = Sink::new();
        let config = tail_sampling(&pipeline(
            "tail_sampling",
            "num_traces: 1000000, policies: [{name: all, type: always_sample}]",
        ));
        let runtimes = [Handle::current(), Handle::current()];
        let sampler = TailSampling::with_budget(&config, sink.clone(), &runtimes, 256 << 10).unwrap();
        for n in 0..5_000u64 {
            let trace = u128::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835) + 1;
            let wide = Span { attributes: vec![text("text", &"x".repeat(500))], ..span(trace, n + 1, 0, 1) };
            sampler.consume(batch_of(vec![], vec![wide])).await.unwrap();
        }
        sampler.shutdown(Duration::from_mins(1)).await;
        let mut ids: Vec<Vec<u8>> = sink.spans().into_iter().map(|kept| kept.span.span_id).collect();
        assert_eq!(ids.len(), 5_000);
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 5_000, "each once");
    });
}

#[test]
fn a_root_brings_the_decision_forward() {
    run(async {
        let sink = Sink::new();
        let sampler = sampler(&format!("decision_wait_after_root_received: 2s, {ERRORS}"), &sink, 1);
        let root = Span { parent_span_id: Vec::new(), ..error(span(1, 1, 0, 1)) };
        sampler.consume(batch_of(vec![], vec![root, error(span(2, 1, 0, 1))])).await.unwrap();
        pass(Duration::from_millis(1_500)).await;
        assert_eq!(sink.spans().len(), 0);
        pass(Duration::from_secs(2)).await;
        assert_eq!(sink.spans().iter().map(|kept| kept.trace).collect::<Vec<_>>(), [1]);
        pass(Duration::from_secs(30)).await;
        assert_eq!(sink.spans().len(), 2);
    });
}

#[test]
fn shutdown_decides_and_hands_on_what_is_left_and_takes_no_more() {
    run(async {
        let sink = Sink::new();
        let sampler = sampler(ERRORS, &sink, 3);
        let spans = (1..101)
            .map(|trace| if trace % 2 == 0 { error(span(trace, 1, 0, 1)) } else { span(trace, 1, 0, 1) });
        sampler.consume(batch_of(vec![], spans.collect())).await.unwrap();
        sampler.shutdown(Duration::from_secs(5)).await;
        assert_eq!(sink.spans().len(), 50);
        let refusal = sampler.consume(batch_of(vec![], vec![span(1, 1, 0, 1)])).await.unwrap_err();
        assert!(matches!(refusal.kind, RefusalKind::Unavailable { .. }), "{refusal:?}");
    });
}

fn refusal(kind: RefusalKind) -> Refusal {
    Refusal { kind, cause: "test", message: "no".into() }
}

#[test]
fn what_is_kept_is_offered_again_while_the_next_stage_is_away() {
    run(async {
        let sink = Sink::new();
        let sampler = sampler(ERRORS, &sink, 1);
        for _ in 0..3 {
            sink.refuse(refusal(RefusalKind::Unavailable { retry_after: Duration::from_secs(1) }));
        }
        sampler.consume(batch_of(vec![], vec![error(span(1, 1, 0, 1))])).await.unwrap();
        pass(Duration::from_mins(1)).await;
        assert_eq!(sink.spans().len(), 1);
    });
}

#[test]
fn what_the_next_stage_refuses_for_good_is_counted() {
    run(async {
        let sink = Sink::new();
        let sampler = sampler(ERRORS, &sink, 1);
        sink.refuse(Refusal { cause: "test_for_good", ..refusal(RefusalKind::Permanent) });
        sampler.consume(batch_of(vec![], vec![error(span(1, 1, 0, 1)), span(1, 2, 0, 1)])).await.unwrap();
        sampler.shutdown(Duration::from_mins(1)).await;
        assert_eq!(sink.spans().len(), 0);
        let metrics = spanwarden::telemetry::metrics::render();
        assert!(metrics.contains("spanwarden_sampling_lost_spans{cause=\"test_for_good\"} 2"), "{metrics}");
    });
}

#[test]
fn a_sender_cannot_say_why_its_spans_are_kept() {
    run(async {
        let sink = Sink::new();
        let sampler = sampler(ERRORS, &sink, 1);
        let claim = batch_of(vec![], vec![error(span(1, 1, 0, 1))]);
        let mut request: Request = prost::Message::decode(&*claim.data).unwrap();
        let scope = request.resource_spans[0].scope_spans[0].scope.as_mut().unwrap();
        scope.attributes.push(text("tailsampling.policy", "the best"));
        sampler.consume(batch(&request)).await.unwrap();
        pass(Duration::from_secs(32)).await;
        assert_eq!(sink.spans()[0].policy(), Some("errors"), "{:?}", sink.spans());
    });
}

#[test]
fn a_scope_that_is_absent_is_made_to_say_why() {
    run(async {
        let sink = Sink::new();
        let sampler = sampler(ERRORS, &sink, 1);
        let scope_spans = vec![ScopeSpans { spans: vec![error(span(1, 1, 0, 1))], ..ScopeSpans::default() }];
        sampler
            .consume(batch(&Request {
                resource_spans: vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }],
            }))
            .await
            .unwrap();
        pass(Duration::from_secs(32)).await;
        let request: Request = prost::Message::decode(&*sink.batches()[0].data).unwrap();
        let scope = request.resource_spans[0].scope_spans[0].scope.as_ref().unwrap();
        assert_eq!(scope.attributes, [text("tailsampling.policy", "errors")]);
    });
}
