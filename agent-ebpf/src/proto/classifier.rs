//! The parser of what a client's socket sends.

use super::path::{DELIMITERS, LONGEST, Path, be, is_in};
use crate::abi::{PROOF_PATH, PROOF_PORT, SIGNAL_UNKNOWN};

/// Bytes that [`Classifier::round`] is given at a time, at most.
pub const CHUNK: usize = 64;

/// Packets of a connection older than the programs that are looked at before it counts as something else; and of an
/// HTTP/2 connection after bytes of it were missed.
const HEADS: u32 = 24;

/// The parser's state. All zeroes is the start of a connection. See the module for how it is driven.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Classifier {
    /// The last 24 bytes that were collected for a decision, the newest in the lowest byte of the last word.
    pub(super) window: [u64; 3],
    /// The path under way.
    pub(super) path: Path,
    /// Position of the next byte to be looked at: its sequence number less that of the first payload byte.
    pub(super) next: u32,
    /// Position of the current packet.
    packet: u32,
    /// Position at which the attempt under way to tell a protocol began.
    mark: u32,
    /// What is awaited: one of the stages below.
    pub(super) stage: u32,
    /// How many bytes are in the window, and ...
    pub(super) have: u32,
    /// ... how many are wanted for a decision; 0 stands for [`OPENING`].
    pub(super) want: u32,
    /// Bits, see below.
    pub(super) mode: u32,
    /// Header blocks looked at, or heads of packets that could not be told.
    pub(super) looked: u32,
    /// HTTP/2: bytes left of this frame's share of the header block, or of its data.
    pub(super) fragment: u32,
    /// HTTP/2: bytes of padding after that.
    pub(super) padding: u32,
    /// HTTP/2: the stage to go on with in the next `CONTINUATION`.
    pub(super) resume: u32,
    /// HPACK: what the next byte is.
    pub(super) field: u32,
    /// HPACK: what follows an integer or a string that is skipped.
    pub(super) then: u32,
    /// HPACK: bytes left of a string, or its length on the way.
    pub(super) value: u32,
    /// HPACK: where the next seven bits of an integer go.
    pub(super) shift: u32,
    /// HPACK: bytes of this block that were read (strings that are skipped do not count).
    pub(super) block: u32,
    /// One of the results of the module.
    pub(super) result: u32,
    /// With [`FOUND`]: one of `abi::SIGNAL_*` ...
    pub(super) signal: u32,
    /// ... and one of `abi::PROOF_*`.
    pub(super) proof: u32,
    /// The best proof that was given before; 0 for none.
    pub(super) best: u32,
    /// For [`settle`].
    pub(super) scratch: u32,
    /// Explicit padding.
    reserved: u32,
}

/// The same value, by way of memory. After a loop the BPF verifier knows in each of its ends how many steps it took,
/// and would follow the rest of the program for each; it knows nothing of what comes from a map's memory.
#[inline(always)]
pub(super) fn settle(slot: &mut u32, value: u32) -> u32 {
    *slot = value;
    *core::hint::black_box(slot)
}

/// The same value, of which the optimiser knows nothing. Where a loop has a constant and a variable limit it would make
/// one of both and compare for equality, which the verifiers of kernels up to 6.1 do not see through.
#[inline(always)]
pub(super) fn opaque(value: u32) -> u32 {
    core::hint::black_box(value)
}

/// [`Classifier::result`]: more bytes are needed.
pub const PENDING: u32 = 0;
/// [`Classifier::result`]: telemetry in the clear; see [`Classifier::evidence`].
pub const FOUND: u32 = 1;
/// [`Classifier::result`]: a TLS record that holds a `ClientHello` (RFC 8446 section 5.1).
pub const TLS: u32 = 2;
/// [`Classifier::result`]: something else, for as long as the connection lasts.
pub const FOREIGN: u32 = 3;
/// [`Classifier::result`]: bytes are missing.
pub const UNREADABLE: u32 = 4;

