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

use super::pattern::window::{self, ByteSet};

/// Positions that are looked at together.
const BLOCK: usize = 32;
/// Places after which it looks whether anything is left; their tables stay in registers.
const STRIDE: usize = 4;
/// Places of a window that are looked at.
pub(super) const PLACES: usize = 2 * STRIDE;
/// Bytes that a block needs: a window may begin at the last of its positions.
const REACH: usize = BLOCK + PLACES;
/// Windows that a byte has bits for.
const BUCKETS: usize = 8;

/// One place of all windows. Tables stand twice, since the instruction looks up each 16 bytes by themselves.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    low: [u8; BLOCK],
    high: [u8; BLOCK],
}

impl Place {
    fn add(&mut self, bucket: usize, set: Option<&ByteSet>) {
        // After its end, a window allows anything.
        for byte in (0..=255u8).filter(|byte| set.is_none_or(|set| set.has(*byte))) {
            for half in [0, BLOCK / 2] {
                self.low[half + usize::from(byte & 15)] |= 1 << bucket;
                self.high[half + usize::from(byte >> 4)] |= 1 << bucket;
            }
        }
    }

    /// How often a byte of telemetry passes here for this bucket.
    fn chance(&self, bucket: usize) -> f64 {
        let passes = |byte: &u8| {
            (self.low[usize::from(byte & 15)] & self.high[usize::from(byte >> 4)]) >> bucket & 1 == 1
        };
        (0..=255u8).filter(passes).map(window::share).sum()
    }
}

/// The windows of a gate.
#[derive(Clone, Debug, Default)]
pub(super) struct Sieve {
    places: [Place; PLACES],
}

impl Sieve {
    /// Adds a window, to the bucket that lets the fewest more positions through for it.
    pub(super) fn add(&mut self, window: &[ByteSet]) {
        let chance = |places: &[Place], bucket| places.iter().map(|at| at.chance(bucket)).product::<f64>();
        let best = (0..BUCKETS)
            .map(|bucket| {
                let mut places = self.places;
                for (at, place) in places.iter_mut().enumerate() {
                    place.add(bucket, window.get(at));
                }
                (chance(&places, bucket) - chance(&self.places, bucket), places)
            })
            .min_by(|(a, _), (b, _)| a.total_cmp(b));
        if let Some((_, places)) = best {
            self.places = places;
        }
    }

    /// Shows `found` every position of `range`, ascending, at which a window may begin; it may look at what follows
    /// the range. `false`, and nothing shown, where this CPU can't.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    pub(super) fn sift(&self, text: &[u8], range: Range<usize>, found: impl FnMut(usize)) -> bool {
        if !is_x86_feature_detected!("avx2") {
            return false;
        }
        // SAFETY: the function needs nothing but a CPU with AVX2, and this is one.
        unsafe { self.blocks(text, range, found) };
        true
    }

    /// As above: there is no such code for this CPU.
    #[cfg(not(target_arch = "x86_64"))]
    pub(super) fn sift(&self, _: &[u8], _: Range<usize>, _: impl FnMut(usize)) -> bool {
        false
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn blocks(&self, text: &[u8], range: Range<usize>, mut found: impl FnMut(usize)) {
        use std::arch::x86_64::{_mm256_set1_epi8, _mm256_testz_si256};
        let [first @ .., _, _, _, _] = &self.places;
        let first = tables(first);
        let mut at = range.start;
        let mut padded: [u8; REACH];
        while at < range.end {
            let block = if let Some(block) = text[at..].first_chunk() {
                block
            } else {
                // What is left is shorter than a block needs; zeros after the end can only let more through.
                padded = [0; REACH];
                padded[..text.len() - at].copy_from_slice(&text[at..]);
                &padded
            };
            let left = begins(&first, block, 0, _mm256_set1_epi8(-1));
            if _mm256_testz_si256(left, left) == 0 {
                let mut left = self.rest(block, left);
                if range.end - at < BLOCK {
                    left &= (1 << (range.end - at)) - 1;
                }
                while left != 0 {
                    found(at + left.trailing_zeros() as usize);
                    left &= left - 1;
                }
            }
            at += BLOCK;
        }
    }

    /// Looks at the second stride where the first left these buckets: a bit for each position at which a window may
    /// begin. It is a call, so that its tables take no register from those of the first.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    #[inline(never)]
    fn rest(&self, block: &[u8; REACH], left: std::arch::x86_64::__m256i) -> u32 {
        use std::arch::x86_64::{_mm256_cmpeq_epi8, _mm256_movemask_epi8, _mm256_setzero_si256};
        let [_, _, _, _, second @ ..] = &self.places;
        let left = begins(&tables(second), block, STRIDE, left);
        !_mm256_movemask_epi8(_mm256_cmpeq_epi8(left, _mm256_setzero_si256())).cast_unsigned()
    }
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
#[expect(clippy::cast_ptr_alignment, reason = "for a load that asks for no alignment")]
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
