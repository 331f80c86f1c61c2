//! The directory that pins are in: on the right file system, ours alone, one agent at a time.

#![forbid(unsafe_code)]

use super::OriginError;
use nix::{
    sys::statfs::{BPF_FS_MAGIC, statfs},
    unistd::geteuid,
};
use std::{
    fs::{self, DirBuilder, File, Metadata, Permissions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};
use tracing::{info, warn};

/// Everything in it is for us alone.
const MODE: u32 = 0o700;
/// Others must not have been able to put something there.
const FOREIGN_WRITE: u32 = 0o022;
/// How long the lock of an agent that is just ending is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// What a directory is for, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Complete.
    Current,
    /// Being filled.
    New,
    /// To be removed.
    Old,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Current, Self::New, Self::Old];

    fn prefix(self) -> &'static str {
        match self {
            Self::Current => "v",
            Self::New => "new-",
            Self::Old => "old-",
        }
    }

    /// `v2-4711`. No dots: a bpffs refuses them.
    pub(super) fn name(self, abi: u32, cgroup: u64) -> String {
        format!("{}{abi}-{cgroup}", self.prefix())
    }

    /// The reverse of [`Self::name`]; `None` for what is not ours.
    fn parse(name: &str) -> Option<(Self, u32, u64)> {
        Self::ALL.into_iter().find_map(|kind| {
            let (abi, cgroup) = name.strip_prefix(kind.prefix())?.split_once('-')?;
            let (abi, cgroup) = (abi.parse().ok()?, cgroup.parse().ok()?);
            (kind.name(abi, cgroup) == name).then_some((kind, abi, cgroup))
        })
    }
}

/// A directory that is not the one to take up.
pub(super) struct Other {
    path: PathBuf,
    /// Id of the cgroup it was for.
    pub(super) cgroup: u64,
}

/// What is in a [`Base`].
pub(super) struct Found {
    /// There is one of this ABI and cgroup.
    pub(super) current: bool,
    /// All others: of another ABI, of a cgroup that is watched no more, half-written, half-removed. They are
    /// nobody's, because the lock is ours.
    pub(super) others: Vec<Other>,
}

/// `pin_path`, locked as long as this is there.
pub(super) struct Base {
    path: PathBuf,
    /// Nobody else could have written here before us.
    pub(super) trusted: bool,
    _lock: File,
}

impl Base {
    /// Opens or makes it.
    pub(super) fn open(path: &Path) -> Result<Self, OriginError> {
        let failed = |source| OriginError::Pin { path: path.to_path_buf(), source };
        let exists = fs::symlink_metadata(path).is_ok();
        let on = if exists { path } else { path.parent().unwrap_or(path) };
        let kind = statfs(on).map_err(|e| failed(e.into()))?.filesystem_type();
        if kind != BPF_FS_MAGIC {
            return Err(OriginError::NoBpffs { path: path.to_path_buf() });
        }
        match make(path) {
            // By somebody who starts at the same time, as a rule; who it belongs to is looked at below.
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
            _ => {}
        }
        let metadata = fs::symlink_metadata(path).map_err(failed)?;
        if !metadata.is_dir() || metadata.uid() != geteuid().as_raw() {
            return Err(OriginError::PinOwner { path: path.to_path_buf(), owner: metadata.uid() });
        }
        let trusted = metadata.mode() & FOREIGN_WRITE == 0;
        fs::set_permissions(path, Permissions::from_mode(MODE)).map_err(failed)?;
        let lock = lock(path, LOCK_PATIENCE)?;
        Ok(Self { path: path.to_path_buf(), trusted, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn failed(&self, error: &io::Error) -> OriginError {
        let source = error
            .raw_os_error()
            .map_or_else(|| io::Error::new(error.kind(), error.to_string()), io::Error::from_raw_os_error);
        OriginError::Pin { path: self.path.clone(), source }
    }

    /// Looks at names only.
    pub(super) fn list(&self, abi: u32, cgroup: u64) -> Result<Found, OriginError> {
        let mut found = Found { current: false, others: Vec::new() };
        for entry in fs::read_dir(&self.path).map_err(|e| self.failed(&e))? {
            let entry = entry.map_err(|e| self.failed(&e))?;
            let name = entry.file_name();
            let Some((kind, its_abi, its_cgroup)) = name.to_str().and_then(Kind::parse) else {
                info!(path = %entry.path().display(), "this is none of our pins and is left alone");
                continue;
            };
            if (kind, its_abi, its_cgroup) == (Kind::Current, abi, cgroup) {
                found.current = true;
            } else {
                found.others.push(Other { path: entry.path(), cgroup: its_cgroup });
            }
        }
        Ok(found)
    }

    /// Removes what nobody uses any more. Its programs are detached by that.
    pub(super) fn remove_all(&self, others: &[Other]) {
        for Other { path, .. } in others {
            match self.remove(path) {
                Ok(()) => info!(path = %path.display(), "old pins are removed"),
                Err(error) => {
                    warn!(path = %path.display(), %error, "old pins cannot be removed; remove them by hand");
                }
            }
        }
    }

    /// Removes one directory of ours, if it is there; symbolic links are not followed.
    pub(super) fn remove(&self, path: &Path) -> io::Result<()> {
        debug_assert_eq!(path.parent(), Some(self.path.as_path()));
        match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
            Ok(_) => fs::remove_file(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Makes a directory for us alone, whatever the umask is.
pub(super) fn make(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(MODE).create(path)?;
    fs::set_permissions(path, Permissions::from_mode(MODE))
}

/// Whether a directory is one, ours, and for us alone.
pub(super) fn is_ours(path: &Path) -> Result<(), String> {
    let metadata = fs::symlink_metadata(path).map_err(|e| format!("`{}`: {e}", path.display()))?;
    if !metadata.is_dir() {
        return Err(format!("`{}` is no directory", path.display()));
    }
    let (owner, mode) = (metadata.uid(), permissions(&metadata));
    if owner != geteuid().as_raw() || mode != MODE {
        return Err(format!("`{}` belongs to user {owner} and has mode {mode:o}", path.display()));
    }
    Ok(())
}

fn permissions(metadata: &Metadata) -> u32 {
    metadata.mode() & 0o7777
}

fn lock(path: &Path, patience: Duration) -> Result<File, OriginError> {
    let failed = |source| OriginError::Pin { path: path.to_path_buf(), source };
    let directory = File::open(path).map_err(failed)?;
    let deadline = Instant::now() + patience;
    loop {
        match directory.try_lock() {
            Ok(()) => return Ok(directory),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
            Err(TryLockError::WouldBlock) if Instant::now() > deadline => {
                return Err(OriginError::PinLocked { path: path.to_path_buf() });
            }
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_back() {
        for kind in Kind::ALL {
            assert_eq!(Kind::parse(&kind.name(2, 4711)), Some((kind, 2, 4711)));
        }
        for foreign in ["v2", "v2-", "v-1", "v02-1", "v2-+1", "new2-1", "new-2-1-1", "cilium", "v2-1 ", ""] {
            assert_eq!(Kind::parse(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn another_file_system_is_refused_with_the_way_to_mount_the_right_one() {
        let path = std::env::temp_dir().join("spanwarden-no-bpffs");
        let Err(error) = Base::open(&path) else { panic!("taken for a bpffs") };
        assert!(matches!(&error, OriginError::NoBpffs { .. }), "{error}");
        assert!(error.to_string().contains("mount -t bpf"), "{error}");
        assert!(!path.exists(), "nothing is made where nothing can be pinned");
    }
}
