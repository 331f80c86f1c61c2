//! However a stream is cut, and however often pieces of it are sent again, the verdict is the same.

use super::{
    Found, GRPC_PATHS, HTTP_PATHS,
    h2::{PREFACE, Request, SETTINGS},
    run,
};
use proptest::prelude::*;
use spanwarden_ebpf::{
    abi::PROOF_PATH,
    proto::{CHUNK, Classifier, PENDING, ROUNDS, Stream, Verdict, check_split},
};

/// A request of the model, and the signal that it is for.
type Model = (Vec<u8>, Option<u32>);

fn http1() -> impl Strategy<Value = Model> {
    let method = prop_oneof![Just("GET"), Just("PUT"), Just("OPTIONS"), Just("DELETE")];
    let foreign = (method, "/[a-z/]{0,40}", "[a-z\r\n:]{0,80}")
        .prop_map(|(method, path, rest)| (format!("{method} {path} HTTP/1.1\r\n{rest}").into_bytes(), None));
    let post = "/[a-z]{0,30}".prop_map(|path| (format!("POST {path} HTTP/1.1\r\n\r\n").into_bytes(), None));
    let prefix = prop_oneof![Just(String::new()), "/[a-z0-9]{1,40}", "http://[a-z.]{8,40}:4318"];
    let otlp =
        (prefix, 0..4_usize, prop_oneof![Just(" "), Just("?x=1 ")]).prop_map(|(prefix, which, end)| {
            let (path, signal) = HTTP_PATHS[which];
            (format!("POST {prefix}{path}{end}HTTP/1.1\r\n\r\n").into_bytes(), Some(signal))
        });
    prop_oneof![4 => foreign, 2 => post, 1 => otlp]
}

prop_compose! {
    fn request()(
        path in prop_oneof![
            3 => "/[a-z]{1,20}/[A-Z][a-z]{1,20}".prop_map(|path| (path, None)),
            1 => (0..4_usize).prop_map(|n| (GRPC_PATHS[n].0.to_owned(), Some(GRPC_PATHS[n].1))),
            1 => (0..4_usize).prop_map(|n| (HTTP_PATHS[n].0.to_owned(), Some(HTTP_PATHS[n].1))),
        ],
        huffman in any::<bool>(),
        kind in prop_oneof![Just(0x44_u8), Just(0x04), Just(0x14), Just(0x40), Just(0x00), Just(0x10)],
        behind in any::<bool>(),
        padded in proptest::option::of(any::<u8>()),
        priority in any::<bool>(),
        pieces in 1..4_usize,
        body in proptest::collection::vec(any::<u8>(), 0..400),
    ) -> (Request, Option<u32>) {
        (Request { path: path.0, huffman, kind, behind, padded, priority, pieces, body }, path.1)
    }
}

/// Cuts a piece at these places, which are taken as fractions of its length.
fn cut<'a>(bytes: &'a [u8], places: &[u16]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> =
        places.iter().map(|&place| usize::from(place) * bytes.len() / (usize::from(u16::MAX) + 1)).collect();
    at.extend([0, bytes.len()]);
    at.sort_unstable();
    at.dedup();
    at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

/// Sends packets, and after each one again what `again` says of those before it; all that is found, in order.
fn send(packets: &[&[u8]], again: &[bool]) -> Vec<Found> {
    let mut stream = Stream::new(false, false);
    let mut found = Vec::new();
    let mut sent: Vec<(u32, &[u8])> = Vec::new();
    let mut at = 0;
    for (number, packet) in packets.iter().enumerate() {
        sent.push((at, packet));
        at += packet.len() as u32;
        let repeat = again[number % again.len()] && sent.len() > 1;
        let from = sent.len() - if repeat { 2 } else { 1 };
        for (at, packet) in &sent[from..] {
            if let Verdict::Found(evidence) = stream.packet(*at, packet) {
                found.push((evidence.signal, evidence.proof));
            }
        }
    }
    found
}

fn first_of(requests: impl Iterator<Item = Option<u32>>) -> Vec<Found> {
    requests.flatten().take(1).map(|signal| (signal, PROOF_PATH)).collect()
}

/// [`Stream::packet`] without its shortcut between the requests of HTTP/1: every packet is begun, and read in rounds.
/// The result, the proof, and whether a proxy's answer is awaited.
fn the_long_way(parser: &mut Classifier, at: u32, payload: &[u8]) -> (u32, u32, bool) {
    let length = payload.len() as u32;
    if parser.result() == PENDING && length > 0 && parser.begin(at, length) {
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
    }
    (parser.result(), parser.evidence().proof, parser.awaits_tunnel())
}

/// The same with the shortcut; whether it was taken.
fn the_short_way(parser: &mut Classifier, at: u32, payload: &[u8]) -> ((u32, u32, bool), bool) {
    let passed = parser.result() == PENDING
        && payload.first_chunk().is_some_and(|start| parser.passes_over(u64::from_be_bytes(*start)));
    if passed {
        return ((parser.result(), parser.evidence().proof, parser.awaits_tunnel()), true);
    }
    (the_long_way(parser, at, payload), false)
}

