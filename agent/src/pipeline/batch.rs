//! `batch`: joins small requests to larger ones.
//!
//! A request is one repeated field, so joining is joining bytes. Each thread that sends has an accumulator of its
//! own, on its own runtime, so that nothing moves between cores.
//!
//! A batch is acknowledged when it is in memory here, and memory here is bounded by bytes: a sender waits for
//! room, and then is told to come again. Until there is a spool, what is in memory is lost with the process; what
//! the next stage refuses for good is counted as `spanwarden_batch_lost_spans`.

#![forbid(unsafe_code)]

use std::{
    collections::VecDeque,
    sync::{
        Arc, LazyLock, OnceLock, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use prometheus::{Histogram, IntCounter};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::{JoinHandle, JoinSet},
    time::Instant,
};

use crate::{
    auth::Tenant,
    config::{Component, processors::BatchProcessor as Config},
    otlp::{
        Accepted, Batch, Consumer, Consuming, Context, Refusal, RefusalKind,
        split::{Routed, Splitter},
    },
    sampling::deliver::deliver,
    telemetry::{
        memory,
        metrics::{Counters, Histograms, counter, histogram},
    },
};

static SEND_SIZE: LazyLock<Histograms> = LazyLock::new(|| {
    histogram(
        "otelcol_processor_batch_batch_send_size",
        "Spans in each batch that was sent.",
        &["processor"],
        &[
            10.0, 25.0, 50.0, 75.0, 100.0, 250.0, 500.0, 750.0, 1000.0, 2000.0, 3000.0, 4000.0, 5000.0,
            6000.0, 7000.0, 8000.0, 9000.0, 10000.0, 20000.0, 30000.0, 50000.0, 100_000.0,
        ],
    )
});
static SIZE_TRIGGER: LazyLock<Counters> = LazyLock::new(|| {
    counter(
        "otelcol_processor_batch_batch_size_trigger_send",
        "Batches sent because they were full.",
        &["processor"],
    )
});
static TIMEOUT_TRIGGER: LazyLock<Counters> = LazyLock::new(|| {
    counter(
        "otelcol_processor_batch_timeout_trigger_send",
        "Batches sent because the timeout was over.",
        &["processor"],
    )
});
static LOST: LazyLock<Counters> = LazyLock::new(|| {
    counter(
        "spanwarden_batch_lost_spans",
        "Acknowledged spans that the next stage refused for good, or that were left at the shutdown's deadline.",
        &["processor", "cause"],
    )
});

/// How long `consume` waits for room before it refuses.
const PATIENCE_IN: Duration = Duration::from_secs(5);
/// How long a batch is offered to a next stage that is away; the exporter has done its own retries by then.
const PATIENCE_OUT: Duration = Duration::from_mins(1);
/// Batches on the way to the next stage at a time, for each accumulator.
const IN_FLIGHT: usize = 8;
/// Most bytes held by one processor, where memory allows: an eighth of what the process may use.
const MAX_BYTES: u64 = 256 << 20;
/// Held where neither a cgroup nor the machine tells its memory.
const UNKNOWN_BYTES: u64 = 64 << 20;
/// What a small request costs at least, so that empty ones are bounded too.
const MIN_COST: usize = 512;

/// The processor.
pub struct BatchProcessor {
    shared: Arc<Shared>,
    /// One for each thread that sends; started at its first batch.
    accumulators: Vec<OnceLock<mpsc::UnboundedSender<Message>>>,
    tasks: std::sync::Mutex<Vec<JoinHandle<()>>>,
}

enum Message {
    Batch(Batch, OwnedSemaphorePermit),
    Finish,
}

/// What the accumulators share.
struct Shared {
    config: Config,
    name: String,
    next: Arc<dyn Consumer>,
    /// Bytes that may be held.
    room: Arc<Semaphore>,
    most: u32,
    /// Spans acknowledged and not yet sent or counted as lost.
    unfinished: AtomicU64,
    sizes: Histogram,
    size_trigger: IntCounter,
    timeout_trigger: IntCounter,
}

impl BatchProcessor {
    /// Builds the processor. Its tasks start on the runtimes that send to it.
    pub fn new(component: &Component<Config>, next: Arc<dyn Consumer>) -> Self {
        let bytes = memory::limit().map_or(UNKNOWN_BYTES, |limit| (limit / 8).min(MAX_BYTES));
        Self::holding(component, next, bytes)
    }

    /// Builds the processor with a bound of its own on the bytes that it holds.
    pub fn holding(component: &Component<Config>, next: Arc<dyn Consumer>, bytes: u64) -> Self {
        let name = component.id.to_string();
        let most = u32::try_from(bytes).unwrap_or(u32::MAX).max(1);
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            accumulators: (0..threads).map(|_| OnceLock::new()).collect(),
            tasks: std::sync::Mutex::default(),
            shared: Arc::new(Shared {
                config: component.config.clone(),
                next,
                room: Arc::new(Semaphore::new(most as usize)),
                most,
                unfinished: AtomicU64::new(0),
                sizes: SEND_SIZE.with_label_values(&[&name]),
                size_trigger: SIZE_TRIGGER.with_label_values(&[&name]),
                timeout_trigger: TIMEOUT_TRIGGER.with_label_values(&[&name]),
                name,
            }),
        }
    }

    /// Sends what is held. What is not sent at the deadline is counted as lost; spans that come afterwards are
    /// refused. The runtimes that sent must still be running.
    pub async fn shutdown(&self, deadline: Duration) {
        self.shared.room.close();
        for accumulator in self.accumulators.iter().filter_map(OnceLock::get) {
            // One that has ended holds nothing.
            let _ = accumulator.send(Message::Finish);
        }
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        let ended = tokio::time::timeout(deadline, async {
            for task in &mut tasks {
                if let Err(error) = task.await {
                    tracing::error!(%error, "a task of the batch processor failed");
                }
            }
        });
        if ended.await.is_err() {
            tasks.iter().for_each(JoinHandle::abort);
        }
        let lost = self.shared.unfinished.swap(0, Ordering::Relaxed);
        if lost > 0 {
            self.shared.lost("shutdown", lost);
        }
    }

    async fn take(&self, batch: Batch) -> Result<Accepted, Refusal> {
        if batch.spans == 0 {
            return Ok(Accepted::default());
        }
        let cost = u32::try_from(batch.data.len().max(MIN_COST)).unwrap_or(u32::MAX).min(self.shared.most);
        let room = Arc::clone(&self.shared.room).acquire_many_owned(cost);
        let permit = match tokio::time::timeout(PATIENCE_IN, room).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_closed)) => return Err(ended()),
            Err(_elapsed) => return Err(overloaded()),
        };
        let spans = u64::from(batch.spans);
        self.shared.unfinished.fetch_add(spans, Ordering::Relaxed);
        if self.accumulator().send(Message::Batch(batch, permit)).is_err() {
            self.shared.unfinished.fetch_sub(spans, Ordering::Relaxed);
            return Err(ended());
        }
        Ok(Accepted::default())
    }

    /// This thread's accumulator.
    fn accumulator(&self) -> &mpsc::UnboundedSender<Message> {
        self.accumulators[thread_number() % self.accumulators.len()].get_or_init(|| {
            let (messages, inbox) = mpsc::unbounded_channel();
            let task = tokio::spawn(Accumulator::new(Arc::clone(&self.shared)).run(inbox));
            self.tasks.lock().unwrap_or_else(PoisonError::into_inner).push(task);
            messages
        })
    }
}