/// The first five bytes of a protocol.
const FIRST: u32 = 0;
/// They were a TLS record's header, and the type of the handshake message is awaited.
const RECORD: u32 = 1;
/// They were the start of the HTTP/2 preface, and the rest of it is awaited.
const MAGIC: u32 = 2;
/// `POST ` was there, and the end of the target is awaited.
const TARGET: u32 = 3;
/// The head of the next packet may be a request.
const IDLE: u32 = 4;
/// A PROXY header of version 1, which ends with a line feed.
const LINE: u32 = 5;
/// The fixed part of a PROXY header of version 2.
const PROXY: u32 = 6;
/// Maybe `CONNECT `.
const CONNECT: u32 = 7;
/// The head of a packet in the middle of a connection.
const HEAD: u32 = 8;
/// The same, at the next packet.
const LOST: u32 = 9;
/// HTTP/2: a frame's header.
pub(super) const FRAME: u32 = 10;
/// HTTP/2: the length of the padding.
pub(super) const PAD: u32 = 11;
/// HTTP/2: HPACK representations.
pub(super) const BLOCK: u32 = 12;
/// HTTP/2: the value of `:path`.
pub(super) const VALUE: u32 = 13;
/// HTTP/2: the beginning of a message.
pub(super) const DATA: u32 = 14;

/// Bytes of [`FIRST`].
const OPENING: u32 = 5;

/// HTTP/1 was seen.
const HTTP1: u32 = 1;
/// The HTTP/2 preface was seen, or frames were.
pub(super) const HTTP2: u32 = 1 << 1;
/// A PROXY header was skipped. There is only one.
const PROXIED: u32 = 1 << 2;
/// A proxy was asked for a tunnel, and ...
const ASKED: u32 = 1 << 3;
/// ... it gave one.
const TUNNEL: u32 = 1 << 4;
/// The beginning of the connection was not seen.
pub(super) const PRE_EXISTING: u32 = 1 << 5;
/// The peer's port is one of OTLP's.
pub(super) const OTLP_PORT: u32 = 1 << 6;
/// HTTP/2: a path was not readable, so that later ones may refer to it.
pub(super) const MISSED: u32 = 1 << 7;
/// HTTP/2: the path of the newest request is not known.
pub(super) const UNREAD: u32 = 1 << 8;
/// HTTP/2: the first frame must be `SETTINGS`.
pub(super) const SETTINGS_DUE: u32 = 1 << 9;
/// HTTP/2: this frame ends the header block.
pub(super) const LAST_FRAGMENT: u32 = 1 << 10;
/// HTTP/2: the next frame must be `CONTINUATION`.
pub(super) const IN_BLOCK: u32 = 1 << 11;
/// HTTP/2: five bytes of priority follow the length of the padding.
pub(super) const PRIORITY: u32 = 1 << 12;
/// HPACK: the field is `:path`.
pub(super) const IS_PATH: u32 = 1 << 13;
/// HPACK: the string is a name.
pub(super) const IS_NAME: u32 = 1 << 14;
/// HPACK: the string is in Huffman code.
pub(super) const HUFFMAN: u32 = 1 << 15;
/// HTTP/2: a header block was there.
pub(super) const ASKED_SOMETHING: u32 = 1 << 16;
/// gRPC: the prefix of a message came in a frame of its own.
pub(super) const PREFIXED: u32 = 1 << 17;
/// [`Classifier::prepare`] was called.
const PREPARED: u32 = 1 << 18;

const POST: u64 = be(b"POST ");
const PREFACE_START: u64 = be(b"PRI *");
/// `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n` in three words (RFC 9113 section 3.4).
const PREFACE: [u64; 3] = [be(b"PRI * HT"), be(b"TP/2.0\r\n"), be(b"\r\nSM\r\n\r\n")];
const CONNECT_START: u64 = be(b"CONNE");
/// The PROXY protocol, version 1.
const PROXY_V1: u64 = be(b"PROXY");
/// The first five bytes of version 2's signature, and then all of it.
const PROXY_V2: u64 = be(b"\r\n\r\n\0");
const PROXY_V2_SIGNATURE: [u64; 2] = [be(b"\r\n\r\n\0\r\nQ"), be(b"UIT\n")];
/// Bytes of version 2's fixed part.
const PROXY_V2_FIXED: u32 = 16;
/// The longest version 1 header (PROXY protocol specification, section 2.1), without its first five bytes.
const PROXY_V1_LONGEST: u32 = 107 - OPENING;

const HANDSHAKE: u64 = 0x16;
const CLIENT_HELLO: u8 = 1;

/// Bytes of HTTP/2's frame header (RFC 9113 section 4.1).
pub(super) const FRAME_HEADER: u32 = 9;

