//! The sieve before the gate: at which places of a text a window may begin, 32 of them at a time.
//!
//! Windows are dealt out to eight buckets, the bits of a byte. For each place in the windows, two tables of 16
//! say which buckets allow a byte's low and its high half there; shuffles look them up for 32 bytes at once, and
//! most blocks are done after the first stride of places. Both halves together may allow more than the window does,
//! and a bucket more than its windows, never less: the gate looks closely at what passes.
//!
//! This is "Teddy" (Hyperscan, Wang et al., NSDI 2019) with sets in place of literals.

// The only file of the scrubber with unsafe code: a call of a function compiled for AVX2, and its loads.
#![allow(unsafe_code)]

use std::ops::Range;

use super::buckets::{Cluster, PLACES};

/// Positions that are looked at together.
const BLOCK: usize = 32;
/// Places after which it looks whether anything is left; with one set of buckets, their tables stay in registers.
const STRIDE: usize = PLACES / 2;
/// Bytes that a block needs: a window may begin at the last of its positions.
const REACH: usize = BLOCK + PLACES;
/// Buckets that a byte has bits for: those of a set.
pub(super) const BUCKETS: usize = 8;
/// Most sets: each costs as much as the first.
pub(super) const SETS: usize = 3;

/// One place of a set of buckets. Tables stand twice, since the instruction looks up each 16 bytes by themselves.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    low: [u8; BLOCK],
    high: [u8; BLOCK],
}

/// The windows of a gate, in sets of buckets.
#[derive(Clone, Debug, Default)]
pub(super) struct Sieve {
    sets: Vec<[Place; PLACES]>,
}

impl Sieve {
    /// Adds a set, one of at most [`SETS`], of at most [`BUCKETS`].
    pub(super) fn add(&mut self, buckets: &[Cluster]) {
        let mut places = [Place::default(); PLACES];
        for (at, place) in places.iter_mut().enumerate() {
            for (number, bucket) in buckets.iter().enumerate() {
                for half in 0..BLOCK {
                    let bit = |halves: u16| ((halves >> (half % 16) & 1) as u8) << number;
                    place.low[half] |= bit(bucket.halves.low[at]);
                    place.high[half] |= bit(bucket.halves.high[at]);
                }
            }
        }
        self.sets.push(places);
    }

    /// Shows `found` every position of `range`, ascending, at which a window may begin, with a bit for each set of
    /// which one may; it may look at what follows the range. `false`, and nothing shown, where this CPU can't.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    pub(super) fn sift(&self, text: &[u8], range: Range<usize>, found: impl FnMut(usize, u32)) -> bool {
        if !is_x86_feature_detected!("avx2") {
            return false;
        }
        // SAFETY: the functions need nothing but a CPU with AVX2, and this is one.
        unsafe {
            match &self.sets[..] {
                [only] => one(only, text, range, found),
                sets => many(sets, text, range, found),
            }
        }
        true
    }

    /// As above: there is no such code for this CPU.
    #[cfg(not(target_arch = "x86_64"))]
    pub(super) fn sift(&self, _: &[u8], _: Range<usize>, _: impl FnMut(usize, u32)) -> bool {
        false
    }
}

/// A plan with few patterns.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn one(set: &[Place; PLACES], text: &[u8], range: Range<usize>, mut found: impl FnMut(usize, u32)) {
    use std::arch::x86_64::{_mm256_set1_epi8, _mm256_testz_si256};
    let [first @ .., _, _, _, _] = set;
    let first = tables(first);
    let mut at = range.start;
    let mut padded = [0; REACH];
    while at < range.end {
        let block = block(text, at, &mut padded);
        let left = begins(&first, block, 0, _mm256_set1_epi8(-1));
        if _mm256_testz_si256(left, left) == 0 {
            let mut left = rest(set, block, left) & within(&range, at);
            while left != 0 {
                found(at + left.trailing_zeros() as usize, 1);
                left &= left - 1;
            }
        }
        at += BLOCK;
    }
}

