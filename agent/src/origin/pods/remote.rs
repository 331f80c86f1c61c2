//! What the kubelet's and the API's pods have in common: a thread that asks, and the index that it fills.

use std::{
    collections::HashSet,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    io,
    net::IpAddr,
    sync::{
        Arc, LazyLock, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::{runtime::Builder, sync::Notify};

use super::{api, index::Store, kubelet, read::Listed};
use crate::{
    config::extensions::{Api, Kubelet},
    origin::{Pod, PodSource},
    telemetry::metrics::{Counters, Gauges, counter, gauge},
    transport::http::HttpError,
};

/// Uids that the source is asked about out of turn, between two regular turns. A node does not start more pods in
/// that time; and whoever sees more unknown uids has another problem than their names.
const MAX_ASKED: usize = 256;

static ANSWERS: LazyLock<Counters> = LazyLock::new(|| {
    counter(
        "spanwarden_pods_answers",
        "Answers of the kubelet or the API server about pods: ok; refused (it said no), failed (no answer that can be \
         used), gone (a watch had to begin anew), ended (a watch ended as planned).",
        &["source", "result"],
    )
});
static IGNORED: LazyLock<Counters> = LazyLock::new(|| {
    counter(
        "spanwarden_pods_ignored",
        "Pods that the kubelet or the API server told of and that were not taken: incomplete, too_large, too_many, \
         other_node.",
        &["source", "cause"],
    )
});
static CURRENT: LazyLock<Gauges> = LazyLock::new(|| {
    gauge(
        "spanwarden_pods_current",
        "1 while the last answer about pods was good, 0 while there is none: what is known may be old.",
        &["source"],
    )
});

/// Why pods can't be had from the kubelet or the API at all.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The client can't be made.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The node has no name.
    #[error(
        "the node's name is not known: set `pods::api::node`, or the environment variable K8S_NODE_NAME (fieldRef: spec.nodeName)"
    )]
    NoNode,
    /// Not a name that a node can have.
    #[error(
        "`{0}` is no name of a node: lower-case letters, digits, `-` and `.`, as `kubectl get nodes` prints it"
    )]
    BadNode(String),
}

/// Why one answer was no good.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    /// No answer, or a refusal.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// Something else than pods.
    #[error("{url}: the answer is no list of pods: {why}; is this the right address?")]
    Garbage { url: String, why: String },
    /// A watch that ended with an error.
    #[error("the watch of pods ended: {0}")]
    Watch(String),
}

impl Failed {
    fn result(&self) -> &'static str {
        match self {
            Self::Http(error) if error.status().is_some_and(|status| status.is_client_error()) => "refused",
            _ => "failed",
        }
    }
}

/// Pods from the kubelet or the API. Asks from a thread of its own; readers never wait for it.
pub struct RemotePods {
    shared: Arc<Shared>,
    feed: Mutex<Option<Feed>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

enum Feed {
    Kubelet(kubelet::Feed),
    Api(api::Feed),
}

impl RemotePods {
    /// Pods from the kubelet. Asks for nothing before [`Self::start`].
    pub fn kubelet(config: &Kubelet) -> Result<Self, RemoteError> {
        Ok(Self::new("kubelet", Feed::Kubelet(kubelet::Feed::new(config)?)))
    }

    /// Pods from the API. Asks for nothing before [`Self::start`].
    pub fn api(config: &Api) -> Result<Self, RemoteError> {
        Ok(Self::new("api", Feed::Api(api::Feed::new(config)?)))
    }

    fn new(source: &'static str, feed: Feed) -> Self {
        CURRENT.with_label_values(&[source]).set(0);
        let shared = Shared {
            store: Store::new(source),
            source,
            answered: AtomicBool::new(false),
            current: AtomicBool::new(false),
            live: matches!(feed, Feed::Api(_)),
            asked: Mutex::default(),
            missed: Notify::new(),
            stop: Notify::new(),
            complained: AtomicBool::new(false),
        };
        Self { shared: Arc::new(shared), feed: Mutex::new(Some(feed)), thread: Mutex::default() }
    }

    /// Starts the thread, after capabilities were dropped. A second call does nothing.
    pub fn start(&self) -> io::Result<()> {
        let Some(feed) = self.feed.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return Ok(());
        };
        let shared = Arc::clone(&self.shared);
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let thread = thread::Builder::new().name("pods".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = shared.stop.notified() => {}
                    () = feed.run(&shared) => {}
                }
            });
            // A look-up of a name has a thread of its own, which is not waited for.
            runtime.shutdown_background();
        })?;
        *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(())
    }

    /// Whether there was a good answer yet.
    pub fn answered(&self) -> bool {
        self.shared.answered.load(Ordering::Relaxed)
    }
}

