//! What the agent asks of its helper, and what it is told: datagrams of a fixed size.
//!
//! Both ends are one binary, so integers are in native order. The helper has privileges and its caller has none:
//! a request is refused unless it is whole and names one socket.

#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Longest path of a cgroup that is sent; a container's of the kubelet has about 250 bytes.
pub(super) const PATH: usize = 1_024;

/// Bytes of a [`Request`].
pub(super) const REQUEST: usize = 8 + 8 + 8 + 4 + 4 + 3 * ADDRESS + PATH;
/// Bytes of a [`Reply`].
pub(super) const REPLY: usize = 8 + 8 + 4 + 4;
const ADDRESS: usize = 16 + 2;

/// `INET_DIAG_NOCOOKIE`: any socket will do. Nothing that may be sent.
const NO_COOKIE: u64 = u64::MAX;

/// One socket that is to be destroyed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// Given back in the reply; 0 is the helper's own.
    pub(super) id: u64,
    /// The socket. Never reused, the same in all namespaces: no other socket can be hit.
    pub(super) socket_cookie: u64,
    /// The opener's network namespace, 0 where it is not known.
    pub(super) netns_cookie: u64,
    /// The opener, 0 where it is not known.
    pub(super) tgid: u32,
    /// The socket's own address, as packets show it.
    pub(super) local: SocketAddr,
    /// The peer, as packets show it.
    pub(super) remote: SocketAddr,
    /// The peer, as the opener named it: the two differ under address translation, and either may be what the
    /// socket bears.
    pub(super) destination: SocketAddr,
    /// Path of the opener's cgroup below the watched root, where another process of its namespace is to be found
    /// when it is gone; empty where it is not known.
    pub(super) cgroup: String,
}

/// What became of a [`Request`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    /// [`Request::id`]
    pub(super) id: u64,
    /// [`Request::socket_cookie`]
    pub(super) socket_cookie: u64,
    /// The result.
    pub(super) outcome: Outcome,
    /// The kernel's error number where there is one, or 0.
    pub(super) errno: i32,
}

/// The result of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub(super) enum Outcome {
    /// The socket is destroyed: its owner gets `ECONNABORTED`, the peer a reset.
    Destroyed = 0,
    /// The socket was no more.
    Gone = 1,
    /// Neither the opener nor another process of its cgroup leads to the socket's namespace.
    NoNamespace = 2,
    /// The kernel refuses: a capability or the host's pid namespace is missing.
    Refused = 3,
    /// A kernel without `CONFIG_INET_DIAG_DESTROY`.
    Unsupported = 4,
    /// Another error.
    Failed = 5,
    /// The request made no sense, or there were too many.
    Declined = 6,
}

impl Outcome {
    const ALL: [Self; 7] = [
        Self::Destroyed,
        Self::Gone,
        Self::NoNamespace,
        Self::Refused,
        Self::Unsupported,
        Self::Failed,
        Self::Declined,
    ];

    /// The value of the metric label `result`.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Destroyed => "destroyed",
            Self::Gone => "gone",
            Self::NoNamespace => "no_namespace",
            Self::Refused => "refused",
            Self::Unsupported => "unsupported",
            Self::Failed => "failed",
            Self::Declined => "declined",
        }
    }
}

impl Request {
    pub(super) fn to_bytes(&self) -> [u8; REQUEST] {
        let mut bytes = [0; REQUEST];
        let mut at = Writer { bytes: &mut bytes, at: 0 };
        at.put(&self.id.to_ne_bytes());
        at.put(&self.socket_cookie.to_ne_bytes());
        at.put(&self.netns_cookie.to_ne_bytes());
        at.put(&self.tgid.to_ne_bytes());
        // A path that does not fit is none: half of one would lead elsewhere.
        let path = if self.cgroup.len() <= PATH { self.cgroup.as_bytes() } else { &[] };
        at.put(&(path.len() as u32).to_ne_bytes());
        for address in [self.local, self.remote, self.destination] {
            at.put(&to_v6(address.ip()).octets());
            at.put(&address.port().to_ne_bytes());
        }
        at.put(path);
        bytes
    }

