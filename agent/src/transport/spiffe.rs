//! X.509-SVIDs from the SPIFFE Workload API: certificate, key and trust bundles that an agent such as SPIRE's issues
//! to this process, and renews, without a file.
//!
//! One thread for each endpoint keeps the API's stream open and hands every update to its followers. What was received
//! last stays in use while the API is away; the connection is tried again with growing waits. SPIFFE Workload API, 5;
//! X509-SVID, 5.
//!
//! The client is our own, one call on `h2`, because the `spiffe` crate would bring 46 more into a privileged program
//! (tonic, tower, a URL parser with its Unicode tables).

#![forbid(unsafe_code)]

mod api;
mod response;

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, LazyLock, Mutex, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};

pub(crate) use response::domain;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use crate::telemetry::metrics::{Counters, counter};

/// How long a start waits for the first SVID: an agent answers at once, unless it has just been started as well.
const FIRST: Duration = Duration::from_secs(30);
/// The wait before the API is tried again; it doubles up to the longest.
const RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

static UPDATES: LazyLock<Counters> = LazyLock::new(|| {
    counter(
        "spanwarden_spiffe_updates",
        "What the SPIFFE Workload API sent: success, or error for each try that brought nothing usable.",
        &["result"],
    )
});

/// Why there is no SVID.
#[derive(Debug, thiserror::Error)]
pub enum SpiffeError {
    /// The socket.
    #[error(
        "the SPIFFE Workload API at {endpoint} can't be reached: {source}; mount the socket of the node's SPIFFE \
         agent there, or set tls.spiffe.endpoint"
    )]
    Connect {
        /// As configured.
        endpoint: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The call.
    #[error("the SPIFFE Workload API failed: {0}")]
    Call(#[from] h2::Error),
    /// The API refused.
    #[error("{}", refused(*.status, .message))]
    Refused {
        /// The gRPC status.
        status: u32,
        /// What it said: escaped and shortened.
        message: String,
    },
    /// The answer can't be used.
    #[error("the SPIFFE Workload API sent {0}")]
    Answer(&'static str),
    /// Nothing came.
    #[error("the SPIFFE Workload API at {endpoint} sent no SVID within {} s: {last}", FIRST.as_secs())]
    Late {
        /// As configured.
        endpoint: PathBuf,
        /// What the last try ended with.
        last: String,
    },
    /// Not the one that is asked for.
    #[error(
        "the SPIFFE Workload API gives no SVID `{wanted}`, only {have}; set tls.spiffe.id to one of them"
    )]
    NoSuchId {
        /// As configured.
        wanted: String,
        /// What there is.
        have: String,
    },
}

fn refused(status: u32, message: &str) -> String {
    // 7: PERMISSION_DENIED, which the specification (6.1) has for a workload without an identity.
    match status {
        7 => format!(
            "the SPIFFE Workload API issues no identity to this process ({message}); create a registration entry \
             whose selectors fit its pod"
        ),
        _ => format!("the SPIFFE Workload API refused with gRPC status {status}: {message}"),
    }
}

/// One identity.
pub struct Svid {
    /// Its SPIFFE ID.
    pub id: String,
    /// The leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// PKCS#8.
    pub key: PrivatePkcs8KeyDer<'static>,
}

impl std::fmt::Debug for Svid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Svid").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What the API sends at a time.
#[derive(Debug)]
pub struct Update {
    /// At least one; the first is the default.
    pub svids: Vec<Svid>,
    /// The CAs of each trust domain, by its name. A CA speaks for its own domain only.
    pub bundles: BTreeMap<String, Vec<CertificateDer<'static>>>,
}

impl Update {
    /// The identity with this ID, or the first.
    pub fn svid(&self, id: Option<&str>) -> Result<&Svid, SpiffeError> {
        let wanted = |svid: &&Svid| id.is_none_or(|id| svid.id == id);
        self.svids.iter().find(wanted).ok_or_else(|| SpiffeError::NoSuchId {
            wanted: id.unwrap_or_default().to_owned(),
            have: self.svids.iter().map(|svid| format!("`{}`", svid.id)).collect::<Vec<_>>().join(", "),
        })
    }
}