/// What was found.
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// HTTP/2, and not HTTP/1.
    pub is_http2: bool,
    /// One of `abi::SIGNAL_*`.
    pub signal: u32,
    /// One of `abi::PROOF_*`.
    pub proof: u32,
    /// The beginning of the connection was not seen.
    pub pre_existing: bool,
    /// In a tunnel through a proxy.
    pub tunnel: bool,
    /// Weaker evidence was given before.
    pub revised: bool,
}

impl Classifier {
    /// To be called once, before anything else: whether the peer's port is one of OTLP's, and whether the first packet
    /// is not the connection's first.
    #[inline(always)]
    pub fn prepare(&mut self, otlp_port: bool, pre_existing: bool) {
        self.mode |= PREPARED;
        if otlp_port {
            self.mode |= OTLP_PORT;
        }
        if pre_existing {
            self.mode |= PRE_EXISTING;
            self.stage = LOST;
        }
    }

    /// Whether [`prepare`](Self::prepare) was called.
    #[inline(always)]
    pub fn is_prepared(&self) -> bool {
        self.mode & PREPARED != 0
    }

    /// Whether the next packet matters only if a request begins it.
    #[inline(always)]
    pub fn is_idle(&self) -> bool {
        self.stage == IDLE
    }

    /// Whether a packet that begins with these eight bytes adds nothing: between the requests of an HTTP/1 connection,
    /// and none that matters begins here. The same would come of [`begin`](Self::begin) and [`round`](Self::round).
    #[inline(always)]
    pub fn passes_over(&self, eight: u64) -> bool {
        let five = eight >> 24;
        self.is_idle()
            && five != POST
            && five != PREFACE_START
            && five != CONNECT_START
            && !(self.mode & ASKED != 0 && is_tls_record(five))
    }

    /// Whether a packet with `len` bytes of payload at position `at` is the beginning of a connection, for
    /// [`glance`](Self::glance) to tell.
    #[inline(always)]
    pub fn is_beginning(&mut self, at: u32, len: u32) -> bool {
        self.packet = at;
        self.stage == FIRST
            && self.have == 0
            && self.next == at
            && self.mode & !(PREPARED | OTLP_PORT) == 0
            && len >= 8
    }

    /// Whether the first eight bytes of a connection tell all that its first packet can: a request of HTTP/1 that cannot
    /// be telemetry, or nothing that is known. The same would come of [`begin`](Self::begin) and
    /// [`round`](Self::round), at a greater price.
    #[inline(always)]
    pub fn glance(&mut self, eight: u64) -> bool {
        let five = eight >> 24;
        if is_method(five) {
            self.mode |= HTTP1;
            self.stage = IDLE;
            self.next = self.packet.wrapping_add(OPENING);
            return true;
        }
        let is_known = five == POST
            || five == PREFACE_START
            || five == CONNECT_START
            || five == PROXY_V1
            || five == PROXY_V2
            || is_tls_record(five);
        if !is_known {
            self.foreign();
        }
        !is_known
    }

    /// A packet with `len` bytes of payload at position `at`: whether any of it is to be looked at.
    #[inline(always)]
    pub fn begin(&mut self, at: u32, len: u32) -> bool {
        self.packet = at;
        if self.stage == IDLE {
            self.restart(FIRST);
        } else if self.stage == LOST || self.stage == HEAD {
            self.restart(HEAD);
        }
        let known = self.next.wrapping_sub(at);
        if known.cast_signed() >= 0 {
            return known < len;
        }
        self.hole();
        self.result == PENDING
    }

    /// Bytes are missing before this packet: it was dropped before the programs, or had more frames than they look at.
    #[inline(always)]
    fn hole(&mut self) {
        if self.mode & HTTP2 != 0 {
            self.mode |= MISSED | UNREAD;
            self.mode &= !IN_BLOCK;
            self.restart(HEAD);
        } else if self.mode & HTTP1 != 0 {
            self.restart(FIRST);
        } else {
            self.result = UNREADABLE;
        }
    }

    /// Where in the packet the next byte to be looked at is.
    #[inline(always)]
    pub fn offset(&self) -> u32 {
        self.next.wrapping_sub(self.packet)
    }

    /// Whether the packet, of `len` bytes of payload, has more to be looked at.
    #[inline(always)]
    pub fn wants_more(&self, len: u32) -> bool {
        self.result == PENDING && self.stage != IDLE && self.stage != LOST && self.offset() < len
    }

