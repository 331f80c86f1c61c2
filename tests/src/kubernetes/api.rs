//! A fake API server, which is a fake kubelet as well: TLS on loopback, a thread of its own.
//!
//! It speaks what the program asks for - list, watch with initial events and bookmarks, 410, Events - by the rules of the
//! real one, and fails in every way that it is told to.

#![forbid(unsafe_code)]

mod rules;
mod serve;
mod watch;

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tokio::sync::{oneshot, watch as channel};

use crate::{agent::Directory, certificates};

/// How long anything is waited for.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// How it fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// It does not.
    #[default]
    None,
    /// Every request is answered with this status.
    Status(u16),
    /// Connections are accepted and nothing is said.
    Silent,
    /// Connections are closed at once.
    Closed,
    /// A 200 with something else than JSON in it.
    Garbage,
    /// A 200 with an object of another kind.
    OtherKind,
    /// A 200 that never ends, without a line end in it.
    Huge,
    /// `sendInitialEvents` is refused with 422, as before Kubernetes 1.27 and with the feature off.
    NoInitialEvents,
    /// `sendInitialEvents` is taken and answered with an ERROR 500 event, as with an etcd before 3.5.
    NoProgress,
    /// Initial events break off before their end.
    HalfInitial,
    /// The field selector is not applied.
    NoSelector,
    /// Watches lead with an event of 4 MiB, and the others follow.
    HugeEvent,
    /// Events are refused with 403.
    NoEvents,
}

/// A request that came.
#[derive(Clone, Debug)]
pub struct Asked {
    /// With its query.
    pub path: String,
    /// When.
    pub at: Instant,
}

/// One event of a watch.
#[derive(Clone, Debug)]
struct Logged {
    version: u64,
    kind: &'static str,
    object: Value,
}

/// What it knows.
#[derive(Debug, Default)]
struct State {
    fault: Fault,
    token: String,
    version: u64,
    /// What came before is forgotten.
    compacted: u64,
    pods: BTreeMap<String, Value>,
    log: Vec<Logged>,
    asked: Vec<Asked>,
    events: Vec<Value>,
    answers: HashMap<String, Value>,
}

/// What its parts share.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Goes up with every change of the state.
    changed: channel::Sender<u64>,
    /// Goes up when all watches are to end.
    cut: channel::Sender<u64>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, with: impl FnOnce(&mut State) -> T) -> T {
        let result = with(&mut self.state());
        self.changed.send_modify(|number| *number += 1);
        result
    }
}

