//! From a file or a pipe, without the bytes passing through the process.

use std::{
    fs::File,
    io::{Seek as _, Write as _, pipe},
    net::TcpStream,
    os::fd::{AsRawFd as _, FromRawFd as _},
    ptr,
};

use anyhow::{Context, Result, ensure};

use super::taken;

/// Less than a pipe holds by default (pipe(7)).
const PIPEFUL: usize = 32_768;

/// From a file in memory (`memfd_create(2)`).
pub(super) fn sendfile(stream: &TcpStream, bytes: &[u8]) -> Result<()> {
    // SAFETY: the name is a C string; a descriptor that is not negative is ours alone.
    let mut file = unsafe {
        let descriptor = libc::memfd_create(c"export".as_ptr(), libc::MFD_CLOEXEC);
        taken(descriptor as isize).context("memfd_create")?;
        File::from_raw_fd(descriptor)
    };
    file.write_all(bytes)?;
    file.rewind()?;
    let mut left = bytes.len();
    while left > 0 {
        // SAFETY: both descriptors are open; without an offset the file's own position is used (sendfile(2)).
        let sent = unsafe { libc::sendfile(stream.as_raw_fd(), file.as_raw_fd(), ptr::null_mut(), left) };
        let sent = taken(sent)?;
        ensure!(sent > 0, "the file ended early");
        left -= sent;
    }
    Ok(())
}

/// Through a pipe, into which the bytes are written, or their pages mapped (`vmsplice(2)`).
pub(super) fn splice(stream: &TcpStream, bytes: &[u8], map: bool) -> Result<()> {
    let (reader, mut writer) = pipe()?;
    for mut part in bytes.chunks(PIPEFUL) {
        let mut left = part.len();
        if map {
            while !part.is_empty() {
                let vector = libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() };
                // SAFETY: one vector over `part`, which is not changed before the peer has read all: the caller
                // waits for the server's digest, and the kernel only reads it.
                let mapped = unsafe { libc::vmsplice(writer.as_raw_fd(), &raw const vector, 1, 0) };
                part = &part[taken(mapped)?..];
            }
        } else {
            writer.write_all(part)?;
        }
        while left > 0 {
            // SAFETY: both descriptors are open, neither has an offset (splice(2)).
            let moved = unsafe {
                libc::splice(
                    reader.as_raw_fd(),
                    ptr::null_mut(),
                    stream.as_raw_fd(),
                    ptr::null_mut(),
                    left,
                    0,
                )
            };
            left -= taken(moved)?;
        }
    }
    Ok(())
}
