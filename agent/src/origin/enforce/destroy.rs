//! What the helper does: finds a socket's network namespace, and destroys the socket there.

#![forbid(unsafe_code)]

use super::{
    namespaces::{Namespaces, NoEntry, Room},
    request::{Outcome, Reply, Request},
};
use nix::errno::Errno;
use std::{
    collections::VecDeque,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Processes of a cgroup that are asked for their namespace. All of a pod share one but for odd ones out.
const PROCESSES: usize = 64;
/// Levels above a cgroup at which they are looked for: from one that a container made itself up to its pod.
const LEVELS: usize = 4;
/// Cgroups a level that are looked into for them.
const CGROUPS: usize = 64;
/// Longest that one request may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Requests a second; the agent asks for one a blocked connection, of which a pod has few.
const PER_SECOND: u32 = 2_000;

/// The helper's work.
#[derive(Debug)]
pub(super) struct Destroyer {
    namespaces: Namespaces,
    /// The watched cgroup directory.
    root: PathBuf,
    second: Instant,
    in_second: u32,
}

/// What was learnt on the way to a result.
struct Search {
    tried: Vec<u64>,
    /// A namespace was searched that may or may not be the opener's: the kernel does not tell.
    searched: bool,
    barred: Option<io::Error>,
}

impl Destroyer {
    pub(super) fn new(root: PathBuf) -> io::Result<Self> {
        Ok(Self { namespaces: Namespaces::new()?, root, second: Instant::now(), in_second: 0 })
    }

    /// See [`Namespaces::expire`].
    pub(super) fn expire(&mut self) -> Option<Duration> {
        self.namespaces.expire()
    }

    /// Answers a request. An error is the end: this process is in a namespace that it cannot leave.
    pub(super) fn answer(&mut self, bytes: &[u8]) -> io::Result<Reply> {
        let Some(request) = Request::from_bytes(bytes).filter(|_| self.admit()) else {
            return Ok(Reply { id: 0, socket_cookie: 0, outcome: Outcome::Declined, errno: 0 });
        };
        let (outcome, errno) = match self.destroy(&request) {
            Ok(outcome) => (outcome, 0),
            Err(NoEntry::Lost(error)) => return Err(error),
            Err(NoEntry::Here(error)) => {
                let errno = error.raw_os_error().unwrap_or(0);
                (outcome_of(Errno::from_raw(errno)), errno)
            }
        };
        Ok(Reply { id: request.id, socket_cookie: request.socket_cookie, outcome, errno })
    }

    /// Whoever took over the agent must not turn this into a weapon against all connections of the node.
    fn admit(&mut self) -> bool {
        if self.second.elapsed() >= Duration::from_secs(1) {
            (self.second, self.in_second) = (Instant::now(), 0);
        }
        self.in_second += 1;
        self.in_second <= PER_SECOND
    }

    fn destroy(&mut self, request: &Request) -> Result<Outcome, NoEntry> {
        if let Some(room) = self.namespaces.known(request.netns_cookie) {
            match attempt(room, request) {
                Ok(()) => return Ok(Outcome::Destroyed),
                // It was the right place.
                Err(Errno::ENOENT) => return Ok(Outcome::Gone),
                Err(_) => {
                    let inode = room.inode();
                    self.namespaces.forget(inode);
                }
            }
        }
        let deadline = Instant::now() + PATIENCE;
        let mut search = Search { tried: Vec::new(), searched: false, barred: None };
        let opener = (request.tgid != 0).then_some(request.tgid);
        if let Some(outcome) = opener.and_then(|pid| self.through(pid, request, &mut search).transpose()) {
            return outcome;
        }
        for pid in processes_near(&self.root, &request.cgroup) {
            if Some(pid) == opener {
                continue;
            }
            if Instant::now() > deadline {
                return Err(NoEntry::Here(Errno::ETIMEDOUT.into()));
            }
            if let Some(outcome) = self.through(pid, request, &mut search)? {
                return Ok(outcome);
            }
        }
        match search.barred {
            _ if search.searched => Ok(Outcome::Gone),
            Some(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(NoEntry::Here(error)),
            // Processes end while they are being asked.
            _ => Ok(Outcome::NoNamespace),
        }
    }

    /// Tries the namespace of one process; `None` when the socket is not there.
    fn through(
        &mut self,
        pid: u32,
        request: &Request,
        search: &mut Search,
    ) -> Result<Option<Outcome>, NoEntry> {
        let room = match self.namespaces.of_process(pid, &mut search.tried) {
            Ok(Some(room)) => room,
            Ok(None) => return Ok(None),
            Err(NoEntry::Here(error)) => {
                search.barred = Some(error);
                return Ok(None);
            }
            Err(lost) => return Err(lost),
        };
        let right = room.is(request.netns_cookie);
        if right == Some(false) {
            return Ok(None);
        }
        match attempt(room, request) {
            Ok(()) => Ok(Some(Outcome::Destroyed)),
            Err(Errno::ENOENT) if right == Some(true) => Ok(Some(Outcome::Gone)),
            Err(Errno::ENOENT) => {
                search.searched = true;
                Ok(None)
            }
            Err(error) => {
                let inode = room.inode();
                self.namespaces.forget(inode);
                Err(NoEntry::Here(error.into()))
            }
        }
    }
}

fn attempt(room: &mut Room, request: &Request) -> nix::Result<()> {
    let peers: [SocketAddr; 2] = [request.remote, request.destination];
    room.diag.destroy(request.local, &peers, request.socket_cookie)
}

/// What an error number means for the operator.
pub(super) fn outcome_of(errno: Errno) -> Outcome {
    match errno {
        Errno::EPERM | Errno::EACCES => Outcome::Refused,
        Errno::EOPNOTSUPP | Errno::EPROTONOSUPPORT => Outcome::Unsupported,
        _ => Outcome::Failed,
    }
}

/// Processes in the cgroup at `path` below `root`, then in those around it: containers of one pod share their
/// network, and its sandbox's process is there as long as the pod is. Strangers among them do no harm: what is
/// looked for has a cookie.
fn processes_near(root: &Path, path: &str) -> Vec<u32> {
    let relative = Path::new(path.trim_start_matches('/'));
    let mut found = Vec::new();
    for place in relative.ancestors().take(LEVELS).filter(|place| !place.as_os_str().is_empty()) {
        processes_below(root.join(place), &mut found);
        if found.len() >= PROCESSES {
            break;
        }
    }
    found
}

fn processes_below(top: PathBuf, found: &mut Vec<u32>) {
    let mut waiting = VecDeque::from([top]);
    let mut visited = 0;
    while let Some(directory) = waiting.pop_front() {
        visited += 1;
        for pid in fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default().lines() {
            // 0 is a process that this pid namespace does not show.
            if let Ok(pid) = pid.parse()
                && pid != 0
                && !found.contains(&pid)
            {
                found.push(pid);
            }
            if found.len() >= PROCESSES {
                return;
            }
        }
        if visited >= CGROUPS {
            return;
        }
        let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
        waiting.extend(entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()));
    }
}