    /// `None` for anything that no [`Request::to_bytes`] made, or that does not name one socket.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != REQUEST {
            return None;
        }
        let mut from = Reader(bytes);
        let (id, socket_cookie, netns_cookie) = (from.u64()?, from.u64()?, from.u64()?);
        let (tgid, path) = (from.u32()?, from.u32()? as usize);
        let (local, remote, destination) = (from.address()?, from.address()?, from.address()?);
        let cgroup = std::str::from_utf8(from.0.get(..path)?).ok()?.to_owned();
        let climbs = cgroup.split('/').any(|segment| segment == "..");
        let any_socket = socket_cookie == 0 || socket_cookie == NO_COOKIE;
        if climbs || any_socket || local.is_ipv4() != remote.is_ipv4() {
            return None;
        }
        Some(Self { id, socket_cookie, netns_cookie, tgid, local, remote, destination, cgroup })
    }
}

impl Reply {
    /// What the helper says when it is ready, for the first time or again.
    pub(super) const READY: Self = Self { id: 0, socket_cookie: 0, outcome: Outcome::Destroyed, errno: 0 };

    /// Whether it is [`Self::READY`].
    pub(super) fn is_ready(&self) -> bool {
        *self == Self::READY
    }

    pub(super) fn to_bytes(self) -> [u8; REPLY] {
        let mut bytes = [0; REPLY];
        let mut at = Writer { bytes: &mut bytes, at: 0 };
        at.put(&self.id.to_ne_bytes());
        at.put(&self.socket_cookie.to_ne_bytes());
        at.put(&(self.outcome as u32).to_ne_bytes());
        at.put(&self.errno.to_ne_bytes());
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != REPLY {
            return None;
        }
        let mut from = Reader(bytes);
        let (id, socket_cookie, outcome) = (from.u64()?, from.u64()?, from.u32()?);
        let outcome = Outcome::ALL.into_iter().find(|known| *known as u32 == outcome)?;
        Some(Self { id, socket_cookie, outcome, errno: from.u32()?.cast_signed() })
    }
}

struct Writer<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

impl Writer<'_> {
    fn put(&mut self, part: &[u8]) {
        self.bytes[self.at..self.at + part.len()].copy_from_slice(part);
        self.at += part.len();
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (part, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*part)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_ne_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_ne_bytes)
    }

    fn address(&mut self) -> Option<SocketAddr> {
        let ip = Ipv6Addr::from(self.take::<16>()?);
        let port = self.take().map(u16::from_ne_bytes)?;
        Some(SocketAddr::new(IpAddr::V6(ip).to_canonical(), port))
    }
}

/// The v4-mapped form of an IPv4 address.
pub(super) fn to_v6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
        Request {
            id: 7,
            socket_cookie: 0x1234_5678_9abc,
            netns_cookie: 3,
            tgid: 4711,
            local: "10.0.0.1:40000".parse().unwrap(),
            remote: "10.0.0.2:4317".parse().unwrap(),
            destination: "10.96.0.1:4317".parse().unwrap(),
            cgroup: "/kubepods.slice/kubepods-pod1.slice/cri-containerd-2.scope".to_owned(),
        }
    }

    #[test]
    fn requests_and_replies_arrive_as_they_were_sent() {
        let v6 = Request {
            local: "[fd00::1]:1".parse().unwrap(),
            remote: "[fd00::2]:65535".parse().unwrap(),
            cgroup: String::new(),
            ..request()
        };
        for request in [request(), v6] {
            assert_eq!(Request::from_bytes(&request.to_bytes()), Some(request));
        }
        for outcome in Outcome::ALL {
            let reply = Reply { id: 9, socket_cookie: 8, outcome, errno: -1 };
            assert_eq!(Reply::from_bytes(&reply.to_bytes()), Some(reply));
        }
    }

    #[test]
    fn a_request_that_names_no_socket_or_leads_out_of_the_tree_is_refused() {
        for refused in [
            Request { socket_cookie: 0, ..request() },
            Request { socket_cookie: u64::MAX, ..request() },
            Request { cgroup: "/a/../../etc".to_owned(), ..request() },
            Request { local: "[fd00::1]:1".parse().unwrap(), ..request() },
        ] {
            assert_eq!(Request::from_bytes(&refused.to_bytes()), None, "{refused:?}");
        }
        assert_eq!(Request::from_bytes(&request().to_bytes()[1..]), None);
        assert_eq!(Reply::from_bytes(&[0; REPLY - 1]), None);
        assert_eq!(Reply::from_bytes(&[0xff; REPLY]), None);
    }

    #[test]
    fn a_path_that_does_not_fit_is_left_out_whole() {
        let long = Request { cgroup: "x".repeat(PATH + 1), ..request() };
        assert_eq!(Request::from_bytes(&long.to_bytes()).unwrap().cgroup, "");
    }
}
