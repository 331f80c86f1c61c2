//! `tail_sampling`: whole traces are kept or dropped by what is in them.
//!
//! A batch is taken apart by trace ([`incoming`]); policies look at each span once, as it arrives, and leave bits
//! in the trace's [`summary`]. Each trace belongs to one shard, by its id; a shard is a task that owns its traces
//! and shares nothing ([`shard`]). A decision reads the summary only.
//!
//! What differs from the Collector's processor of the same name:
//! - An eviction (`num_traces`, the byte budget, `maximum_trace_size_bytes`) is a decision on what is there,
//!   never a drop without one.
//! - Late spans follow the decision, by default for ten times `num_traces` traces, known by all 16 bytes.
//! - `latency` looks at the whole trace, whatever the order of its spans.
//! - Memory is bounded in bytes: 64 KiB for each of `num_traces`, at most half of what the process may use.
//! - What is kept carries `tailsampling.policy` on its scopes; what a sender wrote there is removed.
//! - What is kept is handed on again and again for a while when the next stage is away, then counted as lost.
//!
//! A batch is acknowledged when it is in memory here. Until there is a spool, spans that wait for a decision are
//! lost with the process.

#![forbid(unsafe_code)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinHandle,
    time::{Instant, MissedTickBehavior},
};

use crate::{
    config::{Component, ConfigError, processors::TailSampling as Config},
    otlp::{Accepted, Batch, Consumer, Consuming, Refusal, RefusalKind},
    telemetry::memory,
};

mod cache;
pub(crate) mod deliver;
pub mod hash;
pub mod incoming;
mod matcher;
mod metrics;
mod outbox;
pub mod policy;
mod shard;
pub mod stamp;
pub mod summary;

use incoming::Incoming;
use metrics::Metrics;
use policy::Policies;
use shard::Shard;

/// Decisions are made at this interval, as in the Collector.
const TICK: Duration = Duration::from_secs(1);
/// How long `consume` waits for a busy shard before it refuses.
const PATIENCE_IN: Duration = Duration::from_secs(5);
/// How long kept spans are offered to a next stage that is away.
const PATIENCE_OUT: Duration = Duration::from_mins(1);
/// Memory that one trace may need, for the default budget: 100 spans of 650 bytes.
const BYTES_PER_TRACE: u64 = 64 << 10;
/// The budget where neither a cgroup nor the machine tells its memory.
const UNKNOWN_MEMORY: u64 = 512 << 20;

/// The bounds of one shard.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// `decision_wait`, ms.
    wait: u64,
    /// `decision_wait_after_root_received`, ms.
    wait_after_root: Option<u64>,
    traces: u64,
    /// Of the traces that wait.
    bytes: u64,
    /// Of one trace.
    trace_bytes: u64,
    sampled_cache: u64,
    not_sampled_cache: u64,
}

impl Limits {
    fn new(config: &Config, budget: u64, shards: u64) -> Self {
        let share = |whole: u64| whole.div_ceil(shards).max(1);
        let cache = |configured: u64| match configured {
            0 => share(config.num_traces.saturating_mul(10)),
            size => share(size),
        };
        let bytes = share(budget / 4 * 3);
        // Without a configured limit one trace may take a quarter of its shard, so that it can't push out all others.
        let trace_bytes = match config.maximum_trace_size_bytes {
            0 => bytes / 4,
            configured => configured.min(bytes),
        };
        Self {
            wait: config.decision_wait.as_millis() as u64,
            wait_after_root: Some(config.decision_wait_after_root_received.as_millis() as u64)
                .filter(|wait| *wait > 0),
            traces: share(config.num_traces),
            bytes,
            trace_bytes,
            sampled_cache: cache(config.sampled_cache_size),
            not_sampled_cache: cache(config.non_sampled_cache_size),
        }
    }
}

/// What a shard's task is told.
enum Message {
    /// Spans, and the room they took on the way.
    Spans(Vec<Incoming>, OwnedSemaphorePermit),
    /// Decide everything and end.
    Finish,
}

/// How others reach a shard.
struct Inlet {
    messages: mpsc::UnboundedSender<Message>,
    /// Bytes that may be on the way to the shard: what bounds the channel.
    room: Arc<Semaphore>,
}

/// The processor.
pub struct TailSampling {
    policies: Arc<Policies>,
    inlets: Vec<Inlet>,
    /// The permits of one inlet.
    room: u32,
    /// Spans that were acknowledged and are not yet handed on, dropped by decision or counted as lost.
    unfinished: Arc<AtomicU64>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl TailSampling {
    /// Builds the processor with all its shards on the current runtime; `shards` is at least 1.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn new(
        component: &Component<Config>,
        next: Arc<dyn Consumer>,
        shards: usize,
    ) -> Result<Self, ConfigError> {
        Self::on(component, next, &vec![Handle::current(); shards.max(1)])
    }

