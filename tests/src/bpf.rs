//! Kernel programs of somebody else: two instructions that let everything pass, attached as asked.

use std::{
    ffi::CString,
    fs::File,
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
    path::Path,
};

use anyhow::{Context, Result};

/// Commands of `enum bpf_cmd` (linux/bpf.h).
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_ATTACH: libc::c_long = 8;
const BPF_PROG_DETACH: libc::c_long = 9;
const BPF_PROG_GET_FD_BY_ID: libc::c_long = 13;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_PROG_QUERY: libc::c_long = 16;
const BPF_LINK_CREATE: libc::c_long = 28;

/// A hook of a cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// `cgroup_skb/ingress`
    Ingress,
    /// `cgroup_skb/egress`
    Egress,
    /// `sock_ops`
    SockOps,
    /// `cgroup/connect4`
    Connect4,
    /// `cgroup/connect6`
    Connect6,
}

impl Hook {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Ingress, Self::Egress, Self::SockOps, Self::Connect4, Self::Connect6];

    /// `enum bpf_prog_type` and `enum bpf_attach_type` (linux/bpf.h).
    fn types(self) -> (u32, u32) {
        match self {
            Self::Ingress => (8, 0),
            Self::Egress => (8, 1),
            Self::SockOps => (13, 3),
            Self::Connect4 => (18, 10),
            Self::Connect6 => (18, 11),
        }
    }
}

/// How a program is attached: the flags of `BPF_PROG_ATTACH`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nobody else may attach, here or below.
    Exclusive = 0,
    /// Those below may, and this one does not run there then (`BPF_F_ALLOW_OVERRIDE`).
    Override = 1,
    /// Everybody may (`BPF_F_ALLOW_MULTI`).
    Multi = 2,
}

/// `BPF_ALU64 | BPF_MOV | BPF_K` to r0 with immediate 1, and `BPF_JMP | BPF_EXIT`: opcode, registers, offset, immediate
/// (RFC 9669 section 3).
const RETURN_1: [[u8; 8]; 2] = [[0xb7, 0, 0, 0, 1, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]];

/// A loaded program that returns 1: everything passes.
#[derive(Debug)]
pub struct Empty {
    program: OwnedFd,
    hook: Hook,
}

impl Empty {
    /// Loads it for a hook.
    pub fn load(hook: Hook, name: &str) -> Result<Self> {
        Self::load_instructions(hook, name, &RETURN_1)
    }

    /// Loads one that looks up the packet's socket in a map of socket storage, and does no more: the least that a
    /// program costs which knows one socket from another. For packets.
    pub fn look_up(hook: Hook, name: &str, storage: BorrowedFd<'_>) -> Result<Self> {
        /// Where `struct __sk_buff` has its socket (linux/bpf.h).
        const SOCKET: u8 = 168;
        /// `BPF_FUNC_sk_storage_get`
        const GET: u8 = 107;
        let [a, b, c, d] = storage.as_raw_fd().to_le_bytes();
        let look_up = [
            [0x79, 0x12, SOCKET, 0, 0, 0, 0, 0], // r2 = the context's socket
            [0x15, 0x02, 5, 0, 0, 0, 0, 0],      // none: to the end
            [0x18, 0x11, 0, 0, a, b, c, d],      // r1 = the map with this descriptor
            [0; 8],                              // (the upper half of it)
            [0xb7, 0x03, 0, 0, 0, 0, 0, 0],      // r3 = 0
            [0xb7, 0x04, 0, 0, 0, 0, 0, 0],      // r4 = 0
            [0x85, 0, 0, 0, GET, 0, 0, 0],       // call
        ];
        Self::load_instructions(hook, name, &[&look_up[..], &RETURN_1].concat())
    }

    fn load_instructions(hook: Hook, name: &str, instructions: &[[u8; 8]]) -> Result<Self> {
        #[repr(C)]
        #[derive(Default)]
        struct Attr {
            program_type: u32,
            instruction_count: u32,
            instructions: u64,
            license: u64,
            log_level: u32,
            log_size: u32,
            log: u64,
            kernel_version: u32,
            flags: u32,
            name: [u8; 16],
            interface: u32,
            attach_type: u32,
        }
        let license = CString::new("Apache-2.0")?;
        let (program_type, attach_type) = hook.types();
        let mut attr = Attr {
            program_type,
            attach_type,
            instruction_count: instructions.len() as u32,
            instructions: instructions.as_ptr() as u64,
            license: license.as_ptr() as u64,
            ..Attr::default()
        };
        let length = name.len().min(attr.name.len() - 1);
        attr.name[..length].copy_from_slice(&name.as_bytes()[..length]);
        // SAFETY: `Attr` is the beginning of the attribute for this command; the instructions and the licence that
        // it points to outlive the call.
        let fd = unsafe { bpf(BPF_PROG_LOAD, &mut attr) }.context("BPF_PROG_LOAD")?;
        // SAFETY: the kernel has just made this descriptor for us; nobody else closes it.
        Ok(Self { program: unsafe { OwnedFd::from_raw_fd(fd) }, hook })
    }

    /// Attaches it without a link. Dropping the guard detaches it.
    pub fn attach(self, cgroup: &Path, mode: Mode) -> Result<Foreign> {
        let cgroup = File::open(cgroup).with_context(|| cgroup.display().to_string())?;
        let mut attr = Attach {
            target: cgroup.as_raw_fd(),
            program: self.program.as_raw_fd(),
            hook: self.hook.types().1,
            flags: mode as u32,
        };
        // SAFETY: `Attach` is the beginning of the attribute for this command; both descriptors are open.
        unsafe { bpf(BPF_PROG_ATTACH, &mut attr) }.context("BPF_PROG_ATTACH")?;
        Ok(Foreign { program: self, cgroup })
    }

