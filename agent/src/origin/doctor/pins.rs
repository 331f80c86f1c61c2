//! The directory where links and maps are pinned.

#![forbid(unsafe_code)]

use super::Check;
use nix::{
    sys::statfs::{BPF_FS_MAGIC, statfs},
    unistd::geteuid,
};
use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

const NAME: &str = "pins";

/// Looks at `extensions.origin.pin_path`; makes a directory there and removes it.
pub(super) fn check(pin_path: Option<&Path>) -> Check {
    let Some(path) = pin_path else {
        return Check::skipped(
            NAME,
            "no `extensions.origin.pin_path`: the programs end with the agent, and evidence has a gap at a restart",
        );
    };
    let shown = path.display();
    // Only the last part may be missing: the agent makes it.
    let exists = path.is_dir();
    let there = if exists { path } else { path.parent().unwrap_or(path) };
    if !there.is_dir() {
        return Check::fail(NAME, format!("`{}` is not there", there.display()))
            .because(format!("`{shown}` is configured, and the agent makes only the last directory of it"))
            .remedy(MOUNT);
    }
    if statfs(there).map(|found| found.filesystem_type()) != Ok(BPF_FS_MAGIC) {
        return Check::fail(NAME, format!("`{}` is not on a bpffs", there.display()))
            .because(format!("links and maps can be pinned on a bpffs only, and `{shown}` is configured"))
            .remedy(MOUNT);
    }
    let owner = fs::metadata(path).map_or_else(|_| geteuid().as_raw(), |metadata| metadata.uid());
    let trial = there.join(format!("spanwarden-doctor-{}", std::process::id()));
    let writable = fs::create_dir(&trial).and_then(|()| fs::remove_dir(&trial));
    if owner != geteuid().as_raw() || writable.is_err() {
        let error =
            writable.err().map_or_else(|| format!("it belongs to user {owner}"), |error| error.to_string());
        return Check::fail(NAME, format!("`{}` cannot be used: {error}", there.display()))
            .because("the agent keeps links and maps there in a directory of its own user, with mode 0700")
            .remedy("the volume must not be read-only, and the agent runs as root (runAsUser: 0), as the host's bpffs does");
    }
    let found = match linked(path) {
        0 => "nothing is pinned yet".to_owned(),
        count => format!("{count} attached programs are pinned, with which the next start goes on"),
    };
    Check::ok(NAME, format!("`{shown}` is on a bpffs and can be written; {found}"))
}

const MOUNT: &str = "mount -t bpf bpf /sys/fs/bpf on the host (systemd does), and in a pod mount a directory of it as a \
                     hostPath volume, as deploy/agent/daemonset.yaml does";

/// Pinned links: each directory there, one an ABI and cgroup, has them in `links`.
fn linked(path: &Path) -> usize {
    let list = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten();
    list(path).map(|entry| list(&entry.path().join("links")).count()).sum()
}
