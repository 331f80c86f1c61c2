//! Everything that an OTLP export may look like on the wire, whole and in pieces.

use anyhow::{Result, ensure};
use spanwarden_tests::payload::{
    self, Signal, http1,
    http2::{self, Block, Connection, Form, PATH_LITERALS},
};

use super::world::World;

const PORT: u16 = 9_000;
/// OTLP's own, for what is found there only.
const OTLP_PORT: u16 = 4_317;

/// What is sent, what it must be called.
struct Shape {
    name: String,
    turns: Vec<Vec<u8>>,
    protocol: &'static str,
    signal: Signal,
}

fn shape(name: impl Into<String>, protocol: &'static str, signal: Signal, turns: Vec<Vec<u8>>) -> Shape {
    Shape { name: name.into(), turns, protocol, signal }
}

fn send_all(shapes: &[Shape]) -> Result<()> {
    let mut world = World::new()?;
    world.sink(PORT, &[])?;
    let target = world.at(PORT);
    for shape in shapes {
        for way in ["write", "pieces", "bytes"] {
            let case = format!("{} by {way}", shape.name);
            let verdict = (shape.protocol, shape.signal.as_str(), "path");
            world.found(&case, (way, target), &shape.turns, verdict)?;
        }
    }
    world.check()
}

#[test]
fn every_signal_over_http1() -> Result<()> {
    let body = payload::message(100);
    let mut shapes = Vec::new();
    for signal in Signal::ALL {
        let path = signal.http_path().text;
        for (kind, path) in [
            ("plain", path.to_owned()),
            ("below a prefix", format!("/otlp{path}")),
            ("below a long prefix", format!("/api/tenants/0123456789abcdef/ingest{path}")),
            ("absolute form", format!("http://collector.observability.svc:4318{path}")),
            ("absolute form with a prefix", format!("http://[fd00::1]:4318/otlp{path}")),
            ("with a query", format!("{path}?tenant=a")),
        ] {
            let name = format!("{} over HTTP/1, {kind}", signal.as_str());
            shapes.push(shape(name, "http/1.1", signal, vec![http1::post(&path, &body)]));
        }
    }
    send_all(&shapes)
}

#[test]
fn connections_that_begin_with_something_else() -> Result<()> {
    let body = payload::message(100);
    let http = |signal| http1::export(signal, &body);
    let grpc = |signal| http2::export(signal, Form::Huffman, &body);
    let (from4, to4) = ("203.0.113.7:40000".parse()?, "203.0.113.8:4318".parse()?);
    let (from6, to6) = ("[2001:db8::7]:40000".parse()?, "[2001:db8::8]:4318".parse()?);
    let tunnel = http1::connect("collector.example:4317");
    send_all(&[
        shape(
            "PROXY protocol 1",
            "http/1.1",
            Signal::Traces,
            vec![[http1::proxy_v1(), http(Signal::Traces)].concat()],
        ),
        shape(
            "PROXY protocol 1 before h2c",
            "h2c",
            Signal::Logs,
            vec![[http1::proxy_v1(), grpc(Signal::Logs)].concat()],
        ),
        shape(
            "PROXY protocol 2",
            "h2c",
            Signal::Traces,
            vec![[http1::proxy_v2(from4, to4, 0), grpc(Signal::Traces)].concat()],
        ),
        shape(
            "PROXY protocol 2 with TLVs",
            "http/1.1",
            Signal::Logs,
            vec![[http1::proxy_v2(from6, to6, 200), http(Signal::Logs)].concat()],
        ),
        shape("HTTP/1 in a tunnel", "http/1.1", Signal::Traces, vec![tunnel.clone(), http(Signal::Traces)]),
        shape("h2c in a tunnel", "h2c", Signal::Metrics, vec![tunnel, grpc(Signal::Metrics)]),
        shape(
            "an upgrade to h2c",
            "h2c",
            Signal::Traces,
            vec![http1::upgrade_to_h2c(), grpc(Signal::Traces)],
        ),
    ])
}

/// A client of HTTP/1 waits for each answer, so that each of its requests begins a packet.
#[test]
fn foreign_requests_on_the_same_connection_first() -> Result<()> {
    let body = payload::message(100);
    // The sink answers what asks for an upgrade and ends in an empty line; an HTTP/1 server may ignore the upgrade.
    let large = [
        b"POST /api/upload HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nContent-Length: 50004\r\n\r\n".to_vec(),
        vec![b'.'; 50_000],
        b"\r\n\r\n".to_vec(),
    ]
    .concat();
    let mut turns = vec![http1::upgrade_to_h2c(); 5];
    turns.push(large);
    turns.push(http1::export(Signal::Traces, &body));
    let mut world = World::new()?;
    world.sink(PORT, &[])?;
    let target = world.at(PORT);
    for way in ["write", "sendmsg", "cork"] {
        let case = format!("keep-alive by {way}");
        world.found(&case, (way, target), &turns, ("http/1.1", "traces", "path"))?;
    }
    world.check()
}

