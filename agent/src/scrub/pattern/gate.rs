//! The gate: which patterns can match a text at all, found in one pass over its bytes.
//!
//! [`Sieve`] finds the places at which windows of a bucket may stand; there the gate looks closely. A bucket's windows
//! stand side by side in the bits of a word, and a byte at a place leaves those that allow it there. It may let through
//! what does not match, never the opposite.

use std::{ops::Range, sync::OnceLock};

use super::{PatternId, Patterns, window::Window};
use crate::scrub::{
    buckets::{self, Cluster, PLACES},
    sieve::{BUCKETS, SETS, Sieve},
};

/// Places of a window that are looked up in tables, beginning with those of the sieve: after them next to nothing is
/// left.
const TABLES: usize = 8;
/// Windows for each set of buckets, from which on there are more sets.
const CROWDED: usize = 16;
/// Words of findings, a bit for each window. A pattern for whose windows there is none left is always tried.
const WORDS: usize = 8;
/// Bytes of a request after which it is written down how many windows come before.
const PAGE: usize = 256;
/// Windows found in one request that are remembered one by one; in the rest of such a request, each text is asked
/// about by itself. 8 bytes each.
const MOST_FOUND: usize = 1 << 14;

/// Which windows a text holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hits([u64; WORDS]);

impl Hits {
    /// No window at all.
    #[cfg(test)]
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

    /// Their numbers.
    pub(crate) fn windows(&self) -> impl Iterator<Item = usize> {
        (0..WORDS * 64).filter(|number| self.0[number >> 6] >> (number & 63) & 1 == 1)
    }

    #[inline]
    fn add(&mut self, slot: u16) {
        self.0[usize::from(slot >> 6)] |= 1 << (slot & 63);
    }
}

/// The windows of a bucket.
#[derive(Clone, Debug)]
struct Group {
    /// For each place and each byte, the windows that allow it there; after its end, a window allows anything. The
    /// places that the sieve does not know come first.
    allowed: Vec<(usize, [u64; 256])>,
    windows: Vec<Placed>,
}

/// A window in a bucket.
#[derive(Clone, Copy, Debug)]
struct Placed {
    /// Its number.
    slot: u16,
    /// Its places before the first that the bucket looks at.
    cut: u16,
    /// All its places.
    length: u16,
}

impl Group {
    fn new(all: &[Window], cluster: &Cluster) -> Self {
        let longest = cluster.windows.iter().map(|(number, cut)| all[*number].len() - cut).max().unwrap_or(0);
        let longest = longest.min(TABLES);
        let places = (PLACES..longest).chain(0..longest.min(PLACES));
        let mut allowed: Vec<(usize, [u64; 256])> = places.map(|place| (place, [0; 256])).collect();
        for (bit, (number, cut)) in cluster.windows.iter().enumerate() {
            let window = &all[*number][*cut..];
            for (place, table) in &mut allowed {
                for (entry, byte) in table.iter_mut().zip(0..=255u8) {
                    if window.get(*place).is_none_or(|set| set.has(byte)) {
                        *entry |= 1 << bit;
                    }
                }
            }
        }
        let windows = cluster.windows.iter().map(|(number, cut)| Placed {
            slot: *number as u16,
            cut: *cut as u16,
            length: all[*number].len() as u16,
        });
        Self { allowed, windows: windows.collect() }
    }

