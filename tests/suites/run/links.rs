//! Detaching the kernel programs of a cgroup, as an administrator could: `bpf(2)` on its links.

use std::{
    fs, io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::Path,
};

use anyhow::{Context, Result};

/// Commands of `enum bpf_cmd` (linux/bpf.h).
const BPF_LINK_GET_FD_BY_ID: libc::c_long = 30;
const BPF_LINK_GET_NEXT_ID: libc::c_long = 31;
const BPF_LINK_DETACH: libc::c_long = 34;

/// The part of `union bpf_attr` that these commands read: an id or a descriptor, and the next id.
#[repr(C)]
#[derive(Default)]
struct Attr {
    id: u32,
    next_id: u32,
    flags: u32,
}

fn bpf(command: libc::c_long, attr: &mut Attr) -> io::Result<i32> {
    // SAFETY: bpf(2) reads and writes at most `size` bytes at `attr`, which lives and is as large; all three
    // commands interpret only the fields of `Attr`.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attr, size_of::<Attr>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

/// Detaches every program that is attached by link to exactly this cgroup; how many those were.
pub(crate) fn detach_all(cgroup: &Path) -> Result<usize> {
    let wanted = format!("cgroup_id:\t{}", fs::metadata(cgroup)?.ino());
    let (mut id, mut detached) = (0, 0);
    loop {
        let mut next = Attr { id, ..Attr::default() };
        match bpf(BPF_LINK_GET_NEXT_ID, &mut next) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(detached),
            result => result.context("BPF_LINK_GET_NEXT_ID")?,
        };
        id = next.next_id;
        // One that has gone meanwhile is nobody's of ours.
        let Ok(fd) = bpf(BPF_LINK_GET_FD_BY_ID, &mut Attr { id, ..Attr::default() }) else { continue };
        // SAFETY: the kernel has just made this descriptor for us; nobody else closes it.
        let link = unsafe { OwnedFd::from_raw_fd(fd) };
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", link.as_raw_fd()))?;
        if info.lines().any(|line| line == wanted) {
            let mut attr = Attr { id: link.as_raw_fd().cast_unsigned(), ..Attr::default() };
            bpf(BPF_LINK_DETACH, &mut attr).context("BPF_LINK_DETACH")?;
            detached += 1;
        }
    }
}
