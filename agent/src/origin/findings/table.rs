//! What was found, by sender and destination, for whoever shows it: bounded, in memory, newest kept.

use super::{Finding, Proof, Protocol, Signal};
use crate::telemetry::metrics::{Counters, Gauges, counter, gauge};
use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

/// Rows, about 1 KiB each: a node's pods with a handful of destinations.
pub const ROWS: usize = 2_048;

/// Rows of one sender, so that one which tries every port does not push out the others.
pub const ROWS_PER_SENDER: usize = 64;

/// Connections whose row is remembered, for better evidence that comes later: within seconds as a rule.
const CONNECTIONS: usize = 4_096;

static EVICTED: LazyLock<Counters> = LazyLock::new(|| {
    counter(
        "spanwarden_findings_evicted",
        "Rows that left the table of findings for newer ones, by whose bound was reached.",
        &["bound"],
    )
});
static COUNT: LazyLock<Gauges> =
    LazyLock::new(|| gauge("spanwarden_findings_rows", "Rows in the table of findings.", &[]));

/// The table. Shared: one thread writes, whoever shows it reads copies.
#[derive(Debug, Default)]
pub struct Table {
    inner: Mutex<Inner>,
}

/// Findings of one sender towards one destination, of one kind.
#[derive(Clone, Debug)]
pub struct Row {
    /// When the first connection was found.
    pub first_seen: SystemTime,
    /// When the last one was.
    pub last_seen: SystemTime,
    /// Connections found. What the kernel throttled is not among them.
    pub count: u64,
    /// Connections of them that were blocked.
    pub blocked: u64,
    /// The best proof that any of them gave.
    pub proof: Proof,
    /// The last finding: its process, addresses and mode.
    pub last: Finding,
}

/// What the table made of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noted {
    /// [`Row::first_seen`]
    pub since: SystemTime,
    /// [`Row::count`], this one included.
    pub count: u64,
    /// Not better evidence for a connection that is in the table already.
    pub new_connection: bool,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    /// The pod's uid; for what is in no pod its container or cgroup.
    sender: Arc<str>,
    fallback: bool,
    destination: SocketAddr,
    protocol: Protocol,
    signal: Signal,
}

#[derive(Debug, Default)]
struct Inner {
    rows: HashMap<Arc<Key>, Entry>,
    per_sender: HashMap<Arc<str>, usize>,
    connections: HashMap<u64, Arc<Key>>,
    /// Keys of `connections`, oldest first.
    order: VecDeque<u64>,
    clock: u64,
}

#[derive(Debug)]
struct Entry {
    row: Row,
    /// The table's own clock: wall clocks step.
    touched: u64,
}

impl Table {
    /// Copies of all rows, the last seen first.
    pub fn rows(&self) -> Vec<Row> {
        let inner = self.lock();
        let mut rows: Vec<(u64, Row)> = inner.rows.values().map(|e| (e.touched, e.row.clone())).collect();
        drop(inner);
        rows.sort_unstable_by_key(|(touched, _)| std::cmp::Reverse(*touched));
        rows.into_iter().map(|(_, row)| row).collect()
    }

