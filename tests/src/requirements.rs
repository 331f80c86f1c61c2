//! What the machine must have. A test that can't have it fails; it never passes by being skipped.

#![forbid(unsafe_code)]

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};

use crate::cgroup;

/// Programs by the Debian package that has them.
const PROGRAMS: [(&str, &str); 2] = [("ip", "iproute2"), ("nft", "nftables")];

/// Fails with everything that is missing for namespaces, cgroups and BPF, and how to get it.
pub fn check() -> Result<()> {
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    bail!("this needs what the machine does not have:\n  - {}", missing.join("\n  - "))
}

/// What is missing, a line each; empty when nothing is.
pub fn missing() -> Vec<String> {
    let mut missing = Vec::new();
    if nix::unistd::geteuid().is_root() {
        let lacking = spanwarden::origin::capabilities::missing_for_bpf();
        missing.extend(lacking.iter().map(|name| format!("the capability {name}: BPF programs need it")));
    } else {
        let root = "root: network namespaces, cgroups and BPF need it; run the same with `sudo -E`";
        missing.push(root.to_owned());
    }
    for (program, package) in PROGRAMS {
        if find_program(program).is_none() {
            missing.push(format!("the program `{program}`: install it (Debian: apt-get install {package})"));
        }
    }
    if let Err(error) = cgroup::mount() {
        missing.push(error.to_string());
    }
    if !Path::new("/proc/self/ns/net").exists() {
        missing.push("network namespaces: a kernel with CONFIG_NET_NS".to_owned());
    }
    // There with CONFIG_BPF_SYSCALL only.
    if !Path::new("/proc/sys/kernel/unprivileged_bpf_disabled").exists() {
        missing.push("BPF: Linux 5.10 or later with CONFIG_BPF_SYSCALL and CONFIG_CGROUP_BPF".to_owned());
    }
    missing
}

/// A program on the path or where administrators' programs are.
pub fn find_program(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|directory: PathBuf| directory.join(program))
        .find(|candidate| candidate.is_file())
}

/// How many connections a test is to make: as many as it says itself, or as `SPANWARDEN_TEST_CONNECTIONS` does, for an
/// emulated processor.
pub fn connections(own: u64) -> Result<u64> {
    let Some(text) = env::var_os("SPANWARDEN_TEST_CONNECTIONS") else { return Ok(own) };
    let number = text.to_str().and_then(|text| text.parse::<u64>().ok());
    match number {
        Some(number) if number >= 100 => Ok(number.min(own)),
        _ => bail!("SPANWARDEN_TEST_CONNECTIONS={}: give a number from 100", text.display()),
    }
}
