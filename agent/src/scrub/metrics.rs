//! What scrubbing counts.

#![forbid(unsafe_code)]

use std::{
    collections::HashMap,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use prometheus::IntCounter;

use crate::telemetry::metrics::{Counters, Histograms, counter, histogram};

use super::rule::{Count, Rule};

/// Spans that came to a processor, under the name by which every processor of the Collector counts them.
pub(super) static INCOMING: LazyLock<Counters> = LazyLock::new(|| {
    counter(
        "otelcol_processor_incoming_items",
        "Spans that came to a scrubbing processor.",
        &["processor", "otel_signal"],
    )
});

/// What rules did.
static RULE_MATCHES: LazyLock<Counters> = LazyLock::new(|| {
    counter(
        "spanwarden_scrub_rule_matches",
        "Values, texts and messages that a rule changed since it says what it says: 0 is a rule that never matched.",
        &["processor", "rule"],
    )
});

/// What rules could not do.
static RULE_ERRORS: LazyLock<Counters> = LazyLock::new(|| {
    counter(
        "spanwarden_scrub_rule_errors",
        "Values that a rule could not handle; what happened to them says its error_mode.",
        &["processor", "rule"],
    )
});

/// What scrubbing costs.
static SECONDS: LazyLock<Histograms> = LazyLock::new(|| {
    histogram(
        "spanwarden_scrub_seconds",
        "What checking and scrubbing a request took, by the processors that one walk did the work of.",
        &["processors"],
        &[0.000_01, 0.000_03, 0.000_1, 0.000_3, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0],
    )
});

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

/// Spans that a filter has dropped.
pub(super) static FILTERED: LazyLock<Counters> = LazyLock::new(|| {
    counter("otelcol_processor_filter_spans_filtered", "Spans that the filter has dropped.", &["filter"])
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

/// Texts that cost too much.
pub(super) static DROPPED: LazyLock<Counters> = LazyLock::new(|| {
    counter(
        "spanwarden_scrub_budget_exceeded",
        "Values and texts that were replaced by [DROPPED] because searching their request had cost too much.",
        &[],
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
    /// Spans that a filter has dropped, with a scope or a resource too.
    pub(super) filtered: u64,
}

/// One processor's counters, resolved once.
#[derive(Debug)]
pub(super) struct Handles {
    masked: prometheus::IntCounter,
    hashed: prometheus::IntCounter,
    deleted: prometheus::IntCounter,
    set: prometheus::IntCounter,
    errors: prometheus::IntCounter,
    incoming: prometheus::IntCounter,
    /// Under the Collector's name.
    filtered: Option<prometheus::IntCounter>,
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
            incoming: INCOMING.with_label_values(&[processor, "traces"]),
            filtered: None,
            redaction: redaction
                .then(|| (PROCESSED.with_label_values(&[processor]), MASKED.with_label_values(&[processor]))),
        }
    }

    /// With the counter of a filter.
    pub(super) fn of_filter(processor: &str) -> Self {
        Self { filtered: Some(FILTERED.with_label_values(&[processor])), ..Self::new(processor, false) }
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
        add(&self.incoming, spans);
        if let Some(filtered) = &self.filtered {
            add(filtered, tally.filtered);
        }
        if let Some((processed, masked)) = &self.redaction {
            add(processed, spans);
            add(masked, tally.masked);
        }
    }
}

/// The series of a plan in use.
#[derive(Debug)]
pub(super) struct Series {
    /// By rule.
    rules: Vec<Arc<RuleSeries>>,
    seconds: prometheus::Histogram,
}

impl Series {
    /// Finds or makes them.
    pub(super) fn new(processors: &[String], rules: &[Rule]) -> Self {
        let names = if processors.is_empty() { "none".to_owned() } else { processors.join("+") };
        Self {
            rules: rules.iter().map(RuleSeries::of).collect(),
            seconds: SECONDS.with_label_values(&[&names]),
        }
    }

    /// Adds what was done to a request.
    pub(super) fn add(&self, counts: &[Count]) {
        for (series, count) in self.rules.iter().zip(counts) {
            if count.matches > 0 {
                series.matches.inc_by(count.matches);
            }
            if count.errors > 0 {
                series.errors.inc_by(count.errors);
                series.complain(count.errors);
            }
        }
    }

    /// A request is done.
    pub(super) fn took(&self, time: Duration) {
        self.seconds.observe(time.as_secs_f64());
    }
}

/// A rule's processor and name.
type Labels = [String; 2];

/// One rule's series. Every plan that has the same rule shares it; with the last of them it goes.
#[derive(Debug)]
struct RuleSeries {
    labels: Labels,
    /// Tells it from an earlier or later one with the same labels.
    number: u64,
    matches: IntCounter,
    errors: IntCounter,
    /// What the log says of errors, where it does.
    complaints: Option<Complaints>,
}

/// The rule series that are shown.
#[derive(Default)]
struct Shown {
    last: u64,
    by_labels: HashMap<Labels, Entry>,
}

struct Entry {
    number: u64,
    content: String,
    series: Weak<RuleSeries>,
}

static SHOWN: LazyLock<Mutex<Shown>> = LazyLock::new(Mutex::default);

fn shown() -> MutexGuard<'static, Shown> {
    SHOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn hide(labels: &Labels) {
    let values = [labels[0].as_str(), labels[1].as_str()];
    // It fails where there is none, which is what is wanted.
    let _ = RULE_MATCHES.remove_label_values(&values);
    let _ = RULE_ERRORS.remove_label_values(&values);
}

impl RuleSeries {
    /// The series of a rule; one that begins at 0 where the rule is new or says something else than the one before.
    fn of(rule: &Rule) -> Arc<Self> {
        let labels = [rule.processor.clone(), rule.name.clone()];
        let mut shown = shown();
        let entry = shown.by_labels.get(&labels).filter(|entry| entry.content == rule.content);
        if let Some(series) = entry.and_then(|entry| entry.series.upgrade()) {
            return series;
        }
        shown.last += 1;
        let number = shown.last;
        hide(&labels);
        let values = [labels[0].as_str(), labels[1].as_str()];
        let series = Arc::new(Self {
            number,
            matches: RULE_MATCHES.with_label_values(&values),
            errors: RULE_ERRORS.with_label_values(&values),
            complaints: rule.complains.then(Complaints::default),
            labels: labels.clone(),
        });
        let entry = Entry { number, content: rule.content.clone(), series: Arc::downgrade(&series) };
        shown.by_labels.insert(labels, entry);
        series
    }
}

impl RuleSeries {
    /// Tells of errors, without what the sender wrote, and once in a while: a sender decides how many there are.
    fn complain(&self, errors: u64) {
        let Some(untold) = self.complaints.as_ref().and_then(|all| all.add(errors, Instant::now())) else {
            return;
        };
        let [processor, rule] = &self.labels;
        tracing::warn!(
            %processor,
            %rule,
            errors = untold,
            "a rule could not handle values and left them as they were, as `error_mode: ignore` says; \
             `error_mode: drop_value` removes them"
        );
    }
}

/// Errors that the log is to tell of, once a [`TELL_EVERY`].
#[derive(Debug, Default)]
struct Complaints {
    untold: AtomicU64,
    last: Mutex<Option<Instant>>,
}

/// How often the log tells of one rule's errors.
const TELL_EVERY: Duration = Duration::from_mins(1);

impl Complaints {
    /// Adds errors. Says how many there were since the log told of some, where it is time to do so again.
    fn add(&self, errors: u64, now: Instant) -> Option<u64> {
        self.untold.fetch_add(errors, Ordering::Relaxed);
        // Whoever holds it is telling.
        let mut last = self.last.try_lock().ok()?;
        if last.is_some_and(|last| now.saturating_duration_since(last) < TELL_EVERY) {
            return None;
        }
        *last = Some(now);
        Some(self.untold.swap(0, Ordering::Relaxed))
    }
}

impl Drop for RuleSeries {
    fn drop(&mut self) {
        let mut shown = shown();
        if shown.by_labels.get(&self.labels).is_some_and(|entry| entry.number == self.number) {
            shown.by_labels.remove(&self.labels);
            hide(&self.labels);
        }
    }
}

#[cfg(test)]
mod tests;
