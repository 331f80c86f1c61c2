//! The maps by who works with them.

#![forbid(unsafe_code)]

use super::{OriginError, abi, chain, not_loaded, own};
use aya::{
    Ebpf, EbpfError,
    maps::{Array, HashMap, LpmTrie, Map, MapData, MapError, PerCpuArray, RingBuf},
};
use spanwarden_ebpf::abi::OWN_ADDRESSES;
use std::{collections::BTreeSet, net::IpAddr};

/// The maps that the thread which reads findings works with.
pub(in crate::origin) struct ConsumerSide {
    pub(in crate::origin) findings: RingBuf<MapData>,
    pub(in crate::origin) counters: PerCpuArray<MapData, u64>,
    pub(in crate::origin) own: OwnMap,
    /// `PLACE_*` by network.
    pub(in crate::origin) places: LpmTrie<MapData, [u8; 16], u32>,
}

impl ConsumerSide {
    pub(super) fn take(bpf: &mut Ebpf) -> Result<Self, OriginError> {
        Ok(Self {
            findings: take(bpf, "FINDINGS", RingBuf::try_from)?,
            counters: take(bpf, "COUNTERS", PerCpuArray::try_from)?,
            own: OwnMap(take(bpf, "OWN", HashMap::try_from)?),
            places: take(bpf, "PLACES", LpmTrie::try_from)?,
        })
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
}

impl EnforceSide {
    pub(super) fn take(bpf: &mut Ebpf) -> Result<Self, OriginError> {
        Ok(Self {
            policies: take(bpf, "POLICIES", HashMap::try_from)?,
            pulse: take(bpf, "PULSE", Array::try_from)?,
            denied: take(bpf, "DENIED", HashMap::try_from)?,
        })
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
            match self.0.remove(&own::to_bytes(*address)) {
                Ok(()) | Err(MapError::KeyNotFound) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        for address in after.difference(before) {
            self.0.insert(own::to_bytes(*address), 1, 0).map_err(failed)?;
        }
        Ok(())
    }
}
