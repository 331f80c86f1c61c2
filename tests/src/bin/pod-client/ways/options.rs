//! What needs options of the socket: data in the SYN, corks, proof of MPTCP.

use std::{
    io::{self, Write as _},
    mem::MaybeUninit,
    net::{SocketAddr, TcpStream},
    os::fd::AsRawFd,
};

use anyhow::{Context, Result, bail, ensure};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::PATIENCE;
use spanwarden_tests::patience::patience;

/// `tcpi_options`: data in the SYN was sent and acknowledged (`include/uapi/linux/tcp.h`).
const TCPI_OPT_SYN_DATA: u8 = 32;
/// `SOL_MPTCP` and `MPTCP_INFO` of `include/uapi/linux/mptcp.h`.
const SOL_MPTCP: libc::c_int = 284;
const MPTCP_INFO: libc::c_int = 1;

/// Connects with data: with `in_syn` they must have gone in the SYN, without not.
pub(super) fn fastopen(target: SocketAddr, bytes: &[u8], in_syn: bool) -> Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
    let taken = socket
        .send_to_with_flags(bytes, &target.into(), libc::MSG_FASTOPEN)
        .with_context(|| format!("sendto {target} with MSG_FASTOPEN"))?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(patience(PATIENCE)))?;
    stream.write_all(&bytes[taken..])?;
    let got = tcp_options(&stream)? & TCPI_OPT_SYN_DATA != 0;
    ensure!(got == in_syn, "data in the SYN: {got}, and it should be {in_syn}");
    Ok(stream)
}

fn tcp_options(stream: &TcpStream) -> Result<u8> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: getsockopt(2) writes at most `length` bytes, the size of the struct.
    let result = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    ensure!(result == 0, io::Error::last_os_error());
    // SAFETY: it was zeroed, and any bytes are a valid tcp_info, which holds integers only.
    Ok(unsafe { info.assume_init() }.tcpi_options)
}

/// Everything at once when the cork is drawn.
pub(super) fn cork(stream: &mut TcpStream, bytes: &[u8]) -> Result<()> {
    SockRef::from(&*stream).set_tcp_cork(true)?;
    for part in bytes.chunks(5) {
        stream.write_all(part)?;
    }
    SockRef::from(&*stream).set_tcp_cork(false)?;
    Ok(())
}

/// Fails when the kernels have agreed on plain TCP instead.
pub(super) fn ensure_mptcp(stream: &TcpStream) -> Result<()> {
    let mut info = [0_u8; 128];
    let mut length = info.len() as libc::socklen_t;
    // SAFETY: getsockopt(2) writes at most `length` bytes into the array of that size.
    let result = unsafe {
        libc::getsockopt(stream.as_raw_fd(), SOL_MPTCP, MPTCP_INFO, info.as_mut_ptr().cast(), &raw mut length)
    };
    if result != 0 {
        bail!("this is no MPTCP connection: {}", io::Error::last_os_error());
    }
    Ok(())
}

/// `setsockopt(2)`
pub(super) fn set_option(
    socket: &impl AsRawFd,
    level: libc::c_int,
    name: libc::c_int,
    value: &[u8],
) -> io::Result<()> {
    // SAFETY: setsockopt(2) reads as many bytes as the slice has.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            value.as_ptr().cast(),
            value.len() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
