//! A cgroup and a file of our own, gone when they are dropped.
//!
//! Named as the harness of the suites names its own, with the maker's pid: what a killed run leaves, its next one
//! removes.

#![forbid(unsafe_code)]

use std::{
    env, fs,
    fs::File,
    path::{Path, PathBuf},
    process,
};

use anyhow::{Context, Result};

/// What the names begin with; see `tests/src/cleanup.rs`.
const PREFIX: &str = "spanwarden-test-";

fn name() -> String {
    format!("{PREFIX}{}-guest", process::id())
}

/// An empty cgroup directly below the mount.
pub(crate) struct Cgroup(PathBuf);

impl Cgroup {
    pub(crate) fn new() -> Result<Self> {
        let path = mount()?.join(name());
        fs::create_dir(&path).with_context(|| format!("cgroup {}", path.display()))?;
        Ok(Self(path))
    }

    pub(crate) fn open(&self) -> Result<File> {
        File::open(&self.0).with_context(|| self.0.display().to_string())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.0) {
            eprintln!("not removed: {}: {error}", self.0.display());
        }
    }
}

/// The cgroup2 hierarchy that is mounted for writing: proc(5), `mountinfo`.
fn mount() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("no /proc/self/mountinfo")?;
    let found = mounts.lines().find_map(|line| {
        let (fields, rest) = line.split_once(" - ")?;
        let mut fields = fields.split(' ').skip(4);
        let (place, options) = (fields.next()?, fields.next()?);
        (rest.starts_with("cgroup2 ") && options.split(',').any(|option| option == "rw")).then_some(place)
    });
    found.map(PathBuf::from).context(
        "no writable cgroup2 hierarchy: mount one with `mount -t cgroup2 none DIR` (beside v1 is fine)",
    )
}

/// A directory for what a test says.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new() -> Result<Self> {
        let path = env::temp_dir().join(name());
        fs::create_dir(&path).with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("not removed: {}: {error}", self.0.display());
        }
    }
}