    /// Builds the processor with one shard on each of these runtimes.
    pub fn on(
        component: &Component<Config>,
        next: Arc<dyn Consumer>,
        runtimes: &[Handle],
    ) -> Result<Self, ConfigError> {
        let allowed = memory::limit().map_or(UNKNOWN_MEMORY, |limit| limit / 2);
        let budget = component.config.num_traces.saturating_mul(BYTES_PER_TRACE).min(allowed);
        Self::with_budget(component, next, runtimes, budget)
    }

    /// Builds the processor with a budget in bytes of its own: three quarters for traces that wait, an eighth
    /// each for what comes in and what goes out.
    #[expect(clippy::needless_pass_by_value, reason = "the constructors take what follows alike")]
    pub fn with_budget(
        component: &Component<Config>,
        next: Arc<dyn Consumer>,
        runtimes: &[Handle],
        budget: u64,
    ) -> Result<Self, ConfigError> {
        let policies = Arc::new(Policies::new(&component.config.policies)?);
        let metrics = Arc::new(Metrics::new(component.id.name.as_deref(), policies.names()));
        let limits = Limits::new(&component.config, budget, runtimes.len() as u64);
        let room = u32::try_from(budget / 8 / runtimes.len() as u64).unwrap_or(u32::MAX).max(1);
        let unfinished = Arc::new(AtomicU64::new(0));
        let (mut inlets, mut tasks) = (Vec::new(), Vec::new());
        for runtime in runtimes {
            let (messages, inbox) = mpsc::unbounded_channel();
            let (outgoing, deliveries) = mpsc::unbounded_channel();
            let task = Task {
                shard: Shard::new(Arc::clone(&policies), limits, Arc::clone(&metrics)),
                metrics: Arc::clone(&metrics),
                unfinished: Arc::clone(&unfinished),
                outgoing,
                room: Arc::new(Semaphore::new(room as usize)),
                most: room,
                load: (0, 0),
            };
            tasks.push(runtime.spawn(task.run(inbox)));
            tasks.push(runtime.spawn(hand_on(deliveries, Arc::clone(&next), Arc::clone(&unfinished))));
            inlets.push(Inlet { messages, room: Arc::new(Semaphore::new(room as usize)) });
        }
        Ok(Self { policies, inlets, room, unfinished, tasks: Mutex::new(tasks) })
    }

    /// Decides what is still buffered on what is there and hands on what is kept. What is not handed on at the
    /// deadline is counted as lost. Spans that come afterwards are refused.
    pub async fn shutdown(&self, deadline: Duration) {
        for inlet in &self.inlets {
            // A shard that has ended already has nothing left to decide.
            let _ = inlet.messages.send(Message::Finish);
        }
        let mut tasks = std::mem::take(&mut *self.tasks.lock().await);
        let ended = tokio::time::timeout(deadline, async {
            for task in &mut tasks {
                if let Err(error) = task.await {
                    tracing::error!(%error, "a tail_sampling task failed");
                }
            }
        });
        if ended.await.is_err() {
            tasks.iter().for_each(JoinHandle::abort);
        }
        let lost = self.unfinished.swap(0, Ordering::Relaxed);
        if lost > 0 {
            metrics::lost("shutdown", lost);
            tracing::warn!(spans = lost, "tail_sampling ended before all kept spans were handed on");
        }
    }

    async fn take(&self, batch: Batch) -> Result<Accepted, Refusal> {
        let mut by_shard: Vec<Vec<Incoming>> = self.inlets.iter().map(|_| Vec::new()).collect();
        let parts = incoming::by_trace(&self.policies, &batch.data, batch.context.tenant.as_ref()).map_err(
            |error| Refusal {
                kind: RefusalKind::Malformed,
                cause: error.what.cause(),
                message: error.to_string(),
            },
        )?;
        for part in parts {
            by_shard[shard_of(&part.id, self.inlets.len())].push(part);
        }
        // Room everywhere first: a batch is taken whole or not at all, so that a sender who comes again brings
        // nothing twice. All wait in the order of the shards, so that no two wait for each other.
        let permits = tokio::time::timeout(PATIENCE_IN, async {
            let mut permits = Vec::new();
            for (inlet, parts) in self.inlets.iter().zip(&by_shard).filter(|(_, parts)| !parts.is_empty()) {
                let bytes: u64 =
                    parts.iter().map(|part| part.data.len() as u64 + shard::TRACE_OVERHEAD).sum();
                let wanted = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.room);
                permits.push(Arc::clone(&inlet.room).acquire_many_owned(wanted).await.map_err(|_| ended())?);
            }
            Ok(permits)
        });
        let permits = permits.await.unwrap_or_else(|_| Err(overloaded()))?;
        // Shards end together: where one does not listen any more, none does.
        if self.inlets.iter().any(|inlet| inlet.messages.is_closed()) {
            return Err(ended());
        }
        let parts = self.inlets.iter().zip(by_shard).filter(|(_, parts)| !parts.is_empty());
        for ((inlet, parts), permit) in parts.zip(permits) {
            let spans: u64 = parts.iter().map(|part| u64::from(part.summary.spans)).sum();
            self.unfinished.fetch_add(spans, Ordering::Relaxed);
            if inlet.messages.send(Message::Spans(parts, permit)).is_err() {
                self.unfinished.fetch_sub(spans, Ordering::Relaxed);
                return Err(ended());
            }
        }
        Ok(Accepted::default())
    }
}