    /// Takes a finding in. Better evidence for a known connection changes its row, or moves it to another one.
    pub(super) fn note(&self, finding: &Finding) -> Noted {
        let mut inner = self.lock();
        let known = (finding.revised && finding.socket_cookie != 0)
            .then(|| inner.connections.remove(&finding.socket_cookie))
            .flatten();
        let first_seen = known.as_ref().and_then(|key| inner.take_back(key, finding));
        let noted = inner.add(finding, first_seen);
        COUNT.with_label_values::<&str>(&[]).set(i64::try_from(inner.rows.len()).unwrap_or(i64::MAX));
        Noted { new_connection: known.is_none(), ..noted }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn add(&mut self, finding: &Finding, first_seen: Option<SystemTime>) -> Noted {
        self.clock += 1;
        let key = Arc::new(key(finding));
        if !self.rows.contains_key(&key) {
            self.make_room(&key.sender);
            *self.per_sender.entry(Arc::clone(&key.sender)).or_default() += 1;
        }
        let touched = self.clock;
        let entry = self.rows.entry(Arc::clone(&key)).or_insert_with(|| Entry {
            row: Row {
                first_seen: first_seen.unwrap_or(finding.time),
                last_seen: finding.time,
                count: 0,
                blocked: 0,
                proof: finding.proof,
                last: finding.clone(),
            },
            touched,
        });
        entry.touched = touched;
        let row = &mut entry.row;
        row.first_seen = row.first_seen.min(first_seen.unwrap_or(finding.time));
        row.last_seen = row.last_seen.max(finding.time);
        row.count += 1;
        row.blocked += u64::from(finding.blocked);
        row.proof = row.proof.min(finding.proof);
        row.last = finding.clone();
        let noted = Noted { since: row.first_seen, count: row.count, new_connection: true };
        self.remember(finding.socket_cookie, key);
        noted
    }

    /// Undoes what an earlier finding of the same connection did, and tells since when its row was there.
    fn take_back(&mut self, key: &Arc<Key>, finding: &Finding) -> Option<SystemTime> {
        let entry = self.rows.get_mut(key)?;
        let first_seen = entry.row.first_seen;
        // What was blocked is said again by the revision.
        if finding.blocked && entry.row.last.socket_cookie == finding.socket_cookie && entry.row.last.blocked
        {
            entry.row.blocked -= 1;
        }
        entry.row.count -= 1;
        if entry.row.count == 0 {
            self.remove(key);
        }
        Some(first_seen)
    }

    fn remember(&mut self, cookie: u64, key: Arc<Key>) {
        if cookie == 0 {
            return;
        }
        if self.connections.insert(cookie, key).is_none() {
            self.order.push_back(cookie);
        }
        while self.order.len() > CONNECTIONS {
            if let Some(oldest) = self.order.pop_front() {
                self.connections.remove(&oldest);
            }
        }
    }

    /// Where the sender has its share, its own oldest row goes; where all rows are taken, the oldest of the sender
    /// that has most.
    fn make_room(&mut self, sender: &Arc<str>) {
        if self.per_sender.get(sender).is_some_and(|rows| *rows >= ROWS_PER_SENDER) {
            self.evict_oldest_of(&Arc::clone(sender));
            EVICTED.with_label_values(&["sender"]).inc();
        } else if self.rows.len() >= ROWS {
            let most = self.per_sender.iter().max_by_key(|(_, rows)| **rows);
            if let Some(sender) = most.map(|(sender, _)| Arc::clone(sender)) {
                self.evict_oldest_of(&sender);
                EVICTED.with_label_values(&["table"]).inc();
            }
        }
    }

    fn evict_oldest_of(&mut self, sender: &str) {
        let own = self.rows.iter().filter(|(key, _)| &*key.sender == sender);
        if let Some(key) = own.min_by_key(|(_, entry)| entry.touched).map(|(key, _)| Arc::clone(key)) {
            self.remove(&key);
        }
    }

    fn remove(&mut self, key: &Arc<Key>) {
        if self.rows.remove(key).is_none() {
            return;
        }
        if let Some(rows) = self.per_sender.get_mut(&key.sender) {
            *rows -= 1;
            if *rows == 0 {
                self.per_sender.remove(&key.sender);
            }
        }
    }
}

fn key(finding: &Finding) -> Key {
    let origin = &finding.origin;
    let cgroup = || origin.process.as_ref().and_then(|process| process.cgroup_path.as_deref());
    let sender = origin.pod_uid.as_deref().or(origin.container_id.as_deref()).or_else(cgroup);
    Key {
        sender: sender.unwrap_or_default().into(),
        fallback: matches!(finding.kind, super::Kind::Fallback(_)),
        destination: finding.destination,
        protocol: finding.protocol,
        signal: finding.signal,
    }
}

#[cfg(test)]
mod tests;
