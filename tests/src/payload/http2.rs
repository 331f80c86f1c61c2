//! HTTP/2 without TLS, frame by frame (RFC 9113), with header blocks spelled as the various clients spell them
//! (RFC 7541).

use super::Signal;

/// The preface with an empty SETTINGS frame.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// A `:path` and its Huffman code in hexadecimal digits.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// As it is.
    pub text: &'static str,
    /// As most clients send it.
    pub huffman: &'static str,
}

/// How a string is written in a header block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Its bytes: gRPC's C-core, Netty.
    Raw,
    /// Huffman: Go, Rust's h2, nghttp2.
    Huffman,
}

/// How a field is written with an indexed name (RFC 7541 section 6.2): the first byte of `:path`.
pub const PATH_LITERALS: [u8; 3] = [0x44, 0x04, 0x14];

/// A header block of a POST.
#[derive(Clone, Debug)]
pub struct Block(Vec<u8>);

impl Block {
    /// `:method: POST`, `:scheme: http`, then what is asked for.
    pub fn post(path: Path, form: Form) -> Self {
        Self::start().path(0x44, path, form).field(0x5f, b"application/grpc")
    }

    /// `:method: POST`, `:scheme: http`.
    pub fn start() -> Self {
        Self::empty().posts()
    }

    /// Nothing yet.
    pub fn empty() -> Self {
        Self(Vec::new())
    }

    /// With `:method: POST` and `:scheme: http`.
    #[must_use]
    pub fn posts(mut self) -> Self {
        self.0.extend([0x83, 0x86]);
        self
    }

    /// A POST whose path is an entry of the table of fields that were sent before (RFC 7541 section 2.3.2).
    pub fn indexed_path(index: u8) -> Self {
        let mut block = Self::start();
        block.0.push(0x80 | index);
        block
    }

    /// `:path`, written with `literal` of [`PATH_LITERALS`].
    #[must_use]
    pub fn path(mut self, literal: u8, path: Path, form: Form) -> Self {
        self.0.push(literal);
        match form {
            Form::Raw => self.string(0, path.text.as_bytes()),
            Form::Huffman => self.string(0x80, &unhex(path.huffman)),
        }
        self
    }

    /// Any field whose name has an index, by its first byte: `0x41` `:authority`, `0x5f` `content-type`.
    #[must_use]
    pub fn field(mut self, first: u8, value: &[u8]) -> Self {
        self.0.push(first);
        self.string(0, value);
        self
    }

    /// A field whose name has none.
    #[must_use]
    pub fn named(mut self, name: &str, value: &[u8]) -> Self {
        self.0.push(0x40);
        self.string(0, name.as_bytes());
        self.string(0, value);
        self
    }

    /// A string literal with its length as a prefixed integer of seven bits (RFC 7541 section 5.1).
    fn string(&mut self, huffman: u8, bytes: &[u8]) {
        let length = bytes.len();
        if length < 127 {
            self.0.push(huffman | length as u8);
        } else {
            self.0.push(huffman | 127);
            let mut rest = length - 127;
            while rest >= 128 {
                self.0.push((rest & 127) as u8 | 128);
                rest >>= 7;
            }
            self.0.push(rest as u8);
        }
        self.0.extend_from_slice(bytes);
    }
}

fn unhex(digits: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("a hexadecimal digit") as u8;
    digits.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// A connection being written.
#[derive(Clone, Debug)]
pub struct Connection(Vec<u8>);

impl Default for Connection {
    fn default() -> Self {
        Self(PREFACE.to_vec())
    }
}

impl Connection {
    /// Begins with the preface and SETTINGS.
    pub fn new() -> Self {
        Self::default()
    }

    /// HEADERS.
    #[must_use]
    pub fn headers(self, stream: u32, block: &Block) -> Self {
        self.frame(HEADERS, END_HEADERS, stream, &block.0)
    }

    /// HEADERS with a request that has no body.
    #[must_use]
    pub fn headers_only(self, stream: u32, block: &Block) -> Self {
        self.frame(HEADERS, END_HEADERS | END_STREAM, stream, &block.0)
    }

    /// HEADERS with padding before and after, and a priority if wanted.
    #[must_use]
    pub fn padded_headers(self, stream: u32, block: &Block, padding: u8, priority: bool) -> Self {
        let mut body = vec![padding];
        let mut flags = END_HEADERS | PADDED;
        if priority {
            flags |= PRIORITY;
            body.extend([0, 0, 0, 0, 15]);
        }
        body.extend(&block.0);
        body.extend(vec![0; padding.into()]);
        self.frame(HEADERS, flags, stream, &body)
    }

    /// HEADERS with a priority.
    #[must_use]
    pub fn priority_headers(self, stream: u32, block: &Block) -> Self {
        let body = [&[0, 0, 0, 0, 15], block.0.as_slice()].concat();
        self.frame(HEADERS, END_HEADERS | PRIORITY, stream, &body)
    }

    /// The block cut into HEADERS and CONTINUATION frames of at most `size` bytes.
    #[must_use]
    pub fn continued_headers(mut self, stream: u32, block: &Block, size: usize) -> Self {
        let parts = block.0.chunks(size);
        let last = parts.len() - 1;
        for (number, part) in parts.enumerate() {
            let kind = if number == 0 { HEADERS } else { CONTINUATION };
            let flags = if number == last { END_HEADERS } else { 0 };
            self = self.frame(kind, flags, stream, part);
        }
        self
    }

    /// A gRPC message in DATA frames of the default size limit, the last one ending the stream.
    ///
    /// # Panics
    /// When the message is longer than 4 GiB.
    #[must_use]
    pub fn grpc_message(self, stream: u32, message: &[u8]) -> Self {
        let length = u32::try_from(message.len()).expect("a message below 4 GiB");
        let framed = [&[0], length.to_be_bytes().as_slice(), message].concat();
        self.body(stream, &framed)
    }

    /// A body in DATA frames.
    #[must_use]
    pub fn body(mut self, stream: u32, body: &[u8]) -> Self {
        let parts = body.chunks(16_384);
        let last = parts.len() - 1;
        for (number, part) in parts.enumerate() {
            self = self.frame(DATA, if number == last { END_STREAM } else { 0 }, stream, part);
        }
        self
    }

    /// Frames that clients like to send before their first request.
    #[must_use]
    pub fn chatter(self) -> Self {
        self.frame(WINDOW_UPDATE, 0, 0, &[0, 0x3f, 0, 1]).frame(PING, 0, 0, b"spanward")
    }

    /// The bytes.
    pub fn bytes(self) -> Vec<u8> {
        self.0
    }

    fn frame(mut self, kind: u8, flags: u8, stream: u32, body: &[u8]) -> Self {
        let length = u32::try_from(body.len()).expect("a frame below 16 MiB").to_be_bytes();
        self.0.extend_from_slice(&length[1..]);
        self.0.extend([kind, flags]);
        self.0.extend(stream.to_be_bytes());
        self.0.extend_from_slice(body);
        self
    }
}

/// An OTLP/gRPC export of `signal`.
pub fn export(signal: Signal, form: Form, message: &[u8]) -> Vec<u8> {
    let block = Block::post(signal.grpc_path(), form).named("te", b"trailers");
    Connection::new().chatter().headers(1, &block).grpc_message(1, message).bytes()
}
