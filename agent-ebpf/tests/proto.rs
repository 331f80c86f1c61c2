//! The parser of what a client sends: fixtures, and properties against streams that are built from a model.

#[path = "proto/h2.rs"]
mod h2;
#[path = "proto/properties.rs"]
mod properties;

use h2::{PREFACE, Request, SETTINGS, unhex};
use spanwarden_ebpf::{
    abi::{
        PROOF_GRPC, PROOF_PATH, PROOF_PORT, SIGNAL_LOGS, SIGNAL_METRICS, SIGNAL_PROFILES, SIGNAL_TRACES,
        SIGNAL_UNKNOWN,
    },
    proto::{Evidence, Stream, Verdict, classify},
};

/// What was found, without the flags.
pub(crate) type Found = (u32, u32);

/// All that is found in these packets, in order, and the last verdict of another kind.
pub(crate) fn run<B: AsRef<[u8]>>(mut stream: Stream, packets: &[B]) -> (Vec<Evidence>, Verdict) {
    let mut found = Vec::new();
    let mut last = Verdict::Pending;
    let mut at = 0_u32;
    for packet in packets {
        let packet = packet.as_ref();
        match stream.packet(at, packet) {
            Verdict::Found(evidence) => found.push(evidence),
            Verdict::Pending => {}
            verdict => last = verdict,
        }
        at = at.wrapping_add(packet.len() as u32);
    }
    match stream.close() {
        Verdict::Found(evidence) => found.push(evidence),
        Verdict::Pending => {}
        verdict => last = verdict,
    }
    (found, last)
}

/// The same without the flags, of a connection from its beginning.
fn found<B: AsRef<[u8]>>(otlp_port: bool, packets: &[B]) -> Vec<Found> {
    run(Stream::new(otlp_port, false), packets).0.iter().map(|e| (e.signal, e.proof)).collect()
}

const TRACES: Found = (SIGNAL_TRACES, PROOF_PATH);
const METRICS: Found = (SIGNAL_METRICS, PROOF_PATH);
const LOGS: Found = (SIGNAL_LOGS, PROOF_PATH);
const PROFILES: Found = (SIGNAL_PROFILES, PROOF_PATH);
const PORT: Found = (SIGNAL_UNKNOWN, PROOF_PORT);
const GRPC: Found = (SIGNAL_UNKNOWN, PROOF_GRPC);

pub(crate) const GRPC_PATHS: [(&str, u32); 4] = [
    ("/opentelemetry.proto.collector.trace.v1.TraceService/Export", SIGNAL_TRACES),
    ("/opentelemetry.proto.collector.metrics.v1.MetricsService/Export", SIGNAL_METRICS),
    ("/opentelemetry.proto.collector.logs.v1.LogsService/Export", SIGNAL_LOGS),
    ("/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export", SIGNAL_PROFILES),
];
pub(crate) const HTTP_PATHS: [(&str, u32); 4] = [
    ("/v1/traces", SIGNAL_TRACES),
    ("/v1/metrics", SIGNAL_METRICS),
    ("/v1/logs", SIGNAL_LOGS),
    ("/v1development/profiles", SIGNAL_PROFILES),
];

