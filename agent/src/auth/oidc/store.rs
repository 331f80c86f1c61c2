//! An issuer's keys as they are known now, and the discipline of asking for new ones.
//!
//! * One request at a time, for all threads; not two within [`COOLDOWN`], and a failed one counts.
//! * The request is a task of its own: a sender that hangs up does not end it.
//! * Keys are asked for again when they are not fresh any more. If that fails, the old ones serve until [`MAX_STALE`].
//! * An unknown key name asks once. While the issuer answers, a name that it does not have is a forgery; while it does not,
//!   nobody can tell.

#![forbid(unsafe_code)]

use std::{
    path::Path,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{sync::watch, time::timeout};

use super::{
    clock::Clock,
    fault::{Fault, shown},
    key_set::KeySet,
    source::{self, Source, SourceError},
};
use crate::telemetry::metrics::{Counters, Gauges, counter, gauge};

/// Between the starts of two requests to one issuer.
pub(super) const COOLDOWN: Duration = Duration::from_secs(10);
/// How often a file of keys is looked at, at most.
const LOOK: Duration = Duration::from_secs(1);
/// How long keys are used while no new ones can be had. Then it can't be told any more whether they were withdrawn.
pub(super) const MAX_STALE: Duration = Duration::from_hours(24);
/// How long a sender is kept waiting for keys. The request goes on after it.
const PATIENCE: Duration = Duration::from_secs(4);

static FETCHES: LazyLock<Counters> = LazyLock::new(|| {
    counter(
        "spanwarden_oidc_key_fetches",
        "Times an issuer's keys were asked for, or their file was read after a change, by result.",
        &["issuer", "result"],
    )
});
static KEYS: LazyLock<Gauges> =
    LazyLock::new(|| gauge("spanwarden_oidc_keys", "Keys known of an issuer.", &["issuer"]));

/// Keys at a time.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    pub(super) keys: KeySet,
    /// What they were proven under: changes with the keys.
    pub(super) epoch: u64,
    /// When they were had, by [`Clock::elapsed`]; `None`: never.
    at: Option<Duration>,
    /// When new ones should be asked for.
    due: Duration,
}

#[derive(Debug, Default)]
struct Flight {
    running: bool,
    /// When the next request may start.
    next: Duration,
    /// The last one failed, or none has ended yet.
    failed: bool,
    /// Of a file: what was read last, taken or not.
    content: Vec<u8>,
}

/// See the module's description.
#[derive(Debug)]
pub(super) struct Store {
    issuer: String,
    source: Source,
    snapshot: ArcSwap<Snapshot>,
    /// The snapshot's, for those who only want to know whether it changed.
    epoch: AtomicU64,
    flight: Mutex<Flight>,
    /// Counts the requests that ended.
    ended: watch::Sender<u64>,
    clock: Clock,
}

impl Store {
    /// A file is read now, and an error then; an issuer is asked when somebody needs its keys.
    pub(super) fn new(issuer: &str, source: Source, clock: Clock) -> Result<Arc<Self>, SourceError> {
        let store = Arc::new(Self {
            issuer: issuer.to_owned(),
            source,
            snapshot: ArcSwap::default(),
            epoch: AtomicU64::new(0),
            flight: Mutex::new(Flight { failed: true, ..Flight::default() }),
            ended: watch::Sender::new(0),
            clock,
        });
        if let Source::File(path) = &store.source {
            let content = source::read_file(path)?;
            let keys = source::parse_file(path, &content)?;
            store.take(keys, Duration::ZERO);
            let mut flight = store.lock();
            flight.content = content;
            flight.failed = false;
        }
        Ok(store)
    }

    /// The epoch of the keys that are known now.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Asks for keys if there are none; for the start.
    pub(super) async fn prefetch(self: &Arc<Self>) {
        if self.snapshot.load().at.is_none() {
            self.attempt().await;
        }
    }

    /// The keys to judge a token by that is signed with the key of this name: fresh enough, and asked for again if they
    /// do not have it.
    pub(super) async fn keys_for(self: &Arc<Self>, kid: Option<&str>) -> Result<Arc<Snapshot>, Fault> {
        if let Source::File(path) = &self.source {
            self.look(path);
        }
        if !self.usable(&self.snapshot.load()) {
            self.attempt().await;
        } else if self.clock.elapsed() >= self.snapshot.load().due {
            self.renew().await;
        }
        let mut snapshot = self.snapshot.load_full();
        if !self.usable(&snapshot) {
            return Err(self.unavailable());
        }
        if snapshot.keys.candidates(kid).next().is_none() {
            let ended = self.attempt().await;
            snapshot = self.snapshot.load_full();
            if snapshot.keys.candidates(kid).next().is_none() {
                return Err(if ended && !self.lock().failed {
                    self.unknown(kid)
                } else {
                    self.unavailable()
                });
            }
        }
        Ok(snapshot)
    }

    fn usable(&self, snapshot: &Snapshot) -> bool {
        snapshot.at.is_some_and(|at| self.clock.elapsed().saturating_sub(at) <= MAX_STALE)
    }

