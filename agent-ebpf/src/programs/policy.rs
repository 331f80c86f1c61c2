//! What is to be done about a sender, and whether anything is to be done at all.

use super::maps::{self, lookup};
use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use core::ptr::read_volatile;
use spanwarden_ebpf::abi::{
    ANCESTOR_LEVELS, MODE_OBSERVE, OriginRecord, POLICY_GROUP, PULSE_TIMEOUT_NS, Policy,
};

/// A sender's policy, and the cgroup that shares its limits.
#[derive(Clone, Copy)]
pub(super) struct Ruling {
    /// The pod's cgroup.
    pub(super) pod: u64,
    /// One of the `MODE_*`.
    pub(super) mode: u32,
    /// As in [`Policy::places`].
    pub(super) places: u32,
}

impl Ruling {
    /// The mode at one of the `PLACE_*`.
    #[inline(always)]
    pub(super) fn at(&self, place: u32) -> u32 {
        if self.places >> (place & 31) & 1 == 1 { self.mode } else { MODE_OBSERVE }
    }
}

/// The deepest entry among the innermost cgroup and its ancestors. What a pod makes below its own cgroup has no
/// entry, so it changes nothing.
///
/// # Safety
/// `origin` must point to a record.
#[inline(always)]
pub(super) unsafe fn of(origin: *const OriginRecord) -> Ruling {
    // SAFETY: by contract.
    let innermost = unsafe { (*origin).cgroup_id };
    let observe = Ruling { pod: innermost, mode: MODE_OBSERVE, places: 0 };
    // One level deeper than the entry that is looked at.
    let mut below = innermost;
    let mut level = ANCESTOR_LEVELS;
    // Deeper than the ancestors that are kept.
    if let Some(policy) = entry(innermost) {
        return ruling(policy, innermost, innermost);
    }
    while level > 0 {
        level -= 1;
        // SAFETY: by contract; the level is within the array.
        let id = unsafe { (*origin).ancestors[level] };
        if id != 0 && id != innermost {
            if let Some(policy) = entry(id) {
                return ruling(policy, id, below);
            }
            below = id;
        }
    }
    observe
}

#[inline(always)]
fn entry(id: u64) -> Option<*const Policy> {
    // SAFETY: keys and values are the map's.
    unsafe { lookup::<_, _, Policy>(&maps::POLICIES, &id) }.map(<*mut Policy>::cast_const)
}

#[inline(always)]
fn ruling(policy: *const Policy, id: u64, below: u64) -> Ruling {
    // SAFETY: the value lives until the program ends; user space replaces values and does not write into them.
    unsafe {
        let pod = if (*policy).flags & POLICY_GROUP != 0 { below } else { id };
        Ruling { pod, mode: (*policy).mode, places: (*policy).places }
    }
}

/// Whether user space is there to act, and wants the programs to.
#[inline(always)]
pub(super) fn enforcing() -> bool {
    let Some(pulse) = maps::PULSE.get_ptr(0) else { return false };
    // SAFETY: aligned words of a map's value, each written at once by user space.
    let (enforce, beat) =
        unsafe { (read_volatile(&raw const (*pulse).enforce), read_volatile(&raw const (*pulse).boot_ns)) };
    if enforce != 1 {
        return false;
    }
    // SAFETY: no arguments. A beat that comes between the two reads lies in the future, by a little.
    let age = unsafe { bpf_ktime_get_boot_ns() }.wrapping_sub(beat).cast_signed();
    age < PULSE_TIMEOUT_NS.cast_signed() && age > -PULSE_TIMEOUT_NS.cast_signed()
}

/// Whether a process is the agent, which is never stopped.
#[inline(always)]
pub(super) fn is_agent(tgid: u32) -> bool {
    tgid != 0 && maps::SETTINGS.get(0).is_some_and(|settings| settings.agent_tgid == tgid)
}
