//! A BPF file system of the test's own, for pins.

#![forbid(unsafe_code)]

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
};

use crate::{
    cgroup,
    cleanup::{self, Made},
};

/// A mounted bpffs. Dropping it unmounts it, and everything pinned in it goes: programs are detached.
#[derive(Debug)]
pub struct BpfFs {
    path: PathBuf,
}

impl BpfFs {
    /// Mounts one on a directory of its own.
    pub fn new() -> Result<Self> {
        let path = env::temp_dir().join(cleanup::name(cgroup::PREFIX));
        cleanup::note(Made::Mount(path.clone()));
        fs::create_dir(&path).with_context(|| path.display().to_string())?;
        let mounted = mount(Some("bpf"), &path, Some("bpf"), MsFlags::empty(), None::<&str>);
        mounted.with_context(|| format!("mounting a bpffs at {}", path.display()))?;
        Ok(Self { path })
    }

    /// The mount point.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for BpfFs {
    fn drop(&mut self) {
        cleanup::remove(&Made::Mount(self.path.clone()));
    }
}

pub(crate) fn unmount(path: &Path) -> Result<()> {
    match umount2(path, MntFlags::MNT_DETACH) {
        // Not a mount point: the mounting had failed.
        Ok(()) | Err(Errno::EINVAL) => fs::remove_dir(path).with_context(|| path.display().to_string()),
        Err(Errno::ENOENT) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("unmounting {}", path.display())),
    }
}

/// Whether something is mounted there.
pub(crate) fn is_mount(path: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts.lines().filter_map(|line| line.split(' ').nth(4)).any(|mount| Path::new(mount) == path)
}
