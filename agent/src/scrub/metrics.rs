//! What scrubbing counts.

#![forbid(unsafe_code)]

use std::sync::LazyLock;

use crate::telemetry::metrics::{Counters, counter};

/// Spans that a redaction processor has seen.
pub(super) static PROCESSED: LazyLock<Counters> = LazyLock::new(|| {
    counter("otelcol_processor_redaction_processed_spans", "Spans that were scanned.", &["processor"])
});

/// Values in which a redaction processor masked something.
pub(super) static MASKED: LazyLock<Counters> = LazyLock::new(|| {
    counter(
        "otelcol_processor_redaction_masked_attributes",
        "Attributes and other texts in which something was masked.",
        &["processor"],
    )
});

/// Edits by what they did.
pub(super) static EDITS: LazyLock<Counters> = LazyLock::new(|| {
    counter(
        "spanwarden_scrub_edits",
        "Values and texts that scrubbing changed (masked, hashed, set) or deleted.",
        &["processor", "rule"],
    )
});

/// Statements and actions that could not handle a value.
pub(super) static ERRORS: LazyLock<Counters> = LazyLock::new(|| {
    counter(
        "spanwarden_scrub_errors",
        "Values that a statement could not handle; what happened to them says its error_mode.",
        &["processor"],
    )
});

/// Lies about identity.
pub(super) static CLAIMS: LazyLock<Counters> = LazyLock::new(|| {
    counter(
        "spanwarden_origin_claims_overwritten",
        "Resource attributes that claimed another identity than the sender's, or one that nobody can confirm.",
        &["attribute"],
    )
});

/// Unknown fields.
pub(super) static UNKNOWN_FIELDS: LazyLock<Counters> = LazyLock::new(|| {
    counter(
        "spanwarden_unknown_fields_stripped",
        "Fields that this version of OTLP does not know and that were removed unscanned.",
        &[],
    )
});

/// What one processor has done to one request.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    /// Values and texts in which something was masked or replaced.
    pub(super) masked: u64,
    /// Values that were hashed.
    pub(super) hashed: u64,
    /// Attributes and texts that were deleted.
    pub(super) deleted: u64,
    /// Values that were set.
    pub(super) set: u64,
    /// Values that could not be handled.
    pub(super) errors: u64,
}

/// One processor's counters, resolved once.
#[derive(Debug)]
pub(super) struct Handles {
    masked: prometheus::IntCounter,
    hashed: prometheus::IntCounter,
    deleted: prometheus::IntCounter,
    set: prometheus::IntCounter,
    errors: prometheus::IntCounter,
    /// Spans seen and values masked, under the Collector's names.
    redaction: Option<(prometheus::IntCounter, prometheus::IntCounter)>,
}

impl Handles {
    /// The counters of a processor.
    pub(super) fn new(processor: &str, redaction: bool) -> Self {
        let edits = |rule| EDITS.with_label_values(&[processor, rule]);
        Self {
            masked: edits("masked"),
            hashed: edits("hashed"),
            deleted: edits("deleted"),
            set: edits("set"),
            errors: ERRORS.with_label_values(&[processor]),
            redaction: redaction
                .then(|| (PROCESSED.with_label_values(&[processor]), MASKED.with_label_values(&[processor]))),
        }
    }

    /// Adds what was done to one request of so many spans.
    pub(super) fn add(&self, tally: &Tally, spans: u64) {
        let add = |counter: &prometheus::IntCounter, count| {
            if count > 0 {
                counter.inc_by(count);
            }
        };
        add(&self.masked, tally.masked);
        add(&self.hashed, tally.hashed);
        add(&self.deleted, tally.deleted);
        add(&self.set, tally.set);
        add(&self.errors, tally.errors);
        if let Some((processed, masked)) = &self.redaction {
            add(processed, spans);
            add(masked, tally.masked);
        }
    }
}
