//! What the programs counted, as Prometheus metrics.

#![forbid(unsafe_code)]

use crate::telemetry::metrics::{self, counter};
use aya::maps::{MapData, MapError, PerCpuArray};
use spanwarden_ebpf::abi::counter as index;
use std::sync::LazyLock;

static EVENTS: LazyLock<metrics::Counters> = LazyLock::new(|| {
    counter(
        "spanwarden_bpf_events",
        "Findings by fate: seen in the kernel, delivered to the ring buffer, lost because it was full, throttled \
         because their pod had more than its share, read. At rest seen = delivered + full + throttled, and \
         delivered = read.",
        &["outcome"],
    )
});
static SOCKETS: LazyLock<metrics::Counters> = LazyLock::new(|| {
    counter("spanwarden_bpf_sockets", "Sockets by what the kernel programs saw of them.", &["event"])
});
static ENFORCEMENT: LazyLock<metrics::Counters> = LazyLock::new(|| {
    counter(
        "spanwarden_bpf_enforcement",
        "What the kernel programs stopped: connections blocked, packets of them dropped, connects denied; connections \
         that the policy blocks and that passed (not_enforced); and orders to end a blocked connection (endings), or that \
         there was no room for and that come again with its next packet (endings_later).",
        &["outcome"],
    )
});

/// The kernel's counters, and `read`.
pub(in crate::origin) const KEPT: usize = index::COUNT + 1;

/// Sums over all CPUs since the programs were attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Findings made in the kernel: `delivered + full + throttled` at rest.
    pub seen: u64,
    /// Findings in the ring buffer.
    pub delivered: u64,
    /// Findings lost because the ring buffer was full.
    pub full: u64,
    /// Findings not delivered because their pod had more than its share.
    pub throttled: u64,
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
    /// TLS connections that failed.
    pub tls_failed: u64,
    /// Connections older than the programs that were looked at.
    pub pre_existing: u64,
    /// Connections blocked.
    pub blocked: u64,
    /// Packets dropped of those.
    pub dropped: u64,
    /// `connect` calls denied.
    pub denied: u64,
    /// Connections that the policy blocks and that passed.
    pub not_enforced: u64,
    /// Failed TLS connections not remembered, because their pod had more than its share.
    pub tls_forgotten: u64,
    /// Orders to end a blocked connection.
    pub endings: u64,
    /// Those that there was no room for.
    pub endings_later: u64,
}

impl Counters {
    /// Reads the map; `read` is what user space has counted itself.
    pub(in crate::origin) fn load(map: &PerCpuArray<MapData, u64>, read: u64) -> Result<Self, MapError> {
        let mut sums = [0; KEPT];
        for (index, sum) in (0..).zip(&mut sums[..index::COUNT]) {
            *sum = map.get(&index, 0)?.iter().sum();
        }
        sums[index::COUNT] = read;
        Ok(Self::from_sums(&sums))
    }

    /// By the kernel's index; `read` comes last.
    pub(in crate::origin) fn from_sums(sums: &[u64; KEPT]) -> Self {
        let sum = |index: u32| sums[index as usize];
        Self {
            seen: sum(index::SEEN),
            delivered: sum(index::DELIVERED),
            full: sum(index::FULL),
            throttled: sum(index::THROTTLED),
            read: sums[index::COUNT],
            connects: sum(index::CONNECTS),
            joined: sum(index::JOINED),
            conflict: sum(index::CONFLICT),
            store_failed: sum(index::STORE_FAILED),
            tls: sum(index::TLS),
            foreign: sum(index::FOREIGN),
            unreadable: sum(index::UNREADABLE),
            tls_failed: sum(index::TLS_FAILED),
            pre_existing: sum(index::PRE_EXISTING),
            blocked: sum(index::BLOCKED),
            dropped: sum(index::DROPPED),
            denied: sum(index::DENIED),
            not_enforced: sum(index::NOT_ENFORCED),
            tls_forgotten: sum(index::TLS_FORGOTTEN),
            endings: sum(index::ENDINGS),
            endings_later: sum(index::ENDINGS_LATER),
        }
    }

    /// The reverse of [`Self::from_sums`].
    pub(in crate::origin) fn to_sums(self) -> [u64; KEPT] {
        let mut sums = [0; KEPT];
        for (index, sum) in [
            (index::SEEN, self.seen),
            (index::DELIVERED, self.delivered),
            (index::FULL, self.full),
            (index::THROTTLED, self.throttled),
            (index::CONNECTS, self.connects),
            (index::JOINED, self.joined),
            (index::CONFLICT, self.conflict),
            (index::STORE_FAILED, self.store_failed),
            (index::TLS, self.tls),
            (index::FOREIGN, self.foreign),
            (index::UNREADABLE, self.unreadable),
            (index::TLS_FAILED, self.tls_failed),
            (index::PRE_EXISTING, self.pre_existing),
            (index::BLOCKED, self.blocked),
            (index::DROPPED, self.dropped),
            (index::DENIED, self.denied),
            (index::NOT_ENFORCED, self.not_enforced),
            (index::TLS_FORGOTTEN, self.tls_forgotten),
            (index::ENDINGS, self.endings),
            (index::ENDINGS_LATER, self.endings_later),
        ] {
            sums[index as usize] = sum;
        }
        sums[index::COUNT] = self.read;
        sums
    }

    /// Adds what was counted since `before` to the metrics.
    pub(in crate::origin) fn publish_since(&self, before: &Self) {
        let add = |family: &metrics::Counters, label: &str, now: u64, then: u64| {
            family.with_label_values(&[label]).inc_by(now.saturating_sub(then));
        };
        add(&EVENTS, "seen", self.seen, before.seen);
        add(&EVENTS, "delivered", self.delivered, before.delivered);
        add(&EVENTS, "full", self.full, before.full);
        add(&EVENTS, "throttled", self.throttled, before.throttled);
        add(&EVENTS, "read", self.read, before.read);
        add(&SOCKETS, "connect", self.connects, before.connects);
        add(&SOCKETS, "joined", self.joined, before.joined);
        add(&SOCKETS, "conflict", self.conflict, before.conflict);
        add(&SOCKETS, "store_failed", self.store_failed, before.store_failed);
        add(&SOCKETS, "tls", self.tls, before.tls);
        add(&SOCKETS, "tls_failed", self.tls_failed, before.tls_failed);
        add(&SOCKETS, "tls_forgotten", self.tls_forgotten, before.tls_forgotten);
        add(&SOCKETS, "pre_existing", self.pre_existing, before.pre_existing);
        add(&SOCKETS, "foreign", self.foreign, before.foreign);
        add(&SOCKETS, "unreadable", self.unreadable, before.unreadable);
        add(&ENFORCEMENT, "blocked", self.blocked, before.blocked);
        add(&ENFORCEMENT, "dropped", self.dropped, before.dropped);
        add(&ENFORCEMENT, "denied", self.denied, before.denied);
        add(&ENFORCEMENT, "not_enforced", self.not_enforced, before.not_enforced);
        add(&ENFORCEMENT, "endings", self.endings, before.endings);
        add(&ENFORCEMENT, "endings_later", self.endings_later, before.endings_later);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_back() {
        let mut sums = [0; KEPT];
        for (number, sum) in (1..).zip(&mut sums) {
            *sum = number;
        }
        assert_eq!(Counters::from_sums(&sums).to_sums(), sums, "every counter has a place of its own");
    }
}