/// Bytes that get past the first comparisons more often than random ones do.
fn streams() -> impl Strategy<Value = Vec<u8>> {
    let start = prop_oneof![
        Just(&b"POST "[..]),
        Just(&b"POST /v1/traces"[..]),
        Just(&b"POST http://"[..]),
        Just(&b"PROXY TCP4 "[..]),
        Just(&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c0123456789ab"[..]),
        Just(&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"[..]),
        Just(&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x40\x01\x04\0\0\0\x01"[..]),
        Just(&b"PRI * HTT"[..]),
        Just(&[0x16, 3, 1, 0, 5, 1][..]),
        Just(&[0x16, 3][..]),
        Just(&b""[..]),
    ];
    let middle = prop_oneof![
        "[a-z/:.?# 0-9]{0,40}".prop_map(String::into_bytes),
        "[a-z/]{230,260}".prop_map(String::into_bytes),
        proptest::collection::vec(any::<u8>(), 0..300),
        request().prop_map(|(request, _)| request.bytes(1)),
    ];
    let end = prop_oneof![Just(&b"/v1/traces HTTP/1.1\r\n"[..]), Just(&b"/v1/traces"[..]), Just(&b" "[..])];
    (start, middle, end).prop_map(|(a, b, c)| [a, &b, c].concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn any_bytes_cut_in_two(bytes in streams(), at in 0usize..400) {
        check_split(&bytes, at);
    }

    #[test]
    fn http1_however_cut(
        requests in proptest::collection::vec((http1(), proptest::collection::vec(any::<u16>(), 0..6)), 1..8),
        again in proptest::collection::vec(any::<bool>(), 1..9),
    ) {
        let packets: Vec<&[u8]> = requests.iter().flat_map(|((bytes, _), places)| cut(bytes, places)).collect();
        let expected = first_of(requests.iter().map(|((_, signal), _)| *signal));
        prop_assert_eq!(send(&packets, &again), expected);
    }

    #[test]
    fn http2_however_cut(
        requests in proptest::collection::vec((request(), proptest::collection::vec(any::<u16>(), 0..9)), 1..6),
        start in proptest::collection::vec(any::<u16>(), 0..5),
        again in proptest::collection::vec(any::<bool>(), 1..9),
    ) {
        let preface = [PREFACE, &SETTINGS].concat();
        let bytes: Vec<Vec<u8>> =
            requests.iter().enumerate().map(|(n, ((request, _), _))| request.bytes(1 + 2 * n as u32)).collect();
        let mut packets = cut(&preface, &start);
        packets.extend(bytes.iter().zip(&requests).flat_map(|(bytes, (_, places))| cut(bytes, places)));
        let expected = first_of(requests.iter().map(|((_, signal), _)| *signal));
        prop_assert_eq!(send(&packets, &again), expected);
    }

    /// Whatever an HTTP/1 connection goes on with, its packets are told the same with the shortcut as without.
    #[test]
    fn the_shortcut_changes_nothing(
        first in prop_oneof![
            Just(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
            Just(b"CONNECT a:4318 HTTP/1.1\r\n\r\n".to_vec()),
            http1().prop_map(|(bytes, _)| bytes),
            streams(),
        ],
        rest in proptest::collection::vec(
            (prop_oneof![
                Just(b"GET / HTTP/1.1\r\n\r\n".to_vec()),
                Just(b"CONNECT a:4318 HTTP/1.1\r\n\r\n".to_vec()),
                Just(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc".to_vec()),
                http1().prop_map(|(bytes, _)| bytes),
                streams(),
                proptest::collection::vec(any::<u8>(), 0..20),
            ], proptest::option::of(any::<bool>()), any::<bool>(), 0usize..12),
            0..12,
        ),
        port in any::<bool>(),
    ) {
        let mut long = Classifier::default();
        long.prepare(port, false);
        let mut short = long;
        let mut at = 0;
        for (bytes, answered, again, less) in [(first, None, false, 0)].into_iter().chain(rest) {
            let bytes = &bytes[..bytes.len().saturating_sub(less)];
            if let (Some(opened), true) = (answered, long.awaits_tunnel()) {
                long.tunnel_answered(opened);
                short.tunnel_answered(opened);
            }
            for _ in 0..=usize::from(again) {
                let expected = the_long_way(&mut long, at, bytes);
                let (told, passed) = the_short_way(&mut short, at, bytes);
                prop_assert_eq!(told, expected);
                prop_assert!(!passed || told.0 == PENDING);
            }
            at = at.wrapping_add(bytes.len() as u32);
        }
        long.close();
        short.close();
        prop_assert_eq!(long.result(), short.result());
    }

    /// The close of a connection, an alien port, garbage after any start: nothing panics, and nothing is found twice.
    #[test]
    fn garbage_after_anything(
        bytes in streams(),
        garbage in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 0..40),
        flags in any::<(bool, bool)>(),
    ) {
        let mut packets = vec![bytes];
        packets.extend(garbage);
        let (found, _) = run(Stream::new(flags.0, flags.1), &packets);
        prop_assert!(found.len() <= 3);
        prop_assert!(found.windows(2).all(|pair| pair[1].proof < pair[0].proof && pair[1].revised));
    }
}
