//! The commands of bpf(2) that the library does not offer, or not on plain descriptors: links, pins, and what a
//! program is. None of these needs more than `CAP_BPF` and `CAP_NET_ADMIN`; the library's way to a program's maps
//! goes through its id, which needs `CAP_SYS_ADMIN`.

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
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
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

/// What the kernel says of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ProgramInfo {
    /// `enum bpf_prog_type`
    pub(super) kind: u32,
    pub(super) id: u32,
    /// Hash of its instructions, without the maps that they name.
    pub(super) tag: [u8; 8],
    /// Ids of the maps that it uses, sorted.
    pub(super) maps: Vec<u32>,
}

/// Describes a program. Linux 4.15.
pub(super) fn program_info(program: BorrowedFd<'_>) -> io::Result<ProgramInfo> {
    /// More maps than any program of ours has.
    const MAPS: usize = 64;
    /// The beginning of `struct bpf_prog_info`, up to the maps.
    #[repr(C)]
    #[derive(Default)]
    struct Told {
        kind: u32,
        id: u32,
        tag: [u8; 8],
        /// Lengths and addresses of code that is not asked for.
        code: [u64; 3],
        load_time: u64,
        uid: u32,
        map_count: u32,
        map_ids: u64,
    }
    /// The part of `union bpf_attr` for `BPF_OBJ_GET_INFO_BY_FD`.
    #[repr(C)]
    struct Ask {
        fd: u32,
        length: u32,
        info: u64,
    }
    let mut maps = vec![0_u32; MAPS];
    let mut told = Told { map_count: MAPS as u32, map_ids: maps.as_mut_ptr() as u64, ..Told::default() };
    let length = size_of::<Told>() as u32;
    let mut attr = Ask { fd: number(program), length, info: (&raw mut told) as u64 };
    // SAFETY: `Ask` is the beginning of this command's attribute. The kernel writes at most `length` bytes to
    // `told` and at most `map_count` ids to `maps`; both live.
    unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr) }?;
    let count = told.map_count as usize;
    if count > MAPS {
        return Err(io::Error::other(format!("a program with {count} maps is none of ours")));
    }
    maps.truncate(count);
    maps.sort_unstable();
    Ok(ProgramInfo { kind: told.kind, id: told.id, tag: told.tag, maps })
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

/// How many programs are attached to a cgroup at one hook.
#[cfg(test)]
pub(super) fn programs_at(cgroup: BorrowedFd<'_>, attach_type: u32) -> io::Result<usize> {
    const BPF_PROG_QUERY: libc::c_int = 16;
    /// The part of `union bpf_attr` for `BPF_PROG_QUERY`.
    #[repr(C)]
    struct Query {
        target: u32,
        attach_type: u32,
        flags: u32,
        attach_flags: u32,
        ids: u64,
        count: u32,
        reserved: u32,
    }
    let target = number(cgroup);
    let mut query = Query { target, attach_type, flags: 0, attach_flags: 0, ids: 0, count: 0, reserved: 0 };
    // SAFETY: `Query` is the beginning of this command's attribute; without a buffer for ids the kernel writes only
    // their number.
    unsafe { bpf(BPF_PROG_QUERY, &mut query) }?;
    Ok(query.count as usize)
}

/// User space can write to the map no more. Linux 5.2.
#[cfg(test)]
pub(super) fn freeze(map: BorrowedFd<'_>) -> io::Result<()> {
    const BPF_MAP_FREEZE: libc::c_int = 22;
    let mut attr = number(map);
    // SAFETY: the command's attribute is the descriptor alone.
    unsafe { bpf(BPF_MAP_FREEZE, &mut attr) }.map(drop)
}
