//! Connections that change hands between processes, by `SCM_RIGHTS` (unix(7)).

use std::{
    io::{Read as _, Write as _},
    mem::MaybeUninit,
    net::{SocketAddr, TcpStream},
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
        unix::net::{UnixListener, UnixStream},
    },
};

use anyhow::{Context, Result, ensure};
use socket2::{Domain, MaybeUninitSlice, MsgHdr, MsgHdrMut, Protocol, SockRef, Socket, Type};
use spanwarden_tests::patience::patience;

use super::{PATIENCE, tricks::Words};

/// A control message with one descriptor (cmsg(3)): length, level, type, descriptor, padding.
const CONTROL: usize = size_of::<usize>() + 4 * size_of::<libc::c_int>();
/// More than any words are.
const WORDS: usize = 4_096;

/// Gives a socket to whoever listens at `path`, with what is to be said on it: connected to `target`, or not yet.
pub(crate) fn give(path: &str, connected: bool, target: SocketAddr, words: &Words) -> Result<String> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
    let mut local = target;
    if connected {
        socket.connect(&target.into()).with_context(|| format!("connecting to {target}"))?;
        local = socket.local_addr()?.as_socket().context("an IP address")?;
    }
    let words = words.spelled(std::process::id(), local)?;
    let mut neighbour = UnixStream::connect(path).with_context(|| path.to_owned())?;
    neighbour.set_read_timeout(Some(patience(PATIENCE)))?;
    let control = control(socket.as_raw_fd());
    let buffers = [std::io::IoSlice::new(&words)];
    let message = MsgHdr::new().with_buffers(&buffers).with_control(&control);
    let sent = SockRef::from(&neighbour).sendmsg(&message, 0).context("passing the socket")?;
    ensure!(sent == words.len(), "{sent} of {} bytes were passed", words.len());
    drop(socket);
    // It ends when the other has said it.
    neighbour.read_to_end(&mut Vec::new())?;
    Ok("given".to_owned())
}

/// Takes a socket from whoever connects to `path`, connects it to `target` if there is one, and says what it was told.
pub(crate) fn take(path: &str, target: Option<SocketAddr>) -> Result<String> {
    let listener = UnixListener::bind(path).with_context(|| path.to_owned())?;
    println!("ready {path}");
    let (neighbour, _) = listener.accept()?;
    neighbour.set_read_timeout(Some(patience(PATIENCE)))?;
    let mut words = [MaybeUninit::<u8>::uninit(); WORDS];
    let mut control = [MaybeUninit::<u8>::uninit(); CONTROL];
    let mut buffers = [MaybeUninitSlice::new(&mut words)];
    let mut message = MsgHdrMut::new().with_buffers(&mut buffers).with_control(&mut control);
    let length = SockRef::from(&neighbour).recvmsg(&mut message, 0).context("taking the socket")?;
    ensure!(message.control_len() >= CONTROL - size_of::<libc::c_int>(), "no socket came");
    // SAFETY: the kernel has written so many bytes of both.
    let (words, descriptor) = unsafe {
        let words: Vec<u8> = words[..length].iter().map(|byte| byte.assume_init()).collect();
        let at = CONTROL - 2 * size_of::<libc::c_int>();
        let bytes = [control[at], control[at + 1], control[at + 2], control[at + 3]];
        (words, RawFd::from_ne_bytes(bytes.map(|byte| byte.assume_init())))
    };
    ensure!(descriptor > 2, "no descriptor");
    // SAFETY: the kernel has just made this descriptor for us.
    let socket = Socket::from(unsafe { OwnedFd::from_raw_fd(descriptor) });
    if let Some(target) = target {
        socket.connect(&target.into()).with_context(|| format!("connecting to {target}"))?;
    }
    TcpStream::from(socket).write_all(&words)?;
    Ok("said".to_owned())
}

fn control(descriptor: RawFd) -> [u8; CONTROL] {
    let mut control = [0; CONTROL];
    let word = size_of::<usize>();
    let number = size_of::<libc::c_int>();
    // The length is without the padding behind the descriptor.
    control[..word].copy_from_slice(&(CONTROL - number).to_ne_bytes());
    for (place, value) in [libc::SOL_SOCKET, libc::SCM_RIGHTS, descriptor].into_iter().enumerate() {
        control[word + place * number..][..number].copy_from_slice(&value.to_ne_bytes());
    }
    control
}
