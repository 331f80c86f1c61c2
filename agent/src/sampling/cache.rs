//! Decisions of the past, so that late spans follow them.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::hash::TraceKey;

/// A bounded map from tenant and trace id (all 16 bytes) to what was decided. It holds the `capacity / 2` most recently
/// used entries at least, and `capacity` at most.
///
/// Two generations instead of a list of uses: a look-up is one or two probes, and nothing is linked. The hash is
/// keyed, because senders choose trace ids.
#[derive(Debug)]
pub(super) struct Cache<V> {
    young: HashMap<TraceKey, V, RandomState>,
    old: HashMap<TraceKey, V, RandomState>,
    generation: usize,
}

impl<V: Copy> Cache<V> {
    /// A cache for this many ids, at least two.
    pub(super) fn new(capacity: u64) -> Self {
        let generation = usize::try_from(capacity / 2).unwrap_or(usize::MAX).max(1);
        Self { young: HashMap::default(), old: HashMap::default(), generation }
    }

    /// Remembers a decision.
    pub(super) fn insert(&mut self, id: TraceKey, value: V) {
        if self.young.len() >= self.generation {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        self.young.insert(id, value);
    }

    /// The decision on this trace; being asked for keeps it.
    pub(super) fn get(&mut self, id: &TraceKey) -> Option<V> {
        if let Some(value) = self.young.get(id) {
            return Some(*value);
        }
        let value = self.old.remove(id)?;
        self.insert(*id, value);
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u128) -> TraceKey {
        TraceKey { tenant: 0, id: n.to_be_bytes() }
    }

    #[test]
    fn keeps_what_is_used_and_stays_bounded() {
        let mut cache = Cache::new(100);
        cache.insert(id(0), 0);
        for n in 1..10_000 {
            cache.insert(id(n), n);
            assert_eq!(cache.get(&id(0)), Some(0), "after {n} others");
            assert!(cache.young.len() + cache.old.len() <= 100);
        }
        for n in 9_951..10_000 {
            assert_eq!(cache.get(&id(n)), Some(n));
        }
        assert_eq!(cache.get(&id(1)), None);
    }

    #[test]
    fn ids_that_differ_only_in_their_left_half_are_told_apart() {
        let mut cache = Cache::new(10);
        cache.insert(id(1 << 64), true);
        cache.insert(id(2 << 64), false);
        assert_eq!(cache.get(&id(1 << 64)), Some(true));
        assert_eq!(cache.get(&id(2 << 64)), Some(false));
    }
}