    /// Takes some of the `n` bytes (1 to [`CHUNK`]) that are at [`offset`](Self::offset).
    ///
    /// The shape is for the BPF verifier: one loop a round, in which every branch leaves the loop, so that it has one
    /// path to follow a step and not two to the power of steps.
    #[inline(always)]
    pub fn round(&mut self, chunk: &[u8; CHUNK], n: u32) {
        if self.stage == TARGET || self.stage == VALUE {
            self.read_path(chunk, n);
        } else if self.stage == BLOCK {
            self.read_block(chunk, n);
        } else if self.stage == LINE {
            self.skip_line(chunk, n);
        } else if self.collect(chunk, n) {
            self.decide();
        } else if self.stage == FIRST && self.mode & HTTP1 != 0 && !self.is_start() {
            self.not_told();
        }
    }

    /// The result so far: [`PENDING`] and so on.
    #[inline(always)]
    pub fn result(&self) -> u32 {
        self.result
    }

    /// What was [`FOUND`].
    #[inline(always)]
    pub fn evidence(&self) -> Evidence {
        Evidence {
            is_http2: self.mode & HTTP2 != 0,
            signal: self.signal,
            proof: self.proof,
            pre_existing: self.mode & PRE_EXISTING != 0,
            tunnel: self.mode & TUNNEL != 0,
            revised: self.best != 0,
        }
    }

    /// Goes on after [`FOUND`]; whether better evidence is possible.
    #[inline(always)]
    pub fn go_on(&mut self) -> bool {
        self.result = PENDING;
        self.best = self.proof;
        self.best != PROOF_PATH
    }

    /// Position of the TLS record, with [`TLS`].
    #[inline(always)]
    pub fn hello_at(&self) -> u32 {
        self.mark
    }

    /// Whether a proxy was asked for a tunnel and its answer is not known: then the peer's bytes are to be looked at.
    #[inline(always)]
    pub fn awaits_tunnel(&self) -> bool {
        self.mode & (ASKED | TUNNEL) == ASKED
    }

    /// The proxy has answered: it has given the tunnel, or refused it.
    #[inline(always)]
    pub fn tunnel_answered(&mut self, opened: bool) {
        if opened {
            self.mode |= TUNNEL;
        } else {
            self.mode &= !ASKED;
        }
    }

    /// Whether this is in a tunnel.
    #[inline(always)]
    pub fn is_in_tunnel(&self) -> bool {
        self.mode & ASKED != 0
    }

    /// The client closes. An HTTP/2 preface towards OTLP's port and no request after it is all that will be known.
    #[inline(always)]
    pub fn close(&mut self) {
        let asked_nothing = self.mode & (HTTP2 | PRE_EXISTING | ASKED_SOMETHING) == HTTP2;
        if asked_nothing && self.result == PENDING {
            self.port_only();
        }
    }

    /// Nothing better than the port can be known of this request.
    #[inline(always)]
    pub(super) fn port_only(&mut self) {
        if self.mode & OTLP_PORT != 0 && self.best == 0 {
            self.found(SIGNAL_UNKNOWN, PROOF_PORT);
        }
    }

    #[inline(always)]
    pub(super) fn found(&mut self, signal: u32, proof: u32) {
        self.signal = signal;
        self.proof = proof;
        self.result = FOUND;
    }

    #[inline(always)]
    pub(super) fn foreign(&mut self) {
        self.result = FOREIGN;
    }

    /// Awaits `want` bytes for a decision.
    #[inline(always)]
    pub(super) fn await_bytes(&mut self, stage: u32, want: u32) {
        self.stage = stage;
        self.have = 0;
        self.want = want;
        self.window = [0; 3];
    }

    /// Tries to tell a protocol at the head of this packet.
    #[inline(always)]
    fn restart(&mut self, stage: u32) {
        self.next = self.packet;
        self.mark = self.packet;
        self.await_bytes(stage, if stage == FIRST { OPENING } else { FRAME_HEADER });
    }