impl Consumer for TailSampling {
    fn consume(&self, batch: Batch) -> Consuming<'_> {
        Box::pin(self.take(batch))
    }
}

/// The shard of a trace, by the id's right half, which is the random one in every id format.
fn shard_of(id: &hash::TraceId, shards: usize) -> usize {
    let id = u128::from_be_bytes(*id) as u64;
    // Multiplied by the golden ratio, so that ids which count up spread too.
    ((u128::from(id.wrapping_mul(0x9e37_79b9_7f4a_7c15)) * shards as u128) >> 64) as usize
}

fn overloaded() -> Refusal {
    Refusal {
        kind: RefusalKind::Overloaded { retry_after: Duration::from_secs(1) },
        cause: "sampling_buffer_full",
        message: "the gateway's sampling buffer is full; retry later, or add gateway replicas".into(),
    }
}

fn ended() -> Refusal {
    Refusal {
        kind: RefusalKind::Unavailable { retry_after: Duration::from_secs(1) },
        cause: "shutting_down",
        message: "the gateway is shutting down; retry with another one".into(),
    }
}

/// A shard's task.
struct Task {
    shard: Shard,
    metrics: Arc<Metrics>,
    unfinished: Arc<AtomicU64>,
    outgoing: mpsc::UnboundedSender<(Batch, OwnedSemaphorePermit)>,
    /// Bytes that may wait to be handed on.
    room: Arc<Semaphore>,
    most: u32,
    /// Traces and bytes as last shown in the gauges.
    load: (u64, u64),
}

impl Task {
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Message>) {
        let start = Instant::now();
        let now = || start.elapsed().as_millis() as u64;
        let mut ticks = tokio::time::interval_at(start + TICK, TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            let dropped = tokio::select! {
                biased;
                _ = ticks.tick() => {
                    let begin = std::time::Instant::now();
                    let dropped = self.shard.tick(now());
                    self.metrics.decision_time.observe(begin.elapsed().as_secs_f64() * 1000.0);
                    self.shard.outbox.close();
                    dropped
                }
                message = inbox.recv() => match message {
                    Some(Message::Spans(parts, _permit)) => self.shard.arrive(parts, now()),
                    Some(Message::Finish) => {
                        inbox.close();
                        continue;
                    }
                    None => break,
                }
            };
            self.finished(dropped);
            self.send().await;
            self.show();
        }
        let dropped = self.shard.finish(now());
        self.finished(dropped);
        self.shard.outbox.close();
        self.send().await;
        self.show();
    }

    fn finished(&self, dropped: u64) {
        self.unfinished.fetch_sub(dropped, Ordering::Relaxed);
    }

    /// Passes closed batches on. When too many bytes wait there, so does this task, and then its senders.
    async fn send(&mut self) {
        while let Some(batch) = self.shard.outbox.next() {
            let wanted = u32::try_from(batch.data.len()).unwrap_or(u32::MAX).min(self.most);
            let Ok(permit) = Arc::clone(&self.room).acquire_many_owned(wanted).await else { return };
            if self.outgoing.send((batch, permit)).is_err() {
                tracing::error!("the task that hands kept traces on has ended");
                return;
            }
        }
    }

    fn show(&mut self) {
        let load = self.shard.load();
        self.metrics.on_memory.add(load.0.cast_signed() - self.load.0.cast_signed());
        self.metrics.bytes.add(load.1.cast_signed() - self.load.1.cast_signed());
        self.load = load;
    }
}

/// Hands kept spans to the next stage, one batch at a time.
async fn hand_on(
    mut batches: mpsc::UnboundedReceiver<(Batch, OwnedSemaphorePermit)>,
    next: Arc<dyn Consumer>,
    unfinished: Arc<AtomicU64>,
) {
    while let Some((batch, _permit)) = batches.recv().await {
        let spans = u64::from(batch.spans);
        match deliver::deliver(&*next, batch, PATIENCE_OUT).await {
            Ok(accepted) if accepted.rejected_spans > 0 => {
                metrics::lost("rejected", u64::from(accepted.rejected_spans));
            }
            Ok(_) => {}
            Err(refusal) => {
                metrics::lost(refusal.cause, spans);
                tracing::warn!(
                    spans,
                    cause = refusal.cause,
                    "kept spans are lost: the next stage refuses them"
                );
            }
        }
        unfinished.fetch_sub(spans, Ordering::Relaxed);
    }
}
