//! Tells what a connection carries by the bytes that its two ends send.
//!
//! [`Classifier`] reads what the client sends, [`tls`] both ends of a TLS handshake. Each is a state of constant size
//! without a buffer, driven by [`Stream`] here and by the programs in the kernel in the same way: positions are TCP
//! sequence numbers less that of the first payload byte, so a retransmission is not read twice, and a line or a frame
//! that is split over any number of packets is told the same as one in a single packet.
//!
//! Known limits: a target or path longer than 256 bytes is not read; one that spells its end with percent-encoding
//! is foreign, and so is one with a prefix in HPACK's Huffman code. A later request of an HTTP/1 connection is found
//! when it begins a packet.

mod classifier;
mod grpc;
mod http2;
mod path;
pub mod tls;

pub use classifier::{CHUNK, Classifier, Evidence, FOREIGN, FOUND, PENDING, TLS, UNREADABLE};

/// Rounds that a packet gets: one for a frame's header, one for a dozen bytes of HPACK, one for 64 bytes of a path. So
/// there may be about a dozen requests in a packet.
pub const ROUNDS: u32 = 48;

/// What [`Stream::packet`] has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not enough bytes yet, or nothing to report so far.
    Pending,
    /// Telemetry in the clear.
    Found(Evidence),
    /// A `ClientHello`.
    Tls,
    /// Something else, for good.
    Foreign,
    /// Bytes are missing.
    Unreadable,
}

/// A client's socket, packet by packet, as the program in the kernel handles it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stream {
    classifier: Classifier,
    is_over: bool,
}

impl Stream {
    /// A connection from its beginning, or one that is `pre_existing`; `otlp_port` when the peer's port is OTLP's.
    pub fn new(otlp_port: bool, pre_existing: bool) -> Self {
        let mut classifier = Classifier::default();
        classifier.prepare(otlp_port, pre_existing);
        Self { classifier, is_over: false }
    }

    /// A packet with payload at position `at`. After [`Verdict::Found`] with less than the path there may be a better
    /// one; every other verdict but [`Verdict::Pending`] is the last.
    pub fn packet(&mut self, at: u32, payload: &[u8]) -> Verdict {
        let parser = &mut self.classifier;
        let length = payload.len() as u32;
        if self.is_over || payload.is_empty() {
            return Verdict::Pending;
        }
        let passed =
            payload.first_chunk().is_some_and(|start| parser.passes_over(u64::from_be_bytes(*start)));
        if passed {
            return Verdict::Pending;
        }
        let is_told = parser.is_beginning(at, length)
            && payload.first_chunk().is_some_and(|start| parser.glance(u64::from_be_bytes(*start)));
        if is_told || !parser.begin(at, length) {
            return self.verdict();
        }
        for _ in 0..ROUNDS {
            if !parser.wants_more(length) {
                break;
            }
            let rest = &payload[parser.offset() as usize..];
            let n = rest.len().min(CHUNK);
            let mut chunk = [0; CHUNK];
            chunk[..n].copy_from_slice(&rest[..n]);
            parser.round(&chunk, n as u32);
        }
        self.verdict()
    }

    /// The client closes.
    pub fn close(&mut self) -> Verdict {
        if !self.is_over {
            self.classifier.close();
        }
        self.verdict()
    }

    /// The proxy has answered the client's `CONNECT`.
    pub fn tunnel_answered(&mut self, opened: bool) {
        self.classifier.tunnel_answered(opened);
    }

    fn verdict(&mut self) -> Verdict {
        let result = self.classifier.result();
        if self.is_over || result == PENDING {
            return Verdict::Pending;
        }
        self.is_over = true;
        match result {
            FOUND => {
                let evidence = self.classifier.evidence();
                self.is_over = !self.classifier.go_on();
                Verdict::Found(evidence)
            }
            TLS => Verdict::Tls,
            FOREIGN => Verdict::Foreign,
            UNREADABLE => Verdict::Unreadable,
            _ => Verdict::Pending,
        }
    }
}

/// Whether a proxy's answer, of which these are the first bytes, is a final one, and then whether it is a success
/// (RFC 9110 section 9.3.6: any 2xx).
#[inline(always)]
pub fn status(start: &[u8; 10]) -> Option<bool> {
    let [b'H', b'T', b'T', b'P', b'/', b'1', b'.', _, b' ', class] = *start else { return None };
    if class == b'1' { None } else { Some(class == b'2') }
}

/// The verdict on bytes that arrive in one piece.
pub fn classify(bytes: &[u8], otlp_port: bool) -> Verdict {
    Stream::new(otlp_port, false).packet(0, bytes)
}

/// Body of the fuzz target and of the property test: bytes cut in two at any place, the first part sent again in
/// between, get the verdict of the whole. As TLS records, sent by a server in answer to those that the client sends,
/// they come to the same end in one packet each and in two.
///
/// # Panics
/// When that does not hold.
pub fn check_split(bytes: &[u8], at: usize) {
    let (first, second) = bytes.split_at(at.min(bytes.len()));
    for port in [false, true] {
        let mut parser = Stream::new(port, false);
        let mut verdict = parser.packet(0, first);
        let again = parser.packet(0, first);
        if verdict == Verdict::Pending {
            verdict = again;
        }
        if verdict == Verdict::Pending {
            verdict = parser.packet(first.len() as u32, second);
        }
        let whole = classify(bytes, port);
        // Cut in two, a segment has another head, at which HTTP/1 may have another request; and twice the rounds.
        if verdict != whole {
            assert_eq!(whole, Verdict::Pending, "a split changes the verdict");
        }
    }
    // More records than a packet gets looked at are missed.
    if bytes.len() < 5 * tls::RECORDS as usize {
        let (mut parts, mut once) = (tls::Connection::default(), tls::Connection::default());
        parts.packet(true, 0, first);
        parts.packet(true, first.len() as u32, second);
        once.packet(true, 0, bytes);
        parts.packet(false, 0, first);
        let told = parts.packet(false, first.len() as u32, second);
        assert_eq!(told, once.packet(false, 0, bytes), "a split changes the outcome");
    }
}
