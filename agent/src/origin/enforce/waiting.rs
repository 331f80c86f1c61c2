//! Findings of pods that nobody knows yet: in a pod's first seconds its names and labels may be late.

#![forbid(unsafe_code)]

use super::policies::Verdict;
use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How many are kept; the oldest goes first.
const KEPT: usize = 256;
/// For how long.
const KEPT_FOR: Duration = Duration::from_secs(30);

/// What waits for its pod to become known.
#[derive(Debug)]
pub(super) struct Waiting<T> {
    kept: Mutex<VecDeque<Kept<T>>>,
}

#[derive(Debug)]
struct Kept<T> {
    since: Instant,
    uid: String,
    what: T,
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self { kept: Mutex::default() }
    }
}

impl<T> Waiting<T> {
    /// Keeps `what`, of the pod with this uid.
    pub(super) fn keep(&self, uid: &str, what: T) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT {
            kept.pop_front();
        }
        kept.push_back(Kept { since: Instant::now(), uid: uid.to_owned(), what });
    }

    /// Asks of everything that waits; what is [`Verdict::Unknown`] goes on waiting.
    pub(super) fn decide(&self, mut verdict: impl FnMut(&str, &T) -> Verdict) {
        let asked = std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner));
        let mut still: VecDeque<_> = asked
            .into_iter()
            .filter(|kept| kept.since.elapsed() < KEPT_FOR)
            .filter(|kept| verdict(&kept.uid, &kept.what) == Verdict::Unknown)
            .collect();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        still.append(&mut kept);
        let surplus = still.len().saturating_sub(KEPT);
        still.drain(..surplus);
        *kept = still;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_decided_waits_no_longer_and_the_oldest_makes_room() {
        let waiting = Waiting::default();
        for number in 0..KEPT + 2 {
            waiting.keep(if number % 2 == 0 { "even" } else { "odd" }, number);
        }
        let mut asked = Vec::new();
        waiting.decide(|uid, &number| {
            asked.push(number);
            if uid == "odd" { Verdict::Unknown } else { Verdict::Blocked }
        });
        assert_eq!(asked, (2..KEPT + 2).collect::<Vec<_>>());
        // Something comes while it is being decided.
        let mut asked = Vec::new();
        waiting.decide(|_, &number| {
            if asked.is_empty() {
                waiting.keep("odd", 1_000);
            }
            asked.push(number);
            Verdict::Unknown
        });
        assert_eq!(asked.len(), KEPT / 2);
        let mut last = 0;
        waiting.decide(|_, &number| {
            last = number;
            Verdict::Passes
        });
        assert_eq!(last, 1_000);
        waiting.decide(|_, _| panic!("nothing waits"));
    }
}
