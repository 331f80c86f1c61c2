//! The outcome of a TLS handshake, from the headers of the records that go both ways.
//!
//! Nothing is decrypted. In TLS 1.2 content types tell everything. In TLS 1.3 all that follows the hellos looks like
//! application data, and what it is follows from order and size: the server's flight comes before anything of the
//! client's; the client's flight ends with a `Finished` of one of two sizes; an alert is shorter than anything else
//! that is sent after that; tickets are the server's first records after it, of one size.

use super::classifier::settle;
use crate::abi::{
    TLS_ALERT_RECEIVED, TLS_ALERT_SENT, TLS_CLOSED, TLS_NO_ANSWER, TLS_PLAINTEXT_ANSWER, TLS_REFUSED,
    TLS_RESET,
};

/// Bytes of a record that [`Side::round`] is given at a time, at most.
pub const HEAD: usize = 8;

/// Records of a packet that are looked at: a server's whole flight has seven, and more are application data.
pub const RECORDS: u32 = 12;

/// Record types (RFC 8446 section 5.1).
const CHANGE_CIPHER_SPEC: u32 = 20;
const ALERT: u32 = 21;
const HANDSHAKE: u32 = 22;
const APPLICATION_DATA: u32 = 23;

/// Handshake types (RFC 8446 section 4).
const CLIENT_HELLO: u32 = 1;
const SERVER_HELLO: u32 = 2;

/// Bytes of a record's header.
const HEADER: u32 = 5;
/// Bytes after it that are looked at: an alert's level and description, a handshake message's type.
const LOOK: u32 = 2;

/// The longest record (RFC 8446 section 5.2; TLS 1.2 allows 2^14 + 2048).
const LONGEST: u32 = (1 << 14) + 2048;

/// Longest encrypted alert in TLS 1.3: two bytes, the content type and a tag of 16 are 19. The shortest other thing
/// that is sent after the hellos, by a client without a certificate to show, is 25.
const ALERT_LONGEST: u32 = 24;

/// An encrypted `Finished` in TLS 1.3: a hash of 32 or 48 bytes, a header of 4, the content type, a tag of 16.
const FINISHED: [u32; 2] = [53, 69];

/// An encrypted answer that is shorter is no ticket, which holds 13 bytes besides the ticket itself.
const TICKET_SHORTEST: u32 = 64;

/// One direction of a TLS connection. All zeroes, and [`start`](Self::start).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Side {
    /// Bytes of the record under way, the newest lowest.
    window: u64,
    /// Position of the next byte to be looked at.
    next: u32,
    /// How many bytes are in the window.
    have: u32,
    /// How many bytes of the record's body are wanted in it; 0 until its header is there.
    body: u32,
    /// Bits, see below.
    facts: u32,
    /// Description of the alert in the clear.
    alert: u32,
    /// Records of application data, other than alerts; the server's since the client's flight.
    data: u32,
    /// Length of the first of these.
    first: u32,
    /// For [`settle`].
    scratch: u32,
}

/// A hello was seen.
const HELLO: u32 = 1;
/// An alert in the clear.
const CLEAR_ALERT: u32 = 1 << 1;
/// A record of an encrypted alert's size.
const SMALL: u32 = 1 << 2;
/// The client's messages are those of TLS 1.2.
const V12: u32 = 1 << 3;
/// The client's `Finished` of TLS 1.3 was seen.
const CLIENT_FINISHED: u32 = 1 << 4;
/// Application data after that.
const AFTER_FINISHED: u32 = 1 << 5;
/// A record of the server's that is no ticket.
const ANSWER: u32 = 1 << 6;
/// What the server sends is not TLS.
const NOT_TLS: u32 = 1 << 7;
/// The side has closed.
const CLOSED: u32 = 1 << 8;
/// The side has reset.
const RESET: u32 = 1 << 9;
/// Records were missed.
const LOST: u32 = 1 << 10;
/// Where the records begin is not known: at the next packet.
const UNSYNCED: u32 = 1 << 11;
/// A packet with payload was seen.
const BEGUN: u32 = 1 << 12;

/// [`Outcome::kind`]: not decided.
pub const PENDING: u32 = 0;
/// [`Outcome::kind`]: application data went both ways.
pub const SUCCEEDED: u32 = 100;
/// [`Outcome::kind`]: over, and not known how.
pub const UNKNOWN: u32 = 101;

/// What has become of a TLS connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// One of `abi::TLS_*` for a failure, or one of the above.
    pub kind: u32,
    /// The alert's description where `kind` is an alert.
    pub detail: u32,
}

/// Both sides, packet by packet, as the programs in the kernel handle them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Connection {
    client: Side,
    server: Side,
}

