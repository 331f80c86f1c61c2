//! The sampler's metrics, under the Collector's names where the meaning is the same.

use std::sync::LazyLock;

use prometheus::{Histogram, IntCounter, IntGauge};

use crate::telemetry::metrics::{Counters, Gauges, Histograms, counter, gauge, histogram};

static TRACES_SAMPLED: LazyLock<Counters> = LazyLock::new(|| {
    counter(
        "otelcol_processor_tail_sampling_count_traces_sampled",
        "Votes of each policy, one a decided trace.",
        &["policy", "sampled", "decision"],
    )
});
static GLOBAL_SAMPLED: LazyLock<Counters> = LazyLock::new(|| {
    counter(
        "otelcol_processor_tail_sampling_global_count_traces_sampled",
        "Decided traces.",
        &["sampled", "decision"],
    )
});
static NEW_TRACES: LazyLock<Counters> = LazyLock::new(|| {
    counter("otelcol_processor_tail_sampling_new_trace_id_received", "Traces seen for the first time.", &[])
});
static TOO_EARLY: LazyLock<Counters> = LazyLock::new(|| {
    counter(
        "otelcol_processor_tail_sampling_sampling_trace_dropped_too_early",
        "Traces decided before their time on what was there, because the buffer was full. None is dropped \
         without a decision.",
        &[],
    )
});
static FROM_CACHE: LazyLock<Counters> = LazyLock::new(|| {
    counter(
        "otelcol_processor_tail_sampling_early_releases_from_cache_decision",
        "Late spans that followed the decision on their trace.",
        &["sampled"],
    )
});
static ON_MEMORY: LazyLock<Gauges> = LazyLock::new(|| {
    gauge(
        "otelcol_processor_tail_sampling_sampling_traces_on_memory",
        "Traces that wait for their decision.",
        &[],
    )
});
static LATE_AGE: LazyLock<Histograms> = LazyLock::new(|| {
    histogram(
        "otelcol_processor_tail_sampling_sampling_late_span_age",
        "Seconds from a trace's decision to its late spans.",
        &[],
        SECONDS,
    )
});
static REMOVAL_AGE: LazyLock<Histograms> = LazyLock::new(|| {
    histogram(
        "otelcol_processor_tail_sampling_sampling_trace_removal_age",
        "Seconds from a trace's first span to its decision.",
        &[],
        SECONDS,
    )
});
static DECISION_TIME: LazyLock<Histograms> = LazyLock::new(|| {
    histogram(
        "otelcol_processor_tail_sampling_sampling_decision_timer_latency",
        "Milliseconds that one tick's decisions took.",
        &[],
        &[1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 75.0, 100.0, 150.0, 200.0, 300.0, 400.0, 500.0, 750.0, 1000.0],
    )
});
static EARLY: LazyLock<Counters> = LazyLock::new(|| {
    counter(
        "spanwarden_sampling_early_decisions",
        "Traces decided on what was there: too many traces, too many bytes, one trace too large, shutdown.",
        &["cause"],
    )
});
static BYTES: LazyLock<Gauges> = LazyLock::new(|| {
    gauge("spanwarden_sampling_buffer_bytes", "Bytes held by traces that wait for their decision.", &[])
});
static LOST: LazyLock<Counters> = LazyLock::new(|| {
    counter(
        "spanwarden_sampling_lost_spans",
        "Spans of kept or undecided traces that could not be handed on.",
        &["cause"],
    )
});
static OVERWRITTEN: LazyLock<Counters> = LazyLock::new(|| {
    counter(
        "spanwarden_sampling_overwritten_attributes",
        "Scope attributes that a sender had put under tailsampling.*, removed from what was kept.",
        &[],
    )
});

/// Bounds of the Collector's histograms of seconds.
const SECONDS: &[f64] =
    &[1.0, 2.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 90.0, 120.0, 180.0, 300.0, 600.0, 1800.0];

const NONE: &[&str] = &[];

/// Counts spans that are gone for good.
pub(super) fn lost(cause: &str, spans: u64) {
    LOST.with_label_values(&[cause]).inc_by(spans);
}

/// The series of one processor, looked up once.
#[derive(Debug)]
pub(super) struct Metrics {
    /// For each policy: not sampled, sampled.
    pub(super) votes: Vec<[IntCounter; 2]>,
    /// Not sampled, sampled.
    pub(super) decided: [IntCounter; 2],
    pub(super) new_traces: IntCounter,
    pub(super) too_early: IntCounter,
    /// Not sampled, sampled.
    pub(super) from_cache: [IntCounter; 2],
    pub(super) on_memory: IntGauge,
    pub(super) bytes: IntGauge,
    pub(super) late_age: Histogram,
    pub(super) removal_age: Histogram,
    pub(super) decision_time: Histogram,
    pub(super) overwritten: IntCounter,
}

impl Metrics {
    /// `name` is what follows the slash in the processor's id; it goes before the policy's name.
    pub(super) fn new(name: Option<&str>, policies: &[String]) -> Self {
        let votes = policies.iter().map(|policy| {
            let policy = name.map_or_else(|| policy.clone(), |name| format!("{name}.{policy}"));
            [("false", "not_sampled"), ("true", "sampled")]
                .map(|(sampled, decision)| TRACES_SAMPLED.with_label_values(&[&*policy, sampled, decision]))
        });
        Self {
            votes: votes.collect(),
            decided: [["false", "not_sampled"], ["true", "sampled"]]
                .map(|labels| GLOBAL_SAMPLED.with_label_values(&labels)),
            new_traces: NEW_TRACES.with_label_values(NONE),
            too_early: TOO_EARLY.with_label_values(NONE),
            from_cache: ["false", "true"].map(|sampled| FROM_CACHE.with_label_values(&[sampled])),
            on_memory: ON_MEMORY.with_label_values(NONE),
            bytes: BYTES.with_label_values(NONE),
            late_age: LATE_AGE.with_label_values(NONE),
            removal_age: REMOVAL_AGE.with_label_values(NONE),
            decision_time: DECISION_TIME.with_label_values(NONE),
            overwritten: OVERWRITTEN.with_label_values(NONE),
        }
    }

    /// Counts a decision that came before its time.
    pub(super) fn early(&self, cause: &str) {
        if cause != "shutdown" {
            self.too_early.inc();
        }
        EARLY.with_label_values(&[cause]).inc();
    }
}
