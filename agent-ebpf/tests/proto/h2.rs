//! HTTP/2 and HPACK as a client may write them: a writer of its own, which shares nothing with the parser.

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// One setting.
pub(crate) const SETTINGS: [u8; 15] = *b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64";

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()).collect()
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// As many `DATA` frames as the default limit of 16 KiB asks for.
pub(crate) fn data(stream: u32, payload: &[u8]) -> Vec<u8> {
    payload.chunks(16_384).flat_map(|piece| frame(0, 0, stream, piece)).collect()
}

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) huffman: bool,
    /// First byte of the path's representation; without an index the name is written out, as gRPC's C-core does.
    pub(crate) kind: u8,
    /// The path comes behind literal headers.
    pub(crate) behind: bool,
    pub(crate) padded: Option<u8>,
    pub(crate) priority: bool,
    /// Frames that the header block is cut into.
    pub(crate) pieces: usize,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn new(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            huffman: false,
            kind: 0x44,
            behind: false,
            padded: None,
            priority: false,
            pieces: 1,
            body: vec![7; 30],
        }
    }

    fn block(&self) -> Vec<u8> {
        let mut block = vec![0x83, 0x86];
        if self.behind {
            block.extend(b"\x3f\xe1\x1f\x41");
            string(&mut block, b"collector.observability.svc.cluster.local:4317", false);
            block.extend(b"\x40");
            string(&mut block, b"x-some-name", false);
            string(&mut block, &[b'v'; 200], false);
            // Names as long as `:path`, as they are and in Huffman code.
            for (name, huffman) in [(b"x-abc", false), (b"x-abc", true), (b"xpath", false)] {
                block.push(0x00);
                string(&mut block, name, huffman);
                string(&mut block, b"/v1/traces", huffman);
            }
            block.extend(b"\x0f\x2b");
            string(&mut block, b"", false);
        }
        block.push(self.kind);
        if matches!(self.kind, 0x40 | 0x00 | 0x10) {
            string(&mut block, b":path", self.huffman);
        }
        string(&mut block, self.path.as_bytes(), self.huffman);
        block.push(0x5f);
        string(&mut block, b"application/grpc", false);
        block.extend(b"\x7f\x80\x01");
        string(&mut block, b"tonic/0.14", true);
        block
    }

    pub(crate) fn bytes(&self, stream: u32) -> Vec<u8> {
        let block = self.block();
        let size = block.len().div_ceil(self.pieces).max(1);
        let pieces: Vec<&[u8]> = block.chunks(size).collect();
        let mut all = Vec::new();
        for (number, piece) in pieces.iter().enumerate() {
            let end = if number + 1 == pieces.len() { 4 } else { 0 };
            if number > 0 {
                all.extend(frame(9, end, stream, piece));
                continue;
            }
            let (mut flags, mut payload) = (end, Vec::new());
            if let Some(length) = self.padded {
                flags |= 8;
                payload.push(length);
            }
            if self.priority {
                flags |= 0x20;
                payload.extend([0x80, 0, 0, 0, 15]);
            }
            payload.extend(*piece);
            payload.extend(vec![0; self.padded.unwrap_or(0).into()]);
            all.extend(frame(1, flags, stream, &payload));
        }
        all.extend(data(stream, &self.body));
        all
    }
}

/// A string literal (RFC 7541 section 5.2).
fn string(block: &mut Vec<u8>, text: &[u8], huffman: bool) {
    let coded = if huffman { huffman_code(text) } else { text.to_vec() };
    let flag = if huffman { 0x80 } else { 0 };
    if coded.len() < 127 {
        block.push(flag | coded.len() as u8);
    } else {
        block.push(flag | 127);
        let mut rest = coded.len() - 127;
        while rest >= 128 {
            block.push(rest as u8 & 0x7f | 0x80);
            rest >>= 7;
        }
        block.push(rest as u8);
    }
    block.extend(coded);
}

/// RFC 7541 appendix B, for the characters that paths here have.
fn huffman_code(text: &[u8]) -> Vec<u8> {
    const TABLE: &str = "  14 6|# ffa 12|- 16 6|. 17 6|/ 18 6|0 0 5|1 1 5|2 2 5|3 19 6|4 1a 6|: 5c 7|= 20 6|? 3fc 10|A 21 6|B 5d 7|C 5e 7|\
        D 5f 7|E 60 7|F 61 7|G 62 7|H 63 7|I 64 7|J 65 7|K 66 7|L 67 7|M 68 7|N 69 7|O 6a 7|P 6b 7|Q 6c 7|R 6d 7|S 6e 7|\
        T 6f 7|U 70 7|V 71 7|W 72 7|X fc 8|Y 73 7|Z fd 8|a 3 5|b 23 6|c 4 5|d 24 6|e 5 5|f 25 6|g 26 6|h 27 6|i 6 5|\
        j 74 7|k 75 7|l 28 6|m 29 6|n 2a 6|o 7 5|p 2b 6|q 76 7|r 2c 6|s 8 5|t 9 5|u 2d 6|v 77 7|w 78 7|x 79 7|y 7a 7|z 7b 7";
    let mut bits = Vec::new();
    for &byte in text {
        let entry = TABLE
            .split('|')
            .find(|entry| entry.trim_start_matches(' ').is_empty() || entry.as_bytes()[0] == byte);
        let entry = entry.unwrap_or_else(|| panic!("no code for {:?}", char::from(byte)));
        let mut fields = entry[1..].split_whitespace();
        let code = u32::from_str_radix(fields.next().unwrap(), 16).unwrap();
        let length: u32 = fields.next().unwrap().parse().unwrap();
        bits.extend((0..length).rev().map(|bit| code >> bit & 1 == 1));
    }
    while !bits.len().is_multiple_of(8) {
        bits.push(true);
    }
    bits.chunks(8).map(|eight| eight.iter().fold(0, |byte, &bit| byte << 1 | u8::from(bit))).collect()
}