    /// Asks for new keys while the old ones go on serving; waits only if they are old and the issuer was well.
    async fn renew(self: &Arc<Self>) {
        let failing = self.lock().failed;
        let Some(ended) = self.start() else { return };
        let age = self.clock.elapsed().saturating_sub(self.snapshot.load().at.unwrap_or_default());
        if age > 2 * source::REFRESH && !failing {
            wait(ended).await;
        }
    }

    /// Asks, unless that was done a moment ago, and waits for the end. Whether no request is under way any more.
    async fn attempt(self: &Arc<Self>) -> bool {
        match self.start() {
            Some(ended) => wait(ended).await,
            None => true,
        }
    }

    /// Starts a request, or joins the one under way. `None`: too early, or there is nothing to ask.
    fn start(self: &Arc<Self>) -> Option<watch::Receiver<u64>> {
        let Source::Issuer { .. } = &self.source else { return None };
        let mut flight = self.lock();
        let ended = self.ended.subscribe();
        if flight.running {
            return Some(ended);
        }
        let now = self.clock.elapsed();
        if now < flight.next {
            return None;
        }
        flight.running = true;
        flight.next = now + COOLDOWN;
        let landing = Landing { store: Arc::clone(self), done: false };
        tokio::spawn(landing.fly());
        Some(ended)
    }

    /// Takes keys; the epoch changes if they do.
    fn take(&self, keys: KeySet, fresh: Duration) {
        let old = self.snapshot.load();
        let now = self.clock.elapsed();
        let epoch = if keys == old.keys { old.epoch } else { old.epoch + 1 };
        KEYS.with_label_values(&[&self.issuer]).set(i64::try_from(keys.len()).unwrap_or(i64::MAX));
        self.snapshot.store(Arc::new(Snapshot { keys, epoch, at: Some(now), due: now + fresh }));
        self.epoch.store(epoch, Ordering::Release);
        FETCHES.with_label_values(&[self.issuer.as_str(), "ok"]).inc();
    }

    fn fail(&self, error: &dyn std::fmt::Display) {
        FETCHES.with_label_values(&[self.issuer.as_str(), "error"]).inc();
        tracing::warn!(issuer = %self.issuer, %error, "no new keys; what there is stays for up to 24 h");
    }

    /// Reads the file of keys again if it is time to and it has changed.
    fn look(&self, path: &Path) {
        let mut flight = self.lock();
        let now = self.clock.elapsed();
        if now < flight.next {
            return;
        }
        flight.next = now + LOOK;
        let read = source::read_file(path);
        if let Ok(content) = &read
            && *content == flight.content
        {
            if !flight.failed {
                self.confirm(now);
            }
            return;
        }
        // What can't be read is read anew when it can, even if it is the same then.
        flight.content.clear();
        let keys = read.and_then(|content| {
            flight.content = content;
            source::parse_file(path, &flight.content)
        });
        let was_failing = flight.failed;
        flight.failed = keys.is_err();
        match keys {
            Ok(keys) => self.take(keys, Duration::ZERO),
            // A file that is gone would otherwise say so every second.
            Err(_) if was_failing => {}
            Err(error) => self.fail(&error),
        }
    }

    /// The file still has the keys that are known.
    fn confirm(&self, now: Duration) {
        let old = self.snapshot.load();
        if old.at.is_some_and(|at| now.saturating_sub(at) > COOLDOWN) {
            let keys = old.keys.clone();
            self.snapshot.store(Arc::new(Snapshot { keys, epoch: old.epoch, at: Some(now), due: now }));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Flight> {
        self.flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unknown(&self, kid: Option<&str>) -> Fault {
        let kid = kid.map_or_else(String::new, |kid| format!(" (`{}`)", shown(kid)));
        Fault::UnknownKey { kid, issuer: self.issuer.clone() }
    }

    fn unavailable(&self) -> Fault {
        let left = self.lock().next.saturating_sub(self.clock.elapsed());
        Fault::KeysUnavailable { issuer: self.issuer.clone(), retry_after: left.max(Duration::from_secs(1)) }
    }
}

/// Waits for the end of a request, not for ever. Whether it came.
async fn wait(mut ended: watch::Receiver<u64>) -> bool {
    timeout(PATIENCE, ended.changed()).await.is_ok()
}

/// A request under way. Whatever becomes of the task, the store learns that it is over.
struct Landing {
    store: Arc<Store>,
    done: bool,
}

impl Landing {
    async fn fly(mut self) {
        let Source::Issuer { client, issuer, jwks_url } = &self.store.source else { return };
        match source::fetch(client, issuer, jwks_url.as_deref()).await {
            Ok((keys, fresh)) => {
                self.store.take(keys, fresh);
                self.done = true;
            }
            Err(error) => self.store.fail(&error),
        }
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        let mut flight = self.store.lock();
        flight.running = false;
        flight.failed = !self.done;
        drop(flight);
        self.store.ended.send_modify(|count| *count += 1);
    }
}
