//! The maps. User space finds them by these names.

use aya_ebpf::{
    btf_maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf, SkStorage},
    macros::btf_map,
};
use core::{ffi::c_void, ptr};
use spanwarden_ebpf::abi::{
    self, DenyKey, Finding, Flow, JoinKey, OriginRecord, Policy, Pulse, Settings, counter,
};

/// Origins: of client sockets from `connect` on, of accepted sockets from the join on.
#[btf_map]
pub(super) static ORIGINS: SkStorage<OriginRecord> = SkStorage::new();

/// Flows of client sockets from `ACTIVE_ESTABLISHED` on.
#[btf_map]
pub(super) static FLOWS: SkStorage<Flow> = SkStorage::new();

/// Origins on their way from the client's end of a handshake to the server's.
#[btf_map]
pub(super) static JOIN: LruHashMap<JoinKey, OriginRecord, { abi::JOIN_ENTRIES }> = LruHashMap::new();

/// The agent's own addresses, besides loopback.
#[btf_map]
pub(super) static OWN: HashMap<[u8; 16], u32, { abi::OWN_ADDRESSES }> = HashMap::new();

/// One element.
#[btf_map]
pub(super) static SETTINGS: Array<Settings, 1> = Array::new();

/// User space's sign of life. One element.
#[btf_map]
pub(super) static PULSE: Array<Pulse, 1> = Array::new();

/// What to do about plaintext telemetry, by cgroup id.
#[btf_map]
pub(super) static POLICIES: HashMap<u64, Policy, { abi::POLICIES }> = HashMap::new();

/// `PLACE_*` by network; loopback and the agent's own addresses come first.
#[btf_map]
pub(super) static PLACES: LpmTrie<[u8; 16], u32, { abi::NETWORKS }> = LpmTrie::new();

/// Until when a pod may not connect to a destination, nanoseconds since boot.
#[btf_map]
pub(super) static DENIED: LruHashMap<DenyKey, u64, { abi::DENIALS }> = LruHashMap::new();

/// Plaintext findings.
#[btf_map]
pub(super) static FINDINGS: RingBuf<Finding, { abi::FINDINGS_BYTES }> = RingBuf::new();

/// Indexed by [`counter`].
#[btf_map]
pub(super) static COUNTERS: PerCpuArray<u64, { counter::COUNT }> = PerCpuArray::new();

/// A map as the generated helpers take it. aya's own socket storage accepts only the `connect` context.
#[inline(always)]
pub(super) fn raw<M>(map: &'static M) -> *mut c_void {
    ptr::from_ref(map).cast_mut().cast()
}

/// Adds one to a counter.
#[inline(always)]
pub(super) fn count(index: u32) {
    if let Some(counter) = COUNTERS.get_ptr_mut(index) {
        // SAFETY: the slot belongs to this CPU, and user space only reads it. An interrupt between load and
        // store can lose one count of this CPU.
        unsafe { *counter += 1 }
    }
}

/// Whether `address` (network byte order) is in [`OWN`].
#[inline(always)]
pub(super) fn own_contains(address: &[u64; 2]) -> bool {
    // SAFETY: the key is 16 initialised bytes; only the presence of a value matters.
    unsafe {
        !aya_ebpf::helpers::generated::bpf_map_lookup_elem(raw(&OWN), ptr::from_ref(address).cast()).is_null()
    }
}
