//! The sieve before the gate: which stretches of a text can hold a window at all, 32 positions at a time.
//!
//! Windows are dealt out to eight buckets, the bits of a byte. For each place in the windows, two tables of 16
//! say which buckets allow a byte's low and its high half there; shuffles look them up for 32 bytes at once, and
//! most stretches are done after a few places. Both halves together may allow more than the window does, and a
//! bucket more than its windows, never less: the gate looks closely at what passes.
//!
//! This is "Teddy" (Hyperscan, Wang et al., NSDI 2019) with sets in place of literals.

// The only file of the scrubber with unsafe code: a call of a function compiled for AVX2, and its loads.
#![allow(unsafe_code)]

use std::ops::Range;

use super::pattern::window::{ByteSet, LONGEST, Window};

/// Positions that are looked at together.
const BLOCK: usize = 32;
/// Bytes that these need: a window may begin at the last of them.
const REACH: usize = BLOCK + LONGEST;
/// Windows that a byte has bits for.
const BUCKETS: usize = 8;
/// Places after which it looks whether anything is left.
const STRIDE: usize = 4;

/// One place of all windows. Tables stand twice, since the instruction looks up each 16 bytes by themselves.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    low: [u8; BLOCK],
    high: [u8; BLOCK],
}

/// The windows of a gate.
#[derive(Clone, Debug, Default)]
pub(super) struct Sieve {
    buckets: [Vec<Window>; BUCKETS],
    windows: usize,
    places: [Place; LONGEST],
    /// Strides of places that tell something.
    strides: usize,
}

impl Sieve {
    /// Adds a window of at most [`LONGEST`] places.
    pub(super) fn add(&mut self, window: &[ByteSet]) {
        self.buckets[self.windows % BUCKETS].push(window.to_vec());
        self.windows += 1;
        for place in 0..LONGEST {
            self.places[place] = self.tables(place);
        }
        let shortest = |bucket: &Vec<Window>| bucket.iter().map(Vec::len).min().unwrap_or(0);
        self.strides = self.buckets.iter().map(shortest).max().unwrap_or(0).div_ceil(STRIDE);
    }

    fn tables(&self, at: usize) -> Place {
        let mut place = Place::default();
        for (number, bucket) in self.buckets.iter().enumerate() {
            let bit = 1 << number;
            let allows = |byte: u8| {
                // After its end, a window allows anything.
                bucket.iter().any(|window| window.get(at).is_none_or(|set| set.has(byte)))
            };
            for byte in (0..=255u8).filter(|byte| allows(*byte)) {
                for half in [0, BLOCK / 2] {
                    place.low[half + usize::from(byte & 15)] |= bit;
                    place.high[half + usize::from(byte >> 4)] |= bit;
                }
            }
        }
        place
    }

    /// Shows `found` every stretch of the text that may hold a window. `false`, and nothing shown, where this CPU
    /// can't.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn sift(&self, text: &[u8], found: impl FnMut(Range<usize>)) -> bool {
        if !is_x86_feature_detected!("avx2") {
            return false;
        }
        // SAFETY: the function needs nothing but a CPU with AVX2, and this is one.
        unsafe { self.blocks(text, found) };
        true
    }

    /// As above: there is no such code for this CPU.
    #[cfg(not(target_arch = "x86_64"))]
    pub(super) fn sift(&self, _: &[u8], _: impl FnMut(Range<usize>)) -> bool {
        false
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn blocks(&self, text: &[u8], mut found: impl FnMut(Range<usize>)) {
        let mut at = 0;
        while let Some(block) = text[at..].first_chunk() {
            if self.block(block) {
                found(at..at + REACH - 1);
            }
            at += BLOCK;
        }
        // What is left is shorter than a block needs; zeros after the end can only let more through.
        let rest = &text[at..];
        let mut padded = [0; BLOCK + REACH];
        padded[..rest.len()].copy_from_slice(rest);
        for start in (0..rest.len()).step_by(BLOCK) {
            if padded[start..].first_chunk().is_some_and(|block| self.block(block)) {
                found(at + start..text.len().min(at + start + REACH - 1));
            }
        }
    }

    /// Whether a window may begin in the first 32 bytes.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    #[inline]
    #[expect(clippy::cast_ptr_alignment, reason = "for a load that asks for no alignment")]
    fn block(&self, text: &[u8; REACH]) -> bool {
        use std::arch::x86_64::{
            __m256i, _mm256_and_si256, _mm256_loadu_si256, _mm256_set1_epi8, _mm256_shuffle_epi8,
            _mm256_srli_epi16, _mm256_testz_si256,
        };
        // SAFETY: the reference is to 32 bytes, and the load asks for no alignment.
        let load = |bytes: &[u8; BLOCK]| unsafe { _mm256_loadu_si256(bytes.as_ptr().cast::<__m256i>()) };
        let half = _mm256_set1_epi8(0x0f);
        let mut left = _mm256_set1_epi8(-1);
        let (strides, _) = self.places.as_chunks::<STRIDE>();
        for (number, places) in strides.iter().enumerate().take(self.strides) {
            for (i, place) in places.iter().enumerate() {
                let Some(bytes) = text[number * STRIDE + i..].first_chunk() else { return true };
                let bytes = load(bytes);
                let low = _mm256_and_si256(bytes, half);
                let high = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), half);
                let low = _mm256_shuffle_epi8(load(&place.low), low);
                let high = _mm256_shuffle_epi8(load(&place.high), high);
                left = _mm256_and_si256(left, _mm256_and_si256(low, high));
            }
            if _mm256_testz_si256(left, left) == 1 {
                return false;
            }
        }
        true
    }
}
