//! Which signal a request's path is for: by its last 24 bytes, its length and a hash of all of it, so that a path
//! of any length is told without keeping it.

use crate::abi::{SIGNAL_LOGS, SIGNAL_METRICS, SIGNAL_PROFILES, SIGNAL_TRACES, SIGNAL_UNKNOWN};

/// Longest path that is read. A longer one counts as not readable.
pub(super) const LONGEST: u32 = 256;

/// A path on its way.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Path {
    /// The last 24 bytes, the newest in the lowest byte of the last word.
    tail: [u64; 3],
    /// FNV-1a over all bytes.
    hash: u64,
    /// How many bytes there were.
    pub(super) length: u32,
    /// 1 when the first byte is no slash: a request to a proxy, in absolute form (RFC 9112 section 3.2.2).
    absolute: u32,
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

/// A path that is compared as a whole.
struct Whole {
    length: u32,
    hash: u64,
}

const fn whole(bytes: &[u8]) -> Whole {
    let mut hash = FNV_OFFSET;
    let mut i = 0;
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u64).wrapping_mul(FNV_PRIME);
        i += 1;
    }
    Whole { length: bytes.len() as u32, hash }
}

const TRACES: Whole = whole(b"/opentelemetry.proto.collector.trace.v1.TraceService/Export");
const METRICS: Whole = whole(b"/opentelemetry.proto.collector.metrics.v1.MetricsService/Export");
const LOGS: Whole = whole(b"/opentelemetry.proto.collector.logs.v1.LogsService/Export");
const PROFILES: Whole =
    whole(b"/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export");

/// The same four, and the four of OTLP/HTTP, in HPACK's Huffman code (RFC 7541 appendix B), which is not aligned to
/// bytes: they are known as a whole only, without a prefix.
const HUFFMAN_TRACES: Whole = whole(&[
    0x60, 0xf5, 0x96, 0xa4, 0x96, 0x82, 0xd2, 0x54, 0xd9, 0xe9, 0x7a, 0xec, 0x3a, 0x4e, 0xb9, 0x0f, 0x45,
    0x05, 0x22, 0x4f, 0x62, 0xe9, 0xb0, 0x64, 0x2a, 0xfd, 0xc2, 0xbe, 0xfb, 0x06, 0x42, 0xee, 0x2d, 0x9d,
    0xcc, 0x42, 0xb1, 0x83, 0xcd, 0x67, 0xb1, 0x3f,
]);
const HUFFMAN_METRICS: Whole = whole(&[
    0x60, 0xf5, 0x96, 0xa4, 0x96, 0x82, 0xd2, 0x54, 0xd9, 0xe9, 0x7a, 0xec, 0x3a, 0x4e, 0xb9, 0x0f, 0x45,
    0x05, 0x22, 0x4f, 0x62, 0xf4, 0x95, 0x36, 0x18, 0x88, 0x5f, 0xb8, 0x57, 0xd0, 0x54, 0xd8, 0x62, 0x23,
    0x71, 0x6c, 0xee, 0x62, 0x15, 0x8c, 0x1e, 0x6b, 0x3d, 0x89,
]);
const HUFFMAN_LOGS: Whole = whole(&[
    0x60, 0xf5, 0x96, 0xa4, 0x96, 0x82, 0xd2, 0x54, 0xd9, 0xe9, 0x7a, 0xec, 0x3a, 0x4e, 0xb9, 0x0f, 0x45,
    0x05, 0x22, 0x4f, 0x62, 0xf4, 0x1e, 0x64, 0x2f, 0xdc, 0x2b, 0xe7, 0x3c, 0xc8, 0xdc, 0x5b, 0x3b, 0x98,
    0x85, 0x63, 0x07, 0x9a, 0xcf, 0x62, 0x7f,
]);
const HUFFMAN_PROFILES: Whole = whole(&[
    0x60, 0xf5, 0x96, 0xa4, 0x96, 0x82, 0xd2, 0x54, 0xd9, 0xe9, 0x7a, 0xec, 0x3a, 0x4e, 0xb9, 0x0f, 0x45,
    0x05, 0x22, 0x4f, 0x62, 0xf5, 0xd8, 0x79, 0x4d, 0x41, 0x50, 0xbf, 0x70, 0xc8, 0x5e, 0xe5, 0xa0, 0xf5,
    0xd2, 0x5a, 0x92, 0xbe, 0xbb, 0x0f, 0x29, 0xa8, 0x2a, 0x37, 0x16, 0xce, 0xe6, 0x21, 0x58, 0xc1, 0xe6,
    0xb3, 0xd8, 0x9f,
]);
const HUFFMAN_V1_TRACES: Whole = whole(&[0x63, 0xb8, 0x58, 0x4d, 0x83, 0x21, 0x51]);
const HUFFMAN_V1_METRICS: Whole = whole(&[0x63, 0xb8, 0x58, 0xa4, 0xa9, 0xb0, 0xc4, 0x47]);
const HUFFMAN_V1_LOGS: Whole = whole(&[0x63, 0xb8, 0x58, 0xa0, 0xf3, 0x23]);
const HUFFMAN_V1_PROFILES: Whole = whole(&[
    0x63, 0xb8, 0x64, 0x2f, 0x72, 0xd0, 0x7a, 0xe9, 0x2d, 0x49, 0x62, 0xbb, 0x0f, 0x29, 0xa8, 0x2a, 0x3f,
]);

