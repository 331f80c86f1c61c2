//! `SOCK_DESTROY` over a `NETLINK_SOCK_DIAG` socket (`sock_diag(7)`; Linux 4.5, `CONFIG_INET_DIAG_DESTROY`).
//!
//! A request is 72 bytes and an answer one number, so the messages are made here: the crates for netlink bring a
//! tree of dependencies and no `SOCK_DESTROY`.

#![forbid(unsafe_code)]

use super::request::to_v6;
use nix::{
    errno::Errno,
    sys::{
        socket::{
            AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket,
            sockopt,
        },
        time::{TimeVal, TimeValLike as _},
    },
};
use std::{
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
};

/// `SOCK_DIAG_BY_FAMILY`, `linux/sock_diag.h`
const BY_FAMILY: u16 = 20;
/// `SOCK_DESTROY`, `linux/sock_diag.h`
const DESTROY: u16 = 21;
/// `NLMSG_ERROR` and `NLMSG_DONE`, linux/netlink.h
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// `NLM_F_REQUEST`, `NLM_F_ACK`, `NLM_F_DUMP`, linux/netlink.h
const F_REQUEST: u16 = 1;
const F_ACK: u16 = 4;
const F_DUMP: u16 = 0x300;

/// `struct nlmsghdr` and `struct inet_diag_req_v2`.
const HEADER: usize = 16;
const MESSAGE: usize = HEADER + 56;
/// `struct inet_diag_sockid`, and where it is in `inet_diag_req_v2` and in `inet_diag_msg`.
const SOCKID: usize = 48;
const SOCKID_IN_REQUEST: usize = HEADER + 8;
const SOCKID_IN_ENTRY: usize = HEADER + 4;
/// Where the cookie is in `inet_diag_sockid`: its two halves, the lower first.
const COOKIE_IN_SOCKID: usize = 40;

/// All states of a TCP socket but `LISTEN` and `TIME_WAIT` (`net/tcp_states.h`), which send nothing.
const STATES: u32 = !((1 << 10) | (1 << 6));

const AF_INET: u8 = libc::AF_INET as u8;
const AF_INET6: u8 = libc::AF_INET6 as u8;

/// The kernel answers at once; this is for a kernel that does not.
const PATIENCE_SECONDS: i64 = 1;
/// What one `recv` takes of a listing; the kernel fills at most 32 KiB (`NLMSG_GOODSIZE`).
const BUFFER: usize = 32 * 1_024;
/// Parts of a listing that are read, so about 500,000 sockets.
const PARTS: usize = 4_096;

/// A diagnostic socket, bound to the network namespace in which it was opened.
#[derive(Debug)]
pub(super) struct Diag {
    socket: OwnedFd,
    sequence: u32,
}

/// A socket as the kernel names it: its family, and a whole `inet_diag_sockid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Named {
    family: u8,
    id: [u8; SOCKID],
}

impl Named {
    fn of(family: u8, local: SocketAddr, remote: SocketAddr, cookie: u64) -> Self {
        let mut id = [0; SOCKID];
        id[0..2].copy_from_slice(&local.port().to_be_bytes());
        id[2..4].copy_from_slice(&remote.port().to_be_bytes());
        for (at, address) in [(4, local), (20, remote)] {
            match address {
                SocketAddr::V4(v4) if family == AF_INET => {
                    id[at..at + 4].copy_from_slice(&v4.ip().octets());
                }
                other => id[at..at + 16].copy_from_slice(&to_v6(other.ip()).octets()),
            }
        }
        id[COOKIE_IN_SOCKID..].copy_from_slice(&cookie_bytes(cookie));
        Self { family, id }
    }
}

/// The lower half first, each in native order.
fn cookie_bytes(cookie: u64) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&(cookie as u32).to_ne_bytes());
    bytes[4..].copy_from_slice(&((cookie >> 32) as u32).to_ne_bytes());
    bytes
}

