//! `SOCK_DESTROY` (`sock_diag(7)`, Linux 4.5) on a socket of our own.

#![forbid(unsafe_code)]

use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt,
        socket, sockopt::ReceiveTimeout,
    },
    sys::time::TimeVal,
};
use std::{
    io,
    net::{SocketAddr, TcpStream},
    os::fd::AsRawFd as _,
};

/// `SOCK_DESTROY` (`linux/sock_diag.h`).
const SOCK_DESTROY: u16 = 21;
/// `NLM_F_REQUEST | NLM_F_ACK` and `NLMSG_ERROR` (linux/netlink.h).
const REQUEST_AND_ACK: u16 = 1 | 4;
const NLMSG_ERROR: u16 = 2;
/// Length of a netlink header, and of one with an `inet_diag_req_v2` (`linux/inet_diag.h`).
const HEADER: usize = 16;
const LENGTH: usize = HEADER + 56;
/// `INET_DIAG_NOCOOKIE`: the addresses say which socket.
const NO_COOKIE: [u8; 8] = [0xff; 8];

/// Why a socket was not destroyed.
#[derive(Debug)]
pub(super) enum Refused {
    /// The kernel has no `CONFIG_INET_DIAG_DESTROY`.
    NotBuilt,
    /// No `CAP_NET_ADMIN`.
    NotPermitted,
    /// Something else.
    Failed(io::Error),
}

impl From<Errno> for Refused {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::EOPNOTSUPP => Self::NotBuilt,
            Errno::EPERM | Errno::EACCES => Self::NotPermitted,
            other => Self::Failed(other.into()),
        }
    }
}

/// Destroys an IPv4 connection of this network namespace.
pub(super) fn destroy(stream: &TcpStream) -> Result<(), Refused> {
    let addresses = stream.local_addr().and_then(|local| Ok((local, stream.peer_addr()?)));
    let request = match addresses.map_err(Refused::Failed)? {
        (SocketAddr::V4(local), SocketAddr::V4(remote)) => {
            request((local.ip().octets(), local.port()), (remote.ip().octets(), remote.port()))
        }
        _ => return Err(Errno::EAFNOSUPPORT.into()),
    };
    let netlink =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkSockDiag)?;
    setsockopt(&netlink, ReceiveTimeout, &TimeVal::new(5, 0))?;
    sendto(netlink.as_raw_fd(), &request, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut answer = [0; 256];
    let length = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    match status(&answer[..length]) {
        Some(0) => Ok(()),
        Some(errno) => Err(Errno::from_raw(-errno).into()),
        None => Err(Errno::EBADMSG.into()),
    }
}

/// `struct nlmsghdr`, then `struct inet_diag_req_v2`: family, protocol, extensions, padding, states, then the socket:
/// ports and addresses in network byte order, interface, cookie.
fn request(local: ([u8; 4], u16), remote: ([u8; 4], u16)) -> Vec<u8> {
    let mut message = Vec::with_capacity(LENGTH);
    message.extend((LENGTH as u32).to_ne_bytes());
    message.extend(SOCK_DESTROY.to_ne_bytes());
    message.extend(REQUEST_AND_ACK.to_ne_bytes());
    message.extend([0; 8]); // sequence number and port, which a single question needs not
    message.extend([libc::AF_INET as u8, libc::IPPROTO_TCP as u8, 0, 0]);
    message.extend(u32::MAX.to_ne_bytes());
    message.extend(local.1.to_be_bytes());
    message.extend(remote.1.to_be_bytes());
    for (address, _) in [local, remote] {
        message.extend(address);
        message.extend([0; 12]);
    }
    message.extend([0; 4]);
    message.extend(NO_COOKIE);
    message
}

/// The `error` of a `struct nlmsgerr`: 0 or a negative errno.
fn status(answer: &[u8]) -> Option<i32> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let error = i32::from_ne_bytes(answer.get(HEADER..HEADER + 4)?.try_into().ok()?);
    (kind == NLMSG_ERROR).then_some(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_the_kernel_s_length() {
        let message = request(([127, 0, 0, 1], 1), ([127, 0, 0, 1], 2));
        assert_eq!(message.len(), LENGTH);
        assert_eq!(message[HEADER + 8..HEADER + 12], [0, 1, 0, 2]);
    }

    #[test]
    fn only_an_acknowledgement_counts() {
        let mut answer = vec![0; 36];
        assert_eq!(status(&answer), None);
        answer[4..6].copy_from_slice(&NLMSG_ERROR.to_ne_bytes());
        assert_eq!(status(&answer), Some(0));
        assert_eq!(status(&answer[..18]), None);
    }
}