/// The server. It ends when it is dropped.
#[derive(Debug)]
pub struct ApiServer {
    address: SocketAddr,
    files: Directory,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ApiServer {
    /// An empty cluster on a port of loopback.
    pub fn start() -> Result<Self> {
        Self::start_at("127.0.0.1:0".parse()?)
    }

    /// The same on this address.
    pub fn start_at(address: SocketAddr) -> Result<Self> {
        let files = certificates::authority(&[address.ip().to_string()])?;
        let acceptor = serve::acceptor(&files)?;
        let state = State { token: "token-1".to_owned(), version: 1000, ..State::default() };
        let (changed, _) = channel::channel(0);
        let (cut, _) = channel::channel(0);
        let shared = Arc::new(Shared { state: Mutex::new(state), changed, cut });
        fs::write(files.path().join("token"), "token-1")?;
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let of_thread = Arc::clone(&shared);
        let thread = thread::Builder::new().name("fake-api".to_owned()).spawn(move || {
            serve::run(listener, &acceptor, &of_thread, stopped);
        })?;
        Ok(Self { address, files, shared, stop: Some(stop), thread: Some(thread) })
    }

    /// `https://…`
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The CA that signed its certificate.
    pub fn ca_file(&self) -> PathBuf {
        self.files.path().join("ca.crt")
    }

    /// A file with the token that it accepts.
    pub fn token_file(&self) -> PathBuf {
        self.files.path().join("token")
    }

    /// Accepts another token from now on, which is in the file from now on.
    pub fn rotate_token(&self, token: &str) -> Result<()> {
        self.shared.change(|state| token.clone_into(&mut state.token));
        let new = self.files.path().join("new-token");
        fs::write(&new, token)?;
        Ok(fs::rename(new, self.token_file())?)
    }

    /// Fails like this from now on; requests under way are not touched.
    pub fn fail(&self, fault: Fault) {
        self.shared.change(|state| state.fault = fault);
    }

    /// Answers `GET path` with this.
    pub fn answer(&self, path: &str, value: Value) {
        self.shared.change(|state| state.answers.insert(path.to_owned(), value));
    }

    /// Creates or replaces a pod; it needs `metadata.uid`.
    pub fn put(&self, mut pod: Value) {
        self.shared.change(|state| {
            state.version += 1;
            pod["metadata"]["resourceVersion"] = json!(state.version.to_string());
            pod["kind"] = json!("Pod");
            pod["apiVersion"] = json!("v1");
            let uid = pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
            let old = state.pods.insert(uid, pod.clone());
            let kind = if old.is_some() { "MODIFIED" } else { "ADDED" };
            state.log.push(Logged { version: state.version, kind, object: pod });
        });
    }

    /// Deletes a pod.
    pub fn delete(&self, uid: &str) {
        self.shared.change(|state| {
            let Some(mut pod) = state.pods.remove(uid) else { return };
            state.version += 1;
            pod["metadata"]["resourceVersion"] = json!(state.version.to_string());
            state.log.push(Logged { version: state.version, kind: "DELETED", object: pod });
        });
    }

    /// Sends every watch a bookmark.
    pub fn bookmark(&self) {
        self.shared.change(|state| {
            state.version += 1;
            let object = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"resourceVersion": state.version.to_string(), "creationTimestamp": null}, "spec": {"containers": null}, "status": {}});
            state.log.push(Logged { version: state.version, kind: "BOOKMARK", object });
        });
    }

    /// Sends every watch this line as an event of a pod that belongs nowhere.
    pub fn say(&self, kind: &'static str, object: Value) {
        self.shared.change(|state| {
            state.version += 1;
            state.log.push(Logged { version: state.version, kind, object });
        });
    }

    /// Forgets what was before: watches that want to go on from there are told 410.
    pub fn compact(&self) {
        self.shared.change(|state| {
            state.version += 1;
            state.compacted = state.version;
            state.log.clear();
        });
    }

    /// Closes the connections of all watches.
    pub fn cut(&self) {
        self.shared.cut.send_modify(|number| *number += 1);
    }

    /// What was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.state().asked.clone()
    }

    /// The Events that were written.
    pub fn events(&self) -> Vec<Value> {
        self.shared.state().events.clone()
    }

    /// Waits until a request's path fits.
    pub fn wait_for(&self, what: &str, fits: impl Fn(&str) -> bool) -> Result<Asked> {
        wait_until(what, || self.asked().into_iter().find(|asked| fits(&asked.path)))
            .with_context(|| format!("asked so far: {:?}", self.asked()))
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Waits until there is something, for as long as [`PATIENCE`].
pub fn wait_until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = found() {
            return Ok(found);
        }
        if Instant::now() > deadline {
            bail!("{what}: not within {PATIENCE:?}");
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// A running pod as the API shows it, with fields that nobody here reads as well.
pub fn pod(uid: &str, node: &str, ip: &str) -> Value {
    json!({
        "metadata": {
            "uid": uid, "name": format!("pod-{uid}"), "namespace": "shop",
            "creationTimestamp": "2026-11-21T16:00:00Z",
            "labels": {"app": "web", "pod-template-hash": "6d4cf56db6"},
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "x".repeat(5000), "team": "blue"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-6d4cf56db6", "uid": "rs-1", "controller": true}],
            "managedFields": [{"manager": "kubelet", "fieldsV1": {"f:status": {"f:conditions": {}}}}]
        },
        "spec": {
            "nodeName": node, "serviceAccountName": "web", "hostname": null,
            "containers": [{"name": "main", "image": "registry:5000/shop/web:1.2@sha256:0123", "env": [{"name": "A", "value": "b"}]}]
        },
        "status": {
            "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
            "containerStatuses": [{"name": "main", "containerID": format!("containerd://c-{uid}"), "ready": true}]
        }
    })
}
