//! The maps. User space finds them by these names.

use super::{
    ancestry::{Ancestry, REMEMBERED},
    decided::{CELLS, Decided},
};
use aya_ebpf::{
    btf_maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf, SkStorage},
    helpers::generated::bpf_map_lookup_elem,
    macros::btf_map,
};
use core::{
    arch::asm,
    ffi::c_void,
    ptr::{self, read_volatile},
};
use spanwarden_ebpf::abi::{
    self, AttemptKey, BucketKey, Client, DenyKey, Ending, Finding, JoinKey, OriginRecord, Policy, Pulse,
    Settings, Socket, TlsAttempt, TlsHello, counter,
};

/// Origins and flows of clients' sockets, from `connect` on, by the sockets' addresses. See [`Client`].
#[btf_map]
pub(super) static CLIENTS: Array<Client, { abi::CLIENTS }> = Array::new();

/// For each cell of [`CLIENTS`] how many sockets with such an address may have something in [`SOCKETS`] that programs
/// are to find: while it is 0 they need not look.
#[btf_map]
pub(super) static ELSEWHERE: Array<u64, { abi::CLIENTS }> = Array::new();

/// Origins and flows: of client sockets that have no cell, and of accepted sockets from `PASSIVE_ESTABLISHED` on.
#[btf_map]
pub(super) static SOCKETS: SkStorage<Socket> = SkStorage::new();

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

/// TLS connections that failed.
#[btf_map]
pub(super) static ATTEMPTS: LruHashMap<AttemptKey, TlsAttempt, { abi::ATTEMPTS }> = LruHashMap::new();

/// TLS connections that wait for the server's first answer.
#[btf_map]
pub(super) static HELLOS: LruHashMap<AttemptKey, TlsHello, { abi::HELLOS }> = LruHashMap::new();

/// Token buckets: the theoretical arrival time of the next token's use, nanoseconds since boot.
#[btf_map]
pub(super) static BUCKETS: LruHashMap<BucketKey, u64, { abi::BUCKETS }> = LruHashMap::new();

/// Sockets of which nothing is to be looked at, by their ports. Made anew with the programs, or pinned together with
/// them: only programs that have run all the time may rely on it.
#[btf_map]
pub(super) static DECIDED: Array<Decided, CELLS> = Array::new();

/// Plaintext findings.
#[btf_map]
pub(super) static FINDINGS: RingBuf<Finding, { abi::FINDINGS_BYTES }> = RingBuf::new();

/// Blocked connections that user space is to end.
#[btf_map]
pub(super) static ENDINGS: RingBuf<Ending, { abi::ENDINGS_BYTES }> = RingBuf::new();

/// Ancestors of cgroups.
#[btf_map]
pub(super) static ANCESTRY: PerCpuArray<Ancestry, REMEMBERED> = PerCpuArray::new();

/// Indexed by [`counter`].
#[btf_map]
pub(super) static COUNTERS: PerCpuArray<u64, { counter::COUNT }> = PerCpuArray::new();

/// A map as the generated helpers take it. aya's own socket storage accepts only the `connect` context.
#[inline(always)]
pub(super) fn raw<M>(map: &'static M) -> *mut c_void {
    ptr::from_ref(map).cast_mut().cast()
}

/// Adds one to a counter. In one instruction (`BPF_XADD`): a program in process context is interrupted by one in
/// softirq context on the same CPU, and the counters must add up.
#[inline(always)]
pub(super) fn count(index: u32) {
    if let Some(counter) = COUNTERS.get_ptr_mut(index) {
        // SAFETY: the slot is eight aligned bytes that live as long as the map.
        unsafe { add(counter, 1) }
    }
}

/// Adds to a number that other programs add to at the same time. The target has no atomic types with arithmetic in
/// Rust; the instruction is there since the first of kernels.
///
/// # Safety
/// `to` must be eight aligned bytes of a map's value.
#[inline(always)]
pub(super) unsafe fn add(to: *mut u64, summand: u64) {
    // SAFETY: by contract.
    unsafe { asm!("lock *(u64 *)({to} + 0) += {summand}", to = in(reg) to, summand = in(reg) summand) }
}

/// Counts the caller in; and out again, where he is not alone. Of two at the same time at least one sees the other: it
/// is one word, whose changes have one order.
///
/// # Safety
/// `count` must be eight aligned bytes of a map's value.
#[inline(always)]
pub(super) unsafe fn alone(count: *mut u64) -> bool {
    // SAFETY: by contract.
    unsafe {
        add(count, 1);
        let is_alone = read_volatile(count) == 1;
        if !is_alone {
            add(count, u64::MAX);
        }
        is_alone
    }
}

/// A map's value for this key. Not `LruHashMap::get`, which gives references to what other CPUs write.
///
/// # Safety
/// `K` and `V` must be the map's.
#[inline(always)]
pub(super) unsafe fn lookup<M, K, V>(map: &'static M, key: &K) -> Option<*mut V> {
    // SAFETY: the helper reads as many bytes of the key as the map's keys have, by contract those of a `K`.
    let value = unsafe { bpf_map_lookup_elem(raw(map), ptr::from_ref(key).cast()) };
    (!value.is_null()).then_some(value.cast())
}

/// Whether `address` (network byte order) is in [`OWN`].
#[inline(always)]
pub(super) fn own_contains(address: &[u64; 2]) -> bool {
    // SAFETY: the key is 16 initialised bytes.
    unsafe { lookup::<_, _, u32>(&OWN, address).is_some() }
}