/// Somebody who uses updates.
pub trait Follower: Send + Sync {
    /// Uses this from now on. What can't be used is reported, and what was in use stays.
    fn update(&self, update: &Update) -> Result<(), String>;
}

/// One endpoint.
#[derive(Debug)]
pub struct Source {
    endpoint: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    newest: Option<Arc<Update>>,
    followers: Vec<Weak<dyn Follower>>,
    last_error: Option<String>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("newest", &self.newest).finish_non_exhaustive()
    }
}

impl Source {
    /// The process's one source for this socket.
    pub fn of(endpoint: &Path) -> Arc<Self> {
        static SOURCES: LazyLock<Mutex<HashMap<PathBuf, Weak<Source>>>> = LazyLock::new(Mutex::default);
        let mut sources = SOURCES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(source) = sources.get(endpoint).and_then(Weak::upgrade) {
            return source;
        }
        let source = Arc::new(Self {
            endpoint: endpoint.to_owned(),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        sources.insert(endpoint.to_owned(), Arc::downgrade(&source));
        let weak = Arc::downgrade(&source);
        let endpoint = endpoint.to_owned();
        let started = thread::Builder::new().name("spiffe".to_owned()).spawn(move || keep(&endpoint, &weak));
        if let Err(error) = started {
            source.lock().last_error = Some(format!("no thread could be started: {error}"));
        }
        source
    }

    /// The newest update; waits for the first one.
    pub fn newest(&self) -> Result<Arc<Update>, SpiffeError> {
        let deadline = Instant::now() + FIRST;
        let mut state = self.lock();
        loop {
            if let Some(newest) = &state.newest {
                return Ok(Arc::clone(newest));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let last = state.last_error.clone().unwrap_or_else(|| "no answer".to_owned());
                return Err(SpiffeError::Late { endpoint: self.endpoint.clone(), last });
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Hands on every update that is newer than `seen`, as long as `follower` is held by somebody.
    pub fn follow(&self, follower: Weak<dyn Follower>, seen: &Arc<Update>) {
        let mut state = self.lock();
        if let Some(newest) = state.newest.clone().filter(|newest| !Arc::ptr_eq(newest, seen))
            && let Some(follower) = follower.upgrade()
        {
            tell(&*follower, &newest);
        }
        state.followers.push(follower);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, update: Update) {
        UPDATES.with_label_values(&["success"]).inc();
        tracing::info!(id = update.svids.first().map(|svid| &*svid.id), "spiffe: a new SVID");
        let update = Arc::new(update);
        let mut state = self.lock();
        state.newest = Some(Arc::clone(&update));
        state.last_error = None;
        state.followers.retain(|follower| follower.strong_count() > 0);
        for follower in state.followers.iter().filter_map(Weak::upgrade) {
            tell(&*follower, &update);
        }
        self.changed.notify_all();
    }

    fn fail(&self, error: &SpiffeError) {
        UPDATES.with_label_values(&["error"]).inc();
        let message = error.to_string();
        let mut state = self.lock();
        // The same again and again would fill the log.
        if state.last_error.as_ref() != Some(&message) {
            if state.newest.is_some() {
                tracing::error!(%error, "spiffe: no updates; the last SVID stays in use until it expires");
            } else {
                tracing::warn!(%error, "spiffe: no SVID yet");
            }
            state.last_error = Some(message);
        }
    }
}

fn tell(follower: &dyn Follower, update: &Update) {
    if let Err(error) = follower.update(update) {
        UPDATES.with_label_values(&["error"]).inc();
        tracing::error!(error, "spiffe: an update can't be used; what was in use stays in use");
    }
}

/// The thread. That nobody holds the source any more it notices with the next update, or with the stream's end.
fn keep(endpoint: &Path, source: &Weak<Source>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "spiffe: no runtime could be started");
            return;
        }
    };
    let mut wait = RETRY;
    while source.strong_count() > 0 {
        let outcome = runtime.block_on(api::stream(endpoint, |update| {
            wait = RETRY;
            let Some(source) = source.upgrade() else { return false };
            source.publish(update);
            true
        }));
        let Some(source) = source.upgrade() else { return };
        if let Err(error) = outcome {
            source.fail(&error);
        }
        drop(source);
        thread::sleep(wait);
        wait = (wait * 2).min(LONGEST_RETRY);
    }
}
