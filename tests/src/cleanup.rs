//! Removal of what the harness made: by the guards' `Drop`, and on Ctrl-C, when no `Drop` runs.
//!
//! What a killed run (`SIGKILL`) has left is removed by the next one: names bear the maker's pid.

#![forbid(unsafe_code)]

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, Once, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
};

use nix::{errno::Errno, sys::signal::kill, unistd::Pid};
use tokio::signal::unix::{SignalKind, signal};

use crate::{bpffs, cgroup, netns};

/// Something that outlives the process unless it is removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Made {
    /// A cgroup directory with all below it; its processes are ended first.
    Cgroup(PathBuf),
    /// A named network namespace.
    Namespace(String),
    /// A directory of files.
    Directory(PathBuf),
    /// A directory on which a file system is mounted.
    Mount(PathBuf),
}

impl Made {
    fn remove(&self) {
        let result = match self {
            Self::Cgroup(path) => cgroup::remove_tree(path),
            Self::Namespace(name) => netns::delete(name),
            Self::Directory(path) => fs::remove_dir_all(path).map_err(Into::into),
            Self::Mount(path) => bpffs::unmount(path),
        };
        if let Err(error) = result {
            eprintln!("not removed: {self:?}: {error:#}");
        }
    }
}

static MADE: Mutex<Vec<Made>> = Mutex::new(Vec::new());

fn made() -> MutexGuard<'static, Vec<Made>> {
    MADE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes `thing` before it is made, so that an interrupt in between finds it.
pub(crate) fn note(thing: Made) {
    static FIRST: Once = Once::new();
    FIRST.call_once(|| {
        watch_for_interrupts();
        sweep();
    });
    made().push(thing);
}

/// Removes `thing` now.
pub(crate) fn remove(thing: &Made) {
    let noted = {
        let mut made = made();
        let at = made.iter().position(|other| other == thing);
        at.map(|at| made.remove(at))
    };
    if let Some(noted) = noted {
        noted.remove();
    }
}

/// Removes everything; what was made last goes first.
pub fn remove_all() {
    loop {
        // Cgroups first: a namespace lives as long as its processes.
        let next = {
            let mut made = made();
            let at = made.iter().rposition(|thing| matches!(thing, Made::Cgroup(_)));
            at.map(|at| made.remove(at)).or_else(|| made.pop())
        };
        let Some(thing) = next else { return };
        thing.remove();
    }
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Never returns once Ctrl-C was pressed: what was made is being removed, and the process ends when it is. For the
/// end of `main`, which would else end the process in the middle, as soon as something it used is gone.
pub fn wait_if_interrupted() {
    while INTERRUPTED.load(Ordering::Acquire) {
        thread::park();
    }
}

/// A number that no other thing of this process has.
pub(crate) fn number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A name that says who made the thing; [`sweep`] reads it.
pub(crate) fn name(prefix: &str) -> String {
    format!("{prefix}{}-{}", std::process::id(), number())
}

fn watch_for_interrupts() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    let watch = move || {
        let Ok(runtime) = runtime else { return };
        runtime.block_on(async {
            let (Ok(mut interrupt), Ok(mut terminate)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                return;
            };
            let code = tokio::select! {
                _ = interrupt.recv() => 130,
                _ = terminate.recv() => 143,
            };
            INTERRUPTED.store(true, Ordering::Release);
            eprintln!("\ninterrupted; removing what was made");
            remove_all();
            std::process::exit(code);
        });
    };
    if let Err(error) = thread::Builder::new().name("interrupts".to_owned()).spawn(watch) {
        eprintln!("Ctrl-C will leave things behind: {error}");
    }
}

/// Removes what processes that are no more have left.
fn sweep() {
    let names = |directory: &Path| {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect::<Vec<_>>()
    };
    if let Ok(mount) = cgroup::mount() {
        for name in names(&mount) {
            if left_behind(&name, cgroup::PREFIX) {
                Made::Cgroup(mount.join(name)).remove();
            }
        }
    }
    let temporary = env::temp_dir();
    for name in names(&temporary) {
        if left_behind(&name, cgroup::PREFIX) {
            let path = temporary.join(name);
            if bpffs::is_mount(&path) { Made::Mount(path).remove() } else { Made::Directory(path).remove() }
        }
    }
    for name in names(Path::new(netns::DIRECTORY)) {
        if left_behind(&name, netns::PREFIX) {
            Made::Namespace(name).remove();
        }
    }
}

/// Whether the name is `<prefix><pid>-<n>` and the process has ended.
fn left_behind(name: &str, prefix: &str) -> bool {
    let pid =
        name.strip_prefix(prefix).and_then(|rest| rest.split_once('-')).and_then(|(pid, _)| pid.parse().ok());
    pid.is_some_and(|pid| pid > 0 && kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH))
}
