//! Whom limits are counted for, and how fast somebody may do something.

#![forbid(unsafe_code)]

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use crate::origin::Origin;

/// A sender as limits know it: the pod, whatever its containers and cgroups; else the opener's cgroup; else the peer's
/// address, where that is all we know.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Source {
    Pod(String),
    Cgroup(u64),
    Address(IpAddr),
}

impl From<&Origin> for Source {
    fn from(origin: &Origin) -> Self {
        match (&origin.pod_uid, &origin.process) {
            (Some(uid), _) => Self::Pod(uid.clone()),
            (None, Some(process)) => Self::Cgroup(process.cgroup_id),
            (None, None) => Self::Address(origin.peer.ip().to_canonical()),
        }
    }
}

/// A rate with bursts: the generic cell rate algorithm of ATM (ITU-T I.371), which needs one number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    /// Between two of them in the long run.
    every: Duration,
    /// How far ahead of that one may be.
    ahead: Duration,
}

impl Rate {
    /// So many a second, and ten seconds' worth at once after a time of silence.
    pub(super) fn per_second(count: u32) -> Self {
        let every = Duration::from_secs(1) / count.max(1);
        Self { every, ahead: every * count.max(1) * 10 }
    }
}

/// How far somebody is with a [`Rate`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// When all is forgotten.
    due: Instant,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { due: now }
    }

    /// How long the next one would have to wait.
    pub(super) fn wait(&self, rate: Rate, now: Instant) -> Duration {
        self.due.saturating_duration_since(now).saturating_sub(rate.ahead)
    }

    /// Counts one, unless it would have to wait for more than `patience`: then `None`.
    pub(super) fn take(&mut self, rate: Rate, patience: Duration, now: Instant) -> Option<Duration> {
        let wait = self.wait(rate, now);
        if wait > patience {
            return None;
        }
        self.due = self.due.max(now) + rate.every;
        Some(wait)
    }

    /// Whether nothing of it matters any more.
    pub(super) fn is_idle(&self, now: Instant) -> bool {
        self.due <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_one_source_whatever_it_opens_connections_from() {
        let pod = |uid: Option<&str>, last: u8| {
            let peer = ([10, 0, 0, last], 1).into();
            Source::from(&Origin { pod_uid: uid.map(str::to_owned), ..Origin::unknown(peer) })
        };
        assert_eq!(pod(Some("a"), 1), pod(Some("a"), 2));
        assert_ne!(pod(Some("a"), 1), pod(Some("b"), 1));
        assert_ne!(pod(None, 1), pod(None, 2));
        let mapped = Origin::unknown("[::ffff:10.0.0.1]:9".parse().unwrap());
        assert_eq!(Source::from(&mapped), pod(None, 1));
    }

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let (rate, start) = (Rate::per_second(10), Instant::now());
        let mut pace = Pace::new(start);
        let none = Duration::ZERO;
        // Ten seconds' worth, and the one that is due anyway.
        for _ in 0..=100 {
            assert_eq!(pace.take(rate, none, start), Some(none));
        }
        assert_eq!(pace.take(rate, none, start), None);
        assert_eq!(pace.take(rate, Duration::from_secs(1), start), Some(Duration::from_millis(100)));
        assert_eq!(pace.wait(rate, start), Duration::from_millis(200));
        let later = start + Duration::from_secs(1);
        assert_eq!(pace.wait(rate, later), none);
        assert!(!pace.is_idle(later) && pace.is_idle(start + Duration::from_secs(11)));
    }

    /// Over any time, no more than the rate and one burst.
    #[test]
    fn in_the_long_run_it_is_the_rate() {
        let (rate, start) = (Rate::per_second(100), Instant::now());
        let mut pace = Pace::new(start);
        let passed = (0..60_000u64)
            .filter(|ms| pace.take(rate, Duration::ZERO, start + Duration::from_millis(*ms)).is_some())
            .count();
        assert!((6_900..=7_002).contains(&passed), "{passed}");
    }
}
