//! Tells protocols apart by the first bytes a client sends.
//!
//! With a state of 32 bytes and no buffer, so that a request line or a preface split over
//! any number of writes is told the same as one in a single packet. Known limit: a request target longer than about 250 bytes, or one that spells `/v1/traces` with
//! percent-encoding, is [`Verdict::Foreign`].

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not enough bytes yet.
    Pending,
    /// A TLS record that holds a `ClientHello` (RFC 8446 section 5.1).
    Tls,
    /// HTTP/1 `POST …/v1/traces`: origin form under any prefix, and absolute form (through a proxy).
    Http1Traces,
    /// The HTTP/2 connection preface in the clear (RFC 9113 section 3.4).
    H2c,
    /// Anything else.
    Foreign,
}

/// The parser's state: give it the client's bytes in order until it says something else than
/// [`Verdict::Pending`]. All zeroes is the start.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Classifier {
    /// The last 24 bytes, the newest in the lowest byte of the last word.
    window: [u64; 3],
    /// Bytes taken so far.
    seen: u32,
    /// One of the stages below.
    stage: u32,
}

/// Bytes that [`Classifier::consume`] is given at a time, at most.
pub const CHUNK: usize = 64;

/// Bytes after which an undecided connection is [`Verdict::Foreign`].
pub const LIMIT: u32 = 256;

/// Calls of [`Classifier::consume`] that [`LIMIT`] bytes take, at most: one for each of the first three stages,
/// and one for every full chunk of a target.
pub const ROUNDS: u32 = 3 + LIMIT / CHUNK as u32;

/// The first five bytes are awaited.
const FIRST: u32 = 0;
/// They were a TLS record's header, and the type of the handshake message is awaited.
const RECORD: u32 = 1;
/// They were the start of the HTTP/2 preface, and the rest of it is awaited.
const MAGIC: u32 = 2;
/// They were `POST `, and the end of the target is awaited.
const TARGET: u32 = 3;

const POST: u64 = be(b"POST ");
const PREFACE_START: u64 = be(b"PRI *");
/// `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n` in three words.
const PREFACE: [u64; 3] = [be(b"PRI * HT"), be(b"TP/2.0\r\n"), be(b"\r\nSM\r\n\r\n")];
/// `/v1/traces` is ten bytes: two at the end of one word, eight in the next.
const TRACES: [u64; 2] = [be(b"/v"), be(b"1/traces")];
/// The end of `http:/` when `/v1/traces` follows: then `v1` is a host, not a path.
const SCHEME_END: u64 = be(b":/");

const HANDSHAKE: u64 = 0x16;
const CLIENT_HELLO: u8 = 1;

/// Big-endian value of up to eight bytes.
const fn be(bytes: &[u8]) -> u64 {
    let mut value = 0;
    let mut i = 0;
    while i < bytes.len() {
        value = value << 8 | bytes[i] as u64;
        i += 1;
    }
    value
}

impl Classifier {
    /// How many bytes were taken.
    #[inline(always)]
    pub fn seen(&self) -> u32 {
        self.seen
    }

    /// Takes some of the first `n` bytes of `chunk` and says how many. To be called with what is left until the
    /// verdict is there or nothing is left.
    ///
    /// The shape is for the BPF verifier: in each loop every branch leaves the loop, so that it has one path to
    /// follow a step and not two to the power of steps.
    #[inline(always)]
    pub fn consume(&mut self, chunk: &[u8; CHUNK], n: u32) -> (u32, Verdict) {
        let mut i = 0;
        if self.stage == TARGET {
            while i < CHUNK as u32 && i < n {
                let byte = chunk[i as usize];
                if ends_target(byte) {
                    return (i, self.target_end(byte));
                }
                self.push(byte);
                i += 1;
            }
            let too_long = self.seen >= LIMIT;
            return (i, if too_long { Verdict::Foreign } else { Verdict::Pending });
        }
        let stop = match self.stage {
            FIRST => 5,
            RECORD => 6,
            _ => 24,
        };
        while i < 24 && i < n && self.seen < stop {
            self.push(chunk[i as usize]);
            i += 1;
        }
        if self.seen < stop {
            return (i, Verdict::Pending);
        }
        (i, self.decide())
    }

