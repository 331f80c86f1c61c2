//! `BPF_PROG_QUERY` on a cgroup: what is attached to a hook, and how. The library asks for some program types only.

#![allow(unsafe_code)]

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd as _, RawFd},
};

/// `enum bpf_cmd` (linux/bpf.h).
const BPF_PROG_QUERY: libc::c_long = 16;

/// Programs in one answer. A hook takes 64 at most (`BPF_CGROUP_MAX_PROGS`, kernel/bpf/cgroup.c).
const MOST: usize = 64;

/// The flag of programs that let others in beside them; every `bpf_link` attaches so.
const BPF_F_ALLOW_MULTI: u32 = 2;
/// The flag of a program that gives way to those of cgroups below.
const BPF_F_ALLOW_OVERRIDE: u32 = 1;

/// The part of `union bpf_attr` that the command reads and writes since 4.15.
#[repr(C)]
#[derive(Default)]
struct Attr {
    target: RawFd,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    programs: u64,
    count: u32,
    padding: u32,
}

/// What is attached to one hook of one cgroup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Attached {
    /// Program ids, in the order in which they run.
    pub(super) programs: Vec<u32>,
    flags: u32,
}

impl Attached {
    /// Whether others may attach beside these, in the same cgroup.
    pub(super) fn shares(&self) -> bool {
        self.programs.is_empty() || self.flags & BPF_F_ALLOW_MULTI != 0
    }

    /// Whether cgroups below may have programs of their own; by `BPF_F_ALLOW_OVERRIDE` this one does not run there
    /// then.
    pub(super) fn gives_way(&self) -> bool {
        self.flags & BPF_F_ALLOW_OVERRIDE != 0
    }
}

/// Asks for the programs at hook `attach_type` (`enum bpf_attach_type`) of the cgroup itself, not of those above.
pub(super) fn attached(cgroup: &File, attach_type: u32) -> io::Result<Attached> {
    let mut programs = [0_u32; MOST];
    let mut attr = Attr {
        target: cgroup.as_raw_fd(),
        attach_type,
        programs: programs.as_mut_ptr() as u64,
        count: MOST as u32,
        ..Attr::default()
    };
    // SAFETY: bpf(2) reads and writes at most `size` bytes at `attr`, which lives and is as large; it writes at most
    // `count` ids to `programs`, which holds as many and outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_QUERY, &raw mut attr, size_of::<Attr>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let count = programs.len().min(attr.count as usize);
    Ok(Attached { programs: programs[..count].to_vec(), flags: attr.attach_flags })
}
