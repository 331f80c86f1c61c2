//! The two clocks: the world's for what tokens say, and one that only goes forward for what is cached.

#![forbid(unsafe_code)]

use std::time::{Duration, Instant, SystemTime};

/// Tells the time; tests put it forward.
#[derive(Clone, Debug)]
pub(super) struct Clock {
    started: Instant,
    #[cfg(test)]
    ahead: std::sync::Arc<std::sync::atomic::AtomicU64>,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            #[cfg(test)]
            ahead: std::sync::Arc::default(),
        }
    }

    /// Since this clock was made.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed() + self.ahead()
    }

    /// Since 1970.
    pub(super) fn unix(&self) -> Duration {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default() + self.ahead()
    }

    #[cfg(not(test))]
    #[allow(clippy::unused_self, reason = "tests have a clock that can be put forward")]
    fn ahead(&self) -> Duration {
        Duration::ZERO
    }

    #[cfg(test)]
    fn ahead(&self) -> Duration {
        Duration::from_millis(self.ahead.load(std::sync::atomic::Ordering::Relaxed))
    }

    /// Puts both forward.
    #[cfg(test)]
    pub(super) fn advance(&self, by: Duration) {
        self.ahead.fetch_add(by.as_millis() as u64, std::sync::atomic::Ordering::Relaxed);
    }
}