    /// The windows that may stand at a place of a text: what the tables say.
    #[inline]
    fn at(&self, text: &[u8], at: usize) -> u64 {
        let mut left = u64::MAX;
        for (place, allowed) in &self.allowed {
            let Some(byte) = text.get(at + place) else { continue };
            left &= allowed[usize::from(*byte)];
            // Usually none is left after a few places.
            if left == 0 {
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
    /// By the sieve's buckets.
    groups: Vec<Group>,
}

impl Search {
    fn new(windows: &[Window]) -> Self {
        let sets = windows.len().div_ceil(CROWDED).clamp(1, SETS);
        let clusters = buckets::clusters(windows, sets * BUCKETS);
        Self {
            sieve: Sieve::new(&clusters),
            groups: clusters.iter().map(|cluster| Group::new(windows, cluster)).collect(),
        }
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
    /// A place in each window and the window's number, ascending.
    list: Vec<(u32, u16)>,
    /// For each [`PAGE`] of the request up to the last with a window, how many windows come before it.
    pages: Vec<u32>,
    /// The list is complete before this offset.
    until: usize,
}

impl Found {
    fn note(&mut self, at: usize, slot: u16) {
        if self.list.len() < MOST_FOUND {
            if self.pages.len() <= at / PAGE {
                self.pages.resize(at / PAGE + 1, self.list.len() as u32);
            }
            self.list.push((at as u32, slot));
        } else {
            // A place after the last that is remembered may be dropped; the whole place is, then.
            self.until = self.until.min(at);
        }
    }

    /// The place in the list from which on [`Self::has`] is asked about parts from `start` on.
    #[inline]
    pub(crate) fn cursor(&self, start: usize) -> usize {
        self.pages.get(start / PAGE).map_or(self.list.len(), |from| *from as usize)
    }

    /// Whether something was found in a part of the request, or may have been. Parts come in their order, and the
    /// cursor moves on with them.
    #[inline]
    pub(crate) fn has(&self, cursor: &mut usize, part: &Range<usize>) -> bool {
        let before = |end: usize| move |(at, _): &(u32, u16)| (*at as usize) < end;
        while self.list.get(*cursor).is_some_and(before(part.start)) {
            *cursor += 1;
        }
        part.end > self.until || self.list.get(*cursor).is_some_and(before(part.end))
    }

    /// What was found in a part of the request: where, and which window. A window may begin before the part or end
    /// after it.
    #[inline]
    fn part(&self, part: Range<usize>) -> impl Iterator<Item = (u32, u16)> {
        let list = self.list[self.cursor(part.start)..].iter().copied();
        let (start, end) = (part.start as u32, part.end as u32);
        list.skip_while(move |(at, _)| *at < start).take_while(move |(at, _)| *at < end)
    }
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
            let slot = self.known.iter().position(|known| known == window);
            let slot = slot.unwrap_or(self.known.len());
            if slot == WORDS * 64 {
                return None;
            }
            hits.add(slot as u16);
            if slot == self.known.len() {
                self.known.push(window.clone());
                self.search = OnceLock::new();
            }
        }
        (!windows.is_empty()).then_some(hits)
    }

    /// The windows that the text holds.
    pub(crate) fn hits(&self, text: &[u8]) -> Hits {
        let mut hits = Hits::default();
        self.each(text, |slot| hits.add(slot));
        hits
    }

    /// Shows `found` the number of each window in the text.
    pub(crate) fn each(&self, text: &[u8], mut found: impl FnMut(u16)) {
        self.scan(text, |_, slot| found(slot));
    }

    /// Finds all windows in a request.
    pub(crate) fn find(&self, request: &[u8], found: &mut Found) {
        found.list.clear();
        found.pages.clear();
        found.until = request.len();
        self.scan(request, |at, slot| found.note(at, slot));
    }

    /// The windows in a part of the request that was searched last, and perhaps those that only reach into it.
    #[inline]
    pub(crate) fn within(&self, request: &[u8], found: &Found, part: Range<usize>) -> Hits {
        let mut hits = Hits::default();
        self.each_within(request, found, part, |slot| hits.add(slot));
        hits
    }

    /// The same, shown one by one.
    #[inline]
    pub(crate) fn each_within(
        &self,
        request: &[u8],
        found: &Found,
        part: Range<usize>,
        mut show: impl FnMut(u16),
    ) {
        if part.end > found.until {
            return self.each(&request[part], show);
        }
        found.part(part).for_each(|(_, slot)| show(slot));
    }

    /// Shows `found` a place in each window of the text, in the order of these places, and the window's number.
    #[inline]
    fn scan(&self, text: &[u8], mut found: impl FnMut(usize, u16)) {
        if self.known.is_empty() {
            return;
        }
        let search = self.search();
        search.sieve.sift(text, |at, buckets| self.look(search, text, at, buckets, &mut found));
    }

    /// Shows `found` the windows that stand where these buckets may have one.
    #[inline]
    fn look(
        &self,
        search: &Search,
        text: &[u8],
        at: usize,
        mut buckets: u32,
        found: &mut impl FnMut(usize, u16),
    ) {
        while buckets != 0 {
            let group = &search.groups[buckets.trailing_zeros() as usize];
            let left = group.at(text, at);
            if left != 0 {
                self.confirm(group, left, text, at, found);
            }
            buckets &= buckets - 1;
        }
    }

    /// Shows `found` those of these windows that stand there whole.
    #[inline(never)]
    fn confirm(
        &self,
        group: &Group,
        mut left: u64,
        text: &[u8],
        at: usize,
        found: &mut impl FnMut(usize, u16),
    ) {
        while left != 0 {
            let placed = group.windows[left.trailing_zeros() as usize];
            if self.stands(text, at, placed) {
                found(at, placed.slot);
            }
            left &= left - 1;
        }
    }

    /// Whether a window stands in a text, of whose places those in the tables do from `at` on.
    #[inline]
    fn stands(&self, text: &[u8], at: usize, Placed { slot, cut, length }: Placed) -> bool {
        let (cut, length) = (usize::from(cut), usize::from(length));
        let Some(text) = at.checked_sub(cut).and_then(|from| text.get(from..from + length)) else {
            return false;
        };
        if cut == 0 && length <= TABLES {
            return true;
        }
        let window = &self.known[usize::from(slot)];
        let fits = |places: Range<usize>| {
            places.clone().zip(&text[places]).all(|(place, byte)| window[place].has(*byte))
        };
        fits(0..cut) && fits((cut + TABLES).min(length)..length)
    }

    /// Makes ready to search, which takes some milliseconds where there are hundreds of windows.
    pub(crate) fn prepare(&self) {
        self.search();
    }

    fn search(&self) -> &Search {
        self.search.get_or_init(|| Search::new(&self.known))
    }

    /// As [`Self::hits`], window by window at each byte.
    #[cfg(test)]
    pub(super) fn step(&self, text: &[u8], hits: &mut Hits) {
        for (slot, window) in self.known.iter().enumerate() {
            let stands = |text: &[u8]| text.iter().zip(window).all(|(byte, set)| set.has(*byte));
            if text.windows(window.len()).any(stands) {
                hits.add(slot as u16);
            }
        }
    }
}