impl Diag {
    /// Opens one in the calling thread's network namespace.
    pub(super) fn open() -> nix::Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkSockDiag,
        )?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(PATIENCE_SECONDS))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Whether the kernel destroys sockets at all: asked for one that cannot be.
    pub(super) fn probe(&mut self) -> nix::Result<()> {
        let nobody = SocketAddr::from(([127, 0, 0, 1], 0));
        match self.destroy_named(&Named::of(AF_INET, nobody, nobody, 1)) {
            Err(Errno::ENOENT) | Ok(()) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Destroys the TCP socket with this cookie, addresses as in its packets; `peers` are tried one after the other.
    /// `ENOENT` when no such socket is in this namespace.
    pub(super) fn destroy(
        &mut self,
        local: SocketAddr,
        peers: &[SocketAddr],
        cookie: u64,
    ) -> nix::Result<()> {
        for (at, &peer) in peers.iter().enumerate() {
            if peers[..at].contains(&peer) || peer.is_ipv4() != local.is_ipv4() {
                continue;
            }
            // An IPv6 socket with IPv4 addresses is found under either family by most kernels, not by all.
            let families = if local.is_ipv4() { &[AF_INET, AF_INET6][..] } else { &[AF_INET6] };
            for &family in families {
                match self.destroy_named(&Named::of(family, local, peer, cookie)) {
                    Err(Errno::ENOENT | Errno::ESTALE) => {}
                    outcome => return outcome,
                }
            }
        }
        // Its own addresses differ from those in its packets (translated in this namespace), or it is bound to a
        // device: the namespace's list tells what the kernel calls it.
        for family in [AF_INET, AF_INET6] {
            if let Some(named) = self.find(family, cookie)? {
                return self.destroy_named(&named);
            }
        }
        Err(Errno::ENOENT)
    }

    fn destroy_named(&mut self, named: &Named) -> nix::Result<()> {
        self.send(DESTROY, F_REQUEST | F_ACK, named)?;
        let mut buffer = vec![0; BUFFER];
        for _ in 0..PARTS {
            let length = self.receive(&mut buffer)?;
            for message in messages(&buffer[..length]) {
                if let Message::Status(outcome) = self.read(message) {
                    return outcome;
                }
            }
        }
        Err(Errno::EPROTO)
    }

    /// The socket with this cookie, from the list of all.
    fn find(&mut self, family: u8, cookie: u64) -> nix::Result<Option<Named>> {
        self.send(BY_FAMILY, F_REQUEST | F_DUMP, &Named { family, id: [0; SOCKID] })?;
        let (mut buffer, mut found) = (vec![0; BUFFER], None);
        for _ in 0..PARTS {
            let length = self.receive(&mut buffer)?;
            for message in messages(&buffer[..length]) {
                match self.read(message) {
                    Message::Status(outcome) => return outcome.map(|()| found),
                    // The list is read to its end: what is left unread would be the answer to the next request.
                    Message::Entry(named) if named.id[COOKIE_IN_SOCKID..] == cookie_bytes(cookie) => {
                        found = Some(named);
                    }
                    Message::Entry(_) | Message::Other => {}
                }
            }
        }
        Err(Errno::E2BIG)
    }

    fn send(&mut self, kind: u16, flags: u16, named: &Named) -> nix::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = [0; MESSAGE];
        message[0..4].copy_from_slice(&(MESSAGE as u32).to_ne_bytes());
        message[4..6].copy_from_slice(&kind.to_ne_bytes());
        message[6..8].copy_from_slice(&flags.to_ne_bytes());
        message[8..12].copy_from_slice(&self.sequence.to_ne_bytes());
        message[HEADER] = named.family;
        message[HEADER + 1] = libc::IPPROTO_TCP as u8;
        message[HEADER + 4..HEADER + 8].copy_from_slice(&STATES.to_ne_bytes());
        message[SOCKID_IN_REQUEST..].copy_from_slice(&named.id);
        let sent = send(self.socket.as_raw_fd(), &message, MsgFlags::MSG_NOSIGNAL)?;
        if sent == MESSAGE { Ok(()) } else { Err(Errno::EMSGSIZE) }
    }

    fn receive(&self, buffer: &mut [u8]) -> nix::Result<usize> {
        loop {
            match recv(self.socket.as_raw_fd(), buffer, MsgFlags::empty()) {
                Err(Errno::EINTR) => {}
                // The patience is over.
                Err(Errno::EAGAIN) => return Err(Errno::ETIMEDOUT),
                outcome => return outcome,
            }
        }
    }

    /// What a message says, when it belongs to the last request.
    fn read(&self, message: &[u8]) -> Message {
        let (Some(kind), Some(sequence)) = (u16_at(message, 4), u32_at(message, 8)) else {
            return Message::Other;
        };
        if sequence != self.sequence {
            return Message::Other;
        }
        match kind {
            // Errors are negative; a listing that ends with one says so in the same place.
            ERROR | DONE => match u32_at(message, HEADER).map(u32::cast_signed) {
                None | Some(0) => Message::Status(Ok(())),
                Some(errno) => Message::Status(Err(Errno::from_raw(errno.saturating_neg()))),
            },
            BY_FAMILY => entry(message).map_or(Message::Other, Message::Entry),
            _ => Message::Other,
        }
    }
}

impl AsFd for Diag {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

enum Message {
    /// The end of the answer.
    Status(nix::Result<()>),
    /// A socket.
    Entry(Named),
    Other,
}

fn entry(message: &[u8]) -> Option<Named> {
    let id = message.get(SOCKID_IN_ENTRY..SOCKID_IN_ENTRY + SOCKID)?;
    Some(Named { family: *message.get(HEADER)?, id: id.try_into().ok()? })
}

/// The messages in a datagram (netlink(7): each begins with its length and is padded to four bytes).
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let length = u32_at(bytes, 0)? as usize;
        if length < HEADER || length > bytes.len() {
            return None;
        }
        let message = &bytes[..length];
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests;