impl Connection {
    /// A packet with payload at position `at` of its direction, and what it comes to.
    pub fn packet(&mut self, from_client: bool, at: u32, payload: &[u8]) -> Outcome {
        let length = payload.len() as u32;
        let side = if from_client { &mut self.client } else { &mut self.server };
        let is_wanted = !payload.is_empty() && side.begin(at, length);
        for _ in 0..RECORDS {
            let side = if from_client { &mut self.client } else { &mut self.server };
            if !is_wanted || side.offset(at) >= length || side.is_over() {
                break;
            }
            let rest = &payload[side.offset(at) as usize..];
            let n = rest.len().min(HEAD);
            let mut chunk = [0; HEAD];
            chunk[..n].copy_from_slice(&rest[..n]);
            if side.round(&chunk, n as u32) {
                if from_client {
                    self.client.client_record();
                } else {
                    self.server.server_record(&self.client);
                }
            }
        }
        outcome(&self.client, &self.server)
    }

    /// One side has closed, or reset.
    pub fn closed(&mut self, by_client: bool, by_reset: bool) -> Outcome {
        let side = if by_client { &mut self.client } else { &mut self.server };
        side.closed(by_reset);
        outcome(&self.client, &self.server)
    }
}

impl Side {
    /// The records begin at this position.
    #[inline(always)]
    pub fn start(&mut self, at: u32) {
        *self = Self { next: at, ..Self::default() };
    }

    /// The records begin with the next packet.
    #[inline(always)]
    pub fn start_anywhere(&mut self) {
        *self = Self { facts: UNSYNCED, ..Self::default() };
    }

    /// A packet with `len` bytes of payload at position `at`: whether any of it is to be looked at.
    #[inline(always)]
    pub fn begin(&mut self, at: u32, len: u32) -> bool {
        if self.facts & UNSYNCED != 0 {
            self.facts &= !UNSYNCED;
            self.next = at;
        }
        let known = self.next.wrapping_sub(at);
        // What is missing is sent again, and then what is here is not: the rest cannot be told.
        if known.cast_signed() < 0 {
            self.facts |= LOST;
            return false;
        }
        known < len
    }

    /// Whether this is the first time that it is asked: of packets with payload.
    #[inline(always)]
    pub fn is_first(&mut self) -> bool {
        let first = self.facts & BEGUN == 0;
        self.facts |= BEGUN;
        first
    }

    /// Whether the side has sent nothing.
    #[inline(always)]
    pub fn is_silent(&self) -> bool {
        self.facts & BEGUN == 0
    }

    /// Where in the packet at position `at` the next byte to be looked at is.
    #[inline(always)]
    pub fn offset(&self, at: u32) -> u32 {
        self.next.wrapping_sub(at)
    }

    /// Whether there is no need to look at more packets of this side.
    #[inline(always)]
    pub fn is_over(&self) -> bool {
        self.facts & (NOT_TLS | LOST) != 0
    }

    /// Takes some of the `n` bytes at [`offset`](Self::offset). Whether a record's beginning is there, then to be
    /// given to [`client_record`](Self::client_record) or [`server_record`](Self::server_record).
    #[inline(always)]
    pub fn round(&mut self, chunk: &[u8; HEAD], n: u32) -> bool {
        let mut have = self.have;
        let mut window = self.window;
        let mut i = 0;
        while i < HEAD as u32 && i < n && have < HEADER {
            window = window << 8 | u64::from(chunk[i as usize]);
            have += 1;
            i += 1;
        }
        if have == HEADER {
            self.body = (window as u32 & 0xffff).min(LOOK);
        }
        while i < HEAD as u32 && i < n && have >= HEADER && have < HEADER + self.body {
            window = window << 8 | u64::from(chunk[i as usize]);
            have += 1;
            i += 1;
        }
        self.window = window;
        let i = settle(&mut self.scratch, i);
        let have = settle(&mut self.have, have);
        self.next = self.next.wrapping_add(i);
        have >= HEADER && have == HEADER + self.body
    }

    /// The side has closed, or reset.
    #[inline(always)]
    pub fn closed(&mut self, by_reset: bool) {
        self.facts |= if by_reset { RESET } else { CLOSED };
    }

    /// Type, length and the two bytes after the header; skips the record. `None` when these are not TLS.
    #[inline(always)]
    fn record(&mut self) -> Option<(u32, u32, u32)> {
        let window = self.window << ((8 * (LOOK - self.body)) & 63);
        let kind = (window >> 48) as u32 & 0xff;
        let major = (window >> 40) as u32 & 0xff;
        let length = (window >> 16) as u32 & 0xffff;
        let body = window as u32 & 0xffff;
        if major != 3 || !(CHANGE_CIPHER_SPEC..=APPLICATION_DATA).contains(&kind) || length > LONGEST {
            self.facts |= NOT_TLS;
            return None;
        }
        self.next = self.next.wrapping_add(length - self.body);
        self.have = 0;
        self.body = 0;
        self.window = 0;
        Some((kind, length, body))
    }

    /// An alert in the clear. Warnings that do not end the connection say nothing.
    #[inline(always)]
    fn clear_alert(&mut self, body: u32) {
        let (level, description) = (body >> 8, body & 0xff);
        let harmless = matches!(description, 0 | 90 | 100 | 112);
        if level == 2 || !harmless {
            self.facts |= CLEAR_ALERT;
            self.alert = description;
        }
    }

