//! The gate: which patterns can match a text at all, found in one pass over its bytes.
//!
//! [`Sieve`] finds the positions at which a window may begin; there the gate looks closely. All windows stand side by
//! side in the bits of words, and a byte at a place leaves those that allow it there. It may let through what does
//! not match, never the opposite.

use std::{ops::Range, sync::OnceLock};

use super::{
    PatternId, Patterns,
    window::{self, ByteSet, LONGEST, Window},
};
use crate::scrub::{
    buckets::{self, PLACES},
    sieve::{BUCKETS, SETS, Sieve},
};

/// Windows for each set of buckets, from which on there are more sets.
const CROWDED: usize = 16;
/// Words of findings, a bit for each window. A pattern for whose windows there is none left is always tried.
const WORDS: usize = 8;
/// Windows found in one request that are remembered one by one; in the rest of such a request, each text is asked
/// about by itself. 8 bytes each.
const MOST_FOUND: usize = 1 << 14;

/// Which windows a text holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hits([u64; WORDS]);

impl Hits {
    /// No window at all.
    #[inline]
    pub(crate) fn none(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// Adds those of `other`.
    pub(crate) fn join(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(mine, theirs)| *mine |= theirs);
    }

    /// Whether a window of `other` is among them.
    #[inline]
    pub(crate) fn meet(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).any(|(a, b)| a & b != 0)
    }

    /// All that calls for any of these patterns.
    pub(crate) fn all(gated: &[Gated]) -> Self {
        let mut all = Self::default();
        gated.iter().filter_map(|gated| gated.windows).for_each(|hits| all.join(&hits));
        all
    }

    #[inline]
    fn add(&mut self, slot: u16) {
        self.0[usize::from(slot >> 6)] |= 1 << (slot & 63);
    }
}

/// Up to 64 windows.
#[derive(Clone, Debug)]
struct Group {
    /// For each place and byte, the windows that allow it there; after its end, a window allows anything.
    allowed: Box<[[u64; 256]; LONGEST]>,
    /// The windows of at most so many places.
    ended: [u64; LONGEST + 1],
    /// Their numbers.
    slots: Vec<u16>,
}

/// On the heap from the beginning: it is too large for a stack.
fn zeroed() -> Box<[[u64; 256]; LONGEST]> {
    vec![[0; 256]; LONGEST].into_boxed_slice().try_into().expect("a table for each place")
}

impl Group {
    fn new() -> Self {
        Self { allowed: zeroed(), ended: [0; LONGEST + 1], slots: Vec::new() }
    }

    fn add(&mut self, window: &[ByteSet], slot: u16) {
        let bit = 1 << self.slots.len();
        self.slots.push(slot);
        for (place, table) in self.allowed.iter_mut().enumerate() {
            for (entry, byte) in table.iter_mut().zip(0..=255u8) {
                if window.get(place).is_none_or(|set| set.has(byte)) {
                    *entry |= bit;
                }
            }
        }
        for ended in &mut self.ended[window.len()..] {
            *ended |= bit;
        }
    }

    /// The windows with which this text begins.
    #[inline]
    fn starts(&self, text: &[u8]) -> u64 {
        let mut left = u64::MAX;
        for (place, allowed) in self.allowed.iter().enumerate() {
            let Some(byte) = text.get(place) else { return left & self.ended[place] };
            left &= allowed[usize::from(*byte)];
            // Usually none is left after a few places.
            if left & !self.ended[place + 1] == 0 {
                break;
            }
        }
        left
    }
}

/// The windows of many patterns.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate {
    /// Each window once: two patterns that look for the same share it.
    known: Vec<Window>,
    /// Made when it is first asked.
    search: OnceLock<Search>,
}

/// How the windows are searched for.
#[derive(Clone, Debug)]
struct Search {
    sieve: Sieve,
    /// For each of the sieve's sets, its windows.
    sets: Vec<Vec<Group>>,
}

impl Search {
    fn new(windows: &[Window]) -> Self {
        let most = windows.len().div_ceil(CROWDED).clamp(1, SETS);
        let mut clusters = buckets::clusters(windows, most * BUCKETS);
        let mut search = Self { sieve: Sieve::default(), sets: Vec::new() };
        while !clusters.is_empty() {
            let set: Vec<_> = clusters.drain(..clusters.len().min(BUCKETS)).collect();
            let mut groups: Vec<Group> = Vec::new();
            for number in set.iter().flat_map(|cluster| &cluster.windows) {
                if groups.last().is_none_or(|group| group.slots.len() == 64) {
                    groups.push(Group::new());
                }
                if let Some(group) = groups.last_mut() {
                    group.add(&windows[*number], *number as u16);
                }
            }
            search.sieve.add(&set);
            search.sets.push(groups);
        }
        search
    }
}