impl Consumer for BatchProcessor {
    fn consume(&self, batch: Batch) -> Consuming<'_> {
        Box::pin(self.take(batch))
    }
}

/// Numbers threads in the order in which they first send.
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed));
    NUMBER.with(|number| *number)
}

fn overloaded() -> Refusal {
    Refusal {
        kind: RefusalKind::Overloaded { retry_after: Duration::from_secs(1) },
        cause: "batch_full",
        message: "the batch processor holds as much as it may; retry later".into(),
    }
}

fn ended() -> Refusal {
    Refusal {
        kind: RefusalKind::Unavailable { retry_after: Duration::from_secs(1) },
        cause: "shutting_down",
        message: "this process is shutting down; retry with another one".into(),
    }
}

impl Shared {
    fn lost(&self, cause: &str, spans: u64) {
        LOST.with_label_values(&[&*self.name, cause]).inc_by(spans);
        tracing::warn!(processor = self.name, spans, cause, "acknowledged spans are lost");
    }

    /// Sends one batch, whatever that takes.
    async fn send(self: Arc<Self>, batch: Batch, _permits: Vec<OwnedSemaphorePermit>) {
        let spans = u64::from(batch.spans);
        self.sizes.observe(spans as f64);
        match deliver(&*self.next, batch, PATIENCE_OUT).await {
            Ok(accepted) if accepted.rejected_spans > 0 => {
                self.lost("rejected", u64::from(accepted.rejected_spans));
            }
            Ok(_) => {}
            Err(refusal) => self.lost(refusal.cause, spans),
        }
        self.unfinished.fetch_sub(spans, Ordering::Relaxed);
    }
}

