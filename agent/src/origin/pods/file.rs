//! Pods, and Services if it lists them, from a file: what `kubectl get pods,services -A -o yaml` prints, or the same
//! as JSON.
//!
//! The file is read again when it changes. A file that can't be read leaves the pods as they were; a pod that
//! is gone from it is still found for a while ([`TOMBSTONE`](super::TOMBSTONE)).

use std::{
    fs::{self, File},
    io::Read as _,
    net::IpAddr,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use super::{
    index::Store,
    read::{self, Listed},
    tree,
};
use crate::{
    origin::{Pod, PodSource, Service},
    telemetry::metrics::{Counters, counter},
};

/// The largest file that is read. A node runs a few hundred pods of 5-20 KiB each.
pub const MAX_BYTES: u64 = 32 << 20;

/// How often, at most, a look-up asks the file system whether the file has changed.
const CHECK_EVERY: Duration = Duration::from_millis(500);

static RELOADS: LazyLock<Counters> = LazyLock::new(|| {
    counter("spanwarden_pods_reloads", "Times the file of pods was read, by result.", &["result"])
});

/// Why a file of pods was not taken.
#[derive(Debug, thiserror::Error)]
pub enum PodsError {
    /// The file can't be read.
    #[error("pods file {path}: {source}; `kubectl get pods -A -o yaml` writes such a file")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Larger than [`MAX_BYTES`].
    #[error(
        "pods file {path} has {bytes} bytes, more than the {MAX_BYTES} that are read; select one node's pods with `--field-selector spec.nodeName=…`"
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// Not YAML or JSON, or not pods.
    #[error("pods file {path}: {message}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong, with its place.
        message: String,
    },
}

/// Pods from a file. See the module's description.
pub struct FilePods {
    path: PathBuf,
    pods: Store,
    /// What the file looked like when it was last read, also when it was refused.
    seen: Mutex<Option<Stamp>>,
    started: Instant,
    /// Milliseconds after `started` at which the file is looked at again.
    check_at: AtomicU64,
}

impl FilePods {
    /// Reads the file for the first time; this time a fault is an error.
    pub fn open(path: &Path) -> Result<Self, PodsError> {
        let (stamp, listed) = load(path)?;
        let pods = Store::new("file");
        pods.publish(listed);
        RELOADS.with_label_values(&["ok"]).inc();
        Ok(Self {
            path: path.to_owned(),
            pods,
            seen: Mutex::new(Some(stamp)),
            started: Instant::now(),
            check_at: AtomicU64::new(CHECK_EVERY.as_millis() as u64),
        })
    }

    /// Reads the file again if it is time to look and it has changed. One caller does; others go on with
    /// what there is.
    fn refresh(&self) {
        let now = self.started.elapsed().as_millis() as u64;
        if now < self.check_at.load(Ordering::Relaxed) {
            return;
        }
        let Ok(mut seen) = self.seen.try_lock() else { return };
        self.check_at.store(now + CHECK_EVERY.as_millis() as u64, Ordering::Relaxed);
        self.reload(&mut seen);
    }

    fn reload(&self, seen: &mut Option<Stamp>) {
        let stamp = fs::metadata(&self.path).ok().map(|meta| Stamp::of(&meta));
        if stamp == *seen {
            return;
        }
        match load(&self.path) {
            Ok((stamp, listed)) => {
                *seen = Some(stamp);
                RELOADS.with_label_values(&["ok"]).inc();
                self.pods.publish(listed);
            }
            Err(error) => {
                *seen = stamp;
                RELOADS.with_label_values(&["error"]).inc();
                tracing::error!(%error, "the pods stay as they were");
            }
        }
    }
}

impl PodSource for FilePods {
    fn by_uid(&self, uid: &str) -> Option<Arc<Pod>> {
        self.refresh();
        self.pods.by_uid(uid)
    }

    fn by_ip(&self, ip: IpAddr) -> Option<Arc<Pod>> {
        self.refresh();
        self.pods.by_ip(ip)
    }

    fn service_by_ip(&self, ip: IpAddr) -> Option<Arc<Service>> {
        self.refresh();
        self.pods.service_by_ip(ip)
    }
}

/// What tells one state of the file from another; the inode, because files are replaced by renaming.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
    inode: u64,
}

impl Stamp {
    fn of(meta: &fs::Metadata) -> Self {
        Self { modified: meta.modified().ok(), bytes: meta.len(), inode: meta.ino() }
    }
}

fn load(path: &Path) -> Result<(Stamp, Listed), PodsError> {
    let io = |source| PodsError::Io { path: path.to_owned(), source };
    let content = |message| PodsError::Content { path: path.to_owned(), message };
    let file = File::open(path).map_err(io)?;
    let stamp = Stamp::of(&file.metadata().map_err(io)?);
    let mut bytes = Vec::with_capacity(stamp.bytes.min(MAX_BYTES) as usize);
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(PodsError::TooLarge {
            path: path.to_owned(),
            bytes: stamp.bytes.max(bytes.len() as u64),
        });
    }
    let text = String::from_utf8(bytes).map_err(|e| content(format!("is not UTF-8: {e}")))?;
    let tree = tree::parse(&text).map_err(content)?;
    Ok((stamp, read::listed(&tree).map_err(content)?))
}

#[cfg(test)]
mod tests;