impl Drop for RemotePods {
    fn drop(&mut self) {
        self.shared.stop.notify_one();
        if let Some(thread) = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            // A panic was in the log, and then nothing new was known of pods.
            let _ = thread.join();
        }
    }
}

impl Feed {
    async fn run(self, shared: &Shared) {
        match self {
            Self::Kubelet(feed) => feed.run(shared).await,
            Self::Api(feed) => feed.run(shared).await,
        }
    }
}

impl PodSource for RemotePods {
    fn by_uid(&self, uid: &str) -> Option<Arc<Pod>> {
        let pod = self.shared.store.by_uid(uid);
        if pod.is_none() {
            self.shared.miss(uid);
        }
        pod
    }

    fn by_ip(&self, ip: IpAddr) -> Option<Arc<Pod>> {
        self.shared.store.by_ip(ip)
    }

    /// Only a watch knows of a pod as soon as it is there.
    fn lists_all(&self) -> bool {
        self.shared.live && self.shared.current.load(Ordering::Relaxed)
    }
}

/// What the thread fills and others read.
pub(super) struct Shared {
    store: Store,
    source: &'static str,
    answered: AtomicBool,
    current: AtomicBool,
    live: bool,
    /// Uids that were missed since the last regular turn: each is a reason to ask once.
    asked: Mutex<HashSet<String>>,
    missed: Notify,
    stop: Notify,
    complained: AtomicBool,
}

impl Shared {
    /// Notes that somebody asked for a pod that is not known. Does not wait.
    fn miss(&self, uid: &str) {
        let Ok(mut asked) = self.asked.try_lock() else { return };
        if asked.len() < MAX_ASKED && !asked.contains(uid) {
            asked.insert(uid.to_owned());
            self.missed.notify_one();
        }
    }

    /// Resolves when a pod was missed that had not been missed in this turn.
    pub(super) async fn missed(&self) {
        self.missed.notified().await;
    }

    /// A new turn begins: what is still unknown may be asked for again.
    pub(super) fn turn(&self) {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Takes in what there is now.
    pub(super) fn publish(&self, listed: Listed) {
        self.store.publish(listed);
    }

    /// The source knows everything again.
    pub(super) fn good(&self, result: &'static str) {
        self.count(result);
        self.set_current(true);
        if !self.answered.swap(true, Ordering::Relaxed) {
            tracing::info!(source = self.source, "pods are known");
        } else if self.complained.load(Ordering::Relaxed) {
            tracing::info!(source = self.source, "pods are up to date again");
        }
        self.complained.store(false, Ordering::Relaxed);
    }

    /// The source could not be asked. Said once until it can.
    pub(super) fn bad(&self, error: &Failed) {
        self.count(error.result());
        self.set_current(false);
        if self.complained.swap(true, Ordering::Relaxed) {
            tracing::debug!(source = self.source, %error, "pods stay as they were");
        } else {
            tracing::warn!(
                source = self.source, %error,
                "pods stay as they were; until this is mended new pods are known by their uid only (said once)"
            );
        }
    }

    /// What is known may be old from now on.
    pub(super) fn set_current(&self, current: bool) {
        self.current.store(current, Ordering::Relaxed);
        CURRENT.with_label_values(&[self.source]).set(i64::from(current));
    }

    pub(super) fn count(&self, result: &'static str) {
        ANSWERS.with_label_values(&[self.source, result]).inc();
    }

    pub(super) fn ignore(&self, cause: &'static str) {
        IGNORED.with_label_values(&[self.source, cause]).inc();
    }
}

/// Growing pauses between tries that fail.
#[derive(Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(500);
    const LAST: Duration = Duration::from_secs(30);

    /// It went well.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// How long to wait after one more failure: half a second at first, half a minute at last, give or take half of
    /// it, so that the agents of a cluster do not all come back at once.
    pub(super) fn next(&mut self) -> Duration {
        let pause = Self::FIRST.saturating_mul(1 << self.failures.min(10)).min(Self::LAST);
        self.failures = self.failures.saturating_add(1);
        pause / 2 + pause.mul_f64(fraction())
    }
}

/// A number from 0 up to 1, by chance.
pub(super) fn fraction() -> f64 {
    let bits = RandomState::new().build_hasher().finish() >> 11;
    bits as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end_and_scatter() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..20).map(|_| backoff.next()).collect();
        for (pause, middle) in pauses.iter().zip([0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]) {
            assert!((middle / 2.0..middle * 1.5).contains(&pause.as_secs_f64()), "{pause:?} {middle}");
        }
        assert!(pauses[19] < Duration::from_secs(45) && pauses[18] != pauses[19]);
        backoff.reset();
        assert!(backoff.next() < Duration::from_secs(1));
    }
}