    /// Whether all bytes for a decision are there.
    #[inline(always)]
    fn collect(&mut self, chunk: &[u8; CHUNK], n: u32) -> bool {
        let want = if self.want == 0 { OPENING } else { self.want };
        let mut have = self.have;
        let [mut high, mut middle, mut low] = self.window;
        let mut i = 0;
        while i < 24 {
            if i >= opaque(n) || have >= want {
                break;
            }
            high = high << 8 | middle >> 56;
            middle = middle << 8 | low >> 56;
            low = low << 8 | u64::from(chunk[i as usize]);
            have += 1;
            i += 1;
        }
        self.window = [high, middle, low];
        let i = settle(&mut self.scratch, i);
        let have = settle(&mut self.have, have);
        self.next = self.next.wrapping_add(i);
        have >= want
    }

    /// The stage's bytes are there.
    #[inline(always)]
    fn decide(&mut self) {
        let [first, second, low] = self.window;
        if self.stage == FIRST {
            self.first(low);
        } else if self.stage == FRAME {
            self.read_frame();
        } else if self.stage == RECORD {
            self.record(low);
        } else if self.stage == MAGIC {
            if first == PREFACE[0] && second == PREFACE[1] && low == PREFACE[2] {
                self.mode |= HTTP2 | SETTINGS_DUE;
                self.await_bytes(FRAME, FRAME_HEADER);
            } else {
                self.not_told();
            }
        } else if self.stage == PAD {
            self.read_padding(low as u8);
        } else if self.stage == DATA {
            self.weigh();
        } else if self.stage == HEAD {
            self.head((second & 0xff) << 32 | low >> 32);
        } else if self.stage == CONNECT {
            self.connect(low);
        } else {
            self.proxy(second, low);
        }
    }

    /// Whether the bytes in the window, less than [`OPENING`], can be the start of what may follow within HTTP/1. Were
    /// they kept when they cannot, the request that begins the next packet would be missed.
    #[inline(always)]
    fn is_start(&self) -> bool {
        let missing = (OPENING.saturating_sub(self.have) * 8) & 63;
        let start = self.window[2];
        start == POST >> missing
            || start == PREFACE_START >> missing
            || start == CONNECT_START >> missing
            || self.mode & ASKED != 0 && start >> ((self.have.saturating_sub(1) * 8) & 63) == HANDSHAKE
    }

    #[inline(always)]
    fn first(&mut self, five: u64) {
        if five == POST {
            self.mode |= HTTP1;
            self.path = Path::start();
            self.stage = TARGET;
        } else if five == PREFACE_START {
            self.stage = MAGIC;
            self.want = 24;
        } else if is_tls_record(five) && (self.mode & HTTP1 == 0 || self.mode & ASKED != 0) {
            self.stage = RECORD;
            self.want = 6;
        } else if five == CONNECT_START {
            self.stage = CONNECT;
            self.want = 8;
        } else if is_method(five) {
            self.mode |= HTTP1;
            self.stage = IDLE;
        } else if five == PROXY_V1 && self.mode & (PROXIED | HTTP1) == 0 {
            self.mode |= PROXIED;
            self.have = 0;
            self.stage = LINE;
        } else if five == PROXY_V2 && self.mode & (PROXIED | HTTP1) == 0 {
            self.stage = PROXY;
            self.want = PROXY_V2_FIXED;
        } else {
            self.not_told();
        }
    }

    #[inline(always)]
    fn record(&mut self, low: u64) {
        if low as u8 == CLIENT_HELLO {
            self.result = TLS;
        } else {
            self.not_told();
        }
    }

    #[inline(always)]
    fn connect(&mut self, eight: u64) {
        if eight == be(b"CONNECT ") {
            self.mode |= HTTP1 | ASKED;
            self.stage = IDLE;
        } else {
            self.not_told();
        }
    }

    /// The fixed part of a PROXY header of version 2: signature, version, family, length.
    #[inline(always)]
    fn proxy(&mut self, first: u64, second: u64) {
        let is_v2 = first == PROXY_V2_SIGNATURE[0]
            && second >> 32 == PROXY_V2_SIGNATURE[1]
            && second >> 28 & 0xf == 2;
        if !is_v2 {
            self.foreign();
            return;
        }
        self.mode |= PROXIED;
        self.next = self.next.wrapping_add(second as u32 & 0xffff);
        self.mark = self.next;
        self.await_bytes(FIRST, OPENING);
    }

