//! What was found about tokens that were seen before. The key is a digest with a secret of this process: comparing it
//! tells nothing about a token, and nobody can aim at a place in it.

#![forbid(unsafe_code)]

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use aws_lc_rs::{
    digest::{Context, SHA256},
    rand,
};
use foldhash::fast::RandomState;

use crate::auth::Proof;

/// Places that are locked by themselves.
const SHARDS: usize = 64;
/// Entries of a place: 16,384 good tokens in all, and a quarter of that for the others, which never push out good ones.
const GOOD: usize = 256;
const BAD: usize = 64;

/// A token's digest.
pub(super) type Id = [u8; 32];

/// What was found.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) proof: Proof,
    /// Until when that holds without another look.
    pub(super) until: Duration,
    /// Index of the provider that it depends on, and the epoch of its keys then.
    pub(super) keys: Option<(usize, u64)>,
    /// Until when the API server need not be asked again.
    pub(super) reviewed: Duration,
    /// When it was last asked for.
    pub(super) used: Duration,
}

#[derive(Debug, Default)]
struct Shard {
    good: HashMap<Id, Entry, RandomState>,
    bad: HashMap<Id, Entry, RandomState>,
}

/// See the module's description.
#[derive(Debug)]
pub(super) struct Cache {
    shards: Box<[Mutex<Shard>]>,
    secret: [u8; 32],
}

impl Cache {
    /// # Panics
    /// When the system has no random numbers, without which there is no TLS either.
    pub(super) fn new() -> Self {
        let mut secret = [0; 32];
        rand::fill(&mut secret).expect("the system has random numbers");
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), secret }
    }

    /// The digest of a token.
    pub(super) fn id(&self, token: &[u8]) -> Id {
        let mut context = Context::new(&SHA256);
        context.update(&self.secret);
        context.update(token);
        let mut id = [0; 32];
        id.copy_from_slice(context.finish().as_ref());
        id
    }

    /// What was found, if it still holds: in time, and under the same keys. `epoch` tells a provider's.
    pub(super) fn get(&self, id: &Id, now: Duration, epoch: impl Fn(usize) -> u64) -> Option<Proof> {
        let mut shard = self.shard(id).lock().unwrap_or_else(PoisonError::into_inner);
        let Shard { good, bad } = &mut *shard;
        let entry = good.get_mut(id).or_else(|| bad.get_mut(id))?;
        if now >= entry.until || entry.keys.is_some_and(|(provider, then)| epoch(provider) != then) {
            return None;
        }
        entry.used = now;
        Some(entry.proof.clone())
    }

    /// Until when the API server need not be asked about it again; zero if it was never.
    pub(super) fn reviewed(&self, id: &Id) -> Duration {
        let shard = self.shard(id).lock().unwrap_or_else(PoisonError::into_inner);
        shard.good.get(id).map_or(Duration::ZERO, |entry| entry.reviewed)
    }

    /// Keeps what was found; the entry that was not used for longest makes room.
    pub(super) fn put(&self, id: Id, entry: Entry) {
        let mut shard = self.shard(&id).lock().unwrap_or_else(PoisonError::into_inner);
        let Shard { good, bad } = &mut *shard;
        let (into, out_of, most) = if entry.proof.is_ok() { (good, bad, GOOD) } else { (bad, good, BAD) };
        out_of.remove(&id);
        if into.len() >= most
            && !into.contains_key(&id)
            && let Some(oldest) = into.iter().min_by_key(|(_, entry)| entry.used).map(|(id, _)| *id)
        {
            into.remove(&oldest);
        }
        into.insert(id, entry);
    }

    fn shard(&self, id: &Id) -> &Mutex<Shard> {
        &self.shards[usize::from(id[0]) % SHARDS]
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::auth::{Method, Principal, Refused};

    fn entry(good: bool, now: u64) -> Entry {
        let proof = if good {
            Ok(Arc::new(Principal::named(Method::Oidc, "a")))
        } else {
            Err(Refused::unauthenticated("malformed_token", ""))
        };
        let now = Duration::from_secs(now);
        Entry { proof, until: now + Duration::from_mins(1), keys: Some((0, 7)), reviewed: now, used: now }
    }

    #[test]
    fn holds_for_its_time_and_keys() {
        let cache = Cache::new();
        let id = cache.id(b"token");
        assert_ne!(id, cache.id(b"tokem"));
        assert_ne!(id, Cache::new().id(b"token"), "the secret is another one");
        cache.put(id, entry(true, 0));
        let at = |seconds| Duration::from_secs(seconds);
        assert!(cache.get(&id, at(59), |_| 7).is_some());
        assert!(cache.get(&id, at(60), |_| 7).is_none());
        assert!(cache.get(&id, at(0), |_| 8).is_none());
        cache.put(id, entry(false, 0));
        assert!(cache.get(&id, at(0), |_| 7).is_some_and(|proof| proof.is_err()), "one verdict a token");
    }

    #[test]
    fn bad_tokens_never_push_out_good_ones_and_both_are_bounded() {
        let cache = Cache::new();
        let good: Vec<Id> = (0..1000_u32).map(|n| cache.id(&n.to_be_bytes())).collect();
        for id in &good {
            cache.put(*id, entry(true, 0));
        }
        for n in 1000..60_000_u32 {
            cache.put(cache.id(&n.to_be_bytes()), entry(false, 1));
        }
        assert!(good.iter().all(|id| cache.get(id, Duration::ZERO, |_| 7).is_some()));
        for n in 0..60_000_u32 {
            cache.put(cache.id(&n.to_be_bytes()), entry(true, u64::from(n)));
        }
        let held = cache.shards.iter().map(|shard| {
            let shard = shard.lock().unwrap();
            assert!(shard.good.len() <= GOOD && shard.bad.len() <= BAD);
            shard.good.len()
        });
        assert!(held.sum::<usize>() > SHARDS * GOOD / 2);
        let last = cache.id(&59_999_u32.to_be_bytes());
        assert!(cache.get(&last, Duration::from_secs(59_999), |_| 7).is_some());
    }
}
