//! What the pipeline calls: acknowledges on delivery, or on enqueueing where a `sending_queue` is configured.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    Deliver, Exporter, Leaf, StartError, Starting, Stopping, failure::Failure, meter::Meter, queue::Queue,
    retry::Backoff, stop::Stop,
};
use crate::{
    config::{
        Component,
        exporters::{Retry, SendingQueue},
    },
    otlp::{Accepted, Batch, Consumer, Consuming, Refusal},
};

/// A leaf with `retry_on_failure`.
pub(super) struct Retrying<L> {
    leaf: L,
    retry: Option<Retry>,
    meter: Meter,
    stop: Stop,
}

impl<L: Leaf> Retrying<L> {
    pub(super) fn new(leaf: L, retry: Retry, meter: Meter, stop: Stop) -> Self {
        Self { leaf, retry: Some(retry), meter, stop }
    }

    /// For leaves whose failures are the sender's to retry.
    pub(super) fn once(leaf: L, meter: Meter, stop: Stop) -> Self {
        Self { leaf, retry: None, meter, stop }
    }

    async fn until_done(&self, batch: &Batch) -> Result<Accepted, Failure> {
        let mut backoff = self.retry.as_ref().map(Backoff::new);
        loop {
            let failure = match self.leaf.send(batch).await {
                Ok(accepted) => return Ok(accepted),
                Err(failure) => failure,
            };
            let wait = backoff.as_mut().and_then(|backoff| backoff.next(&failure));
            let Some(wait) = wait else { return Err(failure) };
            self.meter.retry(failure.cause);
            if !Backoff::wait(wait, &self.stop).await {
                return Err(failure);
            }
        }
    }
}

impl<L: Leaf> Deliver for Retrying<L> {
    async fn start(&self) -> Result<(), String> {
        self.leaf.start().await
    }

    async fn deliver(&self, batch: &Batch) -> Result<Accepted, Failure> {
        let result = self.until_done(batch).await;
        match &result {
            Ok(accepted) => self.meter.sent(batch.spans, accepted.rejected_spans),
            Err(_) => self.meter.failed(batch.spans),
        }
        result
    }

    async fn close(&self) {
        self.leaf.close().await;
    }
}

/// An exporter as the pipeline sees it.
pub(super) struct Front<D> {
    deliver: Arc<D>,
    queue: Option<Queue>,
    meter: Meter,
    stop: Stop,
}

impl<D: Deliver> Front<D> {
    pub(super) fn build<T>(
        component: &Component<T>,
        queue: Option<&SendingQueue>,
        deliver: impl FnOnce(Meter, Stop) -> D,
    ) -> Arc<dyn Exporter> {
        let meter = Meter::new(component.id.to_string());
        let stop = Stop::new();
        let queue = queue.map(|config| Queue::new(config, meter.clone()));
        Arc::new(Self { deliver: Arc::new(deliver(meter.clone(), stop.clone())), queue, meter, stop })
    }
}

impl<D: Deliver> Consumer for Front<D> {
    fn consume(&self, batch: Batch) -> Consuming<'_> {
        Box::pin(async move {
            let result = match &self.queue {
                Some(queue) => queue.put(batch),
                None => self.deliver.deliver(&batch).await.map_err(Refusal::from),
            };
            if let Err(refusal) = &result {
                self.meter.refused(refusal.cause);
            }
            result
        })
    }
}

impl<D: Deliver> Exporter for Front<D> {
    fn start(&self) -> Starting<'_> {
        Box::pin(async {
            let exporter = || self.meter.exporter().to_owned();
            self.deliver.start().await.map_err(|message| StartError { exporter: exporter(), message })?;
            if let Some(queue) = &self.queue {
                queue.start(&self.deliver);
            }
            Ok(())
        })
    }

    fn shutdown(&self, deadline: Instant) -> Stopping<'_> {
        Box::pin(async move {
            self.stop.set();
            if let Some(queue) = &self.queue {
                queue.drain(deadline).await;
            }
            let _ = tokio::time::timeout_at(deadline, self.deliver.close()).await;
        })
    }
}
