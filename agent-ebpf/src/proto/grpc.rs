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
    #[inline(always)]
    fn pop(&mut self) -> u32 {
        let [high, middle, low] = self.words;
        self.words = [high << 8 | middle >> 56, middle << 8 | low >> 56, low << 8];
        self.left = self.left.wrapping_sub(1);
        (high >> 56) as u32
    }
}

/// Weighs the first `have` bytes (up to 24; the last one in the lowest byte of the last word) of a message.
#[inline(always)]
pub(super) fn weigh(window: [u64; 3], have: u32, prefixed: bool) -> u32 {
    let [mut high, mut middle, mut low] = window;
    // The first byte to the top.
    let mut i = have;
    while i < 24 {
        high = high << 8 | middle >> 56;
        middle = middle << 8 | low >> 56;
        low <<= 8;
        i += 1;
    }
    let mut bytes = Bytes { words: [high, middle, low], left: have };
    let mut limit = LONGEST_MESSAGE;
    if !prefixed {
        if have < PREFIX {
            return OTHER;
        }
        let compressed = bytes.pop();
        limit = bytes.pop() << 24 | bytes.pop() << 16 | bytes.pop() << 8 | bytes.pop();
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
#[inline(always)]
fn nests(bytes: &mut Bytes, mut limit: u32) -> bool {
    let mut depth = 0;
    while depth < 4 {
        if bytes.left == 0 || bytes.left > 24 {
            return depth >= 2;
        }
        let tag = bytes.pop();
        if depth == 2 && limit == 0 {
            return tag == SCOPE_TAG;
        }
        if tag != TAG || limit < 2 {
            return false;
        }
        let mut length = 0;
        let mut shift = 0;
        let mut taken = 1;
        while shift < 28 {
            if bytes.left == 0 || bytes.left > 24 {
                return depth >= 2;
            }
            let byte = bytes.pop();
            length |= (byte & 0x7f) << shift;
            taken += 1;
            if byte & 0x80 == 0 {
                break;
            }
            shift += 7;
        }
        if shift >= 28 || length.wrapping_add(taken) > limit {
            return false;
        }
        limit = length;
        depth += 1;
    }
    // An attribute's key is text.
    let first = bytes.pop();
    bytes.left > 24 || first > 0x20 && first < 0x7f
}