/// Bytes, and what is found, or else the verdict.
type Row = (&'static [u8], (Option<Found>, Verdict));

#[test]
fn the_first_bytes_of_http1_and_of_others() {
    const HELLO: [u8; 9] = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc];
    let some = |found: Found| (Some(found), Verdict::Pending);
    let none = |verdict: Verdict| (None, verdict);
    let table: &[Row] = &[
        (&HELLO, none(Verdict::Tls)),
        (HELLO.split_at(5).0, none(Verdict::Pending)),
        (&[0x16, 3, 3, 0, 4, 2], none(Verdict::Foreign)),
        (&[0x17, 3, 3, 0, 4, 1], none(Verdict::Foreign)),
        (&[0x16, 2, 0, 0, 4, 1], none(Verdict::Foreign)),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", none(Verdict::Pending)),
        (b"PRI * HTTP/2.1\r\n\r\nSM\r\n\r\n", none(Verdict::Foreign)),
        (b"POST /v1/traces HTTP/1.1\r\n", some(TRACES)),
        (b"POST /v1/metrics HTTP/1.1\r\n", some(METRICS)),
        (b"POST /v1/logs HTTP/1.1\r\n", some(LOGS)),
        (b"POST /v1development/profiles HTTP/1.1\r\n", some(PROFILES)),
        (b"POST /v1/profiles HTTP/1.1\r\n", none(Verdict::Pending)),
        (b"POST /v1/traces", none(Verdict::Pending)),
        (b"POST /v1/traces?x=1 HTTP/1.1\r\n", some(TRACES)),
        (b"POST /otlp/v1/traces HTTP/1.1\r\n", some(TRACES)),
        (b"POST //v1/logs HTTP/1.1\r\n", some(LOGS)),
        (b"POST http://collector.observability:4318/v1/traces HTTP/1.1\r\n", some(TRACES)),
        (
            b"POST http://collector.observability.svc.cluster.local:4318/a/long/prefix/of/a/gateway/v1/metrics HTTP/1.1\r\n",
            some(METRICS),
        ),
        (b"POST http://v1/traces HTTP/1.1\r\n", none(Verdict::Pending)),
        (b"POST https://v1/logs HTTP/1.1\r\n", none(Verdict::Pending)),
        (b"POST http://v1development/profiles HTTP/1.1\r\n", none(Verdict::Pending)),
        (b"POST http://v1 HTTP/1.1\r\n", none(Verdict::Pending)),
        (b"POST /prefix/v1/traces HTTP/1.1\r\n", some(TRACES)),
        (b"POST /pre/fi/v1/traces HTTP/1.1\r\n", some(TRACES)),
        (b"POST /v1/traces/ HTTP/1.1\r\n", none(Verdict::Pending)),
        (b"POST /xv1/traces HTTP/1.1\r\n", none(Verdict::Pending)),
        (b"POST /search?next=/v1/traces HTTP/1.1\r\n", none(Verdict::Pending)),
        (b"POST /v1/traces\r\n", none(Verdict::Pending)),
        (
            b"POST /opentelemetry.proto.collector.trace.v1.TraceService/Export HTTP/1.1\r\n",
            some(TRACES),
        ),
        (b"GET /v1/traces HTTP/1.1\r\n", none(Verdict::Pending)),
        (b"PROXY TCP4 10.0.0.1 10.0.0.2 40000 4318\r\nPOST /v1/logs HTTP/1.1\r\n", some(LOGS)),
        (b"PROXY UNKNOWN\r\nGET / HTTP/1.1\r\n", none(Verdict::Pending)),
        (b"PROXY TCP4 1\r\nPROXY TCP4 1\r\nPOST /v1/logs HTTP/1.1\r\n", none(Verdict::Foreign)),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c0123456789abPOST /v1/logs HTTP/1.1\r\n", some(LOGS)),
        (b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0\x16\x03\x01\x02\0\x01", none(Verdict::Tls)),
        (b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c0123456789abPOST /v1/logs HTTP/1.1\r\n", none(Verdict::Foreign)),
        (b"SSH-2.0-OpenSSH_9.7\r\n", none(Verdict::Foreign)),
        (b"", none(Verdict::Pending)),
    ];
    for (bytes, (expected, verdict)) in table {
        for port in [false, true] {
            let told = classify(bytes, port);
            let name = String::from_utf8_lossy(bytes);
            match (told, expected) {
                (Verdict::Found(e), Some(expected)) => {
                    assert_eq!((e.signal, e.proof), *expected, "{name:?}");
                    assert!(!e.is_http2 && !e.pre_existing && !e.tunnel && !e.revised, "{name:?}");
                }
                (told, None) => assert_eq!(told, *verdict, "{name:?}"),
                (told, Some(_)) => panic!("{name:?}: {told:?}"),
            }
        }
    }
}

#[test]
fn a_target_of_256_bytes_is_read_and_a_longer_one_is_not() {
    for (length, expected) in [(255, Some(TRACES)), (256, Some(TRACES)), (257, None), (2_000, None)] {
        let target = format!("/{}/v1/traces", "x".repeat(length - 11));
        let request = format!("POST {target} HTTP/1.1\r\n");
        assert_eq!(found(false, &[&request]), Vec::from_iter(expected), "{length}");
        let on_the_port = expected.unwrap_or(PORT);
        assert_eq!(found(true, &[&request]), [on_the_port], "{length}");
    }
}

#[test]
fn a_later_request_of_a_connection_is_found_and_revises() {
    let get = "GET /health HTTP/1.1\r\nHost: a\r\n\r\n";
    let post = "POST /v1/traces HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(found(false, &[get, get, get, get, post]), [TRACES]);
    // A body between, with what looks like a request in the middle of a packet.
    let body = "POST /orders HTTP/1.1\r\nContent-Length: 40\r\n\r\nPOST /v1/traces HTTP/1.1\r\n";
    assert!(found(true, &[body, "0123456789abc", "P", "PO", "x"]).is_empty());
    // The line in pieces, and packets before it that begin as it does.
    assert_eq!(found(false, &[get, "P", "PO", "POS", "P", "OST ", "/v1", "/logs", " "]), [LOGS]);
    // In the same packet as the end of another request's body it is not found.
    assert!(found(false, &[get, "0123POST /v1/traces HTTP/1.1\r\n"]).is_empty());
    let long = format!("POST /{} HTTP/1.1\r\n", "x".repeat(400));
    let (all, _) = run(Stream::new(true, false), &[&long[..], &long, post]);
    assert_eq!(all.len(), 2);
    assert_eq!((all[0].proof, all[0].revised), (PROOF_PORT, false));
    assert_eq!((all[1].proof, all[1].revised), (PROOF_PATH, true));
}

#[test]
fn tunnels_are_followed() {
    let connect = "CONNECT collector:4317 HTTP/1.1\r\nHost: collector:4317\r\n\r\n";
    let post = "POST /v1/metrics HTTP/1.1\r\n";
    let mut stream = Stream::new(false, false);
    assert_eq!(stream.packet(0, connect.as_bytes()), Verdict::Pending);
    stream.tunnel_answered(true);
    let Verdict::Found(evidence) = stream.packet(connect.len() as u32, post.as_bytes()) else {
        panic!("not found")
    };
    assert!(evidence.tunnel && evidence.signal == SIGNAL_METRICS);

    let mut stream = Stream::new(false, false);
    stream.packet(0, connect.as_bytes());
    stream.tunnel_answered(true);
    assert_eq!(stream.packet(connect.len() as u32, &[0x16, 3, 1, 0, 200, 1, 0]), Verdict::Tls);

    // Refused: what follows is meant for the proxy itself.
    let mut stream = Stream::new(false, false);
    stream.packet(0, connect.as_bytes());
    stream.tunnel_answered(false);
    let at = connect.len() as u32;
    assert_eq!(stream.packet(at, &[0x16, 3, 1, 0, 200, 1, 0]), Verdict::Pending);
    let Verdict::Found(evidence) = stream.packet(at + 7, post.as_bytes()) else { panic!("not found") };
    assert!(!evidence.tunnel);
}

#[test]
fn an_upgrade_to_http2_is_followed() {
    let upgrade = b"GET / HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n";
    let request = Request::new("/v1/logs").bytes(1);
    let packets = [&upgrade[..], PREFACE, &SETTINGS, &request];
    let (all, _) = run(Stream::new(false, false), &packets);
    assert_eq!(all.len(), 1);
    assert!(all[0].is_http2 && all[0].signal == SIGNAL_LOGS);
    let upgrade = b"POST /v1/traces HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n";
    assert_eq!(found(false, &[&upgrade[..], PREFACE]), [TRACES]);
}

/// What `h2`, the Python implementation, sends: its settings, and requests with the headers of a gRPC client.
#[test]
fn http2_as_another_implementation_writes_it() {
    let start = unhex(
        "505249202a20485454502f322e300d0a0d0a534d0d0a0d0a00002a0400000000000001000010000002000000010004000\
         0ffff000500004000000800000000000300000064000600010000",
    );
    let trace = unhex(
        "00005e010400000001838644aa60f596a49682d254d9e97aec3a4eb90f4505224f62e9b0642afdc2befb0642ee2d9dcc4\
         2b183cd67b13f418a21e8a0a449ecb8d321775f8b1d75d0620d263d4c4d65644082497f864d833505b11f7a8a9acac8b4\
         c7602bbc05c100000a00010000000100000000050a030a010a",
    );
    let health = unhex(
        "000049010400000001838649 5626b2b22f394742675fb857c651d099d8bd3949d7f418a21e8a0a449ecb8d321775f8b1d\
         75d0620d263d4c4d65644082497f864d833505b11f7a8a9acac8b4c7602bbc05c100000a0001000000010000000005\
         0a030a010a"
            .replace("8649 5", "864495")
            .as_str(),
    );
    let third = unhex(
        "000031010400000005838644a960f596a49682d254d9e97aec3a4eb90f4505224f62f41e642fdc2be73cc8dc5b3b98856\
         3079acf627fc2c1c0bf00000a00010000000500000000050a030a010a",
    );
    for port in [false, true] {
        assert_eq!(found(port, &[&start, &trace]), [TRACES]);
        assert_eq!(found(port, &[[&start[..], &trace].concat()]), [TRACES]);
        assert!(found(port, &[&start, &health]).is_empty());
        assert_eq!(found(port, &[&start, &health, &health, &third]), [LOGS]);
        assert_eq!(found(port, &[[&start[..], &health, &third].concat()]), [LOGS]);
    }
    // Nothing asked, and closed: the port is all there is.
    assert!(found(false, &[&start]).is_empty());
    assert_eq!(found(true, &[&start]), [PORT]);
}

#[test]
fn every_path_in_every_representation() {
    for (path, signal) in GRPC_PATHS.into_iter().chain(HTTP_PATHS) {
        for huffman in [false, true] {
            for kind in [0x44_u8, 0x04, 0x14, 0x45, 0x05, 0x15, 0x40, 0x00, 0x10] {
                for behind in [false, true] {
                    let request = Request { huffman, kind, behind, ..Request::new(path) };
                    let bytes = [PREFACE, &SETTINGS, &request.bytes(1)].concat();
                    let told = found(false, &[bytes]);
                    assert_eq!(told, [(signal, PROOF_PATH)], "{path} {huffman} {kind:x} {behind}");
                }
            }
        }
    }
    for path in ["/otlp/v1/traces", "/v1/logs?a=b", "/v1/logs#x", "//v1/traces"] {
        let bytes = [PREFACE, &SETTINGS, &Request::new(path).bytes(1)].concat();
        assert_eq!(found(false, &[bytes]).len(), 1, "{path}");
    }
    for path in [
        "/grpc.health.v1.Health/Check",
        "/opentelemetry.proto.collector.trace.v1.TraceService/Exporu",
        "/opentelemetry.proto.collector.trace.v1.TraceService/",
        "/",
        "/v1/traces x",
        "/search?/v1/traces",
        "/etcdserverpb.KV/Range",
    ] {
        for huffman in [false, true] {
            let request = Request { huffman, ..Request::new(path) };
            let bytes = [PREFACE, &SETTINGS, &request.bytes(1)].concat();
            assert_eq!(found(true, &[bytes]), [], "{path}");
        }
    }
}

#[test]
fn frames_with_padding_priority_and_continuation() {
    for padded in [None, Some(0), Some(7), Some(200)] {
        for priority in [false, true] {
            for pieces in [1, 2, 3, 30] {
                for path in [GRPC_PATHS[0].0, "/foreign/service"] {
                    let request = Request { padded, priority, pieces, ..Request::new(path) };
                    let expected: &[Found] = if path == GRPC_PATHS[0].0 { &[TRACES] } else { &[] };
                    let start = [PREFACE, &SETTINGS].concat();
                    let bytes = request.bytes(1);
                    let name = format!("{padded:?} {priority} {pieces} {path}");
                    if pieces < 30 {
                        assert_eq!(found(true, &[&start, &bytes]), expected, "{name}");
                    }
                    // The next request must be found behind it.
                    let singles: Vec<&[u8]> = bytes.chunks(1).collect();
                    let next = Request::new(GRPC_PATHS[2].0).bytes(3);
                    let mut packets = vec![&start[..]];
                    packets.extend(singles);
                    packets.push(&next);
                    let expected = if expected.is_empty() { LOGS } else { TRACES };
                    assert_eq!(found(true, &packets), [expected], "{name}");
                }
            }
        }
    }
}

#[test]
fn a_path_that_cannot_be_read_leaves_the_message() {
    let long = format!("/{}", "x".repeat(300));
    let otlp = b"\0\0\0\0\x20\x0a\x1e\x0a\x1a\x0a\x18\x0a\x0cservice.name\x12\x08\x0a\x06orders\x12\0";
    let other = b"\0\0\0\0\x10\x0a\x0ehello, world!!";
    let gzip = b"\x01\0\0\0\x10\x1f\x8b\x08\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let start = [PREFACE, &SETTINGS].concat();
    let send = |port, path: &str, body: &[u8]| {
        let request = Request { body: body.to_vec(), ..Request::new(path) };
        found(port, &[&start, &request.bytes(1)])
    };
    assert_eq!(send(false, &long, otlp), [GRPC]);
    assert_eq!(send(false, &long, other), []);
    assert_eq!(send(false, &long, gzip), []);
    assert_eq!(send(true, &long, otlp), [GRPC]);
    assert_eq!(send(true, &long, other), [PORT]);
    assert_eq!(send(true, &long, gzip), [PORT]);
    // The path tells, whatever the message looks like.
    assert_eq!(send(true, "/other.Service/Call", otlp), []);
    // The prefix in a frame of its own.
    let request = Request { body: Vec::new(), ..Request::new(&long) }.bytes(1);
    let packets = [&start[..], &request, &h2::data(1, &otlp[..5]), &h2::data(1, &otlp[5..])];
    assert_eq!(found(false, &packets), [GRPC]);
    // Better evidence later.
    let first = Request { body: otlp.to_vec(), ..Request::new(&long) }.bytes(1);
    let second = Request::new(GRPC_PATHS[1].0).bytes(3);
    let (all, _) = run(Stream::new(true, false), &[&start, &first, &second]);
    assert_eq!(
        all.iter().map(|e| (e.proof, e.revised)).collect::<Vec<_>>(),
        [(PROOF_GRPC, false), (PROOF_PATH, true)]
    );
}

#[test]
fn connections_older_than_the_programs() {
    let pre = |port, packets: &[&[u8]]| -> Vec<Found> {
        let (all, _) = run(Stream::new(port, true), packets);
        assert!(all.iter().all(|e| e.pre_existing));
        all.iter().map(|e| (e.signal, e.proof)).collect()
    };
    let otlp = b"\0\0\0\0\x20\x0a\x1e\x0a\x1a\x0a\x18\x0a\x0cservice.name\x12\x08\x0a\x06orders\x12\0";
    // Everything by reference to the dynamic table.
    let indexed = h2::frame(1, 4, 7, b"\x83\x86\xbe\xbf\xc0\xc1");
    let request = [&indexed[..], &h2::data(7, otlp)].concat();
    assert_eq!(pre(true, &[&request]), [GRPC]);
    assert_eq!(pre(true, &[b"end of a body", b"short", &request]), [GRPC]);
    assert_eq!(pre(false, &[&request]), []);
    let ping = h2::frame(6, 0, 0, b"01234567");
    assert_eq!(pre(true, &[&ping, &ping, &request]), [GRPC]);
    let gzip = b"\x01\0\0\0\x10\x1f\x8b\x08\0\0\0\0\0\0\0\0\0\0\0\0\0";
    assert_eq!(pre(true, &[&indexed, &h2::data(7, gzip)]), [PORT]);
    assert_eq!(pre(false, &[b"x=1&y=2&z=3", b"POST /v1/traces HTTP/1.1\r\n"]), [TRACES]);
    assert_eq!(pre(true, &[b"\x17\x03\x03\x00\x20abcdefghijklmnop", &request]), []);
    // A path that is written out is read.
    assert_eq!(pre(true, &[&Request::new("/other.Service/Call").bytes(9)]), []);
    assert_eq!(pre(true, &[&Request::new(GRPC_PATHS[3].0).bytes(9)]), [PROFILES]);
    // Looked at for a while.
    let noise = vec![&b"something else"[..]; 100];
    let (_, last) = run(Stream::new(true, true), &noise);
    assert_eq!(last, Verdict::Foreign);
}

#[test]
fn missing_bytes() {
    let mut stream = Stream::new(false, false);
    assert_eq!(stream.packet(5, b"POST /v1/traces HTTP/1.1\r\n"), Verdict::Unreadable);
    // HTTP/1 goes on with the next packet's head; the wrap of the sequence is no hole.
    let mut stream = Stream::new(false, false);
    assert_eq!(stream.packet(0, b"POST /orde"), Verdict::Pending);
    assert!(matches!(stream.packet(50, b"POST /v1/traces HTTP/1.1\r\n"), Verdict::Found(_)));
    // And so does HTTP/2.
    let mut stream = Stream::new(false, false);
    let start = [PREFACE, &SETTINGS].concat();
    assert_eq!(stream.packet(0, &start), Verdict::Pending);
    let request = Request::new(GRPC_PATHS[1].0).bytes(1);
    assert!(matches!(stream.packet(1_000, &request), Verdict::Found(_)));
}

#[test]
fn a_data_frame_longer_than_any_packet_is_skipped() {
    let start = [PREFACE, &SETTINGS].concat();
    let body = vec![b'x'; 100_000];
    let first = Request { body, ..Request::new("/upload") }.bytes(1);
    let second = Request::new("/v1/metrics").bytes(3);
    let bytes = [start, first, second].concat();
    for size in [1, 100, 1_448, 65_160] {
        let packets: Vec<&[u8]> = bytes.chunks(size).collect();
        assert_eq!(found(false, &packets), [METRICS], "{size}");
    }
}
