//! The programs by name, their hooks, and how they get into the kernel.

#![forbid(unsafe_code)]

use super::{OriginError, Root, link::Attachment, not_attached, not_loaded, sys};
use aya::{
    Ebpf, EbpfError,
    programs::{Program, ProgramError},
};
use std::os::fd::{AsFd as _, OwnedFd};

/// A program and where it belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hook {
    /// The program's name in the object, and that of its pins.
    pub(super) name: &'static str,
    /// `enum bpf_attach_type` (linux/bpf.h).
    pub(super) attach_type: u32,
}

/// In the order in which they are attached. `sock_ops` comes before what decides packets: it forgets what was decided of
/// an earlier socket at the same address. `connect` comes last, so that what it leaves is already expected.
pub(super) const HOOKS: [Hook; 5] = [
    Hook { name: "origin_established", attach_type: 3 },
    Hook { name: "plaintext_ingress", attach_type: 0 },
    Hook { name: "plaintext_egress", attach_type: 1 },
    Hook { name: "origin_connect4", attach_type: 10 },
    Hook { name: "origin_connect6", attach_type: 11 },
];

/// A program in the kernel, attached or not.
pub(super) struct Loaded {
    pub(super) hook: Hook,
    pub(super) program: OwnedFd,
    pub(super) info: sys::ProgramInfo,
}

impl Loaded {
    /// Attaches it by a new link.
    pub(super) fn attach(&self, root: &Root) -> Result<Attachment, OriginError> {
        let Hook { name, attach_type, .. } = self.hook;
        let link = sys::link_create(self.program.as_fd(), root.dir.as_fd(), attach_type);
        link.map(Attachment::new).map_err(|e| not_attached(name, root, &e))
    }
}

/// Has every program of the object checked by the verifier, and loads it. Nothing is attached.
pub(super) fn load(bpf: &mut Ebpf) -> Result<Vec<Loaded>, OriginError> {
    let load = |hook: Hook| load_one(hook, bpf.program_mut(hook.name).ok_or(OriginError::Object(hook.name))?);
    HOOKS.into_iter().map(load).collect()
}

fn load_one(hook: Hook, program: &mut Program) -> Result<Loaded, OriginError> {
    let failed = |e: ProgramError| not_loaded(&EbpfError::from(e));
    match program {
        Program::CgroupSkb(program) => program.load(),
        Program::CgroupSockAddr(program) => program.load(),
        Program::SockOps(program) => program.load(),
        _ => return Err(OriginError::Object(hook.name)),
    }
    .map_err(failed)?;
    let fd = program.fd().and_then(|fd| fd.as_fd().try_clone_to_owned().map_err(ProgramError::IOError));
    let program = fd.map_err(failed)?;
    let info = sys::program_info(program.as_fd()).map_err(|e| failed(ProgramError::IOError(e)))?;
    Ok(Loaded { hook, program, info })
}
