//! A token bucket a pod, so that none of them can use up what all share.
//!
//! As in the generic cell rate algorithm (ITU-T I.371, the virtual scheduling form) a bucket is one number: when it would be full again.
//! Kernels before 5.12 have no compare-and-swap for programs, so two CPUs may both take the last token; each
//! token taken is counted, by an atomic addition, and so paid for later.

use super::maps::{self, add, lookup, raw};
use aya_ebpf::helpers::generated::{bpf_ktime_get_boot_ns, bpf_map_update_elem};
use core::ptr::{self, read_volatile, write_volatile};
use spanwarden_ebpf::abi::BucketKey;

const SECOND: u64 = 1_000_000_000;

/// Whether `pod` may do one more of `what`, one of the `BUCKET_*`: `per_second` on average (0 for without a
/// limit), `burst` at once. Takes a token if so.
#[inline(always)]
pub(super) fn admits(pod: u64, what: u32, per_second: u32, burst: u32) -> bool {
    if per_second == 0 {
        return true;
    }
    let interval = SECOND / u64::from(per_second);
    // SAFETY: no arguments.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    let key = BucketKey { cgroup_id: pod, what, reserved: 0 };
    // SAFETY: keys and values are the map's.
    let Some(full_at) = (unsafe { lookup::<_, _, u64>(&maps::BUCKETS, &key) }) else {
        let first = now + interval;
        // SAFETY: as above; both live on the stack during the call. What fails is a full map: nothing to throttle by.
        unsafe {
            bpf_map_update_elem(
                raw(&maps::BUCKETS),
                ptr::from_ref(&key).cast(),
                ptr::from_ref(&first).cast(),
                0,
            )
        };
        return true;
    };
    // SAFETY: eight aligned bytes of the map's value, written by programs only.
    unsafe {
        let owed = read_volatile(full_at);
        if owed <= now {
            write_volatile(full_at, now + interval);
            return true;
        }
        // A burst of one admits nothing while anything is owed.
        let most = interval * u64::from(burst).saturating_sub(1);
        if owed - now > most {
            return false;
        }
        add(full_at, interval);
    }
    true
}