    /// A record that the client sends.
    #[inline(always)]
    pub fn client_record(&mut self) {
        let Some((kind, length, body)) = self.record() else { return };
        if kind == HANDSHAKE {
            // A second ClientHello follows a HelloRetryRequest; anything else is of TLS 1.2.
            if self.facts & HELLO != 0 && !(body >> 8 == CLIENT_HELLO && length > 64) {
                self.facts |= V12;
            }
            self.facts |= HELLO;
        } else if kind == ALERT {
            if length == 2 {
                self.clear_alert(body);
            } else {
                self.facts |= SMALL;
            }
        } else if kind == APPLICATION_DATA {
            self.client_data(length);
        }
    }

    #[inline(always)]
    fn client_data(&mut self, length: u32) {
        if length <= ALERT_LONGEST && self.facts & V12 == 0 {
            self.facts |= SMALL;
            return;
        }
        self.data += 1;
        if self.facts & CLIENT_FINISHED != 0 {
            self.facts |= AFTER_FINISHED;
        } else if length == FINISHED[0] || length == FINISHED[1] {
            self.facts |= CLIENT_FINISHED;
        }
    }

    /// A record that the server sends; `client` is what the other side had sent by then.
    #[inline(always)]
    pub fn server_record(&mut self, client: &Self) {
        let Some((kind, length, body)) = self.record() else { return };
        if kind == HANDSHAKE {
            if body >> 8 == SERVER_HELLO {
                self.facts |= HELLO;
            }
        } else if kind == ALERT {
            if length == 2 {
                self.clear_alert(body);
            } else {
                self.facts |= SMALL;
            }
        } else if kind == APPLICATION_DATA && client.has_answered() {
            self.server_data(length, client.facts & V12 != 0);
        }
    }

    #[inline(always)]
    fn server_data(&mut self, length: u32, is_v12: bool) {
        if is_v12 {
            self.facts |= ANSWER;
            return;
        }
        if length <= ALERT_LONGEST {
            self.facts |= SMALL;
            return;
        }
        if self.data == 0 {
            self.first = length;
        }
        self.data += 1;
        if length != self.first || length < TICKET_SHORTEST {
            self.facts |= ANSWER;
        }
    }

    /// Whether the client has sent something of its second flight.
    #[inline(always)]
    fn has_answered(&self) -> bool {
        self.data > 0 || self.facts & (SMALL | V12) != 0
    }

    /// Whether the client has sent application data, and not only its flight.
    #[inline(always)]
    fn has_sent(&self) -> bool {
        if self.facts & V12 != 0 {
            return self.data > 0;
        }
        if self.facts & CLIENT_FINISHED != 0 {
            return self.facts & AFTER_FINISHED != 0;
        }
        // The flight in one record, certificate and all.
        self.data >= 2
    }
}

/// What has become of the connection, by what both sides have sent.
#[inline(always)]
pub fn outcome(client: &Side, server: &Side) -> Outcome {
    let failed = |kind| Outcome { kind, detail: 0 };
    if server.facts & CLEAR_ALERT != 0 {
        return Outcome { kind: TLS_ALERT_RECEIVED, detail: server.alert };
    }
    if client.facts & CLEAR_ALERT != 0 {
        return Outcome { kind: TLS_ALERT_SENT, detail: client.alert };
    }
    if server.facts & NOT_TLS != 0 {
        return failed(if server.facts & HELLO == 0 { TLS_PLAINTEXT_ANSWER } else { UNKNOWN });
    }
    let (sent, accepted) = (client.has_sent(), server.data > 0);
    let client_over = client.facts & (CLOSED | RESET) != 0;
    let server_over = server.facts & (CLOSED | RESET) != 0;
    if sent && server.facts & ANSWER != 0 {
        return failed(SUCCEEDED);
    }
    if client.facts & SMALL != 0 {
        return failed(if !sent {
            TLS_REFUSED
        } else if accepted {
            SUCCEEDED
        } else {
            // It was not answered, and closes.
            UNKNOWN
        });
    }
    if server.facts & SMALL != 0 {
        // After a ticket or an answer it is the orderly end.
        return failed(if !accepted && server.facts & ANSWER == 0 {
            TLS_REFUSED
        } else if sent {
            SUCCEEDED
        } else {
            UNKNOWN
        });
    }
    if !client_over && !server_over {
        let blind = (client.facts | server.facts) & (LOST | NOT_TLS) != 0;
        return failed(if blind { UNKNOWN } else { PENDING });
    }
    if server.facts & LOST != 0 {
        return failed(UNKNOWN);
    }
    if server.facts & HELLO == 0 {
        return failed(if server.facts & RESET != 0 {
            TLS_RESET
        } else if server.facts & CLOSED != 0 {
            TLS_CLOSED
        } else {
            TLS_NO_ANSWER
        });
    }
    if server_over {
        // Tickets, and then nothing: a server that looks at the certificate when the handshake is over.
        return failed(TLS_REFUSED);
    }
    failed(if !sent {
        TLS_REFUSED
    } else if accepted {
        SUCCEEDED
    } else {
        UNKNOWN
    })
}
