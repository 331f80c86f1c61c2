//! The one place of this module where Rust's rules do not reach: a process is forked and strips itself.

#![allow(unsafe_code)]

use nix::{
    sys::signal::{SigHandler, Signal},
    unistd::{ForkResult, Pid},
};
use std::{
    fs::File,
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    panic::{AssertUnwindSafe, catch_unwind},
};

/// Runs `work` in a forked process, whose exit code is what `work` returns; gives the process's id to the caller.
/// Only in a process with one thread.
pub(super) fn fork_into(work: impl FnOnce() -> i32) -> io::Result<Pid> {
    // SAFETY: fork(2) leaves the child with the calling thread alone. The caller has no other thread (checked in
    // `helper::start`), so no lock is held by one that is not there, and the child may allocate.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let code = catch_unwind(AssertUnwindSafe(work)).unwrap_or(101);
            // SAFETY: _exit(2) has no preconditions. It runs neither exit handlers nor destructors, which are the
            // parent's.
            unsafe { libc::_exit(code) }
        }
    }
}

/// Closes every descriptor but `keep` and standard error; standard input and output lead nowhere.
pub(super) fn close_all_but(keep: &OwnedFd) -> io::Result<()> {
    {
        let null = File::options().read(true).write(true).open("/dev/null")?;
        nix::unistd::dup2_stdin(&null)?;
        nix::unistd::dup2_stdout(&null)?;
    }
    let keep = keep.as_raw_fd().cast_unsigned();
    close_range(3, keep.saturating_sub(1))?;
    close_range(keep.max(2) + 1, u32::MAX)
}

fn close_range(first: u32, last: u32) -> io::Result<()> {
    if first > last {
        return Ok(());
    }
    // SAFETY: close_range(2) (Linux 5.9; not in every C library) takes numbers only. Objects that own the closed
    // descriptors are the forked process's copies of its parent's: nothing uses or drops them, because that
    // process ends by _exit.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0_u32) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Ignores a signal.
pub(super) fn ignore(signal: Signal) -> io::Result<()> {
    // SAFETY: `SIG_IGN` is no handler, so no code runs in a signal's context.
    unsafe { nix::sys::signal::signal(signal, SigHandler::SigIgn) }?;
    Ok(())
}
