//! What this process may do: to attach, and to stop connections.

#![forbid(unsafe_code)]

use super::{Check, read};
use crate::{
    config::extensions::{OriginExtension, PlaintextMode},
    origin::{capabilities, enforce},
};
use std::fs;

/// Inode of the initial pid namespace (`PROC_PID_INIT_INO`, `include/linux/proc_ns.h`; the same since 3.8).
const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";

pub(super) fn checks(extension: Option<&OriginExtension>) -> Vec<Check> {
    vec![attach(), block(extension)]
}

fn attach() -> Check {
    const NAME: &str = "capabilities";
    let missing = capabilities::missing_for_bpf();
    if missing.is_empty() {
        return Check::ok(
            NAME,
            "BPF, NET_ADMIN and PERFMON, to load and to attach; a running agent gives them up afterwards",
        );
    }
    Check::fail(NAME, format!("without {}", missing.join(" and ")))
        .because("loading and attaching the programs needs BPF, NET_ADMIN and PERFMON, and no more")
        .remedy(format!(
            "securityContext.capabilities.add: [{}] with runAsUser: 0, as in deploy/agent/daemonset.yaml, or run \
             as root; no privileged mode is needed",
            missing.join(", ")
        ))
}

fn block(extension: Option<&OriginExtension>) -> Check {
    const NAME: &str = "block-privileges";
    let mut missing = enforce::missing();
    if !in_initial_pid_namespace() {
        missing.push("hostPID");
    }
    if missing.is_empty() {
        return Check::ok(
            NAME,
            "NET_ADMIN, SYS_ADMIN, SYS_PTRACE and the host's pid namespace, to end blocked connections",
        );
    }
    let lacks = missing.join(" and ");
    let purpose = "a blocked connection is ended in its pod's network namespace: found through one of the pod's \
                   processes (hostPID, SYS_PTRACE), entered (SYS_ADMIN), and its socket destroyed (NET_ADMIN)";
    match extension {
        Some(extension) if blocks(extension) => Check::fail(NAME, format!("without {lacks}"))
            .because(format!(
                "the configuration blocks, and the agent does not start without {lacks}: {purpose}"
            ))
            .remedy("add the kustomize component deploy/agent/components/block, or do not block"),
        Some(_) => {
            Check::skipped(NAME, format!("the configuration blocks nothing; `block` would need {lacks}"))
        }
        None => Check::skipped(
            NAME,
            format!(
                "only `plaintext: block` needs {lacks}; with --config the configuration says whether it is needed"
            ),
        ),
    }
}

/// Whether any pod may be blocked.
pub(super) fn blocks(extension: &OriginExtension) -> bool {
    let policy = &extension.plaintext;
    policy.mode == PlaintextMode::Block || policy.rules.iter().any(|rule| rule.mode == PlaintextMode::Block)
}

/// Whether pids here are those that the kernel tells (`hostPID: true`).
pub(super) fn in_initial_pid_namespace() -> bool {
    fs::read_link("/proc/self/ns/pid").is_ok_and(|link| link.as_os_str() == INITIAL_PID_NAMESPACE)
}

/// The cgroup namespace's inode is the initial one's (`PROC_CGROUP_INIT_INO`): paths are the host's.
pub(super) fn in_initial_cgroup_namespace() -> bool {
    fs::read_link("/proc/self/ns/cgroup").is_ok_and(|link| link.as_os_str() == "cgroup:[4026531835]")
}

/// The name by which the kernel knows this thread.
pub(super) fn own_comm() -> Option<String> {
    read("/proc/thread-self/comm")
}
