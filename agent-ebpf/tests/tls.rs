//! The outcome of TLS handshakes: real ones as they were recorded, and what cannot be recorded.

use proptest::prelude::*;
use spanwarden_ebpf::{
    abi::{
        TLS_ALERT_RECEIVED, TLS_ALERT_SENT, TLS_CLOSED, TLS_NO_ANSWER, TLS_PLAINTEXT_ANSWER, TLS_REFUSED,
        TLS_RESET,
    },
    proto::tls::{Connection, Outcome, PENDING, SUCCEEDED, UNKNOWN},
};

/// See the file.
const RECORDS: &str = include_str!("tls/records.txt");

enum Event {
    /// From the client or not, and the record.
    Record(bool, Vec<u8>),
    /// Of the client or not, and by a reset or not.
    Closed(bool, bool),
}

fn event(text: &str) -> Event {
    let from_client = text.starts_with('>');
    match &text[1..] {
        "fin" => return Event::Closed(from_client, false),
        "rst" => return Event::Closed(from_client, true),
        _ => {}
    }
    let fields: Vec<&str> = text[1..].split(':').collect();
    let [kind, length, first] = fields.as_slice() else { panic!("{text}") };
    let length: usize = length.parse().unwrap();
    let mut record = vec![kind.parse().unwrap(), 3, 3, (length >> 8) as u8, length as u8];
    record.resize(5 + length, 0xaa);
    let first = u16::from_str_radix(first, 16).unwrap().to_be_bytes();
    for (to, byte) in record[5..].iter_mut().zip(first) {
        *to = byte;
    }
    Event::Record(from_client, record)
}

fn word(outcome: Outcome) -> String {
    match outcome.kind {
        PENDING => "pending".to_owned(),
        SUCCEEDED => "succeeded".to_owned(),
        UNKNOWN => "unknown".to_owned(),
        TLS_REFUSED => "refused".to_owned(),
        TLS_ALERT_RECEIVED => format!("alert-received:{}", outcome.detail),
        TLS_ALERT_SENT => format!("alert-sent:{}", outcome.detail),
        TLS_PLAINTEXT_ANSWER => "plaintext-answer".to_owned(),
        TLS_CLOSED => "closed".to_owned(),
        TLS_RESET => "reset".to_owned(),
        TLS_NO_ANSWER => "no-answer".to_owned(),
        other => panic!("{other}"),
    }
}

/// The first outcome, with what one side sends before the other does cut in packets of `size` bytes, and each packet
/// sent twice when `again` says so.
fn told(events: &[&str], size: usize, again: bool) -> String {
    let mut connection = Connection::default();
    let mut positions = [0_u32; 2];
    let mut events = events.iter().map(|text| event(text)).peekable();
    let mut last = Outcome { kind: PENDING, detail: 0 };
    while let Some(event) = events.next() {
        match event {
            Event::Closed(by_client, by_reset) => last = connection.closed(by_client, by_reset),
            Event::Record(from_client, mut bytes) => {
                while let Some(Event::Record(_, more)) =
                    events.next_if(|next| matches!(next, Event::Record(client, _) if *client == from_client))
                {
                    bytes.extend(more);
                }
                let at = &mut positions[usize::from(from_client)];
                for packet in bytes.chunks(size) {
                    last = connection.packet(from_client, *at, packet);
                    if again && last.kind == PENDING {
                        last = connection.packet(from_client, *at, packet);
                    }
                    *at = at.wrapping_add(packet.len() as u32);
                    if last.kind != PENDING {
                        return word(last);
                    }
                }
            }
        }
        if last.kind != PENDING {
            break;
        }
    }
    word(last)
}

