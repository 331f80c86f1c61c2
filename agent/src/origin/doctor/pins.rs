//! The directory where links and maps are pinned.

#![forbid(unsafe_code)]

use super::Check;
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use std::{
    fs,
    path::{Path, PathBuf},
};

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
    let Some(there) = nearest(path) else {
        return Check::fail(NAME, format!("`{shown}` leads nowhere"))
            .because("`extensions.origin.pin_path` must be an absolute path")
            .remedy("pin_path: /sys/fs/bpf/spanwarden");
    };
    let kind = statfs(&there).map(|found| found.filesystem_type());
    if kind != Ok(BPF_FS_MAGIC) {
        return Check::fail(NAME, format!("`{}` is not on a bpffs", there.display()))
            .because(format!("links and maps can be pinned on a bpffs only, and `{shown}` is configured"))
            .remedy(
                "mount -t bpf bpf /sys/fs/bpf on the host (systemd does), and in a pod mount that as a hostPath volume, \
                 as deploy/agent/daemonset.yaml does",
            );
    }
    let trial = there.join(format!("spanwarden-doctor-{}", std::process::id()));
    if let Err(error) = fs::create_dir(&trial).and_then(|()| fs::remove_dir(&trial)) {
        return Check::fail(NAME, format!("`{}` cannot be written: {error}", there.display()))
            .because("the agent makes a directory a version there, with mode 0700")
            .remedy("the volume must not be read-only, and its owner is root");
    }
    let found = match entries(path) {
        0 => "nothing is pinned yet".to_owned(),
        count => format!("{count} objects are pinned, from which the next start goes on"),
    };
    Check::ok(NAME, format!("`{shown}` is on a bpffs and can be written; {found}"))
}

/// The path itself, or what is there above it.
fn nearest(path: &Path) -> Option<PathBuf> {
    path.is_absolute().then(|| path.ancestors().find(|path| path.is_dir())).flatten().map(Path::to_path_buf)
}

/// Files below, two levels deep: a directory a version, and what is in it.
fn entries(path: &Path) -> usize {
    let list = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten();
    list(path).map(|entry| if entry.path().is_dir() { list(&entry.path()).count() } else { 1 }).sum()
}
