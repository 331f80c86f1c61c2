//! Memory is admitted by bytes: what a sender makes us hold is counted before it is held, and given back when
//! the batch has been answered.

#![forbid(unsafe_code)]

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use super::source::Source;

/// One sender may hold at most this part of the whole budget over all its connections, so that it does not shut the
/// others out.
const SHARE_DIVISOR: u64 = 4;

/// The budget of a process, in bytes of requests that are being read, unpacked or consumed.
#[derive(Debug)]
pub struct Admission {
    limit: u64,
    used: AtomicU64,
    /// The shares of who has connections now.
    shares: Mutex<HashMap<Source, Weak<Share>>>,
}

impl Admission {
    /// A budget of `limit_bytes`.
    pub fn new(limit_bytes: u64) -> Arc<Self> {
        Arc::new(Self { limit: limit_bytes, used: AtomicU64::new(0), shares: Mutex::default() })
    }

    /// Bytes that are held now.
    pub fn in_use(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// The budget.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// The share of a sender, the same for all its connections: a quarter of the budget, but always enough for one
    /// request of `largest` bytes as far as the budget itself allows.
    pub(super) fn share(self: &Arc<Self>, source: &Source, largest: u64) -> Arc<Share> {
        let limit = (self.limit / SHARE_DIVISOR).max(largest);
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = shares.get(source).and_then(Weak::upgrade) {
            share.limit.fetch_max(limit, Ordering::Relaxed);
            return share;
        }
        let share = Arc::new(Share {
            source: source.clone(),
            limit: AtomicU64::new(limit),
            used: AtomicU64::new(0),
            total: Arc::clone(self),
        });
        shares.insert(source.clone(), Arc::downgrade(&share));
        share
    }
}

/// What one sender may hold, and holds.
#[derive(Debug)]
pub(super) struct Share {
    source: Source,
    limit: AtomicU64,
    used: AtomicU64,
    total: Arc<Admission>,
}

/// The budget is used up: come back later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// By everybody together.
    Total,
    /// By this sender alone.
    Sender,
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut shares = self.total.shares.lock().unwrap_or_else(PoisonError::into_inner);
        // A new one may have taken its place.
        if let Entry::Occupied(entry) = shares.entry(self.source.clone())
            && entry.get().strong_count() == 0
        {
            entry.remove();
        }
    }
}

impl Share {
    /// Whether `bytes` more would be admitted now. A claim of the sender's, so nothing is reserved for it: who
    /// claims much and sends nothing takes nothing from others.
    pub(super) fn room_for(&self, bytes: u64) -> Result<(), Full> {
        let limit = self.limit.load(Ordering::Relaxed);
        if self.used.load(Ordering::Relaxed).saturating_add(bytes) > limit {
            return Err(Full::Sender);
        }
        if self.total.in_use().saturating_add(bytes) > self.total.limit {
            return Err(Full::Total);
        }
        Ok(())
    }
}

/// Bytes held for one request; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    share: Arc<Share>,
    bytes: u64,
}

impl Permit {
    /// A permit that holds nothing yet.
    pub(super) fn new(share: &Arc<Share>) -> Self {
        Self { share: Arc::clone(share), bytes: 0 }
    }

    /// The sender's share.
    pub(super) fn share(&self) -> &Share {
        &self.share
    }

    /// Holds `bytes` more, or says whose budget is used up.
    pub(super) fn grow(&mut self, bytes: u64) -> Result<(), Full> {
        let Share { limit, used, total, .. } = &*self.share;
        take(used, limit.load(Ordering::Relaxed), bytes).map_err(|()| Full::Sender)?;
        if take(&total.used, total.limit, bytes).is_err() {
            used.fetch_sub(bytes, Ordering::Relaxed);
            return Err(Full::Total);
        }
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.share.used.fetch_sub(self.bytes, Ordering::Relaxed);
        self.share.total.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Optimistic: adds first and takes back, which needs one atomic operation where there is room.
fn take(used: &AtomicU64, limit: u64, bytes: u64) -> Result<(), ()> {
    let before = used.fetch_add(bytes, Ordering::Relaxed);
    if before.saturating_add(bytes) > limit {
        used.fetch_sub(bytes, Ordering::Relaxed);
        return Err(());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn source(number: u64) -> Source {
        Source::Cgroup(number)
    }

    #[test]
    fn one_sender_cannot_take_it_all_however_many_connections_it_has() {
        let admission = Admission::new(1000);
        let (greedy, again) = (admission.share(&source(1), 0), admission.share(&source(1), 0));
        let (mut one, mut two) = (Permit::new(&greedy), Permit::new(&again));
        one.grow(150).unwrap();
        two.grow(100).unwrap();
        assert_eq!((one.grow(1), two.grow(1)), (Err(Full::Sender), Err(Full::Sender)));
        assert_eq!(greedy.room_for(1), Err(Full::Sender));
        Permit::new(&admission.share(&source(2), 0)).grow(250).unwrap();
        drop((one, two, greedy, again));
        assert!(admission.shares.lock().unwrap().is_empty(), "nothing is kept of who is gone");
        Permit::new(&admission.share(&source(1), 0)).grow(250).unwrap();
    }

    #[test]
    fn a_single_request_of_the_largest_size_fits() {
        let admission = Admission::new(1000);
        assert_eq!(Permit::new(&admission.share(&source(1), 900)).grow(900), Ok(()));
        assert_eq!(Permit::new(&admission.share(&source(1), 2000)).grow(1001), Err(Full::Total));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever is asked for, at most the limit is held, and all of it comes back.
        #[test]
        fn never_above_the_limit_and_all_given_back(asks in proptest::collection::vec((0usize..3, 0u64..400), 0..60)) {
            let admission = Admission::new(1000);
            let shares = [0, 300, 1000].map(|largest| admission.share(&source(largest), largest));
            let mut permits = Vec::new();
            let mut held = 0;
            for (share, bytes) in asks {
                let mut permit = Permit::new(&shares[share]);
                if permit.grow(bytes).is_ok() {
                    held += bytes;
                    permits.push(permit);
                }
                prop_assert!(held <= 1000);
                prop_assert_eq!(admission.in_use(), held);
            }
            drop(permits);
            prop_assert_eq!(admission.in_use(), 0);
        }
    }
}
