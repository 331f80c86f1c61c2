//! What the programs counted, as Prometheus metrics.

#![forbid(unsafe_code)]

use crate::telemetry::metrics::{self, counter};
use aya::maps::{MapData, MapError, PerCpuArray};
use spanwarden_ebpf::abi::counter as index;
use std::sync::LazyLock;

static EVENTS: LazyLock<metrics::Counters> = LazyLock::new(|| {
    counter(
        "spanwarden_bpf_events",
        "Findings by fate: seen in the kernel, delivered to the ring buffer, lost because it was full, read. \
         At rest seen = delivered + full and delivered = read.",
        &["outcome"],
    )
});
static SOCKETS: LazyLock<metrics::Counters> = LazyLock::new(|| {
    counter("spanwarden_bpf_sockets", "Sockets by what the kernel programs saw of them.", &["event"])
});

/// Sums over all CPUs since the programs were attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Findings made in the kernel: `delivered + full` at rest.
    pub seen: u64,
    /// Findings in the ring buffer.
    pub delivered: u64,
    /// Findings lost because the ring buffer was full.
    pub full: u64,
    /// Findings that user space has read: `delivered` at rest.
    pub read: u64,
    /// Stream sockets seen at `connect`.
    pub connects: u64,
    /// Accepted sockets that got their opener's record.
    pub joined: u64,
    /// Accepted sockets whose opener wanted to reach another address.
    pub conflict: u64,
    /// Records that could not be stored.
    pub store_failed: u64,
    /// Connections that start with TLS.
    pub tls: u64,
    /// Connections that start with neither TLS nor plaintext telemetry.
    pub foreign: u64,
    /// Connections that could not be read.
    pub unreadable: u64,
}

impl Counters {
    /// Reads the map; `read` is what user space has counted itself.
    pub(in crate::origin) fn load(map: &PerCpuArray<MapData, u64>, read: u64) -> Result<Self, MapError> {
        let sum = |index: u32| Ok::<u64, MapError>(map.get(&index, 0)?.iter().sum());
        Ok(Self {
            seen: sum(index::SEEN)?,
            delivered: sum(index::DELIVERED)?,
            full: sum(index::FULL)?,
            read,
            connects: sum(index::CONNECTS)?,
            joined: sum(index::JOINED)?,
            conflict: sum(index::CONFLICT)?,
            store_failed: sum(index::STORE_FAILED)?,
            tls: sum(index::TLS)?,
            foreign: sum(index::FOREIGN)?,
            unreadable: sum(index::UNREADABLE)?,
        })
    }

    /// Adds what was counted since `before` to the metrics.
    pub(in crate::origin) fn publish_since(&self, before: &Self) {
        let events = [
            ("seen", self.seen, before.seen),
            ("delivered", self.delivered, before.delivered),
            ("full", self.full, before.full),
            ("read", self.read, before.read),
        ];
        for (outcome, now, then) in events {
            EVENTS.with_label_values(&[outcome]).inc_by(now.saturating_sub(then));
        }
        let sockets = [
            ("connect", self.connects, before.connects),
            ("joined", self.joined, before.joined),
            ("conflict", self.conflict, before.conflict),
            ("store_failed", self.store_failed, before.store_failed),
            ("tls", self.tls, before.tls),
            ("foreign", self.foreign, before.foreign),
            ("unreadable", self.unreadable, before.unreadable),
        ];
        for (event, now, then) in sockets {
            SOCKETS.with_label_values(&[event]).inc_by(now.saturating_sub(then));
        }
    }
}
