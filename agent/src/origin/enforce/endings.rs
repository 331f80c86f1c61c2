//! The kernel's orders to end blocked connections, as requests to the helper.
//!
//! An order comes with the first packet of a connection that is dropped and with each that is sent again, so nothing has
//! to be kept here: a request that does not get through is made again for as long as the connection is there.

#![forbid(unsafe_code)]

use super::request::Request;
use crate::origin::{bpf::abi, join::Resolver, loader::own};
use aya::maps::{MapData, RingBuf};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use spanwarden_ebpf::abi::{Ending, STATE_PRE_EXISTING};
use std::{net::SocketAddr, os::fd::AsFd as _, sync::Arc, time::Duration};

/// Reads orders.
pub(super) struct Endings {
    ring: RingBuf<MapData>,
    resolver: Arc<Resolver>,
}

impl Endings {
    pub(super) fn new(ring: RingBuf<MapData>, resolver: Arc<Resolver>) -> Self {
        Self { ring, resolver }
    }

    /// Returns when there are orders, or after `patience`.
    pub(super) fn wait(&self, patience: Duration) {
        let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::ZERO);
        // An error is an interrupted wait; the ring is read either way.
        let _ = poll(&mut [PollFd::new(self.ring.as_fd(), PollFlags::POLLIN)], timeout);
    }

    /// The next request; what is no order of ours is passed over.
    pub(super) fn next(&mut self) -> Option<Request> {
        loop {
            let item = self.ring.next()?;
            let ending = abi::ending(&item);
            drop(item);
            if let Some(request) = ending.and_then(|ending| self.request(&ending)) {
                return Some(request);
            }
        }
    }

    fn request(&self, ending: &Ending) -> Option<Request> {
        let at = |address, port: u32| Some(SocketAddr::new(own::from_bytes(address), port.try_into().ok()?));
        let origin = &ending.origin;
        let is_known = origin.state != STATE_PRE_EXISTING;
        Some(Request {
            id: 0,
            socket_cookie: origin.socket_cookie,
            netns_cookie: origin.netns_cookie,
            tgid: if is_known { origin.tgid } else { 0 },
            local: at(ending.local, ending.local_port)?,
            remote: at(ending.remote, ending.remote_port)?,
            destination: at(origin.destination, origin.destination_port)?,
            cgroup: self.resolver.cgroup_path(origin).unwrap_or_default(),
        })
    }
}
