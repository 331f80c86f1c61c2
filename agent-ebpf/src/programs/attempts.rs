//! The memory of TLS connections that failed, for the plaintext that may follow.

use super::{
    maps::{self, count, lookup, raw},
    packet::Address,
    policy, throttle,
};
use aya_ebpf::helpers::generated::{bpf_ktime_get_boot_ns, bpf_map_delete_elem, bpf_map_update_elem};
use core::ptr;
use spanwarden_ebpf::abi::{
    ATTEMPTS_BURST, ATTEMPTS_PER_SECOND, AttemptKey, BUCKET_ATTEMPTS, HELLO_GRACE_NS, OriginRecord,
    STATE_OPENED, Socket, TLS_UNANSWERED, TlsAttempt, TlsHello, counter,
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

/// Remembers that a `ClientHello` waits for an answer; see [`TlsHello`].
///
/// # Safety
/// `socket` must be the storage value of a socket, with the local address in its flow.
#[inline(always)]
pub(super) unsafe fn hello(socket: *const Socket) {
    // SAFETY: by contract, here and below; everything given to the helpers lives on the stack during the call.
    let (origin, flow) = unsafe { (&raw const (*socket).origin, &raw const (*socket).flow) };
    let Some((key, _)) = (unsafe { keys(origin) }) else { return };
    let window = window();
    // SAFETY: no arguments.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    // SAFETY: keys and values are the map's.
    if let Some(older) = unsafe { lookup::<_, _, TlsHello>(&maps::HELLOS, &key) }
        && now.saturating_sub(unsafe { (*older).boot_ns }) < window
    {
        return;
    }
    unsafe {
        let hello = TlsHello {
            boot_ns: now,
            socket_cookie: (*origin).socket_cookie,
            local: (*flow).local,
            local_port: (*flow).local_port,
            tgid: (*origin).tgid,
        };
        let (key, value) = (ptr::from_ref(&key).cast(), ptr::from_ref(&hello).cast());
        bpf_map_update_elem(raw(&maps::HELLOS), key, value, 0);
    }
}

/// The server has answered, whatever: from now on the connection's own outcome counts.
///
/// # Safety
/// As for [`failed`].
#[inline(always)]
pub(super) unsafe fn answered(origin: *const OriginRecord) {
    // SAFETY: by contract, here and below.
    let Some((key, _)) = (unsafe { keys(origin) }) else { return };
    unsafe {
        if let Some(hello) = lookup::<_, _, TlsHello>(&maps::HELLOS, &key)
            && (*hello).socket_cookie == (*origin).socket_cookie
        {
            bpf_map_delete_elem(raw(&maps::HELLOS), ptr::from_ref(&key).cast());
        }
    }
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
        // What is known better now.
        answered(origin);
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
    forget::<_, TlsAttempt>(&maps::ATTEMPTS, &strong);
    forget::<_, TlsAttempt>(&maps::ATTEMPTS, &weak);
    forget::<_, TlsHello>(&maps::HELLOS, &strong);
}

/// A look-up first: it takes no lock, and there is hardly ever anything to delete.
#[inline(always)]
fn forget<M, V>(map: &'static M, key: &AttemptKey) {
    // SAFETY: keys and values are the map's; the key lives on the stack during the call.
    unsafe {
        if lookup::<_, _, V>(map, key).is_some() {
            bpf_map_delete_elem(raw(map), ptr::from_ref(key).cast());
        }
    }
}

/// What plaintext may be the consequence of.
#[derive(Clone, Copy)]
pub(super) enum Cause {
    Nothing,
    /// A failure; of a connection to the same port only where it is weak.
    Failed(*const TlsAttempt, bool),
    /// A connection that has waited for an answer since long ago.
    Unanswered(*const TlsHello),
}

/// The cause within the window: a connection to the same address and port, one there that still waits for an answer, or
/// else one to the same port.
///
/// # Safety
/// As for [`failed`].
#[inline(always)]
pub(super) unsafe fn cause(origin: *const OriginRecord) -> Cause {
    // SAFETY: by contract.
    let Some((strong, weak)) = (unsafe { keys(origin) }) else { return Cause::Nothing };
    let window = window();
    if let Some(attempt) = within(&strong, window) {
        return Cause::Failed(attempt, false);
    }
    // SAFETY: keys and values are the map's; a value that the LRU recycles meanwhile is still one of the map's.
    unsafe {
        if let Some(hello) = lookup::<_, _, TlsHello>(&maps::HELLOS, &strong) {
            let age = bpf_ktime_get_boot_ns().saturating_sub((*hello).boot_ns);
            if age >= HELLO_GRACE_NS && age < window {
                return Cause::Unanswered(hello);
            }
        }
    }
    within(&weak, window).map_or(Cause::Nothing, |attempt| Cause::Failed(attempt, true))
}

impl Cause {
    /// Writes it as a finding tells it; whether there is any.
    ///
    /// # Safety
    /// As for [`failed`]; `tls` must be there to be written to.
    #[inline(always)]
    pub(super) unsafe fn write(self, origin: *const OriginRecord, tls: *mut TlsAttempt) -> bool {
        // SAFETY: by contract.
        unsafe {
            match self {
                Self::Nothing => {
                    *tls = TlsAttempt::default();
                    return false;
                }
                Self::Failed(attempt, weak) => {
                    *tls = *attempt;
                    (*tls).weak = u32::from(weak);
                }
                Self::Unanswered(hello) => {
                    (*tls).boot_ns = (*hello).boot_ns;
                    (*tls).socket_cookie = (*hello).socket_cookie;
                    (*tls).local = (*hello).local;
                    (*tls).destination = (*origin).destination;
                    (*tls).local_port = (*hello).local_port;
                    (*tls).destination_port = (*origin).destination_port;
                    (*tls).kind = TLS_UNANSWERED;
                    (*tls).detail = 0;
                    (*tls).tgid = (*hello).tgid;
                    (*tls).weak = 0;
                }
            }
        }
        true
    }
}

/// How long a failure is remembered, nanoseconds.
#[inline(always)]
fn window() -> u64 {
    maps::SETTINGS.get(0).map_or(0, |settings| settings.fallback_window_ns)
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
