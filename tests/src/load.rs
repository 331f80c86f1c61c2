//! Made requests for the benchmark: spans of about 600 bytes as HTTP and database instrumentation writes them.
//!
//! Three quarters of the spans hold something that the reference scrubbing rules change (a user id, an e-mail
//! address in a URL, SQL literals), every fifth has an event, and 1.3 % carry `http.target` twice, which rules that
//! see only the first occurrence of a key let through.

use bytes::Bytes;

/// Attributes of the spans, for the line that stands beside every figure.
pub const SHAPE: &str = "11-15 attributes, every fifth span with an event, traces of 8 spans";

/// A small deterministic generator (xorshift64*); the benchmark must send the same bytes every time.
pub struct Random(u64);

impl Random {
    /// Starts from a seed other than 0.
    pub fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.number() % bound
    }
}

/// `count` requests of `spans` spans each, all different.
pub fn requests(count: usize, spans: usize, seed: u64) -> Vec<Bytes> {
    let mut random = Random::new(seed);
    (0..count).map(|_| request(spans, &mut random)).collect()
}

fn request(spans: usize, random: &mut Random) -> Bytes {
    let mut resource = Vec::new();
    for (key, value) in [
        ("service.name", "order-service"),
        ("service.version", "v2.4.1"),
        ("telemetry.sdk.language", "go"),
        ("telemetry.sdk.name", "opentelemetry"),
        ("telemetry.sdk.version", "1.38.0"),
    ] {
        message(&mut resource, 1, &string_attribute(key, value));
    }
    let mut scope = Vec::new();
    bytes(&mut scope, 1, b"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp");
    bytes(&mut scope, 2, b"0.63.0");
    let mut scope_spans = Vec::new();
    message(&mut scope_spans, 1, &scope);
    let mut trace_id = [0; 16];
    for number in 0..spans {
        if number.is_multiple_of(8) {
            trace_id[..8].copy_from_slice(&random.number().to_le_bytes());
            trace_id[8..].copy_from_slice(&random.number().to_le_bytes());
        }
        message(&mut scope_spans, 2, &span(trace_id, number, random));
    }
    let mut resource_spans = Vec::new();
    message(&mut resource_spans, 1, &resource);
    message(&mut resource_spans, 2, &scope_spans);
    let mut request = Vec::new();
    message(&mut request, 1, &resource_spans);
    Bytes::from(request)
}

fn span(trace_id: [u8; 16], number: usize, random: &mut Random) -> Vec<u8> {
    let start = 1_790_000_000_000_000_000 + random.below(1_000_000_000_000);
    let mut span = Vec::with_capacity(700);
    bytes(&mut span, 1, &trace_id);
    bytes(&mut span, 2, &random.number().max(1).to_le_bytes());
    if !number.is_multiple_of(8) {
        bytes(&mut span, 4, &random.number().max(1).to_le_bytes());
    }
    let sql = number % 4 == 3;
    bytes(&mut span, 5, if sql { b"SELECT shop.orders" } else { b"GET /api/orders/{id}" });
    varint_field(&mut span, 6, if sql { 3 } else { 2 });
    fixed64(&mut span, 7, start);
    fixed64(&mut span, 8, start + random.below(200_000_000));
    let user = random.below(100_000);
    if sql {
        sql_attributes(&mut span, user, random);
    } else {
        http_attributes(&mut span, number, user, random);
    }
    message(
        &mut span,
        9,
        &string_attribute("user_agent.original", "okhttp/4.12.0 (linux; arm64) build/2206"),
    );
    message(
        &mut span,
        9,
        &string_attribute("network.peer.address", &format!("10.12.{}.{}", user % 250, user % 199)),
    );
    message(&mut span, 9, &int_attribute("network.peer.port", 32_768 + user % 20_000));
    message(&mut span, 9, &int_attribute("thread.id", random.below(64)));
    message(&mut span, 9, &string_attribute("thread.name", "http-nio-8080-exec-7"));
    if number.is_multiple_of(2) || sql {
        message(&mut span, 9, &string_attribute("user.id", &format!("user-{user}")));
    }
    if number % 5 == 4 {
        let mut event = Vec::new();
        fixed64(&mut event, 1, start + 1_000_000);
        bytes(&mut event, 2, b"cache miss");
        message(
            &mut event,
            3,
            &string_attribute("cache.key", &format!("orders/{}", random.below(1_000_000))),
        );
        message(&mut span, 11, &event);
    }
    span
}

fn http_attributes(span: &mut Vec<u8>, number: usize, user: u64, random: &mut Random) {
    let order = random.below(1_000_000);
    let target = match number % 3 {
        0 => format!("/api/orders/{order}?mail=alice{user}@example.com"),
        _ => format!("/api/orders/{order}?page={}", random.below(100)),
    };
    for (key, value) in [
        ("http.request.method", "GET"),
        ("http.route", "/api/orders/{id}"),
        ("http.target", &target),
        ("http.url", &format!("https://shop.example.com{target}")),
        ("server.address", "shop.example.com"),
        ("url.scheme", "https"),
    ] {
        message(span, 9, &string_attribute(key, value));
    }
    message(span, 9, &int_attribute("http.response.status_code", 200));
    if random.below(1000) < 17 {
        message(span, 9, &string_attribute("http.target", &target));
    }
    if random.below(50) == 0 {
        message(span, 9, &string_attribute("http.request.header.authorization", "Bearer c2VjcmV0LXRva2Vu"));
    }
}

fn sql_attributes(span: &mut Vec<u8>, user: u64, random: &mut Random) {
    let statement = format!(
        "SELECT id, state, total FROM orders WHERE customer = 'customer-{user}' AND shop = {} ORDER BY created LIMIT 50",
        10_000 + random.below(90_000),
    );
    for (key, value) in [
        ("db.system", "postgresql"),
        ("db.name", "orders"),
        ("db.operation", "SELECT"),
        ("db.statement", &statement),
        ("server.address", "orders-db.shop.svc.cluster.local"),
    ] {
        message(span, 9, &string_attribute(key, value));
    }
    message(span, 9, &int_attribute("server.port", 5432));
}

/// `KeyValue` with a string.
pub fn string_attribute(key: &str, value: &str) -> Vec<u8> {
    let mut any = Vec::new();
    bytes(&mut any, 1, value.as_bytes());
    key_value(key, &any)
}

fn int_attribute(key: &str, value: u64) -> Vec<u8> {
    let mut any = Vec::new();
    varint_field(&mut any, 3, value);
    key_value(key, &any)
}

fn key_value(key: &str, any: &[u8]) -> Vec<u8> {
    let mut pair = Vec::new();
    bytes(&mut pair, 1, key.as_bytes());
    message(&mut pair, 2, any);
    pair
}

fn message(out: &mut Vec<u8>, field: u64, content: &[u8]) {
    bytes(out, field, content);
}

fn bytes(out: &mut Vec<u8>, field: u64, content: &[u8]) {
    varint(out, field << 3 | 2);
    varint(out, content.len() as u64);
    out.extend_from_slice(content);
}

fn varint_field(out: &mut Vec<u8>, field: u64, value: u64) {
    varint(out, field << 3);
    varint(out, value);
}

fn fixed64(out: &mut Vec<u8>, field: u64, value: u64) {
    varint(out, field << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
