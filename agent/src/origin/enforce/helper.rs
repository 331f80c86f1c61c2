//! The helper: a process of its own with the three capabilities that destroying other pods' sockets needs, and
//! nothing else. The agent, which reads what strangers send, has none of them.
//!
//! It is two processes: one that does the work, and its parent, which does nothing but start another one when the first
//! has ended. The agent can't: it has dropped its capabilities by then, and has threads. Requests wait in the socket
//! meanwhile; the one that the worker had in hand is asked for again, as all are (see `endings`).

#![forbid(unsafe_code)]

use super::{
    EnforceError,
    destroy::{Destroyer, outcome_of},
    diag::Diag,
    request::{Outcome, REPLY, REQUEST, Reply, Request},
    sys,
};
use caps::{CapSet, Capability, CapsHashSet};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        prctl,
        signal::{Signal, kill},
        socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, setsockopt, socketpair, sockopt},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Pid, getpid, getppid},
};
use std::{
    collections::VecDeque,
    fs, io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// What the helper keeps: `SOCK_DESTROY`; `setns`; `/proc/PID/ns/net` of other users.
const KEPT: [(Capability, &str); 3] = [
    (Capability::CAP_NET_ADMIN, "NET_ADMIN"),
    (Capability::CAP_SYS_ADMIN, "SYS_ADMIN"),
    (Capability::CAP_SYS_PTRACE, "SYS_PTRACE"),
];

/// How long the helper may take to get ready, and to end.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of requests on their way: some hundreds of them.
const SEND_BUFFER: usize = 1 << 20;

/// What is missing to destroy sockets, as Kubernetes names it; empty when nothing is.
pub fn missing() -> Vec<&'static str> {
    let Ok(effective) = caps::read(None, CapSet::Effective) else { return Vec::new() };
    KEPT.iter().filter(|(capability, _)| !effective.contains(capability)).map(|&(_, name)| name).collect()
}

/// The running helper. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Helper {
    socket: OwnedFd,
    pid: Pid,
    ended: AtomicBool,
    /// Taken while the process is waited for.
    reaping: Mutex<()>,
}

/// Why a request was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotSent {
    /// Too many are on their way.
    Full,
    /// There is no helper any more.
    Ended,
}

impl Helper {
    /// Forks the helper. In a process with one thread and every capability that is [`missing`] to none.
    /// `root` is the watched cgroup directory; `tgid` this process's id in the initial pid namespace.
    pub(super) fn start(root: &Path, tgid: u32) -> Result<Self, EnforceError> {
        let missing = missing();
        let host_pid = u32::try_from(getpid().as_raw()) == Ok(tgid);
        if !missing.is_empty() || !host_pid {
            return Err(EnforceError::Privileges { missing, host_pid });
        }
        let threads = fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
        if threads > 1 {
            return Err(EnforceError::Threads(threads));
        }
        Self::fork(root)
    }

    /// As [`Self::start`], without its checks.
    pub(super) fn fork(root: &Path) -> Result<Self, EnforceError> {
        let failed = |source: Errno| EnforceError::Helper(source.into());
        let flags = SockFlag::SOCK_CLOEXEC;
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).map_err(failed)?;
        setsockopt(&ours, sockopt::SndBuf, &SEND_BUFFER).map_err(failed)?;
        let parent = getpid();
        let pid = sys::fork_into(|| run(&theirs, parent, root)).map_err(EnforceError::Helper)?;
        drop(theirs);
        let helper = Self { socket: ours, pid, ended: AtomicBool::new(false), reaping: Mutex::new(()) };
        match helper.wait_for_reply(PATIENCE) {
            Some(reply) if reply.is_ready() => Ok(helper),
            Some(Reply { outcome: Outcome::Unsupported, .. }) => Err(EnforceError::Unsupported),
            Some(Reply { errno, .. }) => Err(EnforceError::Helper(io::Error::from_raw_os_error(errno))),
            None => Err(EnforceError::Silent),
        }
    }

    /// Sends a request, at once or not at all.
    pub(super) fn ask(&self, request: &Request) -> Result<(), NotSent> {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        match send(self.socket.as_raw_fd(), &request.to_bytes(), flags) {
            Ok(_) => Ok(()),
            Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::ENOMEM | Errno::EINTR) => Err(NotSent::Full),
            Err(_) => {
                self.ended.store(true, Ordering::Relaxed);
                Err(NotSent::Ended)
            }
        }
    }

    /// The next answer, if one comes within `patience`.
    pub(super) fn wait_for_reply(&self, patience: Duration) -> Option<Reply> {
        let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(1) => self.next_reply(),
            _ => None,
        }
    }

    /// The next answer that is there.
    pub(super) fn next_reply(&self) -> Option<Reply> {
        let mut bytes = [0; REPLY];
        match recv(self.socket.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT) {
            Ok(0) => {
                self.ended.store(true, Ordering::Relaxed);
                None
            }
            Ok(length) => Reply::from_bytes(bytes.get(..length)?),
            Err(Errno::EAGAIN | Errno::EINTR) => None,
            Err(_) => {
                self.ended.store(true, Ordering::Relaxed);
                None
            }
        }
    }

    /// Whether it runs, as far as its socket tells.
    pub(super) fn is_running(&self) -> bool {
        !self.ended.load(Ordering::Relaxed)
    }

    /// The id of the process that keeps the worker alive.
    #[cfg(test)]
    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    /// Takes note of its end, so that it is no zombie; says how it ended.
    pub(super) fn reap(&self) -> Option<WaitStatus> {
        let _one_at_a_time = self.reaping.lock().unwrap_or_else(PoisonError::into_inner);
        match waitpid(self.pid, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(_) => None,
            Ok(status) => Some(status),
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // The end of the stream tells it to end.
        let _ = nix::sys::socket::shutdown(self.socket.as_raw_fd(), nix::sys::socket::Shutdown::Both);
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            match waitpid(self.pid, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => thread::sleep(Duration::from_millis(2)),
                // Ended, or reaped before.
                _ => return,
            }
        }
        let _ = kill(self.pid, Signal::SIGKILL);
        let _ = waitpid(self.pid, None);
    }
}

