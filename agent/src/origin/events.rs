//! Writes Kubernetes Events (`events.k8s.io/v1`) on pods: one a pod and reason an hour, and few a node.
//!
//! Whoever reports never waits: what is too much is counted and dropped. The words are ours ([`Event::note`]); names are
//! checked before they go into a URL.

#![forbid(unsafe_code)]

mod gate;
mod post;

use std::{
    io,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    thread,
    time::Instant,
};

use tokio::{runtime::Builder, sync::mpsc};

use crate::{
    config::extensions::ApiClient,
    telemetry::{
        events::{Event, Sink},
        metrics::{Counters, counter},
    },
    transport::http::HttpError,
};
use gate::Gate;
use post::Poster;

/// Events that wait for the API server. More than the bucket gives at once.
const QUEUE: usize = 64;

static EVENTS: LazyLock<Counters> = LazyLock::new(|| {
    counter(
        "spanwarden_events",
        "Kubernetes Events on pods, by result: written; repeated (the pod had one for this reason within the hour); \
         throttled, queue_full (too many); bad_name; forbidden (RBAC), namespace_gone, failed (not written).",
        &["reason", "result"],
    )
});

/// Writes Events from a thread of its own.
#[derive(Debug)]
pub struct Writer {
    gate: Arc<Mutex<Gate>>,
    queue: mpsc::Sender<Event>,
}

impl Writer {
    /// Starts it, after capabilities were dropped. It ends when it is dropped.
    pub fn start(configured: &ApiClient) -> Result<Self, StartError> {
        let poster = Poster::new(configured)?;
        let (queue, mut reports) = mpsc::channel::<Event>(QUEUE);
        let gate = Arc::new(Mutex::new(Gate::new(Instant::now())));
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let shared = Arc::clone(&gate);
        thread::Builder::new().name("events".to_owned()).spawn(move || {
            runtime.block_on(async {
                let mut said = None;
                while let Some(event) = reports.recv().await {
                    let result = poster.write(&event, &mut said).await;
                    EVENTS.with_label_values(&[event.reason.as_str(), result]).inc();
                    if result != "written" {
                        // The next of its kind may have more luck.
                        shared.lock().unwrap_or_else(PoisonError::into_inner).forget(&event);
                    }
                }
            });
            runtime.shutdown_background();
        })?;
        Ok(Self { gate, queue })
    }
}

impl Sink for Writer {
    fn report(&self, event: Event) {
        let reason = event.reason.as_str();
        let refuse = |result| EVENTS.with_label_values(&[reason, result]).inc();
        if !post::has_good_names(&event) {
            return refuse("bad_name");
        }
        let admitted = {
            let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
            gate.admit(&event, Instant::now())
        };
        if let Err(result) = admitted {
            return refuse(result);
        }
        if let Err(mpsc::error::TrySendError::Full(event) | mpsc::error::TrySendError::Closed(event)) =
            self.queue.try_send(event)
        {
            self.gate.lock().unwrap_or_else(PoisonError::into_inner).forget(&event);
            refuse("queue_full");
        }
    }
}

/// Why Events can't be written.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The client can't be made.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// No thread.
    #[error("cannot start the thread that writes Events: {0}")]
    Thread(#[from] io::Error),
}
