//! The commands of bpf(2) that the library does not offer, or not on plain descriptors: links and pins.

#![allow(unsafe_code)]

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

/// Commands of `enum bpf_cmd` (linux/bpf.h): numbers that never change.
const BPF_OBJ_PIN: libc::c_int = 6;
const BPF_OBJ_GET: libc::c_int = 7;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_LINK_UPDATE: libc::c_int = 29;
/// The update fails unless the link's program is the one given as the old one.
const BPF_F_REPLACE: u32 = 4;

/// Attaches a program to a cgroup, beside whatever else is attached there by link. Linux 5.7.
pub(super) fn link_create(
    program: BorrowedFd<'_>,
    cgroup: BorrowedFd<'_>,
    attach_type: u32,
) -> io::Result<OwnedFd> {
    /// The part of `union bpf_attr` for `BPF_LINK_CREATE`.
    #[repr(C)]
    struct Create {
        program: u32,
        target: u32,
        attach_type: u32,
        flags: u32,
    }
    let mut attr = Create { program: number(program), target: number(cgroup), attach_type, flags: 0 };
    // SAFETY: `Create` is the beginning of this command's attribute, which holds no pointer.
    let fd = unsafe { bpf(BPF_LINK_CREATE, &mut attr) }?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Puts `new` in the place of `old` in one step: no packet meets neither or both. Linux 5.7.
pub(super) fn link_update(link: BorrowedFd<'_>, new: BorrowedFd<'_>, old: BorrowedFd<'_>) -> io::Result<()> {
    /// The part of `union bpf_attr` for `BPF_LINK_UPDATE`.
    #[repr(C)]
    struct Update {
        link: u32,
        new_program: u32,
        flags: u32,
        old_program: u32,
    }
    let mut attr = Update {
        link: number(link),
        new_program: number(new),
        flags: BPF_F_REPLACE,
        old_program: number(old),
    };
    // SAFETY: `Update` is the beginning of this command's attribute, which holds no pointer.
    unsafe { bpf(BPF_LINK_UPDATE, &mut attr) }.map(drop)
}

/// The part of `union bpf_attr` for `BPF_OBJ_PIN` and `BPF_OBJ_GET`.
#[repr(C)]
struct Object {
    path: u64,
    fd: u32,
    flags: u32,
}

/// Gives a map, program or link a name in a bpffs. Fails when there is one already.
pub(super) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = Object { path: path.as_ptr() as u64, fd: number(object), flags: 0 };
    // SAFETY: `Object` is the beginning of this command's attribute; its pointer is a string that ends in zero and
    // outlives the call.
    unsafe { bpf(BPF_OBJ_PIN, &mut attr) }.map(drop)
}

/// Opens what is pinned at a path: a map, a program or a link.
pub(super) fn open(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = Object { path: path.as_ptr() as u64, fd: 0, flags: 0 };
    // SAFETY: as in `pin`.
    let fd = unsafe { bpf(BPF_OBJ_GET, &mut attr) }?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

/// # Safety
/// `T` must be `repr(C)` and the beginning of the command's part of `union bpf_attr`; pointers in it must be
/// valid for what the command does with them. What is not given counts as zero (bpf(2)).
unsafe fn bpf<T>(command: libc::c_int, attr: &mut T) -> io::Result<libc::c_int> {
    // SAFETY: the kernel reads at most `size_of::<T>()` bytes at `attr`, which lives; the rest is by contract.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as libc::c_int) }
}
