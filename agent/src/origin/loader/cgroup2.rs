//! The cgroup directory that is watched.

#![forbid(unsafe_code)]

use super::OriginError;
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, fstatfs};
use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// The watched directory.
#[derive(Debug)]
pub(in crate::origin) struct Root {
    /// Its handle, on which the programs are attached.
    pub(in crate::origin) dir: File,
    /// As configured.
    pub(in crate::origin) path: PathBuf,
    /// Its cgroup id.
    pub(in crate::origin) id: u64,
    /// Its path below the hierarchy's root as mounted here; empty for the root itself.
    below_mount: PathBuf,
}

impl Root {
    /// The path below the hierarchy's root with a slash in front; empty for the root itself.
    pub(in crate::origin) fn below_mount(&self) -> String {
        let below = self.below_mount.to_string_lossy();
        if below.is_empty() { String::new() } else { format!("/{below}") }
    }

    /// Whether the directory that was opened is still the one at its path. The kernel detaches the programs of
    /// a cgroup that is removed, silently.
    pub(in crate::origin) fn is_there(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|metadata| metadata.ino() == self.id)
    }
}

pub(in crate::origin) fn open(path: PathBuf) -> Result<Root, OriginError> {
    let path = fs::canonicalize(&path).map_err(|source| OriginError::NoCgroup { path, source })?;
    let no_cgroup = |source| OriginError::NoCgroup { path: path.clone(), source };
    let dir = File::open(&path).map_err(no_cgroup)?;
    let kind = fstatfs(&dir).map_err(|e| no_cgroup(e.into()))?.filesystem_type();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    if kind != CGROUP2_SUPER_MAGIC {
        return Err(OriginError::NotCgroup2 { path, hint: hint(&mounts) });
    }
    let id = dir.metadata().map_err(no_cgroup)?.ino();
    let below_mount = cgroup2_mounts(&mounts)
        .filter_map(|mount| path.strip_prefix(mount).ok())
        .min_by_key(|below| below.as_os_str().len())
        .map_or_else(PathBuf::new, Path::to_path_buf);
    Ok(Root { dir, path, id, below_mount })
}

/// Mount points of type cgroup2: field 5, and the type after the separator (proc(5)).
fn cgroup2_mounts(mountinfo: &str) -> impl Iterator<Item = &str> {
    mountinfo.lines().filter_map(|line| {
        let (fields, rest) = line.split_once(" - ")?;
        rest.starts_with("cgroup2 ").then(|| fields.split(' ').nth(4))?
    })
}

fn hint(mountinfo: &str) -> String {
    match cgroup2_mounts(mountinfo).next() {
        Some(mount) => format!(
            "the hierarchy is mounted at `{mount}`: set `extensions.origin.cgroup: {mount}` (a node with both cgroup \
             versions keeps it apart)"
        ),
        None => "none is mounted here: mount one with `mount -t cgroup2 none DIR` on the host (an empty one beside \
                 cgroup v1 is enough) and give the agent that directory"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
30 23 0:26 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw,nsdelegate
32 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
";

    #[test]
    fn a_hybrid_host_is_told_the_path_of_its_v2_hierarchy() {
        assert_eq!(cgroup2_mounts(HYBRID).collect::<Vec<_>>(), ["/sys/fs/cgroup/unified"]);
        assert!(hint(HYBRID).contains("extensions.origin.cgroup: /sys/fs/cgroup/unified"));
    }

    #[test]
    fn a_host_without_one_is_told_how_to_mount_it() {
        assert!(hint("30 23 0:26 / /sys ro - sysfs sysfs ro\n").contains("mount -t cgroup2"));
    }

    #[test]
    fn another_file_system_is_refused() {
        let error = open(std::env::temp_dir()).unwrap_err();
        assert!(matches!(error, OriginError::NotCgroup2 { .. }), "{error}");
        let error = open(PathBuf::from("/nonexistent/cgroup")).unwrap_err();
        assert!(error.to_string().contains("extensions.origin.cgroup"), "{error}");
    }
}
