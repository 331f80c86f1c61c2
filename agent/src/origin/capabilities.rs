//! Capabilities: three to attach, none afterwards.

#![forbid(unsafe_code)]

use super::loader::OriginError;
use aya::util::KernelVersion;
use caps::{CapSet, Capability};
use std::fs;

/// What loading and attaching need. Without `CAP_PERFMON` the verifier refuses arithmetic with pointers that the
/// compiler makes freely (`allow_ptr_leaks`), and newer kernels a thread's name (`bpf_get_current_comm`, seen on 6.18).
const NEEDED: [(Capability, &str); 3] = [
    (Capability::CAP_BPF, "BPF"),
    (Capability::CAP_NET_ADMIN, "NET_ADMIN"),
    (Capability::CAP_PERFMON, "PERFMON"),
];

/// Those of them that `CAP_SYS_ADMIN` includes (capabilities(7)).
const INCLUDED: [Capability; 2] = [Capability::CAP_BPF, Capability::CAP_PERFMON];

/// What is missing to load and attach the programs, as Kubernetes names it; empty when nothing is.
pub fn missing_for_bpf() -> Vec<&'static str> {
    let Ok(effective) = caps::read(None, CapSet::Effective) else { return Vec::new() };
    NEEDED
        .iter()
        .filter(|(capability, _)| {
            let included = INCLUDED.contains(capability) && effective.contains(&Capability::CAP_SYS_ADMIN);
            !included && !effective.contains(capability)
        })
        .map(|&(_, name)| name)
        .collect()
}

/// What is left after [`drop_all`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Nothing.
    Nothing,
    /// `CAP_BPF`: before Linux 5.19 a node with `kernel.unprivileged_bpf_disabled` set refuses even look-ups in
    /// maps that are already open.
    Bpf,
}

/// Gives up every capability for good, and the chance to get any by executing a file. To be called when the
/// programs are attached and before the first thread is started: capabilities belong to threads.
pub fn drop_all() -> Result<Left, OriginError> {
    let threads = fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads > 1 {
        return Err(OriginError::Drop(format!(
            "{threads} threads are running, and each keeps its own; drop them before threads are started"
        )));
    }
    drop_of_this_thread(look_ups_need_bpf())
}

/// As [`drop_all`], for the calling thread only: for tests, which have other threads.
pub fn drop_of_this_thread(keep_bpf: bool) -> Result<Left, OriginError> {
    let failed = |e: &dyn std::fmt::Display| OriginError::Drop(e.to_string());
    nix::sys::prctl::set_no_new_privs().map_err(|e| failed(&e))?;
    // Without CAP_SETPCAP the bounding set stays as it is; no_new_privs makes it meaningless.
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP).unwrap_or(false) {
        caps::clear(None, CapSet::Bounding).map_err(|e| failed(&e))?;
    }
    caps::clear(None, CapSet::Ambient).map_err(|e| failed(&e))?;
    caps::clear(None, CapSet::Inheritable).map_err(|e| failed(&e))?;
    if keep_bpf && caps::has_cap(None, CapSet::Permitted, Capability::CAP_BPF).unwrap_or(false) {
        let kept = [Capability::CAP_BPF].into_iter().collect();
        caps::set(None, CapSet::Effective, &kept).map_err(|e| failed(&e))?;
        caps::set(None, CapSet::Permitted, &kept).map_err(|e| failed(&e))?;
        return Ok(Left::Bpf);
    }
    caps::clear(None, CapSet::Effective).map_err(|e| failed(&e))?;
    caps::clear(None, CapSet::Permitted).map_err(|e| failed(&e))?;
    Ok(Left::Nothing)
}

/// Linux 5.19 (c8644cd0efe7) limits `unprivileged_bpf_disabled` to what creates maps and programs.
fn look_ups_need_bpf() -> bool {
    let old = KernelVersion::current().is_ok_and(|kernel| kernel < KernelVersion::new(5, 19, 0));
    let disabled = fs::read_to_string("/proc/sys/kernel/unprivileged_bpf_disabled");
    old && disabled.map_or(true, |value| value.trim() != "0")
}
