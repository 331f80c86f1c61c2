//! The kernel: its version and what that costs, and its settings for BPF.

#![forbid(unsafe_code)]

use super::{Check, read};
use crate::origin::loader::OLDEST;
use aya::util::KernelVersion;
use caps::{CapSet, Capability};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use std::path::Path;

/// What is worse on kernels before a version.
const DEGRADED: [(KernelVersion, &str, &str); 4] = [
    (
        KernelVersion::new(5, 11, 0),
        "5.11",
        "BPF maps count against RLIMIT_MEMLOCK, so the agent also needs the capability SYS_RESOURCE",
    ),
    (
        KernelVersion::new(5, 15, 0),
        "5.15",
        "where cgroup v1's net_cls or net_prio is in use, connections older than the agent show the root as cgroup",
    ),
    (KernelVersion::new(5, 16, 0), "5.16", "the verifier's instruction counts are not told"),
    (
        KernelVersion::new(5, 19, 0),
        "5.19",
        "where kernel.unprivileged_bpf_disabled is not 0 the running agent keeps the capability BPF, and only it",
    ),
];

pub(super) fn checks() -> Vec<Check> {
    let kernel = KernelVersion::current();
    vec![version(&kernel), memlock(kernel.as_ref().ok().copied()), btf(), lockdown(), unprivileged_bpf()]
}

fn version<E: std::fmt::Display>(kernel: &Result<KernelVersion, E>) -> Check {
    const NAME: &str = "kernel-version";
    let release = read("/proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".to_owned());
    let kernel = match kernel {
        Ok(kernel) => *kernel,
        Err(error) => {
            return Check::fail(NAME, format!("Linux {release}"))
                .because(format!("the kernel's version cannot be read: {error}"))
                .remedy("mount /proc");
        }
    };
    if kernel < OLDEST {
        return Check::fail(NAME, format!("Linux {release}"))
            .because("5.10 is the oldest kernel with every helper that the programs use")
            .remedy(
                "upgrade the node, or set `extensions.origin.evidence: preferred` to go on without the kernel",
            );
    }
    let costs = degraded(kernel);
    if costs.is_empty() {
        return Check::ok(NAME, format!("Linux {release}; 5.10 is needed, and nothing is worse here"));
    }
    Check::warn(NAME, format!("Linux {release}; 5.10 is needed"))
        .because(costs.join("; "))
        .remedy("none is needed; a newer kernel lifts these limits (deploy/docs/kernel-support.md)")
}

/// What is worse on this kernel than on the newest.
fn degraded(kernel: KernelVersion) -> Vec<String> {
    let lost = DEGRADED.iter().filter(|(since, ..)| kernel < *since);
    lost.map(|(_, since, what)| format!("before {since} {what}")).collect()
}

/// Raises the limit, as the agent does: the programs are loaded after this check.
fn memlock(kernel: Option<KernelVersion>) -> Check {
    const NAME: &str = "memory-lock-limit";
    if kernel.is_none_or(|kernel| kernel >= KernelVersion::new(5, 11, 0)) {
        return Check::ok(NAME, "no limit applies: from 5.11 on BPF memory is the memory cgroup's");
    }
    if setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY).is_ok() {
        return Check::ok(NAME, "raised to unlimited, as the agent does before it loads");
    }
    let limit = getrlimit(Resource::RLIMIT_MEMLOCK).map_or(0, |(soft, _)| soft);
    let may = caps::has_cap(None, CapSet::Effective, Capability::CAP_SYS_RESOURCE).unwrap_or(false);
    Check::fail(NAME, format!("{limit} bytes"))
        .because(format!(
            "before 5.11 maps count against RLIMIT_MEMLOCK, and it cannot be raised{}",
            if may { "" } else { " without the capability SYS_RESOURCE" }
        ))
        .remedy("add SYS_RESOURCE to the container's capabilities, or set LimitMEMLOCK=infinity")
}

fn btf() -> Check {
    let there = Path::new("/sys/kernel/btf/vmlinux").exists();
    let found =
        if there { "the kernel describes its types" } else { "the kernel does not describe its types" };
    Check::ok(
        "btf",
        format!("{found} (/sys/kernel/btf/vmlinux); spanwarden needs no kernel type information"),
    )
}

fn lockdown() -> Check {
    const NAME: &str = "lockdown";
    match read("/sys/kernel/security/lockdown").as_deref().and_then(chosen) {
        Some(mode) => Check::ok(NAME, format!("`{mode}`; the programs use nothing that any mode forbids")),
        None => {
            Check::ok(NAME, "not known here (no securityfs); the programs use nothing that any mode forbids")
        }
    }
}

/// The word in brackets: `none [integrity] confidentiality`.
fn chosen(modes: &str) -> Option<&str> {
    modes.split_once('[')?.1.split_once(']').map(|(mode, _)| mode)
}

fn unprivileged_bpf() -> Check {
    const NAME: &str = "unprivileged-bpf";
    match read("/proc/sys/kernel/unprivileged_bpf_disabled").as_deref() {
        Some("0") => Check::warn(NAME, "kernel.unprivileged_bpf_disabled is 0")
            .because(
                "any user of this machine may load BPF programs, and with them try the verifier's bugs \
                 (CVE-2021-3490, CVE-2022-23222); spanwarden does not need that",
            )
            .remedy("sysctl -w kernel.unprivileged_bpf_disabled=2"),
        Some(value) => Check::ok(
            NAME,
            format!("kernel.unprivileged_bpf_disabled is {value}: only privileged processes load programs"),
        ),
        None => Check::fail(NAME, "kernel.unprivileged_bpf_disabled is not there")
            .because("the kernel is built without bpf(2), or /proc is not mounted")
            .remedy("use a kernel with CONFIG_BPF_SYSCALL and CONFIG_CGROUP_BPF"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::doctor::Status;

    #[test]
    fn old_kernels_are_told_what_they_lack() {
        let of = |major, minor| degraded(KernelVersion::new(major, minor, 200)).len();
        assert_eq!([of(5, 10), of(5, 14), of(5, 15), of(5, 18), of(5, 19), of(7, 2)], [4, 3, 2, 1, 0, 0]);
        let old: Result<_, std::io::Error> = Ok(KernelVersion::new(5, 9, 16));
        assert_eq!(version(&old).status, Status::Fail);
    }

    #[test]
    fn the_lockdown_mode_in_brackets_counts() {
        assert_eq!(chosen("none [integrity] confidentiality"), Some("integrity"));
        assert_eq!(chosen(""), None);
    }
}
