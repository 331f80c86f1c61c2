//! What processes do with sockets and pids that others would be taken in by.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    sys::wait::{WaitStatus, waitpid},
    unistd::{ForkResult, Pid, fork, getuid},
};
use socket2::{Domain, Protocol, Socket, Type};

/// Connects, sends, disconnects by `connect` to `AF_UNSPEC` (connect(2)), connects again and sends again.
pub(crate) fn again(first: SocketAddr, one: &[u8], second: SocketAddr, two: &[u8]) -> Result<String> {
    let mut socket = Socket::new(Domain::for_address(first), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    socket.connect(&first.into())?;
    socket.write_all(one)?;
    // The other end has it all when it has answered or closed; what is not sent is lost by disconnecting.
    let _ = socket.read(&mut [0; 64]);
    let unspecified = libc::sockaddr { sa_family: libc::AF_UNSPEC as u16, sa_data: [0; 14] };
    // SAFETY: the address lives during the call and has the size that is given; the descriptor is open.
    let result = unsafe {
        libc::connect(
            socket.as_raw_fd(),
            &raw const unspecified,
            size_of::<libc::sockaddr>() as libc::socklen_t,
        )
    };
    ensure!(result == 0, "disconnecting: {}", std::io::Error::last_os_error());
    socket.connect(&second.into())?;
    socket.write_all(two)?;
    Ok("sent".to_owned())
}

/// What is said on a connection.
pub(crate) enum Words {
    /// Who has opened it, in the line that `origin-server` reads.
    Line { pod: String, id: String },
    /// Bytes.
    Payload(Vec<u8>),
}

impl Words {
    /// `line POD ID` or `payload NAME`
    pub(crate) fn parse(arguments: &[&str]) -> Result<Self> {
        match arguments {
            ["line", pod, id] => Ok(Self::Line { pod: (*pod).to_owned(), id: (*id).to_owned() }),
            ["payload", name] => Ok(Self::Payload(super::bytes(name)?)),
            _ => bail!("no words are called {arguments:?}"),
        }
    }

    /// The bytes, for a connection that `opener`, which has the name and the user of this process, has opened.
    pub(crate) fn spelled(&self, opener: u32, local: SocketAddr) -> Result<Vec<u8>> {
        Ok(match self {
            Self::Line { pod, id } => {
                let comm = fs::read_to_string("/proc/self/comm")?;
                format!("{id} {opener} {pod} {local} {} {}\n", getuid(), comm.trim_end()).into_bytes()
            }
            Self::Payload(bytes) => bytes.clone(),
        })
    }
}

/// Connects from `source`, says who it is, and holds the connection until standard input ends. Then it is reset, and
/// the port is free at once.
pub(crate) fn claim(source: SocketAddr, target: SocketAddr, pod: &str, id: &str) -> Result<String> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_linger(Some(Duration::ZERO))?;
    socket.bind(&source.into())?;
    socket.connect(&target.into())?;
    let mut stream = TcpStream::from(socket);
    let line = Words::Line { pod: pod.to_owned(), id: id.to_owned() };
    stream.write_all(&line.spelled(std::process::id(), source)?)?;
    println!("open");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok("held".to_owned())
}

/// This process connects; what is said on the connection is said by another one in another cgroup.
pub(crate) fn heir(how: &str, cgroup: &str, target: SocketAddr, words: &Words) -> Result<String> {
    let own = std::process::id();
    // With `pidfd` the other process is there before the connection is, and fetches it.
    let (mut connection, early) = match how {
        "fork" => (Some(TcpStream::connect(target)?), false),
        "pidfd" => (None, true),
        _ => bail!("unknown way {how:?}"),
    };
    // SAFETY: this process has one thread, so the child may do all that its parent may (fork(2)).
    let child = match unsafe { fork() }? {
        ForkResult::Child => {
            let said = (|| -> Result<()> {
                fs::write(format!("{cgroup}/cgroup.procs"), "0")?;
                let mut stream = match connection.take() {
                    Some(stream) => stream,
                    None => fetched(own)?,
                };
                let local = stream.local_addr()?;
                Ok(stream.write_all(&words.spelled(own, local)?)?)
            })();
            if let Err(error) = &said {
                eprintln!("{error:#}");
            }
            // SAFETY: _exit(2) has no preconditions; it skips the exit handlers, which are the parent's.
            unsafe { libc::_exit(i32::from(said.is_err())) }
        }
        ForkResult::Parent { child } => child,
    };
    if early {
        connection = Some(TcpStream::connect(target)?);
    }
    let status = waitpid(child, None)?;
    drop(connection);
    ensure!(matches!(status, WaitStatus::Exited(_, 0)), "{status:?}");
    Ok("said".to_owned())
}

/// The TCP connection of another process, as soon as it has one (`pidfd_getfd(2)`).
fn fetched(of: u32) -> Result<TcpStream> {
    // SAFETY: no pointers.
    let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, of, 0) };
    ensure!(pidfd >= 0, "pidfd_open: {}", std::io::Error::last_os_error());
    // SAFETY: the kernel has just made this descriptor for us.
    let pidfd = unsafe { OwnedFd::from_raw_fd(i32::try_from(pidfd)?) };
    for _ in 0..3000 {
        for number in 3..32 {
            // SAFETY: no pointers; the descriptor is open.
            let fd = unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), number, 0) };
            if fd < 0 {
                continue;
            }
            // SAFETY: the kernel has just made this descriptor for us.
            let stream = TcpStream::from(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd)?) });
            if stream.peer_addr().is_ok() {
                return Ok(stream);
            }
        }
        thread::sleep(Duration::from_millis(10));
    }
    bail!("process {of} has no connection")
}

/// `struct clone_args` (clone(2)) as far as `set_tid`, Linux 5.5.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
}

/// A child with this process id, which must be free, until standard input ends.
pub(crate) fn as_pid(pid: libc::pid_t) -> Result<()> {
    let arguments = CloneArgs {
        exit_signal: libc::SIGCHLD as u64,
        set_tid: &raw const pid as u64,
        set_tid_size: 1,
        ..CloneArgs::default()
    };
    // SAFETY: as fork(2) of a process with one thread; the arguments and the id that they point to live.
    let child = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<CloneArgs>()) };
    match child {
        0 => loop {
            // SAFETY: no preconditions. The parent ends this process.
            unsafe { libc::pause() };
        },
        1.. => {
            println!("ready {}", std::process::id());
            std::io::stdin().read_to_end(&mut Vec::new())?;
            let child = Pid::from_raw(i32::try_from(child)?);
            nix::sys::signal::kill(child, nix::sys::signal::Signal::SIGKILL)?;
            waitpid(child, None)?;
            println!("outcome over");
            Ok(())
        }
        _ => Err(std::io::Error::last_os_error()).context(format!("a process with id {pid}")),
    }
}
