//! Tells the kernel which policy is whose, and keeps that up to date as pods come and go.

#![forbid(unsafe_code)]

use super::{
    encode,
    tree::{Kind, Node, Watched, walk},
};
use crate::{
    config::extensions::{PlaintextMode, PlaintextPolicy},
    origin::{
        PodSource,
        bpf::abi::{DenyKey, Policy},
        loader::{chain, own},
    },
    telemetry::metrics::{self, counter, gauge},
};
use aya::maps::{HashMap as KernelMap, MapData, MapError};
use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify},
};
use spanwarden_ebpf::abi;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tracing::warn;

static ENTRIES: LazyLock<metrics::Gauges> = LazyLock::new(|| {
    gauge("spanwarden_plaintext_policies", "Cgroups that have a policy in the kernel, by mode.", &["mode"])
});
static REFUSED: LazyLock<metrics::Counters> = LazyLock::new(|| {
    counter(
        "spanwarden_plaintext_policies_refused",
        "Policies of cgroups that did not reach the kernel (they stay with the policy of all pods) or directories \
         of cgroups that cannot be watched (new pods in them are found later), by cause.",
        &["cause"],
    )
});

/// Between two walks that findings cause: a sender must not make this program walk all the time.
const RESPITE: Duration = Duration::from_millis(100);

/// The kernel's maps of policies and denials; what is to be in them, and what is.
pub(super) struct Policies {
    policy: PlaintextPolicy,
    watched: Watched,
    /// The agent's own cgroup and those around it: its pod is never blocked.
    own: Vec<u64>,
    pods: Arc<dyn PodSource>,
    state: Mutex<State>,
}

/// See [`Policies::verdict`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Blocked,
    Passes,
    /// Nobody knows the pod yet.
    Unknown,
}

struct State {
    policies: KernelMap<MapData, u64, Policy>,
    denied: KernelMap<MapData, DenyKey, u64>,
    written: BTreeMap<u64, abi::Policy>,
    nodes: Vec<Node>,
    /// When they were looked for.
    walked: Instant,
    /// Absent when the kernel gives none; then only the slow walk finds what is new.
    events: Option<Arc<Inotify>>,
    /// Causes that were logged.
    said: Vec<&'static str>,
}

