//! By `io_uring`, where the kernel allows it.

use std::{net::TcpStream, os::fd::AsRawFd as _};

use anyhow::{Context, Result, ensure};
use io_uring::{IoUring, cqueue, opcode, types::Fd};

/// What is asked of the ring.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operation {
    Send,
    Write,
    Writev,
    SendZc,
}

/// One operation after the other until everything is taken.
pub(super) fn send(stream: &TcpStream, mut bytes: &[u8], operation: Operation) -> Result<()> {
    let mut ring = IoUring::new(4).context("io_uring_setup: see /proc/sys/kernel/io_uring_disabled")?;
    while !bytes.is_empty() {
        let taken = once(&mut ring, Fd(stream.as_raw_fd()), bytes, operation)?;
        ensure!(taken > 0, "nothing was taken");
        bytes = &bytes[taken..];
    }
    Ok(())
}

fn once(ring: &mut IoUring, socket: Fd, bytes: &[u8], operation: Operation) -> Result<usize> {
    let length = u32::try_from(bytes.len())?;
    let vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let entry = match operation {
        Operation::Send => opcode::Send::new(socket, bytes.as_ptr(), length).build(),
        Operation::Write => opcode::Write::new(socket, bytes.as_ptr(), length).build(),
        Operation::Writev => opcode::Writev::new(socket, &raw const vector, 1).build(),
        Operation::SendZc => opcode::SendZc::new(socket, bytes.as_ptr(), length).build(),
    };
    // SAFETY: `bytes`, `vector` and the socket live until the completion below has been seen, with SendZc the second
    // one, which says that the buffer is free (io_uring_prep_send_zc(3)).
    unsafe { ring.submission().push(&entry) }.context("the submission queue is full")?;
    let mut taken = None;
    loop {
        ring.submit_and_wait(1)?;
        let completions: Vec<_> = ring.completion().collect();
        for completion in completions {
            if cqueue::notif(completion.flags()) {
                return taken.context("the buffer is free before the operation has ended");
            }
            ensure!(completion.result() >= 0, std::io::Error::from_raw_os_error(-completion.result()));
            let count = completion.result().unsigned_abs() as usize;
            if !cqueue::more(completion.flags()) {
                return Ok(count);
            }
            taken = Some(count);
        }
    }
}
