//! HTTP/2 without TLS: frames (RFC 9113) and as much of HPACK (RFC 7541) as the path needs.

use super::{
    classifier::{
        ASKED_SOMETHING, BLOCK, CHUNK, Classifier, DATA, FRAME, FRAME_HEADER, HUFFMAN, IN_BLOCK, IS_NAME,
        IS_PATH, LAST_FRAGMENT, MISSED, PAD, PRE_EXISTING, PREFIXED, PRIORITY, SETTINGS_DUE, UNREAD, VALUE,
        opaque, settle,
    },
    grpc,
    path::{LONGEST, Path},
};
use crate::abi::{PROOF_GRPC, PROOF_PATH, SIGNAL_UNKNOWN};

/// Requests of a connection whose paths are looked at. A connection that is shared by several services (a proxy's)
/// has them early.
const REQUESTS: u32 = 128;

/// Bytes of a header block that are read to find the path, besides strings that are skipped.
const BLOCK_BYTES: u32 = 256;

/// Representations read in a round, in bytes.
const STEP: u32 = 12;

/// Bytes of a message that are looked at.
const MESSAGE: u32 = 24;

/// Frame types.
const TYPE_DATA: u32 = 0;
const TYPE_HEADERS: u32 = 1;
const TYPE_RST_STREAM: u32 = 3;
const TYPE_SETTINGS: u32 = 4;
const TYPE_PING: u32 = 6;
const TYPE_WINDOW_UPDATE: u32 = 8;
const TYPE_CONTINUATION: u32 = 9;

/// Frame flags.
const END_STREAM: u32 = 1;
const END_HEADERS: u32 = 4;
const PADDED: u32 = 8;
const HAS_PRIORITY: u32 = 0x20;

/// What a `HEADERS` frame's priority takes.
const PRIORITY_BYTES: u32 = 5;

/// A longer data frame than any client sends.
const LONG: u32 = 1 << 20;

/// [`Classifier::field`]: the first byte of a representation.
const FIELD: u32 = 0;
/// The rest of an index.
const INDEX: u32 = 1;
/// The first byte of a string: its length, 7 bits.
const LENGTH: u32 = 2;
/// The rest of a length.
const LENGTH_MORE: u32 = 3;
/// Bytes of a name that may be `:path`. gRPC's C-core writes it out instead of its index.
const NAME: u32 = 4;
/// Bytes of a string that does not matter.
const SKIP: u32 = 5;
/// The field's value is the path.
const AT_PATH: u32 = 6;
/// The path is `/` or `/index.html`, from the static table.
const AT_ROOT: u32 = 7;
/// An integer is too long.
const BROKEN: u32 = 8;

/// `:path`, and the same in Huffman code (RFC 7541 appendix B).
const PATH_NAME: u64 = u64::from_be_bytes(*b"\0\0\0:path");
const PATH_NAME_HUFFMAN: u64 = 0xb958_d33f;

/// The static table's two entries with the name `:path` (RFC 7541 appendix A).
#[inline(always)]
fn is_path_name(index: u32) -> bool {
    index == 4 || index == 5
}

impl Classifier {
    /// Length, type, flags and stream from the nine bytes in the window.
    #[inline(always)]
    fn frame_header(&self) -> (u32, u32, u32, u32) {
        let [_, high, low] = self.window;
        let length = (high as u32 & 0xff) << 16 | (low >> 48) as u32;
        (length, (low >> 40) as u32 & 0xff, (low >> 32) as u32 & 0xff, low as u32 & 0x7fff_ffff)
    }

    /// Whether the nine bytes at the head of a packet can be a frame's header that a client sends.
    #[inline(always)]
    pub(super) fn is_plausible_frame(&self) -> bool {
        let (length, kind, flags, stream) = self.frame_header();
        let is_request = stream & 1 == 1;
        match kind {
            TYPE_DATA => is_request && flags & !(END_STREAM | PADDED) == 0 && length < LONG,
            TYPE_HEADERS => {
                is_request
                    && flags & !(END_STREAM | END_HEADERS | PADDED | HAS_PRIORITY) == 0
                    && length < LONG
                    && length > 0
            }
            TYPE_RST_STREAM => is_request && length == 4 && flags == 0,
            TYPE_SETTINGS => stream == 0 && length < 256 && length % 6 == 0 && flags & !1 == 0,
            TYPE_PING => stream == 0 && length == 8 && flags & !1 == 0,
            TYPE_WINDOW_UPDATE => length == 4 && flags == 0,
            _ => false,
        }
    }