#[test]
fn recorded_handshakes_however_cut() {
    let mut lines = 0;
    for line in RECORDS.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split(' ').collect();
        let (expected, events) = (fields[3], &fields[4..]);
        for size in [1, 2, 3, 5, 6, 100, 1_448, 100_000] {
            for again in [false, true] {
                assert_eq!(told(events, size, again), expected, "{line}\nby {size}");
            }
        }
        lines += 1;
    }
    assert!(lines > 80, "{lines}");
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn what_was_not_recorded() {
    let hello = ">22:512:0100";
    let server = ["<22:122:0200", "<20:1:01", "<23:23:aaaa", "<23:450:aaaa", "<23:96:aaaa", "<23:53:aaaa"];
    let table: &[(&[&str], &str)] = &[
        (&[hello, "<fin"], "closed"),
        (&[hello, "<rst"], "reset"),
        (&[hello, ">fin"], "no-answer"),
        (&[hello, ">rst"], "no-answer"),
        (&[hello, "<21:2:0246"], "alert-received:70"),
        (&[hello, "<21:2:0170", "<22:122:0200"], "pending"),
        (&[hello, "<21:2:0100", "<fin"], "closed"),
        (&[hello, "<22:122:0200", "<fin"], "refused"),
        // A HelloRetryRequest: the second hello is no sign of TLS 1.2.
        (&[hello, "<22:88:0200", "<20:1:01", ">20:1:01", ">22:512:0100", "<22:155:0200"], "pending"),
        (
            &[
                hello,
                "<22:88:0200",
                ">20:1:01",
                ">22:512:0100",
                "<22:155:0200",
                "<23:23:aaaa",
                "<23:69:aaaa",
                ">23:69:aaaa",
                ">23:200:aaaa",
                "<23:300:aaaa",
                "<23:120:aaaa",
            ],
            "succeeded",
        ),
        // The certificate in one record with the rest of the flight (rustls), and an answer.
        (
            &[
                hello,
                server[0],
                server[3],
                ">20:1:01",
                ">23:1200:aaaa",
                ">23:180:aaaa",
                "<23:98:aaaa",
                "<23:98:aaaa",
                "<23:140:aaaa",
            ],
            "succeeded",
        ),
        (&[hello, server[0], server[3], ">20:1:01", ">23:1200:aaaa", "<23:19:aaaa"], "refused"),
        // Tickets are no answer, for a server that looks at the certificate when the handshake is over.
        (
            &[
                hello,
                server[0],
                server[3],
                server[5],
                ">20:1:01",
                ">23:53:aaaa",
                ">23:180:aaaa",
                "<23:250:aaaa",
                "<23:250:aaaa",
                "<fin",
            ],
            "refused",
        ),
        (
            &[
                hello,
                server[0],
                server[3],
                server[5],
                ">20:1:01",
                ">23:53:aaaa",
                ">23:180:aaaa",
                "<23:250:aaaa",
                "<23:250:aaaa",
            ],
            "pending",
        ),
        // An orderly end after them is a server that does not talk.
        (
            &[
                hello,
                server[0],
                server[3],
                server[5],
                ">20:1:01",
                ">23:53:aaaa",
                ">23:180:aaaa",
                "<23:250:aaaa",
                "<23:19:aaaa",
            ],
            "succeeded",
        ),
        (
            &[
                hello,
                server[0],
                server[3],
                server[5],
                ">20:1:01",
                ">23:53:aaaa",
                "<23:250:aaaa",
                "<23:19:aaaa",
            ],
            "unknown",
        ),
    ];
    for (events, expected) in table {
        for size in [1, 4, 100_000] {
            assert_eq!(told(events, size, false), *expected, "{events:?} by {size}");
        }
    }
}

#[test]
fn an_answer_that_is_no_tls() {
    let Event::Record(_, hello) = event(">22:512:0100") else { unreachable!() };
    for answer in [
        &b"HTTP/1.1 400 Bad Request\r\n"[..],
        b"HTTP/1.0 400 Bad Request\r\n",
        b"\0\0\x06\x04\0\0\0\0\0\0\x05\0\0\x40\0",
        b"\0\0\x22\x07\0\0\0\0\0\0\0\0\0\0\0\0\x01",
        b"220 mail.example.org ESMTP\r\n",
        b"\x16\x02\0\0\0\0\0\0",
    ] {
        for size in [1, 7, 100] {
            let mut connection = Connection::default();
            assert_eq!(connection.packet(true, 0, &hello).kind, PENDING);
            let mut at = 0;
            let mut last = PENDING;
            for packet in answer.chunks(size) {
                if last == PENDING {
                    last = connection.packet(false, at, packet).kind;
                }
                at += packet.len() as u32;
            }
            assert_eq!(last, TLS_PLAINTEXT_ANSWER, "{answer:?}");
        }
    }
}

#[test]
fn a_hole_is_not_taken_for_an_answer() {
    let Event::Record(_, hello) = event(">22:512:0100") else { unreachable!() };
    let mut connection = Connection::default();
    connection.packet(true, 0, &hello);
    assert_eq!(connection.packet(false, 1_448, &[0xaa; 100]).kind, UNKNOWN);
}

proptest! {
    /// Whatever both sides send, there is an outcome and no panic, and garbage is never a success.
    #[test]
    fn garbage(
        packets in proptest::collection::vec((any::<bool>(), proptest::collection::vec(any::<u8>(), 0..60)), 0..40),
        hello in any::<bool>(),
    ) {
        let mut connection = Connection::default();
        let mut positions = [0_u32; 2];
        if hello {
            let Event::Record(_, record) = event(">22:512:0100") else { unreachable!() };
            connection.packet(true, 0, &record);
            positions[1] = record.len() as u32;
        }
        for (from_client, bytes) in packets {
            let at = &mut positions[usize::from(from_client)];
            prop_assert!(connection.packet(from_client, *at, &bytes).kind != SUCCEEDED);
            *at = at.wrapping_add(bytes.len() as u32);
        }
        prop_assert!(connection.closed(true, false).kind != SUCCEEDED);
    }
}
