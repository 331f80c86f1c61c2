//! What the kernel can, asked of the kernel itself.

use std::{
    fs, io,
    net::{TcpListener, TcpStream},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    ptr,
};

use anyhow::{Context, Result};
use nix::sys::utsname::uname;
use serde_json::{Map, Value, json};

/// Name of the fact and whether it holds; `kernel` is the release.
pub(crate) fn of_this_kernel() -> Result<Map<String, Value>> {
    let name = uname()?;
    let mut facts = Map::new();
    facts.insert("kernel".to_owned(), json!(name.release().to_string_lossy()));
    facts.insert("machine".to_owned(), json!(name.machine().to_string_lossy()));
    facts.insert("netns_cookie".to_owned(), json!(netns_cookie()?));
    facts.insert("mptcp".to_owned(), json!(mptcp()));
    facts.insert("ktls".to_owned(), json!(ktls()?));
    facts.insert("io_uring".to_owned(), json!(io_uring()));
    facts.insert("btf".to_owned(), json!(fs::metadata("/sys/kernel/btf/vmlinux").is_ok()));
    Ok(facts)
}

/// `SO_NETNS_COOKIE`, since 5.14 (asm-generic/socket.h).
const SO_NETNS_COOKIE: libc::c_int = 71;

fn netns_cookie() -> Result<bool> {
    let socket = TcpListener::bind("127.0.0.1:0").context("a socket")?;
    let mut cookie = 0_u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: `cookie` has room for `length` bytes; both live until the call returns.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            ptr::from_mut(&mut cookie).cast(),
            &raw mut length,
        )
    };
    Ok(done == 0 && cookie != 0)
}

fn mptcp() -> bool {
    // SAFETY: no preconditions.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_MPTCP) };
    owned(fd).is_some()
}

/// Whether a connection takes the upper layer protocol `tls`.
fn ktls() -> Result<bool> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let stream = TcpStream::connect(listener.local_addr()?)?;
    let name = b"tls";
    // SAFETY: the name is read up to its length.
    let done = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_ULP,
            name.as_ptr().cast(),
            name.len() as libc::socklen_t,
        )
    };
    Ok(done == 0)
}

fn io_uring() -> bool {
    // struct io_uring_params: 120 bytes, zero for the defaults.
    let mut parameters = [0_u8; 120];
    // SAFETY: the kernel reads and writes a struct io_uring_params, which the array has room for.
    let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 2, parameters.as_mut_ptr()) };
    owned(fd as libc::c_int).is_some()
}

fn owned(fd: libc::c_int) -> Option<OwnedFd> {
    if fd < 0 {
        let _ = io::Error::last_os_error();
        return None;
    }
    // SAFETY: the call that gave it has just made it, and nothing else knows it.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}
