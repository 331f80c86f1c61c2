//! How many connections are open, in all and by sender.

#![forbid(unsafe_code)]

use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{origin::Origin, telemetry::Cause};

/// One sender may have this part of the places.
const SHARE_DIVISOR: usize = 4;

/// Whom a connection is counted for: the opener's cgroup, or the peer's address where that is all we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Sender {
    Cgroup(u64),
    Address(IpAddr),
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    by_sender: HashMap<Sender, usize>,
}

/// The places of a receiver. Its lock is taken twice a connection, never for a request.
#[derive(Debug)]
pub(super) struct Places {
    limit: usize,
    open: Mutex<Open>,
}

/// A place that is taken until this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    sender: Sender,
}

impl Places {
    /// So many places, at least one.
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit: limit.max(1), open: Mutex::default() })
    }

    /// A place for a connection of this origin, or the cause why there is none.
    pub(super) fn take(self: &Arc<Self>, origin: &Origin) -> Result<Place, Cause> {
        let sender = match &origin.process {
            Some(process) => Sender::Cgroup(process.cgroup_id),
            None => Sender::Address(origin.peer.ip()),
        };
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.total >= self.limit {
            return Err("connection_limit");
        }
        let count = open.by_sender.entry(sender).or_default();
        if *count >= self.limit.div_ceil(SHARE_DIVISOR) {
            return Err("sender_connection_limit");
        }
        *count += 1;
        open.total += 1;
        Ok(Place { places: Arc::clone(self), sender })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.places.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.total -= 1;
        if let Entry::Occupied(mut count) = open.by_sender.entry(self.sender) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(last: u8) -> Origin {
        Origin::unknown(([10, 0, 0, last], 1).into())
    }

    #[test]
    fn a_sender_has_a_quarter_and_all_have_the_whole() {
        let places = Places::new(8);
        let mut taken = Vec::new();
        for sender in 0..4 {
            for _ in 0..2 {
                taken.push(places.take(&from(sender)).unwrap());
            }
            if sender < 3 {
                assert_eq!(places.take(&from(sender)).unwrap_err(), "sender_connection_limit");
            }
        }
        assert_eq!(places.take(&from(9)).unwrap_err(), "connection_limit");
        taken.truncate(1);
        assert!(places.take(&from(9)).is_ok() && places.take(&from(0)).is_ok());
        taken.clear();
        let open = places.open.lock().unwrap();
        assert!(open.total == 0 && open.by_sender.is_empty(), "nothing is kept of who is gone");
    }
}