impl Policies {
    pub(super) fn new(
        maps: (KernelMap<MapData, u64, Policy>, KernelMap<MapData, DenyKey, u64>),
        policy: PlaintextPolicy,
        watched: Watched,
        own: Vec<u64>,
        pods: Arc<dyn PodSource>,
    ) -> Self {
        let (policies, denied) = maps;
        // An earlier agent's, where the maps outlive it.
        let left = policies.iter().flatten().map(|(id, Policy(policy))| (id, policy)).collect();
        let events = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).map(Arc::new);
        let mut state = State {
            policies,
            denied,
            written: left,
            nodes: Vec::new(),
            walked: Instant::now(),
            events: None,
            said: Vec::new(),
        };
        match events {
            Ok(events) => state.events = Some(events),
            Err(errno) => state.refuse("watch", 1, &errno),
        }
        Self { policy, watched, own, pods, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Becomes readable when cgroups came or went.
    pub(super) fn events(&self) -> Option<Arc<Inotify>> {
        self.state().events.clone()
    }

    /// Walks the cgroups, and brings the kernel's map to what it should be.
    pub(super) fn rescan(&self) {
        let mut state = self.state();
        // Before the walk: what happens from here on is told again.
        if let Some(events) = &state.events {
            while events.read_events().is_ok_and(|events| !events.is_empty()) {}
        }
        let events = state.events.clone();
        let mut unwatched = None;
        let found = walk(&self.watched, |directory| {
            if let Some(errno) = events.as_ref().and_then(|events| watch(events, directory).err()) {
                unwatched = Some(errno);
            }
        });
        if let Some(errno) = unwatched {
            state.refuse("watch", 1, &errno);
        }
        if found.cut {
            state.refuse("walk", 1, &"more directories than are looked at");
        }
        state.nodes = found.nodes;
        state.walked = Instant::now();
        self.apply(&mut state);
    }

    /// As [`Self::rescan`] for the cgroups that are known: what is known of their pods may have changed.
    pub(super) fn refresh(&self) {
        self.apply(&mut self.state());
    }

    fn apply(&self, state: &mut State) {
        let (wanted, left_out) = self.wanted(&state.nodes);
        if left_out > 0 {
            state.refuse("full", left_out, &format!("there is room for {}", abi::POLICIES));
        }
        let gone: Vec<u64> = state.written.keys().filter(|id| !wanted.contains_key(id)).copied().collect();
        for id in gone {
            match state.policies.remove(&id) {
                Ok(()) | Err(MapError::KeyNotFound) => drop(state.written.remove(&id)),
                Err(error) => state.refuse("map", 1, &chain(&error)),
            }
        }
        for (id, policy) in wanted {
            if state.written.get(&id) == Some(&policy) {
                continue;
            }
            match state.policies.insert(id, Policy(policy), 0) {
                Ok(()) => drop(state.written.insert(id, policy)),
                Err(error) => state.refuse("map", 1, &chain(&error)),
            }
        }
        for (mode, name) in
            [(abi::MODE_OBSERVE, "observe"), (abi::MODE_WARN, "warn"), (abi::MODE_BLOCK, "block")]
        {
            let count = state.written.values().filter(|policy| policy.mode == mode).count();
            ENTRIES.with_label_values(&[name]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// What the map should hold, and how many entries do not fit. A pod without an entry has its group's policy, so
    /// those that differ from it are enough.
    fn wanted(&self, nodes: &[Node]) -> (BTreeMap<u64, abi::Policy>, u64) {
        let unknown = self.policy.mode_of_unknown();
        let make = |mode, flags| encode::policy(mode, &self.policy.places, flags);
        let groups = nodes.iter().filter_map(|node| match node.kind {
            Kind::Group => Some((node.id, make(unknown, abi::POLICY_GROUP))),
            // The runtime itself is a process of the host; each container in it has an entry.
            Kind::Runtime => Some((node.id, make(PlaintextMode::Observe, abi::POLICY_GROUP))),
            Kind::Pod(_) => None,
        });
        let pods = nodes.iter().filter_map(|node| {
            let mode = self.mode_of(node)?;
            (mode != unknown).then(|| (node.id, make(mode, 0)))
        });
        let mut wanted = BTreeMap::new();
        let mut left_out = 0;
        for (id, policy) in groups.chain(pods) {
            if wanted.len() < abi::POLICIES {
                wanted.insert(id, policy);
            } else {
                left_out += 1;
            }
        }
        (wanted, left_out)
    }

    /// The mode of a pod's cgroup; `None` for others.
    fn mode_of(&self, node: &Node) -> Option<PlaintextMode> {
        let Kind::Pod(uid) = &node.kind else { return None };
        if self.own.contains(&node.id) {
            return Some(PlaintextMode::Observe);
        }
        let known = self.pods.by_uid(uid).map(|pod| self.policy.mode_of(&pod));
        Some(known.unwrap_or_else(|| self.policy.mode_of_unknown()))
    }

    /// Whether the pod with this uid is to be blocked; then the kernel knows it from now on. For a pod of which it
    /// did not know in time.
    pub(super) fn verdict(&self, uid: &str) -> Verdict {
        let state = self.state();
        let look = !state.nodes.iter().any(|node| node.is_pod(uid)) && state.walked.elapsed() >= RESPITE;
        drop(state);
        if look {
            self.rescan();
        }
        self.known(uid)
    }

    /// As [`Self::verdict`], for the cgroups that are known.
    pub(super) fn known(&self, uid: &str) -> Verdict {
        let mut state = self.state();
        let modes: Vec<_> =
            state.nodes.iter().filter(|node| node.is_pod(uid)).map(|node| self.mode_of(node)).collect();
        if modes.is_empty() || modes.iter().any(|mode| *mode != Some(PlaintextMode::Block)) {
            let unknown = self.pods.by_uid(uid).is_none();
            return if unknown { Verdict::Unknown } else { Verdict::Passes };
        }
        self.apply(&mut state);
        Verdict::Blocked
    }

    /// Denies the pod's connections to `destination` until `boot_ns`, as the kernel does when it blocks by itself.
    pub(super) fn deny(&self, uid: &str, destination: SocketAddr, boot_ns: u64) {
        let mut state = self.state();
        let cgroups: Vec<u64> =
            state.nodes.iter().filter(|node| node.is_pod(uid)).map(|node| node.id).collect();
        for cgroup_id in cgroups {
            let key = abi::DenyKey {
                cgroup_id,
                destination: own::to_bytes(destination.ip()),
                port: u32::from(destination.port()),
                reserved: 0,
            };
            if let Err(error) = state.denied.insert(DenyKey(key), boot_ns, 0) {
                state.refuse("denial", 1, &chain(&error));
            }
        }
    }
}

impl State {
    /// Counts, and logs a cause once.
    fn refuse(&mut self, cause: &'static str, count: u64, error: &dyn std::fmt::Display) {
        REFUSED.with_label_values(&[cause]).inc_by(count);
        if self.said.contains(&cause) {
            return;
        }
        self.said.push(cause);
        if cause == "watch" {
            warn!(
                %error, "directories of cgroups cannot be watched (fs.inotify.max_user_watches?): until a new pod is \
                 found by looking every few seconds, it has the policy of pods that are not known"
            );
        } else {
            warn!(
                %error, cause, "policies for plaintext did not all reach the kernel: the pods concerned have the \
                 policy of pods that are not known"
            );
        }
    }
}

fn watch(events: &Inotify, directory: &Path) -> nix::Result<()> {
    let changes = AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_ONLYDIR;
    match events.add_watch(directory, changes) {
        // Gone meanwhile.
        Ok(_) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests;
