//! Directories that are watched for changes of some names in them.

#![forbid(unsafe_code)]

use std::{
    collections::HashSet,
    ffi::OsString,
    fs,
    os::fd::{AsFd as _, BorrowedFd},
    path::{Path, PathBuf},
};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::super::files::DATA;

/// The watches. Without inotify (its instances are limited) there are none, and files are only looked at from time to
/// time.
pub(super) struct Directories {
    inotify: Option<Inotify>,
    names: HashSet<OsString>,
}

impl Directories {
    pub(super) fn new() -> Self {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)
            .inspect_err(|error| {
                tracing::warn!(%error, "tls: directories can't be watched; files are looked at every reload_interval");
            })
            .ok();
        Self { inotify, names: HashSet::from([OsString::from(DATA)]) }
    }

    /// Readable when something happened.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.inotify.as_ref().map(|inotify| inotify.as_fd())
    }

    /// Watches where these files are, and where links lead to. What is watched already stays watched.
    pub(super) fn add(&mut self, files: &[PathBuf]) {
        for file in files {
            self.add_one(file);
            if let Ok(real) = fs::canonicalize(file)
                && real != *file
            {
                self.add_one(&real);
            }
        }
    }

    fn add_one(&mut self, file: &Path) {
        let (Some(inotify), Some(name)) = (&self.inotify, file.file_name()) else { return };
        let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let events = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_ONLYDIR;
        // A directory that is not there is said when its files are read.
        let _ = inotify.add_watch(parent, events);
        if !self.names.contains(name) {
            self.names.insert(name.to_owned());
        }
    }

    /// Takes what happened; whether any of it was about a name that counts. A directory that vanished counts as well.
    pub(super) fn changed(&mut self) -> bool {
        let Some(inotify) = &self.inotify else { return false };
        let mut changed = false;
        while let Ok(events) = inotify.read_events() {
            changed |=
                events.iter().any(|event| event.name.as_ref().is_none_or(|name| self.names.contains(name)));
        }
        changed
    }
}
