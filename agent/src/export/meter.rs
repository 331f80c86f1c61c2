//! The exporters' metrics, under the Collector's names.

use std::sync::LazyLock;

use prometheus::{Histogram, IntCounter, IntGauge};

use crate::telemetry::{
    Cause,
    metrics::{Counters, Gauges, Histograms, counter, gauge, histogram},
};

static SENT: LazyLock<Counters> = LazyLock::new(|| {
    counter("otelcol_exporter_sent_spans", "Number of spans successfully sent to destination.", &["exporter"])
});
static FAILED: LazyLock<Counters> = LazyLock::new(|| {
    counter(
        "otelcol_exporter_send_failed_spans",
        "Number of spans in failed attempts to send to destination.",
        &["exporter"],
    )
});
static ENQUEUE_FAILED: LazyLock<Counters> = LazyLock::new(|| {
    counter(
        "otelcol_exporter_enqueue_failed_spans",
        "Number of spans that found the sending queue full.",
        &["exporter"],
    )
});
static QUEUE_SIZE: LazyLock<Gauges> = LazyLock::new(|| {
    gauge("otelcol_exporter_queue_size", "Current size of the sending queue, in requests.", &["exporter"])
});
static QUEUE_CAPACITY: LazyLock<Gauges> = LazyLock::new(|| {
    gauge("otelcol_exporter_queue_capacity", "Capacity of the sending queue, in requests.", &["exporter"])
});
static REFUSED: LazyLock<Counters> = LazyLock::new(|| {
    counter(
        "spanwarden_export_refused",
        "Batches that an exporter gave back to its pipeline, by cause.",
        &["exporter", "cause"],
    )
});
static RETRIES: LazyLock<Counters> = LazyLock::new(|| {
    counter(
        "spanwarden_export_retries",
        "Tries after the first one, by the cause of the one before.",
        &["exporter", "cause"],
    )
});
static REJECTED: LazyLock<Counters> = LazyLock::new(|| {
    counter(
        "spanwarden_export_rejected_spans",
        "Spans that a backend rejected inside an accepted request (OTLP's partial success).",
        &["exporter"],
    )
});
static OUTCOME: LazyLock<Counters> = LazyLock::new(|| {
    counter(
        "otelcol_loadbalancer_backend_outcome",
        "Number of requests that ended with success or failure, by endpoint.",
        &["endpoint", "success"],
    )
});
static LATENCY: LazyLock<Histograms> = LazyLock::new(|| {
    histogram(
        "otelcol_loadbalancer_backend_latency",
        "Response latency in ms, by endpoint.",
        &["endpoint"],
        &[5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0],
    )
});

/// One exporter's counters, looked up once.
#[derive(Clone, Debug)]
pub(crate) struct Meter {
    exporter: String,
    sent: IntCounter,
    failed: IntCounter,
    enqueue_failed: IntCounter,
    rejected: IntCounter,
}

impl Meter {
    pub(crate) fn new(exporter: String) -> Self {
        let of = |family: &Counters| family.with_label_values(&[&exporter]);
        let (sent, failed, enqueue_failed, rejected) =
            (of(&SENT), of(&FAILED), of(&ENQUEUE_FAILED), of(&REJECTED));
        Self { exporter, sent, failed, enqueue_failed, rejected }
    }

    /// The exporter's name in the configuration.
    pub(crate) fn exporter(&self) -> &str {
        &self.exporter
    }

    /// A request was taken, apart from the spans that the backend rejected.
    pub(crate) fn sent(&self, spans: u32, rejected: u32) {
        self.sent.inc_by(u64::from(spans.saturating_sub(rejected)));
        if rejected > 0 {
            self.rejected.inc_by(u64::from(rejected));
        }
    }

    /// A request was given up.
    pub(crate) fn failed(&self, spans: u32) {
        self.failed.inc_by(u64::from(spans));
    }

    /// A batch went back to the pipeline.
    pub(crate) fn refused(&self, cause: Cause) {
        REFUSED.with_label_values(&[&self.exporter, cause]).inc();
    }

    /// A batch found the queue full.
    pub(crate) fn enqueue_failed(&self, spans: u32) {
        self.enqueue_failed.inc_by(u64::from(spans));
    }

    pub(crate) fn retry(&self, cause: Cause) {
        RETRIES.with_label_values(&[&self.exporter, cause]).inc();
    }

    /// The gauge of the queue's size; sets the one of its capacity.
    pub(crate) fn queue(&self, capacity: u64) -> IntGauge {
        QUEUE_CAPACITY.with_label_values(&[&self.exporter]).set(capacity.cast_signed());
        QUEUE_SIZE.with_label_values(&[&self.exporter])
    }
}

/// One backend's counters under `loadbalancing`.
#[derive(Debug)]
pub(crate) struct BackendMeter {
    pub(crate) success: IntCounter,
    pub(crate) failure: IntCounter,
    pub(crate) latency: Histogram,
}

impl BackendMeter {
    pub(crate) fn new(endpoint: &str) -> Self {
        Self {
            success: OUTCOME.with_label_values(&[endpoint, "true"]),
            failure: OUTCOME.with_label_values(&[endpoint, "false"]),
            latency: LATENCY.with_label_values(&[endpoint]),
        }
    }
}
