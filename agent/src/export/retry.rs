//! `retry_on_failure`: when to try again, and for how long.

use std::{
    hash::BuildHasher,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

use super::{failure::Failure, stop::Stop};
use crate::config::exporters::Retry;

/// What a backend may ask for at most: a `RetryInfo` of a year would otherwise hold a batch for a year where
/// `max_elapsed_time` is 0.
const LONGEST_ASKED: Duration = Duration::from_mins(5);

/// The retries of one batch, with the Collector's arithmetic: an interval that grows by `multiplier` up to
/// `max_interval`, each wait spread by `randomization_factor` around it, all within `max_elapsed_time`.
#[derive(Clone, Debug)]
pub(crate) struct Backoff<'a> {
    config: &'a Retry,
    interval: Duration,
    started: Instant,
}

impl<'a> Backoff<'a> {
    pub(crate) fn new(config: &'a Retry) -> Self {
        Self { config, interval: config.initial_interval, started: Instant::now() }
    }

    /// How long to wait after this failure, or `None` when it is the end: it is permanent, retrying is off, or
    /// the wait would pass `max_elapsed_time`. What the backend asked for is a floor, as in the Collector.
    pub(crate) fn next(&mut self, failure: &Failure) -> Option<Duration> {
        if failure.is_permanent() || !self.config.enabled {
            return None;
        }
        let wait = spread(self.interval, self.config.randomization_factor, random());
        let grown = self.interval.as_secs_f64() * self.config.multiplier.max(1.0);
        self.interval = Duration::try_from_secs_f64(grown)
            .map_or(self.config.max_interval, |grown| grown.min(self.config.max_interval));
        let wait = wait.max(failure.retry_after().unwrap_or_default().min(LONGEST_ASKED));
        let limit = self.config.max_elapsed_time;
        (limit.is_zero() || self.started.elapsed() + wait <= limit).then_some(wait)
    }

    /// Waits; `false` when the exporter stops first.
    pub(crate) async fn wait(wait: Duration, stop: &Stop) -> bool {
        if stop.is_set() {
            return false;
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => true,
            () = stop.wait() => false,
        }
    }
}

/// `interval` times a factor between `1 - factor` and `1 + factor`; `random` is uniform in 0..1.
fn spread(interval: Duration, factor: f64, random: f64) -> Duration {
    let factor = factor.clamp(0.0, 1.0);
    interval.mul_f64(1.0 - factor + 2.0 * factor * random)
}

/// Uniform in 0..1. Only keeps agents from retrying in step, so a keyed hash of a counter is random enough.
pub(crate) fn random() -> f64 {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    thread_local!(static KEYS: std::hash::RandomState = std::hash::RandomState::new());
    let bits = KEYS.with(|keys| keys.hash_one(CALLS.fetch_add(1, Ordering::Relaxed)));
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::{super::failure::FailureKind, *};

    fn config() -> Retry {
        Retry {
            enabled: true,
            initial_interval: Duration::from_secs(5),
            randomization_factor: 0.0,
            multiplier: 1.5,
            max_interval: Duration::from_secs(10),
            max_elapsed_time: Duration::from_mins(1),
        }
    }

    fn after(seconds: Option<u64>) -> Failure {
        Failure {
            kind: FailureKind::Unavailable(seconds.map(Duration::from_secs)),
            cause: "test",
            message: String::new(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn waits_grow_to_the_limit_and_end() {
        let config = config();
        let mut backoff = Backoff::new(&config);
        let mut waits = Vec::new();
        while let Some(wait) = backoff.next(&after(None)) {
            waits.push(wait.as_secs_f64());
            tokio::time::sleep(wait).await;
        }
        assert_eq!(waits, [5.0, 7.5, 10.0, 10.0, 10.0, 10.0]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_backend_asks_for_is_a_bounded_floor() {
        let mut config = config();
        config.max_elapsed_time = Duration::ZERO;
        let next = |asked| Backoff::new(&config).next(&after(asked)).map(|w| w.as_secs());
        assert_eq!(next(Some(17)), Some(17));
        assert_eq!(next(Some(1)), Some(5));
        assert_eq!(next(Some(u64::MAX)), Some(300));
        config.max_elapsed_time = Duration::from_secs(16);
        assert_eq!(Backoff::new(&config).next(&after(Some(17))), None, "it would come too late");
    }

    #[test]
    fn permanent_or_off_is_the_end() {
        let mut config = config();
        assert_eq!(Backoff::new(&config).next(&Failure::permanent("test", "")), None);
        config.enabled = false;
        assert_eq!(Backoff::new(&config).next(&after(Some(1))), None);
    }

    #[test]
    fn waits_are_spread_around_the_interval() {
        let ten = Duration::from_secs(10);
        assert_eq!(spread(ten, 0.5, 0.0), Duration::from_secs(5));
        assert_eq!(spread(ten, 0.5, 0.5), ten);
        assert!((0..1000).map(|_| random()).all(|r| (0.0..1.0).contains(&r)));
    }
}
