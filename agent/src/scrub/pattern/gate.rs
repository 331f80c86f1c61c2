//! The gate: which patterns can match a text at all, found in one pass over its bytes.
//!
//! All windows of a plan stand side by side in the bits of a word, and the word is stepped a byte at a time (the
//! shift-and algorithm: Baeza-Yates and Gonnet, 1992). Four stretches of the text are stepped at once, because one
//! stretch alone would wait for the previous step's result. It may let through what does not match, never the
//! opposite.

use super::{PatternId, Patterns, window::Window};
use crate::scrub::sieve::Sieve;

/// Words of state: 64 bits of windows each.
const WORDS: usize = 20;
/// Below this many bytes one stretch is as fast as four, and the sieve costs more than it saves; and a quarter
/// must be longer than any window.
const SHORT: usize = 64;

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
}

/// One word of windows.
#[derive(Clone, Debug)]
struct Group {
    /// For each byte, the positions it may stand at.
    allowed: Box<[u64; 256]>,
    /// First positions.
    first: u64,
    /// Last positions.
    last: u64,
    /// Positions used.
    used: u32,
    /// Longest window: how far two stretches overlap, plus one.
    longest: usize,
}

/// The windows of many patterns.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate {
    groups: Vec<Group>,
    /// Each window with its group and its last position's bit there: two that look for the same share it.
    known: Vec<(Window, usize, u64)>,
    sieve: Sieve,
}

/// A pattern behind a gate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gated {
    /// The pattern.
    pub(crate) pattern: PatternId,
    /// The hits that call for it; `None`: always.
    pub(crate) windows: Option<Hits>,
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
            if let Some((_, index, last)) = self.known.iter().find(|(known, ..)| known == window) {
                hits.0[*index] |= last;
                continue;
            }
            let length = window.len() as u32;
            let room = self.groups.iter().position(|group| group.used + length <= 64);
            let index = match room {
                Some(index) => index,
                None if self.groups.len() < WORDS => {
                    self.groups.push(Group {
                        allowed: Box::new([0; 256]),
                        first: 0,
                        last: 0,
                        used: 0,
                        longest: 0,
                    });
                    self.groups.len() - 1
                }
                None => return None,
            };
            let group = &mut self.groups[index];
            for (i, set) in window.iter().enumerate() {
                for byte in 0..=255u8 {
                    if set.has(byte) {
                        group.allowed[usize::from(byte)] |= 1 << (group.used + i as u32);
                    }
                }
            }
            group.first |= 1 << group.used;
            group.used += length;
            group.last |= 1 << (group.used - 1);
            group.longest = group.longest.max(window.len());
            let last = 1 << (group.used - 1);
            hits.0[index] |= last;
            self.known.push((window.clone(), index, last));
            self.sieve.add(window);
        }
        (!windows.is_empty()).then_some(hits)
    }

    /// The windows that the text holds.
    pub(crate) fn hits(&self, text: &[u8]) -> Hits {
        let mut hits = Hits::default();
        let sifted = text.len() >= SHORT && self.sieve.sift(text, |range| self.step(&text[range], &mut hits));
        if !sifted {
            self.step(text, &mut hits);
        }
        hits
    }

    /// Adds the windows that the text holds, found a byte at a time.
    pub(super) fn step(&self, text: &[u8], hits: &mut Hits) {
        for (word, group) in hits.0.iter_mut().zip(&self.groups) {
            *word |= if text.len() < SHORT { group.one(text) } else { group.four(text) };
        }
    }
}

impl Group {
    fn one(&self, text: &[u8]) -> u64 {
        let (mut state, mut seen) = (0u64, 0u64);
        for byte in text {
            state = ((state << 1) | self.first) & self.allowed[usize::from(*byte)];
            seen |= state;
        }
        seen & self.last
    }

    /// Four stretches; each of the first three goes on into the next for a window less one byte, so that none is
    /// missed between them.
    fn four(&self, text: &[u8]) -> u64 {
        let quarter = text.len() / 4;
        let (a, rest) = text.split_at(quarter);
        let (b, rest) = rest.split_at(quarter);
        let (c, d) = rest.split_at(quarter);
        let mut state = [0u64; 4];
        let mut seen = 0u64;
        let step = |state: u64, byte: u8| ((state << 1) | self.first) & self.allowed[usize::from(byte)];
        for (((a, b), c), d) in a.iter().zip(b).zip(c).zip(d) {
            state = [step(state[0], *a), step(state[1], *b), step(state[2], *c), step(state[3], *d)];
            seen |= state[0] | state[1] | state[2] | state[3];
        }
        for ((a, b), c) in b.iter().zip(c).zip(d).take(self.longest - 1) {
            state = [step(state[0], *a), step(state[1], *b), step(state[2], *c), state[3]];
            seen |= state[0] | state[1] | state[2];
        }
        for byte in &d[quarter..] {
            state[3] = step(state[3], *byte);
            seen |= state[3];
        }
        seen & self.last
    }
}
