//! Cgroups of the tests' own, below the real cgroup2 mount, named as the kubelet names them.

#![forbid(unsafe_code)]

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::cleanup::{self, Made};
use crate::patience::deadline;

/// What the names of all our cgroups, and directories of files, begin with; the maker's pid follows.
pub(crate) const PREFIX: &str = "spanwarden-test-";

/// How long processes that got SIGKILL may take to go.
const PATIENCE: Duration = Duration::from_secs(10);

/// The cgroup2 hierarchy that is mounted for writing: its own place on a machine with both versions.
pub fn mount() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("no /proc/self/mountinfo")?;
    let writable = mounts.lines().find_map(|line| {
        // proc(5): the sixth field is the options, the type follows the separator.
        let (fields, rest) = line.split_once(" - ")?;
        let mut fields = fields.split(' ').skip(4);
        let (place, options) = (fields.next()?, fields.next()?);
        (rest.starts_with("cgroup2 ") && options.split(',').any(|option| option == "rw")).then_some(place)
    });
    writable.map(PathBuf::from).ok_or_else(|| {
        anyhow!("a writable cgroup2 hierarchy: mount one with `mount -t cgroup2 none DIR` (beside cgroup v1 is fine)")
    })
}

/// A cgroup directly below the mount, in which everything of one test lives. Dropping it ends all processes in
/// it and removes the tree.
#[derive(Debug)]
pub struct CgroupRoot {
    path: PathBuf,
}

impl CgroupRoot {
    /// Makes the cgroup.
    pub fn new() -> Result<Self> {
        let path = mount()?.join(cleanup::name(PREFIX));
        cleanup::note(Made::Cgroup(path.clone()));
        fs::create_dir(&path).with_context(|| format!("cgroup {}", path.display()))?;
        Ok(Self { path })
    }

    /// Where it is mounted: the place to attach programs to (`extensions.origin.cgroup`).
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a cgroup below, with all above it: `kubepods.slice/…`.
    pub fn make(&self, below: impl AsRef<Path>) -> Result<PathBuf> {
        let path = self.path.join(below);
        fs::create_dir_all(&path).with_context(|| format!("cgroup {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for CgroupRoot {
    fn drop(&mut self) {
        cleanup::remove(&Made::Cgroup(self.path.clone()));
    }
}

/// The path of a burstable pod's container below the root, as containerd with the systemd driver makes it.
pub fn kubelet_path(pod_uid: &str, container_id: &str) -> PathBuf {
    let uid = pod_uid.replace('-', "_");
    ["kubepods.slice", "kubepods-burstable.slice", &format!("kubepods-burstable-pod{uid}.slice")]
        .iter()
        .collect::<PathBuf>()
        .join(format!("cri-containerd-{container_id}.scope"))
}

/// Ends all processes below `path` and removes the directories.
pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let own = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX));
    if !own {
        bail!("{} is not a cgroup of the harness", path.display());
    }
    let deadline = deadline(PATIENCE);
    loop {
        end_processes(path)?;
        match remove_directories(path) {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() > deadline => {
                return Err(error).with_context(|| format!("removing cgroup {}", path.display()));
            }
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// SIGKILL to everything below: by the kernel (5.14), or process by process before.
fn end_processes(path: &Path) -> Result<()> {
    // Not `fs::write`: it asks to create what is not there, which is refused with another error.
    let kill_all = fs::OpenOptions::new().write(true).open(path.join("cgroup.kill"));
    match kill_all.and_then(|mut file| file.write_all(b"1")) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            for directory in directories(path)? {
                for pid in fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default().lines() {
                    if let Ok(pid) = pid.parse()
                        && pid > 0
                    {
                        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                    }
                }
            }
            Ok(())
        }
        Err(error) => Err(error).with_context(|| format!("ending the processes of {}", path.display())),
    }
}

fn remove_directories(path: &Path) -> io::Result<()> {
    for directory in directories(path)?.iter().rev() {
        match fs::remove_dir(directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// `path` and all below it, parents before children.
fn directories(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = vec![path.to_owned()];
    let mut at = 0;
    while at < found.len() {
        for entry in fs::read_dir(&found[at])? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                found.push(entry.path());
            }
        }
        at += 1;
    }
    Ok(found)
}
