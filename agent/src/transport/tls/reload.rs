//! One thread that keeps every configuration of the process as new as its files.
//!
//! Directories are watched, not files: a volume's update replaces the files (and their watches) by swapping a link.
//! What was seen is only a reason to look: what counts is the content, which is also looked at every interval, for
//! volumes that tell nothing. A change counts once it was read twice the same, so that a file that is being written
//! is left alone; what does not work then is kept out, told, and tried again.

#![forbid(unsafe_code)]

mod directories;

use std::{
    io::{Read as _, Write as _},
    os::{fd::AsFd as _, unix::net::UnixStream},
    path::PathBuf,
    sync::{LazyLock, Mutex, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{
    TlsError,
    files::{Fingerprint, Snapshot},
};
use crate::telemetry::metrics::{Counters, counter};
use directories::Directories;

/// How often files are looked at where nothing else is configured.
const INTERVAL: Duration = Duration::from_secs(30);
/// The shortest interval.
const SHORTEST: Duration = Duration::from_millis(100);
/// How long a change must have lasted.
const SETTLED: Duration = Duration::from_millis(100);
/// The first wait before what did not work is tried again; it doubles up to the interval.
const RETRY: Duration = Duration::from_millis(500);
/// The same failure is told again after so long.
const REMIND: Duration = Duration::from_mins(10);

static RELOADS: LazyLock<Counters> = LazyLock::new(|| {
    counter(
        "spanwarden_tls_reload",
        "Changes of certificates, keys, CAs and revocation lists: success, or error for each look at files that can't be used.",
        &["result"],
    )
});

/// Something that is made of files.
pub(super) trait Reload: Send + Sync {
    /// The files.
    fn files(&self) -> &[PathBuf];
    /// How often they are looked at.
    fn interval(&self) -> Option<Duration>;
    /// Of the content that is in use.
    fn fingerprint(&self) -> Fingerprint;
    /// Uses this content from now on, if all of it is good.
    fn reload(&self, snapshot: &Snapshot) -> Result<(), TlsError>;
}

/// Looks after `source` until it is dropped.
pub(super) fn register(source: Weak<dyn Reload>) {
    static DOOR: LazyLock<Option<Door>> = LazyLock::new(Door::open);
    if let Some(door) = &*DOOR {
        lock(&NEW).push(source);
        // Full: the thread has enough reasons to wake up.
        let _ = (&door.0).write(&[0]);
    }
}

/// What the thread has not taken yet.
static NEW: Mutex<Vec<Weak<dyn Reload>>> = Mutex::new(Vec::new());

/// Where the thread is reached: it wakes up for a byte.
struct Door(UnixStream);

impl Door {
    fn open() -> Option<Self> {
        let started = UnixStream::pair().and_then(|(bell, ears)| {
            bell.set_nonblocking(true)?;
            ears.set_nonblocking(true)?;
            let keeper = Keeper { ears, directories: Directories::new(), kept: Vec::new() };
            thread::Builder::new().name("tls-reload".to_owned()).spawn(move || keeper.run())?;
            Ok(Self(bell))
        });
        started
            .inspect_err(
                |error| tracing::error!(%error, "certificates are not reloaded: no thread could be started"),
            )
            .ok()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread.
struct Keeper {
    ears: UnixStream,
    directories: Directories,
    kept: Vec<Kept>,
}

/// One source.
struct Kept {
    source: Weak<dyn Reload>,
    due: Instant,
    /// What was read last time and is not in use.
    seen: Option<Fingerprint>,
    trouble: Option<Trouble>,
}

/// Files that could not be used.
struct Trouble {
    seen: Option<Fingerprint>,
    told: Instant,
    wait: Duration,
}

impl Keeper {
    fn run(mut self) {
        loop {
            let now = Instant::now();
            for source in lock(&NEW).drain(..) {
                self.kept.push(Kept { source, due: now, seen: None, trouble: None });
            }
            self.kept.retain(|kept| kept.source.strong_count() > 0);
            for kept in &mut self.kept {
                if kept.due <= now {
                    kept.look(&mut self.directories);
                }
            }
            self.wait();
        }
    }

    /// Until something is due, was seen, or is new.
    fn wait(&mut self) {
        let due = self.kept.iter().map(|kept| kept.due).min();
        let timeout = due.map_or(PollTimeout::NONE, |due| {
            // Rounded up: waking up too early is waking up twice.
            let left = due.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        });
        let mut fds = vec![PollFd::new(self.ears.as_fd(), PollFlags::POLLIN)];
        fds.extend(self.directories.fd().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        if poll(&mut fds, timeout).is_err() {
            return; // interrupted
        }
        let mut sink = [0; 64];
        let _ = (&self.ears).read(&mut sink);
        if self.directories.changed() {
            let soon = Instant::now() + SETTLED;
            for kept in &mut self.kept {
                kept.due = kept.due.min(soon);
            }
        }
    }
}

impl Kept {
    fn look(&mut self, directories: &mut Directories) {
        let Some(source) = self.source.upgrade() else { return };
        // Again each time: a directory may have been replaced.
        directories.add(source.files());
        let interval =
            source.interval().filter(|interval| !interval.is_zero()).unwrap_or(INTERVAL).max(SHORTEST);
        let outcome = Snapshot::read(source.files()).map(|snapshot| (snapshot.fingerprint(), snapshot));
        self.due = Instant::now() + interval;
        match outcome {
            Ok((fingerprint, _)) if fingerprint == source.fingerprint() => {
                self.seen = None;
                if self.trouble.take().is_some() {
                    tracing::info!(files = ?source.files(), "tls: the files are again what is in use");
                }
            }
            Ok((fingerprint, _)) if self.seen != Some(fingerprint) => {
                self.seen = Some(fingerprint);
                self.due = Instant::now() + SETTLED;
            }
            Ok((fingerprint, snapshot)) => match source.reload(&snapshot) {
                Ok(()) => {
                    (self.seen, self.trouble) = (None, None);
                    RELOADS.with_label_values(&["success"]).inc();
                    tracing::info!(files = ?source.files(), "tls: reloaded");
                }
                Err(error) => self.fail(Some(fingerprint), &error, interval),
            },
            Err(error) => self.fail(None, &error, interval),
        }
    }

    fn fail(&mut self, seen: Option<Fingerprint>, error: &TlsError, interval: Duration) {
        RELOADS.with_label_values(&["error"]).inc();
        let now = Instant::now();
        let before = self.trouble.as_ref().filter(|trouble| trouble.seen == seen);
        let told = before.map(|trouble| trouble.told).filter(|told| now - *told < REMIND);
        if told.is_none() {
            tracing::error!(%error, "tls: a changed file can't be used; what was in use stays in use");
        }
        let wait = before.map_or(RETRY, |trouble| trouble.wait * 2).min(interval);
        self.due = now + wait;
        self.trouble = Some(Trouble { seen, told: told.unwrap_or(now), wait });
    }
}
