//! One connection to ourselves, straight after attaching: proof that the programs do on this very kernel what
//! they are for, before anybody relies on it.

#![allow(unsafe_code)]

use super::abi::{self, Origins};
use crate::origin::loader::{OriginError, chain};
use spanwarden_ebpf::abi::{OriginRecord, STATE_JOINED};
use std::{
    io,
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::fd::{AsFd, AsRawFd as _, BorrowedFd},
};

/// `SO_NETNS_COOKIE`, Linux 5.14; the same number on all architectures but SPARC.
const SO_NETNS_COOKIE: libc::c_int = 71;

/// A listener on loopback, for the others here. Clients of its port must have storage of their own.
pub(super) fn listen() -> Result<TcpListener, OriginError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|e| no_loopback(&e))
}

/// Who this process is to the kernel; the cookie of its network namespace as the kernel tells it, where it does.
pub(super) fn identity(origins: &Origins, listener: &TcpListener) -> Result<OriginRecord, OriginError> {
    let (client, _server) = connect_to_self(listener).map_err(|e| no_loopback(&e))?;
    let record = own_record(origins, &client)?;
    let netns_cookie = netns_cookie_of(&client).unwrap_or(record.netns_cookie);
    Ok(OriginRecord { netns_cookie, ..record })
}

/// Checks the join with a connection of our own, once the settings hold the namespace's cookie.
pub(super) fn join(origins: &Origins, listener: &TcpListener) -> Result<(), OriginError> {
    let (client, server) = connect_to_self(listener).map_err(|e| no_loopback(&e))?;
    let opened = own_record(origins, &client)?;
    match record_of(origins, &server)? {
        Some(joined) if joined.state == STATE_JOINED && joined.socket_cookie == opened.socket_cookie => Ok(()),
        Some(joined) => Err(OriginError::SelfTest(format!(
            "a loopback connection to ourselves was joined with state {} (expected {STATE_JOINED})",
            joined.state
        ))),
        None => Err(OriginError::SelfTest(
            "a loopback connection to ourselves was opened in the watched cgroup but not joined. Is TCP Fast Open on \
             for all listeners (net.ipv4.tcp_fastopen = 1027)? Does something rewrite sequence numbers?"
                .to_owned(),
        )),
    }
}

/// The record of our own connect. Without one this process is outside of the watched cgroup, and nothing could
/// ever be said of what it accepts.
fn own_record(origins: &Origins, client: &TcpStream) -> Result<OriginRecord, OriginError> {
    let record = record_of(origins, client)?.ok_or(OriginError::Outside)?;
    if record.netns_cookie == 0 || record.cgroup_id == 0 {
        return Err(OriginError::SelfTest(
            "a connection of our own has no namespace or no cgroup".to_owned(),
        ));
    }
    Ok(record)
}

fn no_loopback(error: &io::Error) -> OriginError {
    OriginError::SelfTest(format!("a connection over loopback (127.0.0.1) fails: {error}; is `lo` up?"))
}

/// Both ends of a loopback connection.
fn connect_to_self(listener: &TcpListener) -> io::Result<(TcpStream, TcpStream)> {
    let client = TcpStream::connect(listener.local_addr()?)?;
    let address = client.local_addr()?;
    // Somebody else on the machine may have been quicker.
    for _ in 0..16 {
        let (server, peer) = listener.accept()?;
        if peer == address {
            return Ok((client, server));
        }
    }
    Err(io::Error::other("strangers connect to a port of our own"))
}

fn record_of(origins: &Origins, socket: &TcpStream) -> Result<Option<OriginRecord>, OriginError> {
    abi::origin_of(origins, socket.as_fd())
        .map_err(|error| OriginError::Map { map: "SOCKETS", chain: chain(&error) })
}

/// The cookie of a socket's network namespace.
pub(in crate::origin) fn netns_cookie_of(socket: &impl AsFd) -> io::Result<u64> {
    let socket: BorrowedFd<'_> = socket.as_fd();
    let mut cookie = 0_u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: `getsockopt` writes at most `length` bytes, eight, into `cookie`, which is as large; the descriptor
    // is borrowed and so open.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if result == 0 && cookie != 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}