    /// A frame's header is there.
    #[inline(always)]
    pub(super) fn read_frame(&mut self) {
        let (length, kind, flags, _) = self.frame_header();
        if self.mode & SETTINGS_DUE != 0 {
            self.mode &= !SETTINGS_DUE;
            if kind != TYPE_SETTINGS {
                self.foreign();
                return;
            }
        }
        let continues = self.mode & IN_BLOCK != 0;
        self.mode &= !IN_BLOCK;
        self.fragment = length;
        self.padding = 0;
        if kind == TYPE_HEADERS {
            self.headers(flags);
        } else if kind == TYPE_CONTINUATION && continues {
            self.last_fragment(flags);
            self.stage = self.resume;
            self.after_fragment();
        } else if kind == TYPE_DATA && self.mode & UNREAD != 0 && flags & PADDED == 0 && length > 0 {
            self.await_bytes(DATA, length.min(MESSAGE));
        } else {
            self.skip_fragment();
        }
    }

    #[inline(always)]
    fn last_fragment(&mut self, flags: u32) {
        if flags & END_HEADERS != 0 {
            self.mode |= LAST_FRAGMENT;
        } else {
            self.mode &= !LAST_FRAGMENT;
        }
    }

    #[inline(always)]
    fn headers(&mut self, flags: u32) {
        self.looked += 1;
        if self.looked > REQUESTS {
            self.foreign();
            return;
        }
        self.mode &= !(PRIORITY | PREFIXED);
        self.mode |= ASKED_SOMETHING;
        self.last_fragment(flags);
        self.field = FIELD;
        self.block = 0;
        if flags & HAS_PRIORITY != 0 {
            self.mode |= PRIORITY;
        }
        if flags & PADDED != 0 && self.fragment > 0 {
            self.fragment -= 1;
            self.await_bytes(PAD, 1);
        } else {
            self.read_padding(0);
        }
    }

    /// The padding's length is known: skip the priority, and read the block.
    #[inline(always)]
    pub(super) fn read_padding(&mut self, padding: u8) {
        let mut before = 0;
        if self.mode & PRIORITY != 0 {
            before = PRIORITY_BYTES;
        }
        let padding = u32::from(padding);
        if self.fragment < before + padding {
            // RFC 9113 section 6.2: a connection error, which the server will treat as one.
            self.foreign();
            return;
        }
        self.fragment -= before + padding;
        self.padding = padding;
        self.next = self.next.wrapping_add(before);
        self.stage = BLOCK;
        self.after_fragment();
    }

    /// Skips what is left of the frame. Should `CONTINUATION` frames of a block that is left follow, they are skipped
    /// like any other.
    #[inline(always)]
    fn skip_fragment(&mut self) {
        self.next = self.next.wrapping_add(self.fragment + self.padding);
        self.await_bytes(FRAME, FRAME_HEADER);
    }

    /// Goes to the next frame when this one's share of the block is read.
    #[inline(always)]
    fn after_fragment(&mut self) {
        if self.fragment > 0 {
            return;
        }
        if self.mode & LAST_FRAGMENT != 0 {
            self.no_path();
        } else {
            self.mode |= IN_BLOCK;
            self.resume = self.stage;
        }
        self.skip_fragment();
    }

    /// The block has no path that could be read: it refers to one that came before. When all of those were read, none
    /// was telemetry's.
    #[inline(always)]
    fn no_path(&mut self) {
        if self.mode & (PRE_EXISTING | MISSED) != 0 {
            self.mode |= UNREAD;
        }
    }

    /// The block has a path, and it cannot be read.
    #[inline(always)]
    fn unreadable(&mut self) {
        self.mode |= UNREAD | MISSED;
        self.skip_fragment();
    }

    /// HPACK representations.
    #[inline(always)]
    pub(super) fn read_block(&mut self, chunk: &[u8; CHUNK], n: u32) {
        if self.field == SKIP {
            let skipped = self.value.min(self.fragment);
            self.next = self.next.wrapping_add(skipped);
            self.fragment -= skipped;
            self.value -= skipped;
            if self.value == 0 {
                self.field = self.then;
            }
            self.after_fragment();
            return;
        }
        let end = n.min(self.fragment);
        let mut i = 0;
        while i < STEP {
            if i >= opaque(end) {
                break;
            }
            // By way of memory, as in `settle`.
            let this = core::hint::black_box(&mut *self);
            this.representation(chunk[i as usize]);
            i += 1;
            if core::hint::black_box(this).field >= SKIP {
                break;
            }
        }
        let i = settle(&mut self.scratch, i);
        self.next = self.next.wrapping_add(i);
        self.fragment -= i;
        self.block += i;
        self.after_representations();
    }

    #[inline(always)]
    fn after_representations(&mut self) {
        if self.field == AT_PATH {
            if self.value > LONGEST {
                self.unreadable();
                return;
            }
            self.path = Path::start();
            self.stage = VALUE;
        } else if self.field == AT_ROOT {
            self.mode &= !UNREAD;
            self.skip_fragment();
            return;
        } else if self.field == BROKEN || self.block > BLOCK_BYTES {
            self.unreadable();
            return;
        }
        self.after_fragment();
    }