/// The life of the process that keeps the worker alive; its exit code.
fn run(socket: &OwnedFd, parent: Pid, root: &Path) -> i32 {
    if let Err(error) = strip(socket, parent) {
        return refuse(socket, &error);
    }
    let mut falls = Falls::default();
    loop {
        let own = getpid();
        let worker = match sys::fork_into(|| work(socket, own, root.to_owned())) {
            Ok(worker) => worker,
            Err(error) => return refuse(socket, &error),
        };
        let status = loop {
            match waitpid(worker, None) {
                Err(Errno::EINTR) => {}
                other => break other,
            }
        };
        match status {
            // The agent is gone; or the worker can't do its work, and has said so.
            Ok(WaitStatus::Exited(_, code @ (0 | NOT_READY))) => return code,
            Ok(_) => {}
            Err(_) => return 2,
        }
        let Some(pause) = falls.next(Instant::now()) else { return 3 };
        thread::sleep(pause);
    }
}

/// Exit code of a worker that could not begin.
const NOT_READY: i32 = 1;

/// How often the worker may end within [`FALLS_WITHIN`]: one that ends again and again does not end connections, and
/// without the helper nothing is blocked.
const FALLS: usize = 5;
/// See [`FALLS`].
const FALLS_WITHIN: Duration = Duration::from_mins(1);
/// Pause before the first new worker; the next ones are twice as long each.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// When the worker has ended lately.
#[derive(Debug, Default)]
struct Falls(VecDeque<Instant>);

impl Falls {
    /// How long to wait before the next worker; `None` when there is to be none.
    fn next(&mut self, now: Instant) -> Option<Duration> {
        self.0.retain(|fall| now.duration_since(*fall) < FALLS_WITHIN);
        self.0.push_back(now);
        let count = self.0.len();
        (count <= FALLS).then(|| FIRST_PAUSE * 2_u32.pow(u32::try_from(count - 1).unwrap_or(0)))
    }
}

fn refuse(socket: &OwnedFd, error: &io::Error) -> i32 {
    let errno = error.raw_os_error().unwrap_or(libc::EIO);
    let outcome = outcome_of(Errno::from_raw(errno));
    let _ = say(socket, Reply { id: 0, socket_cookie: 0, outcome, errno });
    NOT_READY
}

/// The worker's life; its exit code.
fn work(socket: &OwnedFd, parent: Pid, root: PathBuf) -> i32 {
    let mut destroyer = match prepare(parent, root) {
        Ok(destroyer) => destroyer,
        Err(error) => return refuse(socket, &error),
    };
    if say(socket, Reply::READY).is_err() {
        return 0;
    }
    let mut bytes = [0; REQUEST + 1];
    loop {
        let timeout = destroyer
            .expire()
            .map_or(PollTimeout::NONE, |left| PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
        match poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) | Err(Errno::EINTR) => continue,
            Ok(_) => {}
            Err(_) => return 2,
        }
        let length = match recv(socket.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT) {
            // The agent is gone.
            Ok(0) => return 0,
            Ok(length) => length,
            Err(Errno::EAGAIN | Errno::EINTR) => continue,
            Err(_) => return 0,
        };
        let Ok(reply) = destroyer.answer(&bytes[..length]) else { return 3 };
        if say(socket, reply).is_err() {
            return 0;
        }
    }
}

/// Strips this process of everything that it and its workers do not need.
fn strip(socket: &OwnedFd, parent: Pid) -> io::Result<()> {
    sys::close_all_but(socket)?;
    prctl::set_name(c"sock-keeper")?;
    prctl::set_no_new_privs()?;
    drop_but_kept()?;
    // A signal to the group (Ctrl-C) is the agent's to answer: it drains first.
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        sys::ignore(signal)?;
    }
    end_with(parent)
}

/// After the capabilities, because a change of credentials may forget it; a forked process has to ask anew.
fn end_with(parent: Pid) -> io::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    if getppid() == parent { Ok(()) } else { Err(Errno::ESRCH.into()) }
}

/// Looks whether the worker can do its work.
fn prepare(parent: Pid, root: PathBuf) -> io::Result<Destroyer> {
    prctl::set_name(c"sock-destroyer")?;
    end_with(parent)?;
    let destroyer = Destroyer::new(root)?;
    Diag::open()?.probe()?;
    Ok(destroyer)
}

fn drop_but_kept() -> io::Result<()> {
    let kept: CapsHashSet = KEPT.iter().map(|&(capability, _)| capability).collect();
    let failed = |error: caps::errors::CapsError| io::Error::new(io::ErrorKind::PermissionDenied, error);
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP).map_err(failed)? {
        caps::clear(None, CapSet::Bounding).map_err(failed)?;
    }
    caps::clear(None, CapSet::Ambient).map_err(failed)?;
    caps::clear(None, CapSet::Inheritable).map_err(failed)?;
    caps::set(None, CapSet::Effective, &kept).map_err(failed)?;
    caps::set(None, CapSet::Permitted, &kept).map_err(failed)
}

fn say(socket: &OwnedFd, reply: Reply) -> nix::Result<()> {
    loop {
        match send(socket.as_raw_fd(), &reply.to_bytes(), MsgFlags::MSG_NOSIGNAL) {
            Err(Errno::EINTR) => {}
            outcome => return outcome.map(|_| ()),
        }
    }
}

#[cfg(test)]
mod tests;
