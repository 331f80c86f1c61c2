//! Connections on which the client says who it is.

use std::{
    io::Write as _,
    net::{SocketAddr, TcpStream},
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::{
        prctl::set_name,
        wait::{WaitStatus, waitpid},
    },
    unistd::{ForkResult, fork, getuid},
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::PATIENCE;
use spanwarden_tests::patience::patience;

/// The ids from `first` on.
pub(crate) fn ids(first: &str, count: &str) -> Result<std::ops::Range<u64>> {
    let (first, count): (u64, u64) = (first.parse()?, count.parse()?);
    Ok(first..first + count)
}

/// The optional source address.
pub(crate) fn address(arguments: &[&str]) -> Result<Option<SocketAddr>> {
    arguments.first().map(|text| text.parse()).transpose().context("the source address")
}

/// Connects and says id, pid, pod, own address, uid and name in one line.
pub(crate) fn introduce(
    pod: &str,
    target: SocketAddr,
    id: u64,
    source: Option<SocketAddr>,
) -> Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
    if let Some(source) = source {
        socket.set_reuse_address(true)?;
        socket.bind(&source.into()).with_context(|| format!("binding {source}"))?;
    }
    socket
        .connect_timeout(&target.into(), patience(PATIENCE))
        .with_context(|| format!("connecting to {target}"))?;
    let mut stream = TcpStream::from(socket);
    let comm = std::fs::read_to_string("/proc/self/comm")?;
    let (pid, uid, local) = (std::process::id(), getuid(), stream.local_addr()?);
    stream.write_all(format!("{id} {pid} {pod} {local} {uid} {}\n", comm.trim_end()).as_bytes())?;
    Ok(stream)
}

/// Runs `work` in a forked process and waits until that is gone.
pub(crate) fn in_own_process(work: impl FnOnce() -> Result<()>) -> Result<()> {
    // SAFETY: this process has one thread, so the child may do all that its parent may (fork(2)).
    match unsafe { fork() }? {
        ForkResult::Child => {
            let result = set_name(c"one-shot").map_err(Into::into).and_then(|()| work());
            if let Err(error) = &result {
                eprintln!("{error:#}");
            }
            // SAFETY: _exit(2) has no preconditions; it skips the exit handlers, which are the parent's.
            unsafe { libc::_exit(i32::from(result.is_err())) }
        }
        ForkResult::Parent { child } => match waitpid(child, None)? {
            WaitStatus::Exited(_, 0) => Ok(()),
            other => bail!("the process of one connection failed: {other:?}"),
        },
    }
}
