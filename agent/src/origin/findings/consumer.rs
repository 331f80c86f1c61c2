//! The thread that reads the ring buffer, counts, and keeps what the kernel knows of addresses up to date.

use super::{
    Context, Finding, FindingsFile, Table, places,
    report::{Labels, Reporter},
};
use crate::{
    origin::{
        bpf::{Counters, abi},
        loader::{ConsumerSide, own},
    },
    telemetry::metrics::{self, counter},
};
use nix::poll::{PollFd, PollFlags, poll};
use std::{
    collections::BTreeSet,
    io,
    net::IpAddr,
    os::fd::AsFd as _,
    sync::{
        Arc, LazyLock, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tracing::warn;

static UNREADABLE: LazyLock<metrics::Counters> = LazyLock::new(|| {
    counter("spanwarden_bpf_events_refused", "Events of the kernel programs that were refused.", &["cause"])
});

/// Longest wait of the reading thread, and so the longest that stopping it and refreshing counters takes.
const TICK_MS: u16 = 200;
/// How often the addresses of the interfaces are read again.
const REFRESH: Duration = Duration::from_secs(5);

/// The thread that reads the ring buffer.
pub(in crate::origin) struct Consumer {
    stop: Arc<AtomicBool>,
    counters: Arc<Mutex<Counters>>,
    thread: Option<JoinHandle<()>>,
}

impl Consumer {
    pub(in crate::origin) fn start(
        side: ConsumerSide,
        context: Context,
        table: Arc<Table>,
        file: Option<FindingsFile>,
        then: impl Fn(Finding) + Send + 'static,
    ) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        // Of pinned programs: what happened while no agent was there is counted now, and nothing twice.
        let before = side.published();
        let counters = Arc::new(Mutex::new(before.unwrap_or_default()));
        let file = file.map(FindingsFile::start).transpose()?;
        let mut reader = Reader {
            side,
            context,
            reporter: Reporter { table, file, labels: Labels::default() },
            stop: Arc::clone(&stop),
            counters: Arc::clone(&counters),
            read: before.map_or(0, |before| before.read),
            interfaces: own::of_interfaces().unwrap_or_default(),
        };
        let thread =
            thread::Builder::new().name("origin-findings".to_owned()).spawn(move || reader.run(&then))?;
        Ok(Self { stop, counters, thread: Some(thread) })
    }

    pub(in crate::origin) fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    pub(in crate::origin) fn counters(&self) -> Counters {
        *self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been seen as `is_running() == false`.
            let _ = thread.join();
        }
    }
}

struct Reader {
    side: ConsumerSide,
    context: Context,
    reporter: Reporter,
    stop: Arc<AtomicBool>,
    counters: Arc<Mutex<Counters>>,
    read: u64,
    interfaces: BTreeSet<IpAddr>,
}

impl Reader {
    fn run(&mut self, then: &dyn Fn(Finding)) {
        self.catch_up(then);
        let mut refreshed = Instant::now();
        while !self.stop.load(Ordering::Relaxed) {
            let ring = self.side.findings.as_fd();
            // An error is an interrupted wait; the ring is read either way.
            let _ = poll(&mut [PollFd::new(ring, PollFlags::POLLIN)], TICK_MS);
            self.drain(then);
            self.publish();
            if refreshed.elapsed() >= REFRESH {
                refreshed = Instant::now();
                self.refresh_addresses();
            }
        }
        self.drain(then);
        self.publish();
    }

    /// Reads what a previous process has left. It may have read more than it had time to publish: after this,
    /// everything that had been delivered has been read.
    fn catch_up(&mut self, then: &dyn Fn(Finding)) {
        let delivered = Counters::load(&self.side.counters, 0).map_or(0, |counters| counters.delivered);
        self.drain(then);
        self.read = self.read.max(delivered);
    }

    fn drain(&mut self, then: &dyn Fn(Finding)) {
        self.context.beat.fetch_add(1, Ordering::Relaxed);
        while let Some(item) = self.side.findings.next() {
            self.context.beat.fetch_add(1, Ordering::Relaxed);
            self.read += 1;
            let event = abi::finding(&item);
            if let Some(finding) = event.and_then(|event| self.context.finding(&event)) {
                // First: a blocked connection's owner waits for its end.
                then(finding.clone());
                self.reporter.report(&finding);
            } else {
                UNREADABLE.with_label_values(&["shape"]).inc();
            }
            // Not before: who is killed on the way leaves it to the next process.
            drop(item);
        }
    }

    fn publish(&mut self) {
        let Ok(now) = Counters::load(&self.side.counters, self.read) else {
            UNREADABLE.with_label_values(&["counters"]).inc();
            return;
        };
        // Before anybody can see it: killed in between, the next process must not count it again.
        if self.side.keep(&now).is_err() {
            UNREADABLE.with_label_values(&["counters"]).inc();
        }
        let mut last = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        now.publish_since(&last);
        *last = now;
    }

    /// Interfaces come and go; addresses that were configured stay.
    fn refresh_addresses(&mut self) {
        let Ok(now) = own::of_interfaces() else { return };
        if now == self.interfaces {
            return;
        }
        let mut own = self.context.own.lock().unwrap_or_else(PoisonError::into_inner);
        let configured = own.difference(&self.interfaces).copied();
        let after: BTreeSet<IpAddr> = configured.chain(now.iter().copied()).collect();
        match self.side.own.update(&own, &after) {
            Ok(()) => {
                let places = places::table(&after, &self.context.cluster_cidrs);
                *own = after;
                self.interfaces = now;
                drop(own);
                if let Err(error) = places::apply(&mut self.side.places, &places) {
                    warn!(%error, "findings towards new addresses of this node do not say `node`");
                }
            }
            Err(error) => warn!(%error, "new addresses of this node do not count as the agent's own"),
        }
    }
}