/// Big-endian value of up to eight bytes.
pub(super) const fn be(bytes: &[u8]) -> u64 {
    let mut value = 0;
    let mut i = 0;
    while i < bytes.len() {
        value = value << 8 | bytes[i] as u64;
        i += 1;
    }
    value
}

/// Space, `?`, `#`, CR or LF end a path; a bit table for the first 64 byte values.
pub(super) const DELIMITERS: u64 = 1 << b' ' | 1 << b'?' | 1 << b'#' | 1 << b'\r' | 1 << b'\n';

/// Whether `byte` is in the table; without a branch.
#[inline(always)]
pub(super) fn is_in(table: u64, byte: u8) -> bool {
    let byte = u64::from(byte);
    let outside = byte >> 6 | byte >> 7;
    table >> (byte & 63) & !outside & 1 != 0
}

impl Path {
    #[inline(always)]
    pub(super) fn start() -> Self {
        Self { tail: [0; 3], hash: FNV_OFFSET, length: 0, absolute: 0 }
    }

    #[inline(always)]
    pub(super) fn first_byte(&mut self, byte: u8) {
        self.absolute = u32::from(byte != b'/');
    }

    #[inline(always)]
    pub(super) fn push(&mut self, byte: u8) {
        let [high, middle, low] = self.tail;
        self.tail = [high << 8 | middle >> 56, middle << 8 | low >> 56, low << 8 | u64::from(byte)];
        self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME);
        self.length += 1;
    }

    #[inline(always)]
    fn is(&self, whole: &Whole) -> bool {
        self.length == whole.length && self.hash == whole.hash
    }

    /// The signal whose export this path is, or [`SIGNAL_UNKNOWN`].
    #[inline(always)]
    pub(super) fn signal(&self) -> u32 {
        let suffix = self.suffix();
        if suffix != SIGNAL_UNKNOWN {
            return suffix;
        }
        if self.is(&TRACES) {
            return SIGNAL_TRACES;
        }
        if self.is(&METRICS) {
            return SIGNAL_METRICS;
        }
        if self.is(&LOGS) {
            return SIGNAL_LOGS;
        }
        if self.is(&PROFILES) {
            return SIGNAL_PROFILES;
        }
        SIGNAL_UNKNOWN
    }

    /// The same for a path in Huffman code.
    #[inline(always)]
    pub(super) fn huffman_signal(&self) -> u32 {
        if self.is(&HUFFMAN_TRACES) || self.is(&HUFFMAN_V1_TRACES) {
            return SIGNAL_TRACES;
        }
        if self.is(&HUFFMAN_METRICS) || self.is(&HUFFMAN_V1_METRICS) {
            return SIGNAL_METRICS;
        }
        if self.is(&HUFFMAN_LOGS) || self.is(&HUFFMAN_V1_LOGS) {
            return SIGNAL_LOGS;
        }
        if self.is(&HUFFMAN_PROFILES) || self.is(&HUFFMAN_V1_PROFILES) {
            return SIGNAL_PROFILES;
        }
        SIGNAL_UNKNOWN
    }

    /// OTLP/HTTP's paths, which stand below any prefix. Word by word: a comparison of arrays becomes a call and a
    /// constant in memory.
    #[inline(always)]
    fn suffix(&self) -> u32 {
        let [high, middle, low] = self.tail;
        let (signal, length) = if low == be(b"1/traces") && middle & 0xffff == be(b"/v") {
            (SIGNAL_TRACES, 10)
        } else if low == be(b"/metrics") && middle & 0xff_ffff == be(b"/v1") {
            (SIGNAL_METRICS, 11)
        } else if low == be(b"/v1/logs") {
            (SIGNAL_LOGS, 8)
        } else if low == be(b"profiles")
            && middle == be(b"lopment/")
            && high & 0xff_ffff_ffff_ffff == be(b"/v1deve")
        {
            (SIGNAL_PROFILES, 23)
        } else {
            return SIGNAL_UNKNOWN;
        };
        // `http://v1/traces`: the suffix begins with the second slash of the scheme, and `v1` is a host.
        let before = self.length - length;
        let is_host = self.absolute != 0 && (before == 6 || before == 7);
        if is_host { SIGNAL_UNKNOWN } else { signal }
    }
}
