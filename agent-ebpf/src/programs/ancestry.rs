//! The ancestors of the process's cgroup. They never change, and an id is never used again, so each CPU remembers those
//! of the cgroups that connect: a look at a map's value instead of a call a level.

use super::maps::{self, add, alone};
use aya_ebpf::helpers::generated::bpf_get_current_ancestor_cgroup_id;
use core::ptr::{addr_of, addr_of_mut, read_volatile, write_volatile};
use spanwarden_ebpf::abi::{ANCESTOR_LEVELS, OriginRecord};

/// Cgroups that a CPU remembers: those of a node's busiest hundred containers.
pub(super) const REMEMBERED: usize = 128;

/// The ancestors of one cgroup. A program in process context can be interrupted by another one, so whoever reads makes
/// sure that both ids are the same afterwards, and whoever writes that nobody else does.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Ancestry {
    writers: u64,
    first: u64,
    ancestors: [u64; ANCESTOR_LEVELS],
    last: u64,
}

/// Writes the ancestors.
///
/// # Safety
/// `record` must be a socket's, with `cgroup_id` written.
#[inline(always)]
pub(super) unsafe fn write(record: *mut OriginRecord) {
    // SAFETY: by contract, here and below.
    let id = unsafe { (*record).cgroup_id };
    let slot = (id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - REMEMBERED.trailing_zeros())) as u32;
    let Some(remembered) = maps::ANCESTRY.get_ptr_mut(slot) else { return };
    unsafe {
        if !recall(remembered, record, id) {
            ask(record, id);
            remember(remembered, record, id);
        }
    }
}

#[inline(always)]
unsafe fn recall(from: *const Ancestry, record: *mut OriginRecord, id: u64) -> bool {
    // SAFETY: aligned words of a map's value, here and below.
    unsafe {
        if read_volatile(addr_of!((*from).first)) != id {
            return false;
        }
        let mut level = 0;
        while level < ANCESTOR_LEVELS {
            (*record).ancestors[level] = read_volatile(addr_of!((*from).ancestors[level]));
            level += 1;
        }
        read_volatile(addr_of!((*from).last)) == id
    }
}

#[inline(always)]
unsafe fn remember(to: *mut Ancestry, record: *const OriginRecord, id: u64) {
    // SAFETY: as above.
    unsafe {
        if !alone(addr_of_mut!((*to).writers)) {
            return;
        }
        write_volatile(addr_of_mut!((*to).first), 0);
        write_volatile(addr_of_mut!((*to).last), 0);
        let mut level = 0;
        while level < ANCESTOR_LEVELS {
            write_volatile(addr_of_mut!((*to).ancestors[level]), (*record).ancestors[level]);
            level += 1;
        }
        write_volatile(addr_of_mut!((*to).last), id);
        write_volatile(addr_of_mut!((*to).first), id);
        add(addr_of_mut!((*to).writers), u64::MAX);
    }
}

/// As many calls as there are levels, and no more.
#[inline(always)]
unsafe fn ask(record: *mut OriginRecord, innermost: u64) {
    let mut id = 1;
    let mut level = 0;
    while level < ANCESTOR_LEVELS {
        // The innermost is its own ancestor at its level; there is none below it.
        // SAFETY: by contract; a helper allowed in this hook since 5.7.
        unsafe {
            id = if id == 0 || id == innermost {
                0
            } else {
                bpf_get_current_ancestor_cgroup_id(level as i32 + 1)
            };
            (*record).ancestors[level] = id;
        }
        level += 1;
    }
}