    #[inline(always)]
    fn push(&mut self, byte: u8) {
        let [high, middle, low] = self.window;
        self.window = [high << 8 | middle >> 56, middle << 8 | low >> 56, low << 8 | u64::from(byte)];
        self.seen += 1;
    }

    /// The stage's bytes are there.
    #[inline(always)]
    fn decide(&mut self) -> Verdict {
        let [first, second, low] = self.window;
        match self.stage {
            FIRST if low == POST => self.stage = TARGET,
            FIRST if low == PREFACE_START => self.stage = MAGIC,
            FIRST if is_tls_record(low) => self.stage = RECORD,
            RECORD if low as u8 == CLIENT_HELLO => return Verdict::Tls,
            // Word by word: a comparison of arrays becomes a call and a constant in memory.
            MAGIC if first == PREFACE[0] && second == PREFACE[1] && low == PREFACE[2] => return Verdict::H2c,
            _ => return Verdict::Foreign,
        }
        Verdict::Pending
    }

    /// A delimiter ends the path; whatever follows (query, version) does not matter.
    #[inline(always)]
    fn target_end(&self, delimiter: u8) -> Verdict {
        let [_, middle, low] = self.window;
        let path = low == TRACES[1] && middle & 0xffff == TRACES[0];
        let is_host = middle >> 16 & 0xffff == SCHEME_END;
        if self.seen < LIMIT && path && !is_host && delimiter != b'\r' && delimiter != b'\n' {
            Verdict::Http1Traces
        } else {
            Verdict::Foreign
        }
    }

    /// Takes bytes until there is a verdict.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Verdict {
        while !bytes.is_empty() {
            let n = bytes.len().min(CHUNK);
            let mut chunk = [0; CHUNK];
            chunk[..n].copy_from_slice(&bytes[..n]);
            let (taken, verdict) = self.consume(&chunk, n as u32);
            if verdict != Verdict::Pending {
                return verdict;
            }
            bytes = &bytes[taken as usize..];
        }
        Verdict::Pending
    }
}

/// Space, `?`, `#`, CR or LF, without a branch: a bit table for the first 64 byte values.
#[inline(always)]
fn ends_target(byte: u8) -> bool {
    const TABLE: u64 = 1 << b' ' | 1 << b'?' | 1 << b'#' | 1 << b'\r' | 1 << b'\n';
    let byte = u64::from(byte);
    let outside = byte >> 6 | byte >> 7;
    TABLE >> (byte & 63) & !outside & 1 != 0
}

/// Whether the five bytes are the header of a TLS handshake record: type 22, version 3.0 to 3.4.
#[inline(always)]
fn is_tls_record(five: u64) -> bool {
    five >> 32 & 0xff == HANDSHAKE && five >> 24 & 0xff == 3 && five >> 16 & 0xff <= 4
}

/// The verdict on bytes that arrive in one piece.
pub fn classify(bytes: &[u8]) -> Verdict {
    Classifier::default().feed(bytes)
}

/// Body of the fuzz target and of the property test: bytes cut in two at any place get the verdict of the
/// whole, and never a later byte than [`LIMIT`] is needed.
///
/// # Panics
/// When that does not hold.
pub fn check_split(bytes: &[u8], at: usize) {
    let (first, second) = bytes.split_at(at.min(bytes.len()));
    let mut parser = Classifier::default();
    let mut verdict = parser.feed(first);
    if verdict == Verdict::Pending {
        verdict = parser.feed(second);
    }
    assert_eq!(verdict, classify(bytes), "a split changes the verdict");
    assert!(verdict != Verdict::Pending || bytes.len() < LIMIT as usize, "undecided after the limit");
    assert!(parser.seen() < LIMIT + CHUNK as u32);
}
