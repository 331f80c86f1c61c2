//! What others send, also to OTLP's ports: nothing of it is found.

use anyhow::Result;
use spanwarden_tests::payload::{
    self, Signal, http1,
    http2::{Block, Connection, Form, Path},
};

use super::world::World;

fn grpc(path: Path, form: Form) -> Vec<u8> {
    let block = Block::post(path, form).named("te", b"trailers");
    Connection::new().chatter().headers(1, &block).grpc_message(1, b"\x0a\x05hello").bytes()
}

/// Names, and turns of a conversation.
fn zoo() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let export = http1::export(Signal::Traces, &payload::message(50));
    let cart = Path { text: "/shop.v1.Cart/Add", huffman: "61139eb5fb857bc3b12c43249f" };
    // Of the same services, and still no export: reflection, health, other methods.
    let health = Path { text: "/grpc.health.v1.Health/Check", huffman: "" };
    let near = Path { text: "/opentelemetry.proto.collector.trace.v2.Other/Do", huffman: "" };
    let one = |name, bytes: Vec<u8>| (name, vec![bytes]);
    vec![
        one("redis", b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$10\r\n/v1/traces\r\n".to_vec()),
        one("ssh", b"SSH-2.0-OpenSSH_9.9\r\n".to_vec()),
        one("PostgreSQL", b"\0\0\0\x29\0\x03\0\0user\0shop\0database\0orders\0\0".to_vec()),
        one("PostgreSQL, asking for TLS", b"\0\0\0\x08\x04\xd2\x16\x2f".to_vec()),
        one("MySQL", b"\x55\0\0\x01\x85\xa6\xff\x01\0\0\0\x01\x21POST /v1/traces HTTP/1.1\r\n".to_vec()),
        one("Kafka", b"\0\0\0\x1e\0\x12\0\x03\0\0\0\x01\0\x08producer\0\x04java\x063.9.0\0".to_vec()),
        one("AMQP", b"AMQP\0\0\x09\x01".to_vec()),
        one("MQTT", b"\x10\x1c\0\x04MQTT\x04\x02\0\x3c\0\x10/v1/traces-probe".to_vec()),
        one("SMTP", b"EHLO shop\r\nMAIL FROM:<a@b>\r\n".to_vec()),
        one("GET of a path of OTLP", http1::get("/v1/traces")),
        one("POST of nearly a path of OTLP", http1::post("/v1/tracesets", b"{}")),
        one("a path of OTLP as a query", http1::post("/search?q=/v1/traces", b"{}")),
        one("an export after nothing of HTTP", [b"\x01\x02\x03\x04".to_vec(), export.clone()].concat()),
        one("POST-like", b"POSTAL SERVICE /v1/traces HTTP/1.1\r\n\r\n".to_vec()),
        one("post in small letters", b"post /v1/traces HTTP/1.1\r\n\r\n".to_vec()),
        one("half a preface", b"PRI * HTTP/2.0\r\n".to_vec()),
        one("a preface of another version", b"PRI * HTTP/3.0\r\n\r\nSM\r\n\r\n".to_vec()),
        one("another gRPC service", grpc(cart, Form::Huffman)),
        one("another gRPC service, raw", grpc(cart, Form::Raw)),
        one("gRPC health", grpc(health, Form::Raw)),
        one("nearly OTLP's service", grpc(near, Form::Raw)),
        one(
            "a record of TLS application data, then an export",
            [b"\x17\x03\x03\0\x04abcd".to_vec(), export.clone()].concat(),
        ),
        one("what begins like TLS", [b"\x16POST /v1/traces HTTP/1.1\r\n".to_vec(), export.clone()].concat()),
        one("what begins like TLS of no version", [b"\x16\x09\x09\0\x10\x01".to_vec(), export].concat()),
        one("random bytes", (0..200_u8).map(|n| n.wrapping_mul(37).wrapping_add(11)).collect()),
        one("one byte", vec![b'P']),
        (
            "a tunnel with something else in it",
            vec![http1::connect("db:5432"), b"\0\0\0\x08\x04\xd2\x16\x2f".to_vec()],
        ),
    ]
}

#[test]
fn nothing_is_found_in_what_is_no_telemetry() -> Result<()> {
    let mut world = World::new()?;
    let ports = [4_317, 4_318, 9_000];
    for port in ports {
        world.sink(port, &[])?;
    }
    for (name, turns) in zoo() {
        for (way, port) in ["write", "bytes", "pieces"].into_iter().zip(ports) {
            world.send(way, world.at(port), &turns).map_err(|error| error.context(name))?;
        }
    }
    // In packets with what is before it. (A body of HTTP/1 that begins a packet with `POST /v1/traces ` is taken for
    // a request: lengths of bodies are not followed.)
    let export = http1::export(Signal::Traces, &payload::message(50));
    for body in
        [b"POST /v1/traces HTTP/1.1\r\n\r\n".to_vec(), export.clone(), [vec![b'.'; 9_000], export].concat()]
    {
        world.send("write", world.at(4_318), &[http1::post("/mirror", &body)])?;
    }
    // To OTLP's ports these would be findings by port: HTTP in the clear, and no more to be seen.
    for (name, turns) in [
        ("HTTP/2 without a request", vec![Connection::new().chatter().bytes()]),
        ("an upgrade and no request", vec![http1::upgrade_to_h2c(), Connection::new().bytes()]),
        (
            "a path that nobody can read",
            vec![Connection::new().headers_only(1, &Block::indexed_path(62)).bytes()],
        ),
    ] {
        world.send("write", world.at(9_000), &turns).map_err(|error| error.context(name))?;
    }
    world.check()
}