/// A pattern behind a gate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gated {
    /// The pattern.
    pub(crate) pattern: PatternId,
    /// The hits that call for it; `None`: always.
    pub(crate) windows: Option<Hits>,
}

/// Where in a request the gate's windows are.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Where a window begins, and its number; ascending.
    list: Vec<(u32, u16)>,
    /// The list is complete before this offset.
    until: usize,
}

impl Gate {
    /// Puts a pattern behind the gate.
    pub(crate) fn add(&mut self, patterns: &Patterns, pattern: PatternId) -> Gated {
        Gated { pattern, windows: self.add_windows(&patterns.get(pattern).windows) }
    }

    /// Puts what is behind these windows behind the gate; `None` where there is none, or no room for them.
    pub(crate) fn add_windows(&mut self, windows: &[Window]) -> Option<Hits> {
        let mut hits = Hits::default();
        for window in windows {
            let window = window::sharp(window, PLACES);
            let slot = self.known.iter().position(|known| known == window);
            let slot = slot.unwrap_or(self.known.len());
            if slot == WORDS * 64 {
                return None;
            }
            hits.add(slot as u16);
            if slot == self.known.len() {
                self.known.push(window.to_vec());
                self.search = OnceLock::new();
            }
        }
        (!windows.is_empty()).then_some(hits)
    }

    /// The windows that the text holds.
    pub(crate) fn hits(&self, text: &[u8]) -> Hits {
        let mut hits = Hits::default();
        if !self.known.is_empty() {
            self.scan(text, 0..text.len(), |_, slot| hits.add(slot));
        }
        hits
    }

    /// Finds all windows in a request.
    pub(crate) fn find(&self, request: &[u8], found: &mut Found) {
        found.list.clear();
        found.until = request.len();
        if self.known.is_empty() {
            return;
        }
        let Found { list, until } = found;
        // A position after the last that is remembered may be dropped; the whole position is, then.
        self.scan(request, 0..request.len(), |at, slot| {
            if list.len() < MOST_FOUND {
                list.push((at as u32, slot));
            } else {
                *until = (*until).min(at);
            }
        });
    }

    /// The windows that begin in a part of the request that was searched last. One that ends after the part counts, too.
    #[inline]
    pub(crate) fn within(&self, request: &[u8], found: &Found, part: Range<usize>) -> Hits {
        if part.end > found.until {
            return self.hits(&request[part]);
        }
        let mut hits = Hits::default();
        if !found.list.is_empty() {
            let from = found.list.partition_point(|(at, _)| (*at as usize) < part.start);
            let inside = found.list[from..].iter().take_while(|(at, _)| (*at as usize) < part.end);
            inside.for_each(|(_, slot)| hits.add(*slot));
        }
        hits
    }

    /// Shows `found` the windows that begin in a part of the text, in the order of their positions.
    #[inline]
    fn scan(&self, text: &[u8], part: Range<usize>, mut found: impl FnMut(usize, u16)) {
        let search = self.search();
        let mut look = |at: usize, sets: u32| {
            let sets = search.sets.iter().enumerate().filter(|(number, _)| sets >> number & 1 == 1);
            for group in sets.flat_map(|(_, groups)| groups) {
                let mut left = group.starts(&text[at..]);
                while left != 0 {
                    found(at, group.slots[left.trailing_zeros() as usize]);
                    left &= left - 1;
                }
            }
        };
        if !search.sieve.sift(text, part.clone(), &mut look) {
            part.for_each(|at| look(at, u32::MAX));
        }
    }

    /// Makes ready to search, which takes some milliseconds where there are hundreds of windows.
    pub(crate) fn prepare(&self) {
        self.search();
    }

    fn search(&self) -> &Search {
        self.search.get_or_init(|| Search::new(&self.known))
    }

    /// As [`Self::hits`], without the sieve.
    #[cfg(test)]
    pub(super) fn step(&self, text: &[u8], hits: &mut Hits) {
        for at in 0..text.len() {
            for group in self.search().sets.iter().flatten() {
                let left = group.starts(&text[at..]);
                (0..64).filter(|bit| left >> bit & 1 == 1).for_each(|bit| hits.add(group.slots[bit]));
            }
        }
    }
}