/// A plan with many.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn many(sets: &[[Place; PLACES]], text: &[u8], range: Range<usize>, mut found: impl FnMut(usize, u32)) {
    use std::arch::x86_64::{_mm256_set1_epi8, _mm256_testz_si256};
    let mut at = range.start;
    let mut padded = [0; REACH];
    while at < range.end {
        let block = block(text, at, &mut padded);
        let (mut all, mut each) = (0, [0; SETS]);
        for (set, positions) in sets.iter().zip(&mut each) {
            let [first @ .., _, _, _, _] = set;
            let left = begins(&tables(first), block, 0, _mm256_set1_epi8(-1));
            if _mm256_testz_si256(left, left) == 0 {
                *positions = rest(set, block, left);
                all |= *positions;
            }
        }
        all &= within(&range, at);
        while all != 0 {
            let position = all.trailing_zeros();
            let sets = each.iter().rev().fold(0, |sets, positions| sets << 1 | positions >> position & 1);
            found(at + position as usize, sets);
            all &= all - 1;
        }
        at += BLOCK;
    }
}

/// The bytes that a block at this place needs. Where fewer are left, there are zeros after them: they can only let
/// more through.
#[inline]
fn block<'t>(text: &'t [u8], at: usize, padded: &'t mut [u8; REACH]) -> &'t [u8; REACH] {
    let rest = &text[at..];
    if let Some(block) = rest.first_chunk() {
        return block;
    }
    *padded = [0; REACH];
    padded[..rest.len()].copy_from_slice(rest);
    padded
}

/// The positions of a block that lie in the range.
#[inline]
fn within(range: &Range<usize>, at: usize) -> u32 {
    if range.end - at < BLOCK { (1 << (range.end - at)) - 1 } else { u32::MAX }
}

/// Looks at the second stride where the first left these buckets: a bit for each position at which a window may
/// begin. It is a call, so that its tables take no register from those of the first.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline(never)]
fn rest(set: &[Place; PLACES], block: &[u8; REACH], left: std::arch::x86_64::__m256i) -> u32 {
    use std::arch::x86_64::{_mm256_cmpeq_epi8, _mm256_movemask_epi8, _mm256_setzero_si256};
    let [_, _, _, _, second @ ..] = set;
    let left = begins(&tables(second), block, STRIDE, left);
    !_mm256_movemask_epi8(_mm256_cmpeq_epi8(left, _mm256_setzero_si256())).cast_unsigned()
}

/// The tables of one stride, in registers.
#[cfg(target_arch = "x86_64")]
type Tables = [(std::arch::x86_64::__m256i, std::arch::x86_64::__m256i); STRIDE];

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
fn tables([a, b, c, d]: &[Place; STRIDE]) -> Tables {
    // No closure: one would not be compiled for AVX2.
    [
        (load(&a.low), load(&a.high)),
        (load(&b.low), load(&b.high)),
        (load(&c.low), load(&c.high)),
        (load(&d.low), load(&d.high)),
    ]
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
fn load(bytes: &[u8; BLOCK]) -> std::arch::x86_64::__m256i {
    // SAFETY: the reference is to 32 bytes, and the load asks for no alignment.
    unsafe { std::arch::x86_64::_mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// Of the buckets `left` for each of the first 32 positions, those of which a window may begin there by the stride's
/// places. The first of these is number `from`.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
fn begins(
    tables: &Tables,
    text: &[u8; REACH],
    from: usize,
    mut left: std::arch::x86_64::__m256i,
) -> std::arch::x86_64::__m256i {
    use std::arch::x86_64::{_mm256_and_si256, _mm256_set1_epi8, _mm256_shuffle_epi8, _mm256_srli_epi16};
    let half = _mm256_set1_epi8(0x0f);
    for (at, (low, high)) in tables.iter().enumerate() {
        let Some(bytes) = text[from + at..].first_chunk() else { break };
        let bytes = load(bytes);
        let low = _mm256_shuffle_epi8(*low, _mm256_and_si256(bytes, half));
        let high = _mm256_shuffle_epi8(*high, _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), half));
        left = _mm256_and_si256(left, _mm256_and_si256(low, high));
    }
    left
}
