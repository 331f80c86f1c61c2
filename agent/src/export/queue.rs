//! `sending_queue`: a bounded queue in memory. What is in it is acknowledged but not delivered, so it is lost
//! when the process dies; that is why there is none unless it is configured.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use prometheus::IntGauge;
use tokio::{sync::mpsc, task::JoinSet, time::Instant};

use super::{Deliver, meter::Meter};
use crate::{
    config::exporters::SendingQueue,
    otlp::{Accepted, Batch, Refusal, RefusalKind},
};

/// When a sender that found the queue full may come back.
const FULL_RETRY: Duration = Duration::from_secs(1);

/// The queue of one exporter.
pub(super) struct Queue {
    /// Absent before the start and after the end.
    sender: Mutex<Option<mpsc::Sender<Batch>>>,
    workers: Mutex<JoinSet<()>>,
    consumers: u32,
    capacity: u64,
    shared: Arc<Shared>,
    meter: Meter,
}

struct Shared {
    /// Requests waiting or being sent.
    size: IntGauge,
    /// Their spans.
    spans: AtomicU64,
}

impl Queue {
    pub(super) fn new(config: &SendingQueue, meter: Meter) -> Self {
        let capacity = config.queue_size.clamp(1, 1 << 24);
        let shared = Arc::new(Shared { size: meter.queue(capacity), spans: AtomicU64::new(0) });
        Self {
            sender: Mutex::default(),
            workers: Mutex::default(),
            consumers: config.num_consumers.max(1),
            capacity,
            shared,
            meter,
        }
    }

    /// Starts the consumers on the current runtime.
    pub(super) fn start<D: Deliver>(&self, deliver: &Arc<D>) {
        let (sender, receiver) = mpsc::channel(self.capacity as usize);
        let receiver = Arc::new(tokio::sync::Mutex::new(receiver));
        let mut workers = JoinSet::new();
        for _ in 0..self.consumers {
            let (receiver, deliver) = (Arc::clone(&receiver), Arc::clone(deliver));
            let (shared, meter) = (Arc::clone(&self.shared), self.meter.clone());
            workers.spawn(async move {
                loop {
                    let next = receiver.lock().await.recv().await;
                    let Some(batch) = next else { break };
                    if let Err(failure) = deliver.deliver(&batch).await {
                        meter.refused(failure.cause);
                        tracing::error!(
                            exporter = meter.exporter(),
                            spans = batch.spans,
                            cause = failure.cause,
                            error = failure.message,
                            "queued spans are lost: they could not be delivered"
                        );
                    }
                    shared.size.dec();
                    shared.spans.fetch_sub(u64::from(batch.spans), Ordering::Relaxed);
                }
            });
        }
        *lock(&self.workers) = workers;
        *lock(&self.sender) = Some(sender);
    }

    /// Takes a batch for later, or refuses it when the queue is full.
    pub(super) fn put(&self, batch: Batch) -> Result<Accepted, Refusal> {
        let spans = batch.spans;
        let Some(sender) = lock(&self.sender).clone() else {
            return Err(self.refuse(
                spans,
                RefusalKind::Unavailable { retry_after: super::failure::RETRY_AFTER },
                "shutdown",
                "this exporter is not running; try again when it is",
            ));
        };
        match sender.try_reserve() {
            Ok(room) => {
                self.shared.size.inc();
                self.shared.spans.fetch_add(u64::from(spans), Ordering::Relaxed);
                room.send(batch);
                Ok(Accepted::default())
            }
            Err(_) => Err(self.refuse(
                spans,
                RefusalKind::Overloaded { retry_after: FULL_RETRY },
                "queue_full",
                "the sending queue is full; send less, or raise sending_queue.queue_size",
            )),
        }
    }

    fn refuse(&self, spans: u32, kind: RefusalKind, cause: &'static str, message: &str) -> Refusal {
        self.meter.enqueue_failed(spans);
        Refusal { kind, cause, message: message.to_owned() }
    }

    /// Takes no more and sends off what is there, until the deadline. The rest is counted as failed.
    pub(super) async fn drain(&self, deadline: Instant) {
        drop(lock(&self.sender).take());
        let mut workers = std::mem::take(&mut *lock(&self.workers));
        let all = async { while workers.join_next().await.is_some() {} };
        if tokio::time::timeout_at(deadline, all).await.is_ok() {
            return;
        }
        workers.shutdown().await;
        let spans = self.shared.spans.swap(0, Ordering::Relaxed);
        self.shared.size.set(0);
        self.meter.failed(u32::try_from(spans).unwrap_or(u32::MAX));
        self.meter.refused("shutdown");
        tracing::error!(
            exporter = self.meter.exporter(),
            spans,
            "queued spans are lost: shut down before they were sent"
        );
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
