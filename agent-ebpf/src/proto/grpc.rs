//! A gRPC message that is built like an OTLP request: the last evidence when the path cannot be read.

/// The message nests as an export request does.
pub(super) const OTLP_LIKE: u32 = 1;
/// A gRPC message, whose contents are compressed or something else.
pub(super) const GRPC: u32 = 2;
/// Nothing but the prefix is there.
pub(super) const PREFIX_ONLY: u32 = 3;
/// No gRPC message.
pub(super) const OTHER: u32 = 4;

/// Bytes of gRPC's prefix: compressed or not, and the message's length.
const PREFIX: u32 = 5;

/// A longer message than any receiver takes (the usual limit is 4 MiB).
const LONGEST_MESSAGE: u32 = 64 << 20;

/// Field 1, length-delimited: what an export request (`resource_spans` and its like), its `resource`, that one's
/// `attributes` and an attribute's `key` are all written as.
const TAG: u32 = 0x0a;

/// Field 2, length-delimited: `scope_spans` and its like, after an empty resource.
const SCOPE_TAG: u32 = 0x12;

/// The bytes, the first in the highest byte of the first word.
struct Bytes {
    words: [u64; 3],
    left: u32,
}

impl Bytes {
    /// From the last `have` bytes (up to 24) of a window whose newest byte is the lowest of the last word.
    #[inline(always)]
    fn of(window: [u64; 3], have: u32) -> Self {
        let [mut high, mut middle, mut low] = window;
        let missing = 24_u32.wrapping_sub(have) & 31;
        if missing >= 8 {
            (high, middle, low) = (middle, low, 0);
        }
        if missing >= 16 {
            (high, middle) = (middle, low);
        }
        let mut bytes = Self { words: [high, middle, low], left: have };
        bytes.shift(missing & 7);
        bytes
    }

    /// Up to seven bytes to the left.
    #[inline(always)]
    fn shift(&mut self, by: u32) {
        let [high, middle, low] = self.words;
        let bits = (by * 8) & 63;
        let other = 63 - bits;
        self.words = [high << bits | middle >> 1 >> other, middle << bits | low >> 1 >> other, low << bits];
    }

    #[inline(always)]
    fn first(&self) -> u32 {
        (self.words[0] >> 56) as u32
    }

    #[inline(always)]
    fn skip(&mut self, bytes: u32) {
        self.shift(bytes);
        self.left = self.left.wrapping_sub(bytes);
    }
}

/// Weighs the first `have` bytes (up to 24; the last one in the lowest byte of the last word) of a message.
#[inline(always)]
pub(super) fn weigh(window: [u64; 3], have: u32, prefixed: bool) -> u32 {
    let mut bytes = Bytes::of(window, have);
    let mut limit = LONGEST_MESSAGE;
    if !prefixed {
        if have < PREFIX {
            return OTHER;
        }
        let compressed = bytes.first();
        limit = (bytes.words[0] >> 24) as u32;
        bytes.skip(PREFIX);
        if compressed > 1 || limit > LONGEST_MESSAGE {
            return OTHER;
        }
        if bytes.left == 0 && limit > 0 {
            return PREFIX_ONLY;
        }
        if compressed == 1 {
            return GRPC;
        }
    }
    if nests(&mut bytes, limit) { OTLP_LIKE } else { GRPC }
}

/// Request, resource, attribute, key: each within the one before, as deep as there are bytes; two levels at least.
///
/// A level has one way on and no loop: a verifier before 6.2 follows every combination of lengths otherwise.
#[inline(always)]
fn nests(bytes: &mut Bytes, mut limit: u32) -> bool {
    let mut depth = 0;
    while depth < 4 {
        if bytes.left == 0 || bytes.left > 24 {
            return depth >= 2;
        }
        let tag = bytes.first();
        if depth == 2 && limit == 0 {
            return tag == SCOPE_TAG;
        }
        if tag != TAG || limit < 2 {
            return false;
        }
        let (length, of_length) = varint((bytes.words[0] >> 24) as u32);
        if of_length > 4 {
            return false;
        }
        let taken = of_length + 1;
        // What is beyond the last byte is zero, which ends a number.
        if taken > bytes.left {
            return depth >= 2;
        }
        if length.wrapping_add(taken) > limit {
            return false;
        }
        bytes.skip(taken);
        limit = length;
        depth += 1;
    }
    // An attribute's key is text.
    let first = bytes.first();
    bytes.left == 0 || first > 0x20 && first < 0x7f
}