    /// One byte (RFC 7541 section 6).
    #[inline(always)]
    fn representation(&mut self, byte: u8) {
        let byte = u32::from(byte);
        if self.field == FIELD {
            self.first_of_field(byte);
        } else if self.field == INDEX {
            if byte & 0x80 == 0 {
                self.field = self.then;
            }
        } else if self.field == LENGTH {
            self.value = byte & 0x7f;
            if byte & 0x80 != 0 {
                self.mode |= HUFFMAN;
            } else {
                self.mode &= !HUFFMAN;
            }
            self.shift = 0;
            if self.value == 0x7f {
                self.field = LENGTH_MORE;
            } else {
                self.string();
            }
        } else if self.field == NAME {
            self.name(byte);
        } else {
            self.value += (byte & 0x7f) << (self.shift & 31);
            self.shift += 7;
            if byte & 0x80 == 0 {
                self.string();
            } else if self.shift > 14 {
                self.field = BROKEN;
            }
        }
    }

    #[inline(always)]
    fn first_of_field(&mut self, byte: u32) {
        self.mode &= !(IS_PATH | IS_NAME);
        if byte & 0x80 != 0 {
            self.then = FIELD;
            if is_path_name(byte & 0x7f) {
                self.field = AT_ROOT;
            } else if byte == 0xff {
                self.field = INDEX;
            }
            return;
        }
        if byte & 0xe0 == 0x20 {
            // The table's size.
            self.then = FIELD;
            if byte == 0x3f {
                self.field = INDEX;
            }
            return;
        }
        let mask = if byte & 0x40 != 0 { 0x3f } else { 0x0f };
        let index = byte & mask;
        self.then = LENGTH;
        if index == mask {
            self.field = INDEX;
            return;
        }
        if index == 0 {
            self.mode |= IS_NAME;
        } else if is_path_name(index) {
            self.mode |= IS_PATH;
        }
        self.field = LENGTH;
    }

    /// A byte of a name that is as long as `:path`. The window is free while a block is read.
    #[inline(always)]
    fn name(&mut self, byte: u32) {
        self.window[2] = self.window[2] << 8 | u64::from(byte);
        self.value -= 1;
        if self.value == 0 {
            if self.window[2] == PATH_NAME || self.window[2] == PATH_NAME_HUFFMAN {
                self.mode |= IS_PATH;
            }
            self.field = LENGTH;
        }
    }

    /// A string's length is known.
    #[inline(always)]
    fn string(&mut self) {
        if self.mode & IS_NAME != 0 {
            self.mode &= !IS_NAME;
            self.then = LENGTH;
            let wanted = if self.mode & HUFFMAN != 0 { 4 } else { 5 };
            if self.value == wanted {
                self.window[2] = 0;
                self.field = NAME;
                return;
            }
        } else if self.mode & IS_PATH != 0 {
            self.field = if self.value == 0 { AT_ROOT } else { AT_PATH };
            return;
        } else {
            self.then = FIELD;
        }
        self.field = if self.value == 0 { self.then } else { SKIP };
    }

    /// Some of the path's value was read, up to `delimiter` or to the end of what is there.
    #[inline(always)]
    pub(super) fn path_value(&mut self, delimiter: u8) {
        if delimiter == 0 && self.value > 0 {
            self.after_fragment();
            return;
        }
        let signal = if self.mode & HUFFMAN != 0 {
            self.path.huffman_signal()
        } else if delimiter == 0 || delimiter == b'?' || delimiter == b'#' {
            self.path.signal()
        } else {
            SIGNAL_UNKNOWN
        };
        self.mode &= !UNREAD;
        self.skip_fragment();
        if signal != SIGNAL_UNKNOWN {
            self.found(signal, PROOF_PATH);
        }
    }

    /// Weighs the beginning of a message whose path is not known.
    #[inline(always)]
    pub(super) fn weigh(&mut self) {
        let have = self.have;
        let prefixed = self.mode & PREFIXED != 0;
        let outcome = grpc::weigh(self.window, have, prefixed);
        self.mode &= !PREFIXED;
        // The window's bytes are taken; the rest of the frame is skipped.
        self.fragment = self.fragment.saturating_sub(have);
        self.skip_fragment();
        if outcome == grpc::PREFIX_ONLY {
            self.mode |= PREFIXED;
            return;
        }
        self.mode &= !UNREAD;
        if outcome == grpc::OTLP_LIKE {
            if self.best == 0 || self.best > PROOF_GRPC {
                self.found(SIGNAL_UNKNOWN, PROOF_GRPC);
            }
        } else if outcome == grpc::GRPC || self.mode & PRE_EXISTING == 0 {
            self.port_only();
        }
    }
}