/// Joins batches until there are enough spans, or enough time has passed. Those of different tenants are never joined.
struct Accumulator {
    shared: Arc<Shared>,
    /// One for each tenant of which something is held; a handful as a rule.
    queues: Vec<Queue>,
    sending: JoinSet<()>,
}

/// What is held of one tenant.
struct Queue {
    tenant: Option<Arc<Tenant>>,
    held: VecDeque<(Batch, Option<OwnedSemaphorePermit>)>,
    spans: u64,
    /// When the oldest of it is to be sent.
    due: Instant,
}

impl Accumulator {
    fn new(shared: Arc<Shared>) -> Self {
        Self { shared, queues: Vec::new(), sending: JoinSet::new() }
    }

    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Message>) {
        loop {
            let message = match self.queues.iter().map(|queue| queue.due).min() {
                Some(due) => tokio::time::timeout_at(due, inbox.recv()).await,
                None => Ok(inbox.recv().await),
            };
            match message {
                Ok(Some(Message::Batch(batch, permit))) => self.add(batch, permit).await,
                Ok(Some(Message::Finish)) => inbox.close(),
                Ok(None) => break,
                Err(_due) => {
                    self.shared.timeout_trigger.inc();
                    self.flush(Instant::now()).await;
                }
            }
        }
        while let Some(queue) = self.queues.pop() {
            self.send_all(queue).await;
        }
        while self.sending.join_next().await.is_some() {}
    }

    async fn add(&mut self, batch: Batch, permit: OwnedSemaphorePermit) {
        let known = self.queues.iter().position(|queue| queue.tenant == batch.context.tenant);
        let place = known.unwrap_or_else(|| {
            let due = Instant::now() + self.shared.config.timeout;
            let tenant = batch.context.tenant.clone();
            self.queues.push(Queue { tenant, held: VecDeque::new(), spans: 0, due });
            self.queues.len() - 1
        });
        let queue = &mut self.queues[place];
        queue.spans += u64::from(batch.spans);
        let most = self.shared.config.send_batch_max_size;
        if most > 0 && batch.spans > most {
            queue.cut(&self.shared, &batch, permit);
        } else {
            queue.held.push_back((batch, Some(permit)));
        }
        let enough = u64::from(self.shared.config.send_batch_size.max(1));
        while self.queues[place].spans >= enough {
            self.shared.size_trigger.inc();
            let taken = self.queues[place].take(&self.shared.config);
            self.send(taken).await;
        }
        if self.queues[place].held.is_empty() {
            self.queues.swap_remove(place);
        }
    }

    /// Sends everything of the queues that are due.
    async fn flush(&mut self, now: Instant) {
        while let Some(place) = self.queues.iter().position(|queue| queue.due <= now) {
            let queue = self.queues.swap_remove(place);
            self.send_all(queue).await;
        }
    }

    async fn send_all(&mut self, mut queue: Queue) {
        while !queue.held.is_empty() {
            let taken = queue.take(&self.shared.config);
            self.send(taken).await;
        }
    }

    async fn send(&mut self, (batches, permits): (Vec<Batch>, Vec<OwnedSemaphorePermit>)) {
        while self.sending.len() >= IN_FLIGHT {
            self.sending.join_next().await;
        }
        while self.sending.try_join_next().is_some() {}
        self.sending.spawn(Arc::clone(&self.shared).send(join(batches), permits));
    }
}

impl Queue {
    /// Holds a batch that is too large in parts of `send_batch_max_size` spans.
    fn cut(&mut self, shared: &Shared, batch: &Batch, permit: OwnedSemaphorePermit) {
        let most = shared.config.send_batch_max_size as usize;
        let mut spans = 0;
        let parts = Splitter::default().route(&batch.data, |_| {
            spans += 1;
            (spans - 1) / most
        });
        match parts {
            Ok(parts) => {
                self.held.extend(parts.into_iter().map(|Routed { data, spans, .. }| {
                    (Batch { data, spans, context: batch.context.clone() }, None)
                }));
                if let Some((_, last)) = self.held.back_mut() {
                    *last = Some(permit);
                }
            }
            Err(error) => {
                // The walker has checked it before; what cannot be split is not passed on unsplit.
                let spans = u64::from(batch.spans);
                self.spans -= spans;
                shared.unfinished.fetch_sub(spans, Ordering::Relaxed);
                shared.lost(error.what.cause(), spans);
            }
        }
    }