/// A number of up to four bytes at the head of these, and how many bytes it has: 5 when it goes on. Without a branch.
#[inline(always)]
fn varint(bytes: u32) -> (u32, u32) {
    // Whether the second, third, fourth and fifth byte belong to it. Hidden from the optimiser, which likes branches.
    let second = core::hint::black_box(bytes >> 31);
    let third = core::hint::black_box(bytes >> 23 & second);
    let fourth = core::hint::black_box(bytes >> 15 & third);
    let fifth = core::hint::black_box(bytes >> 7 & fourth);
    let value = bytes >> 24 & 0x7f
        | ((bytes >> 16 & 0x7f) * second) << 7
        | ((bytes >> 8 & 0x7f) * third) << 14
        | ((bytes & 0x7f) * fourth) << 21;
    (value, 1 + second + third + fourth + fifth)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As one would write it without a verifier.
    fn plainly(message: &[u8], prefixed: bool) -> u32 {
        let mut rest = message;
        let mut limit = LONGEST_MESSAGE;
        if !prefixed {
            if rest.len() < 5 {
                return OTHER;
            }
            limit = u32::from_be_bytes([rest[1], rest[2], rest[3], rest[4]]);
            let compressed = rest[0];
            rest = &rest[5..];
            if compressed > 1 || limit > LONGEST_MESSAGE {
                return OTHER;
            }
            if rest.is_empty() && limit > 0 {
                return PREFIX_ONLY;
            }
            if compressed == 1 {
                return GRPC;
            }
        }
        if nests_plainly(rest, limit) { OTLP_LIKE } else { GRPC }
    }

    fn nests_plainly(mut rest: &[u8], mut limit: u32) -> bool {
        for depth in 0..4 {
            let Some((tag, after)) = rest.split_first() else { return depth >= 2 };
            if depth == 2 && limit == 0 {
                return u32::from(*tag) == SCOPE_TAG;
            }
            if u32::from(*tag) != TAG || limit < 2 {
                return false;
            }
            rest = after;
            let (mut length, mut taken, mut ended) = (0, 1, false);
            for shift in [0, 7, 14, 21] {
                let Some((byte, after)) = rest.split_first() else { return depth >= 2 };
                rest = after;
                length |= u32::from(byte & 0x7f) << shift;
                taken += 1;
                if byte & 0x80 == 0 {
                    ended = true;
                    break;
                }
            }
            if !ended || length + taken > limit {
                return false;
            }
            limit = length;
        }
        rest.first().is_none_or(|first| *first > 0x20 && *first < 0x7f)
    }

    fn weighed(message: &[u8], prefixed: bool) -> u32 {
        let mut window = [0_u64; 3];
        // What was collected before is still there.
        for byte in [0xa5; 24].iter().chain(message) {
            let [high, middle, low] = window;
            window = [high << 8 | middle >> 56, middle << 8 | low >> 56, low << 8 | u64::from(*byte)];
        }
        weigh(window, message.len() as u32, prefixed)
    }

    #[test]
    fn it_weighs_as_one_would_write_it_plainly() {
        // Bytes that matter, in a fixed sequence of pseudo-random choices.
        const BYTES: [u8; 12] = [0x0a, 0x0a, 0x0a, 0x0a, 0x12, 0, 1, 2, 0x10, 0x80, 0x8a, b'k'];
        let mut seen = [0_u32; 5];
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..400_000 {
            let mut message = [0_u8; 24];
            for byte in &mut message {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                *byte = BYTES[(state >> 40) as usize % BYTES.len()];
            }
            if state >> 20 & 1 == 0 {
                message[..4].copy_from_slice(&[0, 0, 0, 0]);
            }
            let length = (state >> 33) as usize % 25;
            for prefixed in [false, true] {
                let expected = plainly(&message[..length], prefixed);
                assert_eq!(weighed(&message[..length], prefixed), expected, "{:x?}", &message[..length]);
                seen[expected as usize] += 1;
            }
        }
        assert!(seen[1..].iter().all(|count| *count > 100), "{seen:?}");
    }
}