    /// Attaches it by link. Dropping the link detaches it.
    pub fn link(&self, cgroup: &Path) -> Result<OwnedFd> {
        let cgroup = File::open(cgroup).with_context(|| cgroup.display().to_string())?;
        // This command has program and target the other way round.
        let mut attr = Attach {
            target: self.program.as_raw_fd(),
            program: cgroup.as_raw_fd(),
            hook: self.hook.types().1,
            flags: 0,
        };
        // SAFETY: as in `attach`.
        let fd = unsafe { bpf(BPF_LINK_CREATE, &mut attr) }.context("BPF_LINK_CREATE")?;
        // SAFETY: the kernel has just made this descriptor for us; nobody else closes it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

/// A loaded program of anybody's, to be asked what it has taken.
#[derive(Debug)]
pub struct Program(OwnedFd);

/// What the kernel tells of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// At most 15 bytes of its name.
    pub name: String,
    /// Nanoseconds in it while statistics were enabled (`BPF_ENABLE_STATS`).
    pub nanoseconds: u64,
    /// Runs in that time.
    pub runs: u64,
}

impl Program {
    /// Opens the program with this id.
    pub fn open(id: u32) -> Result<Self> {
        #[repr(C)]
        #[derive(Default)]
        struct Attr {
            id: u32,
            next: u32,
            flags: u32,
        }
        let mut attr = Attr { id, ..Attr::default() };
        // SAFETY: `Attr` is the beginning of the attribute for this command.
        let fd = unsafe { bpf(BPF_PROG_GET_FD_BY_ID, &mut attr) }.context("BPF_PROG_GET_FD_BY_ID")?;
        // SAFETY: the kernel has just made this descriptor for us; nobody else closes it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// One system call, so that asking often costs little.
    pub fn info(&self) -> Result<Info> {
        /// Where things are in `struct bpf_prog_info` (linux/bpf.h), which only ever grows.
        const NAME: usize = 64;
        const RUN_TIME: usize = 192;
        const RUN_COUNT: usize = 200;
        const LENGTH: usize = 208;
        #[repr(C)]
        struct Attr {
            program: RawFd,
            length: u32,
            info: u64,
        }
        let mut info = [0_u64; LENGTH / 8];
        let mut attr =
            Attr { program: self.0.as_raw_fd(), length: LENGTH as u32, info: info.as_mut_ptr() as u64 };
        // SAFETY: `Attr` is the attribute for this command; the kernel writes at most `length` bytes to `info`, which
        // is as long, and reads from it only pointers and lengths of lists, which are zero.
        unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr) }.context("BPF_OBJ_GET_INFO_BY_FD")?;
        let name: Vec<u8> = info[NAME / 8..NAME / 8 + 2].iter().flat_map(|word| word.to_ne_bytes()).collect();
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        Ok(Info {
            name: String::from_utf8_lossy(name).into_owned(),
            nanoseconds: info[RUN_TIME / 8],
            runs: info[RUN_COUNT / 8],
        })
    }
}

/// The attribute of `BPF_PROG_ATTACH`, `BPF_PROG_DETACH` and, with the first two exchanged, `BPF_LINK_CREATE`.
#[repr(C)]
struct Attach {
    target: RawFd,
    program: RawFd,
    hook: u32,
    flags: u32,
}

/// An attached program of somebody else.
#[derive(Debug)]
pub struct Foreign {
    program: Empty,
    cgroup: File,
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let mut attr = Attach {
            target: self.cgroup.as_raw_fd(),
            program: self.program.program.as_raw_fd(),
            hook: self.program.hook.types().1,
            flags: 0,
        };
        // SAFETY: as in `Empty::attach`. A failure leaves it to the cgroup's removal.
        let _ = unsafe { bpf(BPF_PROG_DETACH, &mut attr) };
    }
}

/// How many programs are attached to the hook of exactly this cgroup.
pub fn attached(cgroup: &Path, hook: Hook) -> Result<usize> {
    programs(cgroup, hook).map(|ids| ids.len())
}

/// The ids of those programs, in the order in which they run.
pub fn programs(cgroup: &Path, hook: Hook) -> Result<Vec<u32>> {
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
    // A hook takes 64 programs at most.
    let mut ids = vec![0_u32; 64];
    let cgroup = File::open(cgroup).with_context(|| cgroup.display().to_string())?;
    let mut attr = Attr {
        target: cgroup.as_raw_fd(),
        attach_type: hook.types().1,
        programs: ids.as_mut_ptr() as u64,
        count: ids.len() as u32,
        ..Attr::default()
    };
    // SAFETY: `Attr` is the beginning of the attribute for this command; at most `count` ids are written to `ids`,
    // which holds as many and outlives the call.
    unsafe { bpf(BPF_PROG_QUERY, &mut attr) }.context("BPF_PROG_QUERY")?;
    ids.truncate(attr.count as usize);
    Ok(ids)
}

/// # Safety
/// `T` must be the beginning of what `command` reads and writes in `union bpf_attr`, and what it points to must be
/// valid for the command.
unsafe fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<RawFd> {
    // SAFETY: bpf(2) reads and writes at most `size` bytes at `attr`; the rest is the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as RawFd) }
}