    /// One batch's worth of what is held, oldest first: all of it, or up to `send_batch_max_size` spans.
    fn take(&mut self, config: &Config) -> (Vec<Batch>, Vec<OwnedSemaphorePermit>) {
        let most = match config.send_batch_max_size {
            0 => u64::MAX,
            most => u64::from(most),
        };
        let (mut taken, mut permits) = (Vec::new(), Vec::new());
        let mut spans = 0;
        while let Some((batch, permit)) =
            self.held.pop_front_if(|(batch, _)| spans == 0 || spans + u64::from(batch.spans) <= most)
        {
            spans += u64::from(batch.spans);
            taken.push(batch);
            permits.extend(permit);
        }
        self.spans -= spans;
        self.due = Instant::now() + config.timeout;
        (taken, permits)
    }
}

/// One batch of several of one tenant. Origin and identity are known only where all have the same.
fn join(mut batches: Vec<Batch>) -> Batch {
    if batches.len() == 1 {
        return batches.remove(0);
    }
    let mut data = BytesMut::with_capacity(batches.iter().map(|batch| batch.data.len()).sum());
    for batch in &batches {
        data.extend_from_slice(&batch.data);
    }
    let first = batches.first().map(|batch| batch.context.clone()).unwrap_or_default();
    let same = |two: &[Batch]| {
        let (one, other) = (&two[0].context, &two[1].context);
        is_same(one.origin.as_ref(), other.origin.as_ref())
            && is_same(one.identity.as_ref(), other.identity.as_ref())
    };
    let context = if batches.windows(2).all(same) {
        first
    } else {
        Context { tenant: first.tenant, ..Context::default() }
    };
    let spans = batches.iter().fold(0, |sum, batch| sum + batch.spans);
    Batch { data: Bytes::from(data), spans, context }
}

fn is_same<T: PartialEq>(one: Option<&Arc<T>>, other: Option<&Arc<T>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other) || one == other,
        (one, other) => one.is_none() && other.is_none(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use http::{HeaderName, HeaderValue};

    use super::*;
    use crate::config::{ComponentId, Location};

    /// Keeps what it is given.
    #[derive(Default)]
    struct Sink(Mutex<Vec<Batch>>);

    impl Consumer for Sink {
        fn consume(&self, batch: Batch) -> Consuming<'_> {
            self.0.lock().unwrap().push(batch);
            Box::pin(async { Ok(Accepted::default()) })
        }
    }

    fn tenant(name: &str) -> Arc<Tenant> {
        let header = HeaderName::from_static("x-scope-orgid");
        Arc::new(Tenant { header, name: HeaderValue::from_str(name).unwrap() })
    }

    fn batch(byte: u8, tenant: Option<Arc<Tenant>>) -> Batch {
        Batch { data: Bytes::from(vec![byte]), spans: 1, context: Context { tenant, ..Context::default() } }
    }

    #[tokio::test(start_paused = true)]
    async fn tenants_are_never_joined() {
        let sink = Arc::new(Sink::default());
        let component = Component {
            id: ComponentId { kind: "batch".to_owned(), name: Some("tenants".to_owned()) },
            at: Location { file: "test".into(), line: 1, column: 1, path: "".into() },
            config: Config {
                timeout: Duration::from_millis(200),
                send_batch_size: 3,
                send_batch_max_size: 0,
            },
        };
        let processor = BatchProcessor::new(&component, Arc::clone(&sink) as Arc<dyn Consumer>);
        // Blue fills a batch; red and nobody's wait for their time.
        for (byte, whose) in [(1, "blue"), (2, "red"), (3, "blue"), (4, "blue"), (5, "blue")] {
            processor.take(batch(byte, Some(tenant(whose)))).await.unwrap();
        }
        processor.take(batch(6, None)).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        processor.shutdown(Duration::from_secs(1)).await;
        let mut sent: Vec<(String, Vec<u8>)> = (sink.0.lock().unwrap().iter())
            .map(|batch| {
                let tenant = batch.context.tenant.as_ref().map_or("", |tenant| tenant.as_str());
                (tenant.to_owned(), batch.data.to_vec())
            })
            .collect();
        sent.sort();
        let expected = [("", vec![6]), ("blue", vec![1, 3, 4]), ("blue", vec![5]), ("red", vec![2])];
        assert_eq!(sent, expected.map(|(tenant, data)| (tenant.to_owned(), data)));
    }
}
