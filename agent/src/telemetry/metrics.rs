//! Metric registration. A stage declares its own metrics beside the code that counts:
//!
//! ```
//! use std::sync::LazyLock;
//! use spanwarden::telemetry::metrics::{counter, Counters};
//! static REFUSED: LazyLock<Counters> = LazyLock::new(|| {
//!     counter("otelcol_receiver_refused_spans", "Spans that were not accepted.", &["receiver", "transport"])
//! });
//! REFUSED.with_label_values(&["otlp", "grpc"]).inc_by(3);
//! ```
//!
//! Names are the Collector's where the meaning is the same, without a `_total` suffix, as its default reader
//! writes them (`without_type_suffix: true`); ours start with `spanwarden_`.

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, TextEncoder};

/// A family of counters.
pub type Counters = IntCounterVec;
/// A family of gauges.
pub type Gauges = IntGaugeVec;
/// A family of histograms.
pub type Histograms = HistogramVec;

/// Registers a counter family.
///
/// # Panics
/// When the name is registered twice or is not a metric name: a mistake of ours, seen by every test.
pub fn counter(name: &str, help: &str, labels: &[&str]) -> Counters {
    let family = IntCounterVec::new(Opts::new(name, help), labels).expect("metric name and labels are valid");
    prometheus::register(Box::new(family.clone())).expect("metric is registered once");
    family
}

/// Registers a gauge family; panics as [`counter`] does.
///
/// # Panics
/// See [`counter`].
pub fn gauge(name: &str, help: &str, labels: &[&str]) -> Gauges {
    let family = IntGaugeVec::new(Opts::new(name, help), labels).expect("metric name and labels are valid");
    prometheus::register(Box::new(family.clone())).expect("metric is registered once");
    family
}

/// Registers a histogram family with the given upper bounds; panics as [`counter`] does.
///
/// # Panics
/// See [`counter`].
pub fn histogram(name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> Histograms {
    let family = HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels)
        .expect("metric name and labels are valid");
    prometheus::register(Box::new(family.clone())).expect("metric is registered once");
    family
}

/// All metrics in the Prometheus text format.
pub fn render() -> String {
    TextEncoder::new().encode_to_string(&prometheus::gather()).unwrap_or_else(|e| format!("# {e}\n"))
}
