//! The maps by who works with them.

#![forbid(unsafe_code)]

use super::{OriginError, abi, chain, not_loaded, own};
use crate::origin::bpf::{Counters, KEPT};
use aya::{
    Ebpf, EbpfError,
    maps::{Array, HashMap, LpmTrie, Map, MapData, MapError, PerCpuArray, RingBuf},
};
use spanwarden_ebpf::abi::{OWN_ADDRESSES, Pulse};
use std::{collections::BTreeSet, net::IpAddr, path::Path};

/// The maps that the thread which reads findings works with.
pub(in crate::origin) struct ConsumerSide {
    pub(in crate::origin) findings: RingBuf<MapData>,
    pub(in crate::origin) counters: PerCpuArray<MapData, u64>,
    pub(in crate::origin) own: OwnMap,
    /// `PLACE_*` by network.
    pub(in crate::origin) places: LpmTrie<MapData, [u8; 16], u32>,
    /// Of pinned programs, which go on counting while no agent is there.
    published: Option<Published>,
}

impl ConsumerSide {
    pub(super) fn take(bpf: &mut Ebpf, published: Option<Published>) -> Result<Self, OriginError> {
        Ok(Self {
            published,
            findings: take(bpf, "FINDINGS", RingBuf::try_from)?,
            counters: take(bpf, "COUNTERS", PerCpuArray::try_from)?,
            own: OwnMap(take(bpf, "OWN", HashMap::try_from)?),
            places: take(bpf, "PLACES", LpmTrie::try_from)?,
        })
    }
}

impl ConsumerSide {
    /// What the previous process had published; metrics go on from there. `None` when nothing outlives a process.
    pub(in crate::origin) fn published(&self) -> Option<Counters> {
        self.published.as_ref().map(|published| Counters::from_sums(&published.last))
    }

    /// Keeps what was published for the next process.
    pub(in crate::origin) fn keep(&mut self, now: &Counters) -> Result<(), MapError> {
        let Some(Published { map, last }) = &mut self.published else { return Ok(()) };
        for ((index, now), last) in (0..).zip(now.to_sums()).zip(last) {
            if now != *last {
                map.set(index, now, 0)?;
                *last = now;
            }
        }
        Ok(())
    }
}

/// What has got into metrics so far: a map of user space's own, indexed as [`Counters::to_sums`].
pub(super) struct Published {
    map: Array<MapData, u64>,
    last: [u64; KEPT],
}

impl Published {
    /// Makes one, under a name in a bpffs.
    pub(super) fn create(path: &Path) -> Result<(), OriginError> {
        let failed = |e: &dyn std::error::Error| OriginError::Map { map: "PUBLISHED", chain: e.to_string() };
        let map = Array::<MapData, u64>::create(KEPT as u32, 0).map_err(|e| failed(&e))?;
        map.pin(path).map_err(|e| failed(&e))
    }

    /// Opens what [`Self::create`] has made.
    pub(super) fn open(path: &Path) -> Result<Self, OriginError> {
        let failed = |e: MapError| OriginError::Map { map: "PUBLISHED", chain: chain(&e) };
        let map = MapData::from_pin(path).and_then(Map::from_map_data).and_then(Array::try_from);
        let map: Array<MapData, u64> = map.map_err(failed)?;
        let mut last = [0; KEPT];
        for (index, sum) in (0..).zip(&mut last) {
            *sum = map.get(&index, 0).map_err(failed)?;
        }
        Ok(Self { map, last })
    }
}

/// The maps by which user space tells the programs what to stop.
pub(in crate::origin) struct EnforceSide {
    /// By cgroup id.
    pub(in crate::origin) policies: HashMap<MapData, u64, abi::Policy>,
    /// One element.
    pub(in crate::origin) pulse: Array<MapData, abi::Pulse>,
    /// Nanoseconds since boot until when `connect` is refused.
    pub(in crate::origin) denied: HashMap<MapData, abi::DenyKey, u64>,
    /// Blocked connections that are to be ended.
    pub(in crate::origin) endings: RingBuf<MapData>,
}

impl EnforceSide {
    pub(super) fn take(bpf: &mut Ebpf) -> Result<Self, OriginError> {
        Ok(Self {
            policies: take(bpf, "POLICIES", HashMap::try_from)?,
            pulse: take(bpf, "PULSE", Array::try_from)?,
            denied: take(bpf, "DENIED", HashMap::try_from)?,
            endings: take(bpf, "ENDINGS", RingBuf::try_from)?,
        })
    }
}

impl EnforceSide {
    /// Forgets what a previous process has written. Nothing is enforced until user space gives a sign of life.
    pub(super) fn reset(&mut self) -> Result<(), OriginError> {
        let failed = |map| move |e: MapError| OriginError::Map { map, chain: chain(&e) };
        self.pulse.set(0, abi::Pulse(Pulse::default()), 0).map_err(failed("PULSE"))?;
        let keys: Vec<_> = self.policies.keys().collect::<Result<_, _>>().map_err(failed("POLICIES"))?;
        keys.iter().try_for_each(|key| gone(self.policies.remove(key))).map_err(failed("POLICIES"))?;
        let keys: Vec<_> = self.denied.keys().collect::<Result<_, _>>().map_err(failed("DENIED"))?;
        keys.iter().try_for_each(|key| gone(self.denied.remove(key))).map_err(failed("DENIED"))
    }
}

/// That there is nothing to remove is as good.
fn gone(removed: Result<(), MapError>) -> Result<(), MapError> {
    match removed {
        Err(MapError::KeyNotFound) => Ok(()),
        other => other,
    }
}

/// Moves a map out of the object.
pub(super) fn take<T, E: Into<EbpfError>>(
    bpf: &mut Ebpf,
    name: &'static str,
    convert: impl FnOnce(Map) -> Result<T, E>,
) -> Result<T, OriginError> {
    let map = bpf.take_map(name).ok_or(OriginError::Object(name))?;
    convert(map).map_err(|e| not_loaded(&e.into()))
}

/// The agent's own addresses in the kernel.
pub(in crate::origin) struct OwnMap(HashMap<MapData, [u8; 16], u32>);

impl OwnMap {
    /// Makes `addresses` the map's content, whatever it is now.
    pub(in crate::origin) fn set(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<(), OriginError> {
        let keys = self.0.keys().collect::<Result<Vec<_>, _>>();
        let keys = keys.map_err(|e| OriginError::Map { map: "OWN", chain: chain(&e) })?;
        self.update(&keys.into_iter().map(own::from_bytes).collect(), addresses)
    }

    /// Brings the map from `before` to `after`.
    pub(in crate::origin) fn update(
        &mut self,
        before: &BTreeSet<IpAddr>,
        after: &BTreeSet<IpAddr>,
    ) -> Result<(), OriginError> {
        if after.len() > OWN_ADDRESSES {
            return Err(OriginError::TooManyAddresses(after.len()));
        }
        let failed = |e: MapError| OriginError::Map { map: "OWN", chain: chain(&e) };
        for address in before.difference(after) {
            gone(self.0.remove(&own::to_bytes(*address))).map_err(failed)?;
        }
        for address in after.difference(before) {
            self.0.insert(own::to_bytes(*address), 1, 0).map_err(failed)?;
        }
        Ok(())
    }
}