    /// Up to and with the line feed.
    #[inline(always)]
    fn skip_line(&mut self, chunk: &[u8; CHUNK], n: u32) {
        let mut found = 0;
        let mut i = 0;
        while i < CHUNK as u32 {
            if i >= opaque(n) {
                break;
            }
            if chunk[i as usize] == b'\n' {
                found = 1;
                break;
            }
            i += 1;
        }
        let i = settle(&mut self.scratch, i);
        let found = settle(&mut self.scratch, found);
        self.have += i;
        self.next = self.next.wrapping_add(i);
        if self.have > PROXY_V1_LONGEST {
            self.foreign();
        } else if found != 0 {
            self.next = self.next.wrapping_add(1);
            self.mark = self.next;
            self.await_bytes(FIRST, OPENING);
        }
    }

    /// The bytes are the start of nothing that is known. Within HTTP/1 they are headers or a body, and the next packet
    /// may begin with a request; as may this one, when the attempt began before it.
    #[inline(always)]
    fn not_told(&mut self) {
        if self.mode & HTTP1 == 0 {
            self.foreign();
        } else if self.mark != self.packet {
            self.restart(FIRST);
        } else {
            self.stage = IDLE;
        }
    }

    /// The first nine bytes of a packet in the middle of a connection.
    #[inline(always)]
    fn head(&mut self, five: u64) {
        let is_known_http2 = self.mode & HTTP2 != 0;
        if !is_known_http2
            && (five == POST || five == PREFACE_START || is_method(five) || five == CONNECT_START)
        {
            self.restart(FIRST);
        } else if five >> 24 & 0xff == 3 && matches!(five >> 32 & 0xff, 0x14..=0x17) {
            self.foreign();
        } else if (is_known_http2 || self.mode & OTLP_PORT != 0) && self.is_plausible_frame() {
            self.mode |= HTTP2 | MISSED | UNREAD;
            self.read_frame();
        } else if self.looked >= HEADS {
            self.foreign();
        } else {
            self.looked += 1;
            self.stage = LOST;
        }
    }

    /// HTTP/1's target or HTTP/2's `:path`.
    #[inline(always)]
    fn read_path(&mut self, chunk: &[u8; CHUNK], n: u32) {
        let is_target = self.stage == TARGET;
        let mut end = n;
        if !is_target {
            end = end.min(self.value).min(self.fragment);
        }
        let delimiters = if !is_target && self.mode & HUFFMAN != 0 { 0 } else { DELIMITERS };
        let mut path = self.path;
        if path.length == 0 {
            path.first_byte(chunk[0]);
        }
        let mut delimiter = 0;
        let mut i = 0;
        while i < CHUNK as u32 {
            if i >= opaque(end) {
                break;
            }
            let byte = chunk[i as usize];
            if is_in(delimiters, byte) {
                delimiter = byte;
                break;
            }
            path.push(byte);
            i += 1;
        }
        self.path = path;
        let i = settle(&mut self.scratch, i);
        let delimiter = settle(&mut self.scratch, delimiter.into()) as u8;
        self.next = self.next.wrapping_add(i);
        if is_target {
            self.target(delimiter);
        } else {
            self.value -= i;
            self.fragment -= i;
            self.path_value(delimiter);
        }
    }

    /// A delimiter ends the path; whatever follows (query, version) does not matter.
    #[inline(always)]
    fn target(&mut self, delimiter: u8) {
        if self.path.length > LONGEST {
            self.stage = IDLE;
            self.port_only();
            return;
        }
        if delimiter == 0 {
            return;
        }
        self.stage = IDLE;
        let signal = self.path.signal();
        if signal != SIGNAL_UNKNOWN && delimiter != b'\r' && delimiter != b'\n' {
            self.found(signal, PROOF_PATH);
        }
    }
}

/// Whether the five bytes are the header of a TLS handshake record: type 22, version 3.0 to 3.4.
#[inline(always)]
fn is_tls_record(five: u64) -> bool {
    five >> 32 & 0xff == HANDSHAKE && five >> 24 & 0xff == 3 && five >> 16 & 0xff <= 4
}

/// Whether the five bytes begin a request that is neither `POST` nor `CONNECT`.
#[inline(always)]
fn is_method(five: u64) -> bool {
    let four = five >> 8;
    four == be(b"GET ")
        || four == be(b"PUT ")
        || five == be(b"HEAD ")
        || five == be(b"OPTIO")
        || five == be(b"DELET")
        || five == be(b"PATCH")
        || five == be(b"TRACE")
}
