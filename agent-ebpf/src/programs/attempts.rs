//! The memory of TLS connections that failed, for the plaintext that may follow.

use super::{
    maps::{self, count, lookup, raw},
    packet::Address,
    policy, throttle,
};
use aya_ebpf::helpers::generated::{bpf_ktime_get_boot_ns, bpf_map_delete_elem, bpf_map_update_elem};
use core::ptr;
use spanwarden_ebpf::abi::{
    ATTEMPTS_BURST, ATTEMPTS_PER_SECOND, AttemptKey, BUCKET_ATTEMPTS, OriginRecord, STATE_OPENED, TlsAttempt,
    counter,
};

/// What went wrong, and under which source address.
pub(super) struct Failure {
    /// One of the `TLS_*`.
    pub(super) kind: u32,
    /// The alert's description where `kind` is an alert.
    pub(super) detail: u32,
    pub(super) local: Address,
    pub(super) local_port: u32,
}

/// Remembers that a TLS connection failed.
///
/// # Safety
/// `origin` must point to a record in a socket's storage.
#[inline(always)]
pub(super) unsafe fn failed(origin: *const OriginRecord, failure: &Failure) {
    count(counter::TLS_FAILED);
    // SAFETY: by contract, here and below.
    let Some((strong, weak)) = (unsafe { keys(origin) }) else { return };
    // SAFETY: keys and values are the map's.
    let again = unsafe { lookup::<_, _, TlsAttempt>(&maps::ATTEMPTS, &strong) }.is_some();
    // Whoever tries again and again has one entry. New ones push out old ones, so that each pod has its share.
    if !again {
        // SAFETY: by contract.
        let pod = unsafe { policy::of(origin) }.pod;
        if !throttle::admits(pod, BUCKET_ATTEMPTS, ATTEMPTS_PER_SECOND, ATTEMPTS_BURST) {
            count(counter::TLS_FORGOTTEN);
            return;
        }
    }
    // SAFETY: by contract; everything given to the helper lives on the stack during the call.
    unsafe {
        let attempt = TlsAttempt {
            boot_ns: bpf_ktime_get_boot_ns(),
            socket_cookie: (*origin).socket_cookie,
            local: core::mem::transmute::<Address, [u8; 16]>(failure.local),
            destination: (*origin).destination,
            local_port: failure.local_port,
            destination_port: (*origin).destination_port,
            kind: failure.kind,
            detail: failure.detail,
            tgid: (*origin).tgid,
            weak: 0,
        };
        let value = ptr::from_ref(&attempt).cast();
        bpf_map_update_elem(raw(&maps::ATTEMPTS), ptr::from_ref(&strong).cast(), value, 0);
        bpf_map_update_elem(raw(&maps::ATTEMPTS), ptr::from_ref(&weak).cast(), value, 0);
    }
}

/// Forgets failures that a working TLS connection to the same place follows: whatever is in plaintext afterwards
/// was not caused by them.
///
/// # Safety
/// As for [`failed`].
#[inline(always)]
pub(super) unsafe fn succeeded(origin: *const OriginRecord) {
    // SAFETY: by contract.
    let Some((strong, weak)) = (unsafe { keys(origin) }) else { return };
    forget(&strong);
    forget(&weak);
}

/// A look-up first: it takes no lock, and there is hardly ever anything to delete.
#[inline(always)]
fn forget(key: &AttemptKey) {
    // SAFETY: keys and values are the map's; the key lives on the stack during the call.
    unsafe {
        if lookup::<_, _, TlsAttempt>(&maps::ATTEMPTS, key).is_some() {
            bpf_map_delete_elem(raw(&maps::ATTEMPTS), ptr::from_ref(key).cast());
        }
    }
}

/// A failure within the window: of a connection to the same address and port (`false`), or else to the same port (`true`).
///
/// # Safety
/// As for [`failed`].
#[inline(always)]
pub(super) unsafe fn recent(origin: *const OriginRecord) -> Option<(*const TlsAttempt, bool)> {
    // SAFETY: by contract.
    let (strong, weak) = unsafe { keys(origin) }?;
    let window = maps::SETTINGS.get(0)?.fallback_window_ns;
    if let Some(attempt) = within(&strong, window) {
        return Some((attempt, false));
    }
    within(&weak, window).map(|attempt| (attempt, true))
}

#[inline(always)]
fn within(key: &AttemptKey, window: u64) -> Option<*const TlsAttempt> {
    // SAFETY: keys and values are the map's; a value that the LRU recycles meanwhile is still one of the map's.
    unsafe {
        let attempt = lookup::<_, _, TlsAttempt>(&maps::ATTEMPTS, key)?.cast_const();
        (bpf_ktime_get_boot_ns().saturating_sub((*attempt).boot_ns) < window).then_some(attempt)
    }
}

/// The strong and the weak key. None for a connection that is older than the programs: its namespace is not known.
///
/// # Safety
/// As for [`failed`].
#[inline(always)]
unsafe fn keys(origin: *const OriginRecord) -> Option<(AttemptKey, AttemptKey)> {
    // SAFETY: by contract.
    unsafe {
        if (*origin).state != STATE_OPENED {
            return None;
        }
        let strong = AttemptKey {
            netns_cookie: (*origin).netns_cookie,
            cgroup_id: (*origin).cgroup_id,
            destination: (*origin).destination,
            port: (*origin).destination_port,
            weak: 0,
        };
        Some((strong, AttemptKey { destination: [0; 16], weak: 1, ..strong }))
    }
}
