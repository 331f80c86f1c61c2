//! `send` and its relatives.

use std::{
    io::{IoSlice, Write as _},
    net::TcpStream,
    os::fd::AsRawFd as _,
};

use anyhow::{Context, Result};
use socket2::{MsgHdr, SockRef};

use super::taken;

/// A piece of what is sent in several.
const PIECE: usize = 11;

pub(super) fn send(stream: &TcpStream, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        let taken = SockRef::from(stream).send(bytes)?;
        bytes = &bytes[taken..];
    }
    Ok(())
}

/// With the address of the connection, which TCP ignores.
pub(super) fn sendto(stream: &TcpStream, mut bytes: &[u8]) -> Result<()> {
    let peer = stream.peer_addr()?.into();
    while !bytes.is_empty() {
        let taken = SockRef::from(stream).send_to(bytes, &peer)?;
        bytes = &bytes[taken..];
    }
    Ok(())
}

pub(super) fn sendmsg(stream: &TcpStream, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        let pieces = pieces(bytes);
        let taken = SockRef::from(stream).sendmsg(&MsgHdr::new().with_buffers(&pieces), 0)?;
        bytes = &bytes[taken..];
    }
    Ok(())
}

pub(super) fn writev(stream: &mut TcpStream, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        let taken = stream.write_vectored(&pieces(bytes))?;
        bytes = &bytes[taken..];
    }
    Ok(())
}

/// The first pieces small, so that what tells the protocol is in several; then the rest.
fn pieces(bytes: &[u8]) -> Vec<IoSlice<'_>> {
    let (head, rest) = bytes.split_at(bytes.len().min(20 * PIECE));
    head.chunks(PIECE).chain([rest]).map(IoSlice::new).collect()
}

/// Two messages a call.
pub(super) fn sendmmsg(stream: &TcpStream, bytes: &[u8]) -> Result<()> {
    let (first, second) = bytes.split_at(bytes.len().min(PIECE));
    let mut vectors = [first, second]
        .map(|part| libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() });
    let mut messages = vectors.each_mut().map(|vector| {
        // SAFETY: all zeroes are a valid mmsghdr: no address, no control data, no buffers (recvmmsg(2)).
        let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
        message.msg_hdr.msg_iov = vector;
        message.msg_hdr.msg_iovlen = 1;
        message
    });
    // SAFETY: two headers, each with one vector over a part of `bytes`, all alive until the call returns; the kernel
    // only reads the parts (sendmmsg(2)).
    let sent = unsafe { libc::sendmmsg(stream.as_raw_fd(), messages.as_mut_ptr(), 2, 0) };
    taken(sent as isize)?;
    // Whole messages that were taken, and the part of one that was not.
    let done: usize = messages.iter().take(sent.unsigned_abs() as usize).map(|m| m.msg_len as usize).sum();
    send(stream, &bytes[done..])
}

/// `MSG_ZEROCOPY`, with the kernel's receipts for all that it has taken.
pub(super) fn zerocopy(stream: &TcpStream, mut bytes: &[u8]) -> Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: setsockopt(2) reads `size_of::<c_int>()` bytes from the pointer.
    let set = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ZEROCOPY,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    taken(set as isize).context("SO_ZEROCOPY")?;
    while !bytes.is_empty() {
        let taken = SockRef::from(stream).send_with_flags(bytes, libc::MSG_ZEROCOPY)?;
        bytes = &bytes[taken..];
    }
    Ok(())
}

/// In pieces that the kernel may put into one packet.
pub(super) fn more(stream: &TcpStream, bytes: &[u8]) -> Result<()> {
    let mut parts = bytes.chunks(PIECE).peekable();
    while let Some(mut part) = parts.next() {
        let flags = if parts.peek().is_some() { libc::MSG_MORE } else { 0 };
        while !part.is_empty() {
            let taken = SockRef::from(stream).send_with_flags(part, flags)?;
            part = &part[taken..];
        }
    }
    Ok(())
}
