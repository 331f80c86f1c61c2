//! The signal to drain, shared by every worker and connection of a process.

#![forbid(unsafe_code)]

use std::time::Duration;

use tokio::{sync::watch, time::Instant};

/// Starts the drain. Dropping it without [`Trigger::drain`] drains at once, without grace.
#[derive(Debug)]
pub struct Trigger(watch::Sender<Option<Instant>>);

/// What everything that serves waits on. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<Option<Instant>>);

/// A trigger and its signal.
pub fn channel() -> (Trigger, Shutdown) {
    let (sender, receiver) = watch::channel(None);
    (Trigger(sender), Shutdown(receiver))
}

impl Trigger {
    /// Asks everybody to stop taking new work and to finish what is in flight within `grace`. A second call
    /// replaces the deadline only for those who have not seen the first.
    pub fn drain(&self, grace: Duration) {
        self.0.send_replace(Some(Instant::now() + grace));
    }
}

impl Shutdown {
    /// Resolves when the drain starts, with the time at which what is still open is cut.
    pub async fn requested(&mut self) -> Instant {
        match self.0.wait_for(Option::is_some).await {
            Ok(deadline) => deadline.unwrap_or_else(Instant::now),
            Err(_) => Instant::now(),
        }
    }

    /// Whether the drain has started.
    pub fn is_requested(&self) -> bool {
        self.0.borrow().is_some() || self.0.has_changed().is_err()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_clone_sees_the_same_deadline() {
        let (trigger, shutdown) = channel();
        let mut clones = [shutdown.clone(), shutdown.clone()];
        assert!(!shutdown.is_requested());
        let before = Instant::now();
        trigger.drain(Duration::from_secs(3));
        assert!(clones.iter().all(Shutdown::is_requested));
        let deadline = clones[0].requested().await;
        assert!(deadline >= before + Duration::from_secs(3));
        assert_eq!(clones[1].requested().await, deadline);
    }

    #[tokio::test]
    async fn a_dropped_trigger_drains_at_once() {
        let (trigger, mut shutdown) = channel();
        drop(trigger);
        assert!(shutdown.is_requested());
        assert!(shutdown.requested().await <= Instant::now());
    }
}