#[test]
fn every_spelling_of_a_path_over_http2() -> Result<()> {
    let body = payload::message(100);
    let mut shapes = Vec::new();
    for signal in Signal::ALL {
        // As gRPC's C-core writes it: first, and with its name.
        let block = Block::empty().named(":path", signal.grpc_path().text.as_bytes()).posts();
        let bytes = Connection::new().headers(1, &block).grpc_message(1, &body).bytes();
        shapes.push(shape(format!("{} as C-core writes it", signal.as_str()), "h2c", signal, vec![bytes]));
        for form in [Form::Raw, Form::Huffman] {
            for literal in PATH_LITERALS {
                let name = format!("{} over gRPC, {form:?}, literal {literal:#04x}", signal.as_str());
                let block = Block::start().path(literal, signal.grpc_path(), form).named("te", b"trailers");
                let bytes = Connection::new().headers(1, &block).grpc_message(1, &body).bytes();
                shapes.push(shape(name, "h2c", signal, vec![bytes]));
            }
            let name = format!("{} over OTLP/HTTP with HTTP/2, {form:?}", signal.as_str());
            let block = Block::start().path(0x44, signal.http_path(), form);
            let bytes = Connection::new().headers(1, &block).body(1, &body).bytes();
            shapes.push(shape(name, "h2c", signal, vec![bytes]));
        }
    }
    send_all(&shapes)
}

#[test]
fn every_framing_over_http2() -> Result<()> {
    let body = payload::message(100);
    let foreign = Block::start().path(
        0x44,
        http2::Path { text: "/shop.v1.Cart/Add", huffman: "61139eb5fb857bc3b12c43249f" },
        Form::Huffman,
    );
    let mut shapes = Vec::new();
    for (signal, form) in [(Signal::Traces, Form::Huffman), (Signal::Logs, Form::Raw)] {
        let block = Block::post(signal.grpc_path(), form);
        let name = |kind: &str| format!("{}, {form:?}, {kind}", signal.as_str());
        let padded = |padding, priority| Connection::new().padded_headers(1, &block, padding, priority);
        for (kind, start) in [
            ("chatter first", Connection::new().chatter().headers(1, &block)),
            (
                "much chatter first",
                Connection::new().chatter().chatter().chatter().chatter().headers(1, &block),
            ),
            ("padded", padded(13, false)),
            ("padded by nothing", padded(0, false)),
            ("padded by 255", padded(255, false)),
            ("priority", Connection::new().priority_headers(1, &block)),
            ("padded and priority", padded(20, true)),
            ("continuation", Connection::new().continued_headers(1, &block, 10)),
            ("continuation within the path", Connection::new().continued_headers(1, &block, 30)),
        ] {
            shapes.push(shape(name(kind), "h2c", signal, vec![start.grpc_message(1, &body).bytes()]));
        }
        let after = Connection::new().headers(1, &foreign).grpc_message(1, &vec![1; 30_000]);
        let after = after.headers(3, &block).grpc_message(3, &body).bytes();
        shapes.push(shape(name("after a foreign request"), "h2c", signal, vec![after]));
        let after =
            Connection::new().headers_only(1, &foreign).headers(3, &block).grpc_message(3, &body).bytes();
        shapes.push(shape(name("after a foreign request without a body"), "h2c", signal, vec![after]));
    }
    send_all(&shapes)
}

/// A path that is longer than what is read of one: the message is what is left.
#[test]
fn weaker_proofs_are_called_what_they_are() -> Result<()> {
    let mut world = World::new()?;
    for port in [PORT, OTLP_PORT] {
        world.sink(port, &[])?;
    }
    let message = payload::message(100);
    let long = Block::start().field(0x44, format!("/{}/export", "gateway".repeat(60)).as_bytes());
    let grpc = Connection::new().headers(1, &long).grpc_message(1, &message).bytes();
    for port in [PORT, OTLP_PORT] {
        let target = world.at(port);
        for way in ["write", "bytes"] {
            let case = format!("a long path to {port} by {way}");
            world.found(&case, (way, target), std::slice::from_ref(&grpc), ("h2c", "unknown", "grpc"))?;
        }
    }
    let unknown = Connection::new().headers(1, &long).body(1, b"\x01 not the frame of a message").bytes();
    let target = world.at(OTLP_PORT);
    world.found(
        "nothing to be read",
        ("write", target),
        std::slice::from_ref(&unknown),
        ("h2c", "unknown", "port"),
    )?;
    // The same to another port is nothing.
    world.send("write", world.at(PORT), &[unknown])?;
    world.check()
}

/// Bodies of HTTP/1 are not followed: a request counts where it begins a packet, and what begins a packet like one is
/// taken for one. `deploy/docs/findings.md` says so.
#[test]
fn a_request_of_http1_is_what_begins_a_packet() -> Result<()> {
    let mut world = World::new()?;
    world.sink(PORT, &[])?;
    let target = world.at(PORT);
    let export = http1::export(Signal::Traces, &payload::message(100));
    let found = ("http/1.1", "traces", "path");
    // Pipelined (RFC 9112 section 9.3.2): first, it begins the packet; second, it is within it.
    let first = [export.clone(), http1::get("/health")].concat();
    world.found("pipelined, first", ("write", target), &[first], found)?;
    let second = [http1::get("/health"), export.clone()].concat();
    let made = world.send("write", target, std::slice::from_ref(&second))?;
    ensure!(made.len() == 1, "{}", made.len());
    // Such a client is found as soon as it has to wait for an answer; the sink gives one to what asks for an upgrade.
    let mut turns = vec![[second, http1::upgrade_to_h2c()].concat()];
    turns.push(export);
    world.found("pipelined, then not", ("write", target), &turns, found)?;
    // A body that is sent by itself, after its head, and looks like a request.
    let head = b"POST /mirror HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nContent-Length: 28\r\n\r\n".to_vec();
    let body = b"POST /v1/traces HTTP/1.1\r\n\r\n".to_vec();
    world.found("a body like a request", ("write", target), &[head, body], found)?;
    world.check()
}
