//! The end of an exporter, as its waiting parts hear of it.

use tokio::sync::watch;

/// Set once, by `shutdown`. After that nobody waits to retry.
#[derive(Clone, Debug)]
pub(crate) struct Stop(watch::Sender<bool>);

impl Stop {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    pub(crate) fn set(&self) {
        self.0.send_replace(true);
    }

    pub(crate) fn is_set(&self) -> bool {
        *self.0.borrow()
    }

    /// Resolves when it is set.
    pub(crate) async fn wait(&self) {
        // The sender is in `self`, so that the channel can't close meanwhile.
        let _ = self.0.subscribe().wait_for(|set| *set).await;
    }
}
