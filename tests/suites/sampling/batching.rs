//! `batch` and `memory_limiter`.

use std::{sync::Arc, time::Duration};

use proptest::prelude::*;
use spanwarden::{
    config::processors::Processor,
    otlp::{Batch, Consumer, Refusal, RefusalKind},
    pipeline::{batch::BatchProcessor, memory_limiter::MemoryLimiter},
};

use super::{
    pass, pipeline, processor, run,
    spans::{Sink, batch_of, span, text},
};

fn batcher(body: &str, sink: &Arc<Sink>) -> BatchProcessor {
    let component = processor(&pipeline("batch", body), |processor| match processor {
        Processor::Batch(config) => Some(config),
        _ => None,
    });
    BatchProcessor::new(&component, sink.clone())
}

fn request(first: u64, spans: u64) -> Batch {
    batch_of(
        vec![text("service.name", "shop")],
        (first..first + spans).map(|n| span(n.into(), n, 0, 1)).collect(),
    )
}

fn numbers(sink: &Sink) -> Vec<u64> {
    sink.spans().iter().map(|kept| kept.trace as u64).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_span_is_lost_or_doubled_and_sizes_are_respected(
        requests in proptest::collection::vec((1..60u64, 0..300u64), 1..40),
        size in 0..50u32,
        room in proptest::option::of(0..50u32),
    ) {
        let max = room.map_or(0, |room| size.max(1) + room);
        let (sent, batches) = run(async {
            let sink = Sink::new();
            let batcher = batcher(
                &format!("timeout: 200ms, send_batch_size: {size}, send_batch_max_size: {max}"),
                &sink,
            );
            let mut next = 1;
            for (spans, pause) in requests {
                batcher.consume(request(next, spans)).await.unwrap();
                next += spans;
                pass(Duration::from_millis(pause)).await;
            }
            batcher.shutdown(Duration::from_mins(1)).await;
            let mut found = numbers(&sink);
            found.sort_unstable();
            prop_assert_eq!(found, (1..next).collect::<Vec<_>>());
            Ok((next - 1, sink.batches()))
        })?;
        prop_assert_eq!(batches.iter().map(|batch| u64::from(batch.spans)).sum::<u64>(), sent);
        if max > 0 {
            prop_assert!(batches.iter().all(|batch| batch.spans <= max));
        }
    }
}

#[test]
fn a_batch_goes_when_it_is_full_or_when_its_time_is_over() {
    run(async {
        let sink = Sink::new();
        let batcher = batcher("timeout: 1s, send_batch_size: 10", &sink);
        batcher.consume(request(1, 4)).await.unwrap();
        batcher.consume(request(5, 4)).await.unwrap();
        pass(Duration::from_millis(900)).await;
        assert_eq!(sink.batches().len(), 0);
        pass(Duration::from_millis(200)).await;
        assert_eq!(numbers(&sink), (1..9).collect::<Vec<_>>());
        assert_eq!(sink.batches().len(), 1);
        batcher.consume(request(9, 9)).await.unwrap();
        batcher.consume(request(18, 1)).await.unwrap();
        pass(Duration::from_millis(1)).await;
        assert_eq!(sink.batches().len(), 2, "full");
    });
}

#[test]
fn what_is_too_large_is_cut() {
    run(async {
        let sink = Sink::new();
        let batcher = batcher("timeout: 1s, send_batch_size: 10, send_batch_max_size: 10", &sink);
        batcher.consume(request(1, 35)).await.unwrap();
        batcher.shutdown(Duration::from_secs(5)).await;
        let sizes: Vec<u32> = sink.batches().iter().map(|batch| batch.spans).collect();
        assert_eq!(sizes, [10, 10, 10, 5]);
        assert_eq!(numbers(&sink), (1..36).collect::<Vec<_>>());
    });
}

#[test]
fn a_full_buffer_is_overload_and_an_ended_one_is_away() {
    run(async {
        let component = processor(&pipeline("batch", "timeout: 1h"), |processor| match processor {
            Processor::Batch(config) => Some(config),
            _ => None,
        });
        let sink = Sink::new();
        let first = request(1, 20);
        let batcher = BatchProcessor::holding(&component, sink.clone(), first.data.len() as u64 + 10);
        batcher.consume(first).await.unwrap();
        let refusal = batcher.consume(request(21, 20)).await.unwrap_err();
        assert!(matches!(refusal.kind, RefusalKind::Overloaded { .. }), "{refusal:?}");
        batcher.shutdown(Duration::from_secs(5)).await;
        assert_eq!(numbers(&sink), (1..21).collect::<Vec<_>>());
        let refusal = batcher.consume(request(41, 1)).await.unwrap_err();
        assert!(matches!(refusal.kind, RefusalKind::Unavailable { .. }), "{refusal:?}");
    });
}

#[test]
fn a_refusal_for_good_is_counted_and_one_for_now_is_tried_again() {
    run(async {
        let sink = Sink::new();
        let batcher = batcher("timeout: 0s", &sink);
        let retry_after = Duration::from_secs(1);
        let refusal = |kind| Refusal { kind, cause: "batch_test", message: "no".into() };
        sink.refuse(refusal(RefusalKind::Overloaded { retry_after }));
        sink.refuse(refusal(RefusalKind::Unavailable { retry_after }));
        batcher.consume(request(1, 3)).await.unwrap();
        pass(Duration::from_secs(10)).await;
        assert_eq!(numbers(&sink), [1, 2, 3]);
        sink.refuse(refusal(RefusalKind::Permanent));
        batcher.consume(request(4, 5)).await.unwrap();
        pass(Duration::from_secs(10)).await;
        let metrics = spanwarden::telemetry::metrics::render();
        let lost = "spanwarden_batch_lost_spans{cause=\"batch_test\",processor=\"batch\"} 5";
        assert!(metrics.contains(lost), "{metrics}");
        batcher.shutdown(Duration::from_secs(5)).await;
        assert_eq!(numbers(&sink), [1, 2, 3]);
    });
}

#[test]
fn the_memory_limiter_refuses_above_its_limit() {
    let limiter = |body: &str, sink: &Arc<Sink>| {
        let component = processor(&pipeline("memory_limiter", body), |processor| match processor {
            Processor::MemoryLimiter(config) => Some(config),
            _ => None,
        });
        MemoryLimiter::new(&component, sink.clone()).unwrap()
    };
    run(async {
        let sink = Sink::new();
        // One MiB is less than any process uses.
        let small = limiter("check_interval: 1s, limit_mib: 1", &sink);
        let refusal = small.consume(request(1, 3)).await.unwrap_err();
        assert!(matches!(refusal.kind, RefusalKind::Overloaded { .. }), "{refusal:?}");
        assert_eq!(small.limit_bytes(), 1 << 20);
        let large = limiter("check_interval: 1s, limit_percentage: 100, spike_limit_percentage: 1", &sink);
        large.consume(request(1, 3)).await.unwrap();
        assert_eq!(numbers(&sink), [1, 2, 3]);
    });
}
