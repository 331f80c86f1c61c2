//! What this process may do: to attach, and to stop connections.

#![forbid(unsafe_code)]

use super::{Check, read};
use crate::{
    config::extensions::{OriginExtension, PlaintextMode},
    origin::capabilities,
};
use caps::{CapSet, Capability};
use std::fs;

/// What `block` needs on top: to enter the sender's network namespace, which is found in its `/proc` entry.
const FOR_BLOCK: [(Capability, &str, &str); 2] = [
    (Capability::CAP_SYS_ADMIN, "SYS_ADMIN", "to enter the pod's network namespace"),
    (Capability::CAP_SYS_PTRACE, "SYS_PTRACE", "to open it through /proc/PID/ns/net"),
];

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
            "BPF and NET_ADMIN, to load and to attach; a running agent gives them up afterwards",
        );
    }
    Check::fail(NAME, format!("without {}", missing.join(" and ")))
        .because("loading and attaching the programs needs BPF and NET_ADMIN, and no more")
        .remedy(format!(
            "securityContext.capabilities.add: [{}] with runAsUser: 0, as in deploy/agent/daemonset.yaml, or run \
             as root; no privileged mode is needed",
            missing.join(", ")
        ))
}

fn block(extension: Option<&OriginExtension>) -> Check {
    const NAME: &str = "block-privileges";
    let missing = missing_for_block();
    if missing.is_empty() {
        return Check::ok(
            NAME,
            "SYS_ADMIN, SYS_PTRACE and the host's pid namespace, to end blocked connections",
        );
    }
    let lacks = missing.join("; ");
    match extension {
        Some(extension) if blocks(extension) => Check::fail(NAME, format!("without {}", names(&missing)))
            .because(format!(
                "the configuration blocks, and to give a blocked connection its error at once the agent needs {lacks}. \
                 Without it the data is stopped all the same, but the application waits for its time-out"
            ))
            .remedy("add the kustomize component deploy/agent/components/block, or do not block"),
        Some(_) => Check::skipped(NAME, format!("the configuration blocks nothing; `block` would need {lacks}")),
        None => Check::skipped(NAME, format!("only `plaintext: block` needs {lacks}; --config says whether yours does")),
    }
}

/// Whether any pod may be blocked.
pub(super) fn blocks(extension: &OriginExtension) -> bool {
    let policy = &extension.plaintext;
    policy.mode == PlaintextMode::Block || policy.rules.iter().any(|rule| rule.mode == PlaintextMode::Block)
}

/// What is missing to end connections in pods' namespaces, each with its purpose.
fn missing_for_block() -> Vec<String> {
    let effective = caps::read(None, CapSet::Effective).unwrap_or_default();
    let mut missing: Vec<String> = FOR_BLOCK
        .iter()
        .filter(|(capability, ..)| !effective.contains(capability))
        .map(|(_, name, purpose)| format!("{name} {purpose}"))
        .collect();
    if !in_initial_pid_namespace() {
        missing.push("hostPID to see the pods' processes".to_owned());
    }
    missing
}

fn names(missing: &[String]) -> String {
    let names: Vec<&str> = missing.iter().filter_map(|need| need.split(' ').next()).collect();
    names.join(", ")
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
