//! The sieve before the gate: at which places of a text a window may begin, 64 of them at a time.
//!
//! Windows are dealt out to buckets, eight to a set, the bits of a byte. For each place in the windows, two tables of
//! 16 say which buckets allow a byte's low and its high half there; shuffles look them up for 32 bytes at once. Both
//! halves together may allow more than the window does, and a bucket more than its windows, never less: the gate looks
//! closely at what passes.
//!
//! This is "Teddy" (Hyperscan, Wang et al., NSDI 2019) with sets in place of literals.

// The only file of the scrubber with unsafe code: a call of a function compiled for AVX2, and its loads.
#![allow(unsafe_code)]

use super::buckets::{Cluster, PLACES};

/// Bytes of a register.
const BLOCK: usize = 32;
/// Registers that are looked at together: each table that is loaded serves both.
const PAIR: usize = 2;
/// Bytes that so many registers need: a window may begin at the last position.
const REACH: usize = PAIR * BLOCK + PLACES;
/// Buckets that a byte has bits for: those of a set.
pub(super) const BUCKETS: usize = 8;
/// Most sets: each costs nearly as much as the first.
pub(super) const SETS: usize = 3;

/// One place of a set of buckets. Tables stand twice, since the instruction looks up each 16 bytes by themselves.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    low: [u8; BLOCK],
    high: [u8; BLOCK],
}

/// A set of buckets.
type Set = [Place; PLACES];

/// The windows of a gate, in sets of buckets.
#[derive(Clone, Debug, Default)]
pub(super) struct Sieve {
    sets: Vec<Set>,
}

impl Sieve {
    /// Takes at most [`SETS`] times [`BUCKETS`].
    pub(super) fn new(buckets: &[Cluster]) -> Self {
        Self { sets: buckets.chunks(BUCKETS).map(set).collect() }
    }

    /// Shows `found` every position at which a window may begin, ascending, with a bit for each bucket of which one
    /// may.
    #[inline]
    pub(super) fn sift(&self, text: &[u8], found: impl FnMut(usize, u32)) {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the functions need nothing but a CPU with AVX2, and this is one.
            unsafe {
                match &self.sets[..] {
                    [] => {}
                    [a] => sift_sets([a], text, found),
                    [a, b] => sift_sets([a, b], text, found),
                    [a, b, c, ..] => sift_sets([a, b, c], text, found),
                }
            }
            return;
        }
        self.step(text, found);
    }

    /// The same, byte by byte.
    pub(super) fn step(&self, text: &[u8], mut found: impl FnMut(usize, u32)) {
        for at in 0..text.len() {
            let mut buckets = 0;
            for (number, set) in self.sets.iter().enumerate() {
                let allows = |(place, tables): (usize, &Place)| {
                    let byte = text.get(at + place).copied().unwrap_or(0);
                    tables.low[usize::from(byte & 15)] & tables.high[usize::from(byte >> 4)]
                };
                let left = set.iter().enumerate().map(allows).fold(u8::MAX, |all, one| all & one);
                buckets |= u32::from(left) << (number * BUCKETS);
            }
            if buckets != 0 {
                found(at, buckets);
            }
        }
    }
}

fn set(buckets: &[Cluster]) -> Set {
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
    places
}

/// Where windows may begin among the positions that are looked at together: the position, and a bit for each bucket.
#[cfg(target_arch = "x86_64")]
type Spots = [(u32, u32); PAIR * BLOCK];

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn sift_sets<const N: usize>(sets: [&Set; N], text: &[u8], mut found: impl FnMut(usize, u32)) {
    let mut spots = [(0, 0); PAIR * BLOCK];
    let mut padded = [0; REACH];
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let count = if let Some(block) = rest.first_chunk() {
            blocks::<N, PAIR>(sets, block, PAIR * BLOCK, &mut spots)
        } else {
            // Zeros after the end can only let more through.
            let end = rest.len();
            padded[..end].copy_from_slice(rest);
            padded[end..].fill(0);
            match end {
                ..=BLOCK => blocks::<N, 1>(sets, &padded, end, &mut spots),
                _ => blocks::<N, PAIR>(sets, &padded, end.min(PAIR * BLOCK), &mut spots),
            }
        };
        for (position, buckets) in &spots[..count] {
            found(at + *position as usize, *buckets);
        }
        at += PAIR * BLOCK;
    }
}

/// Looks at the first `length` bytes, of at most `W` registers. Returns how many spots there are.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn blocks<const N: usize, const W: usize>(
    sets: [&Set; N],
    text: &[u8; REACH],
    length: usize,
    spots: &mut Spots,
) -> usize {
    use std::arch::x86_64::{
        _mm256_and_si256, _mm256_cmpeq_epi8, _mm256_movemask_epi8, _mm256_or_si256, _mm256_set1_epi8,
        _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_srli_epi16,
    };
    let half = _mm256_set1_epi8(0x0f);
    let mut left = [[_mm256_set1_epi8(-1); W]; N];
    // No closures: one would not be compiled for AVX2.
    for place in 0..PLACES {
        let mut halves = [[_mm256_setzero_si256(); 2]; W];
        for (block, [low, high]) in halves.iter_mut().enumerate() {
            let bytes =
                text[block * BLOCK + place..].first_chunk().expect("the last block's places end in REACH");
            let bytes = load(bytes);
            *low = _mm256_and_si256(bytes, half);
            *high = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), half);
        }
        for (set, left) in sets.iter().zip(&mut left) {
            let Place { low: lows, high: highs } = &set[place];
            let (lows, highs) = (load(lows), load(highs));
            for (left, [low, high]) in left.iter_mut().zip(&halves) {
                let allowed =
                    _mm256_and_si256(_mm256_shuffle_epi8(lows, *low), _mm256_shuffle_epi8(highs, *high));
                *left = _mm256_and_si256(*left, allowed);
            }
        }
    }
    let zero = _mm256_setzero_si256();
    let mut positions = 0;
    for block in 0..W {
        let mut any = zero;
        for left in &left {
            any = _mm256_or_si256(any, left[block]);
        }
        let none = _mm256_movemask_epi8(_mm256_cmpeq_epi8(any, zero)).cast_unsigned();
        positions |= u64::from(!none) << (block * BLOCK);
    }
    if length < PAIR * BLOCK {
        positions &= !(u64::MAX << length);
    }
    if positions == 0 {
        return 0;
    }
    let mut buckets = [[0; PAIR * BLOCK]; N];
    for block in 0..W {
        for (left, bytes) in left.iter().zip(&mut buckets) {
            let bytes =
                bytes[block * BLOCK..].first_chunk_mut().expect("there are W blocks, of at most PAIR");
            store(bytes, left[block]);
        }
    }
    let mut count = 0;
    while positions != 0 {
        let position = positions.trailing_zeros();
        let mut all = 0;
        for (number, bytes) in buckets.iter().enumerate() {
            all |= u32::from(bytes[position as usize]) << (number * BUCKETS);
        }
        spots[count] = (position, all);
        count += 1;
        positions &= positions - 1;
    }
    count
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
fn load(bytes: &[u8; BLOCK]) -> std::arch::x86_64::__m256i {
    // SAFETY: the reference is to 32 bytes, and the load asks for no alignment.
    unsafe { std::arch::x86_64::_mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
fn store(bytes: &mut [u8; BLOCK], register: std::arch::x86_64::__m256i) {
    // SAFETY: the reference is to 32 bytes, and the store asks for no alignment.
    unsafe { std::arch::x86_64::_mm256_storeu_si256(bytes.as_mut_ptr().cast(), register) }
}
