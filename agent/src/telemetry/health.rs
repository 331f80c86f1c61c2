//! Liveness and readiness.
//!
//! Ready means: every listener is bound, the program is not draining, and every condition that was registered
//! holds (kernel evidence, where it is required). Live means that every worker thread still turns its loop.
#![forbid(unsafe_code)]

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// A worker that has not turned its loop for this long counts as stuck. Workers beat once a second, and no
/// request is allowed to hold a worker for even one.
const STUCK_AFTER: Duration = Duration::from_secs(30);

type Check = Box<dyn Fn() -> bool + Send + Sync>;

/// The state of this process, shared by everything that has a say in it.
pub struct Health {
    started: Instant,
    accepting: AtomicBool,
    draining: AtomicBool,
    conditions: Mutex<Vec<(&'static str, Check)>>,
    remarks: Mutex<Vec<(&'static str, Check)>>,
    workers: Mutex<Vec<(String, Arc<AtomicU64>)>>,
}

/// What a worker calls as it turns its loop.
#[derive(Clone)]
pub struct Heartbeat {
    started: Instant,
    beat: Arc<AtomicU64>,
}

impl Heartbeat {
    /// Says that the worker is alive now.
    pub fn beat(&self) {
        self.beat.store(self.started.elapsed().as_secs(), Ordering::Relaxed);
    }
}

impl Default for Health {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            accepting: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            conditions: Mutex::default(),
            remarks: Mutex::default(),
            workers: Mutex::default(),
        }
    }
}

impl Health {
    /// Adds a condition of readiness; `what` is shown to the operator while it does not hold.
    pub fn require(&self, what: &'static str, check: impl Fn() -> bool + Send + Sync + 'static) {
        self.conditions.lock().unwrap_or_else(PoisonError::into_inner).push((what, Box::new(check)));
    }

    /// Adds something that should hold and without which the program is ready all the same; `what` is shown while it
    /// does not hold.
    pub fn remark(&self, what: &'static str, check: impl Fn() -> bool + Send + Sync + 'static) {
        self.remarks.lock().unwrap_or_else(PoisonError::into_inner).push((what, Box::new(check)));
    }

    /// What should hold and does not.
    pub fn remarks(&self) -> Vec<&'static str> {
        let remarks = self.remarks.lock().unwrap_or_else(PoisonError::into_inner);
        remarks.iter().filter(|(_, holds)| !holds()).map(|(what, _)| *what).collect()
    }

    /// Adds a worker to watch.
    pub fn worker(&self, name: String) -> Heartbeat {
        let beat = Arc::new(AtomicU64::new(self.started.elapsed().as_secs()));
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).push((name, Arc::clone(&beat)));
        Heartbeat { started: self.started, beat }
    }

    /// All listeners are bound.
    pub fn accepting(&self) {
        self.accepting.store(true, Ordering::Release);
    }

    /// Shutdown has begun.
    pub fn draining(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// `Ok` when ready, otherwise what is missing.
    pub fn ready(&self) -> Result<(), Vec<&'static str>> {
        let mut missing = Vec::new();
        if self.draining.load(Ordering::Acquire) {
            missing.push("shutting down");
        }
        if !self.accepting.load(Ordering::Acquire) {
            missing.push("listeners are not bound yet");
        }
        let conditions = self.conditions.lock().unwrap_or_else(PoisonError::into_inner);
        missing.extend(conditions.iter().filter(|(_, holds)| !holds()).map(|(what, _)| *what));
        if missing.is_empty() { Ok(()) } else { Err(missing) }
    }

    /// `Ok` when every worker turns its loop, otherwise the names of those that do not.
    pub fn live(&self) -> Result<(), Vec<String>> {
        let now = self.started.elapsed().as_secs();
        let stuck: Vec<String> = self
            .workers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .filter(|(_, beat)| now.saturating_sub(beat.load(Ordering::Relaxed)) > STUCK_AFTER.as_secs())
            .map(|(name, _)| name.clone())
            .collect();
        if stuck.is_empty() { Ok(()) } else { Err(stuck) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_needs_listeners_and_every_condition_and_ends_with_draining() {
        let health = Health::default();
        assert_eq!(health.ready(), Err(vec!["listeners are not bound yet"]));
        health.accepting();
        assert_eq!(health.ready(), Ok(()));
        let alive = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&alive);
        health.require("kernel evidence", move || seen.load(Ordering::Relaxed));
        assert_eq!(health.ready(), Err(vec!["kernel evidence"]));
        alive.store(true, Ordering::Relaxed);
        assert_eq!(health.ready(), Ok(()));
        health.draining();
        assert_eq!(health.ready(), Err(vec!["shutting down"]));
    }

    #[test]
    fn a_remark_is_shown_and_refuses_nothing() {
        let health = Health::default();
        health.accepting();
        let known = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&known);
        health.remark("no pods yet", move || seen.load(Ordering::Relaxed));
        assert_eq!((health.ready(), health.remarks()), (Ok(()), vec!["no pods yet"]));
        known.store(true, Ordering::Relaxed);
        assert!(health.remarks().is_empty());
    }

    #[test]
    fn a_worker_that_does_not_beat_is_named() {
        let long_ago = Instant::now().checked_sub(Duration::from_secs(100)).unwrap();
        let health = Health { started: long_ago, ..Health::default() };
        let first = health.worker("worker-0".into());
        let second = health.worker("worker-1".into());
        assert_eq!(health.live(), Ok(()));
        first.beat.store(10, Ordering::Relaxed);
        second.beat();
        assert_eq!(health.live(), Err(vec!["worker-0".to_owned()]));
    }
}
