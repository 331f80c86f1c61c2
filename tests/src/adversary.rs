//! Requests made to be expensive to scrub, and the search for ones that are more so.
//!
//! `cargo xtask bench adversary` holds their CPU time against that of benign requests of the same size.

use bytes::Bytes;
use spanwarden::{
    config::{self, Config},
    otlp::{
        Batch, Context,
        encode::{self, Value},
    },
    pipeline,
    scrub::{Plan, PlanScratch},
};

use crate::oracle::Dice;

/// Most that an adversarial request may cost, in costs of a benign one of the same size.
pub const BOUND: f64 = 20.0;

/// Pieces of what rules look for: whole matches, halves of matches, and what stands between.
const PIECES: [&str; 58] = [
    "alice@example.com",
    "a@",
    "@",
    ".com",
    "a.",
    "4111 1111 1111 1111",
    "4111-",
    "1111 ",
    "1",
    "0",
    "378282246310005",
    "123-45-6789",
    "123-45-",
    "eyJ",
    "eyJhbGciOiJIUzI1NiJ9.",
    "sk-",
    "sk_live_",
    "AKIA",
    "ghp_",
    "xoxb-",
    "glpat-",
    "Bearer ",
    "bearer\t",
    "Basic QWxhZGRpbg",
    "-----BEGIN ",
    "PRIVATE KEY-----",
    "DE89 3704 0044 0532 0130 00",
    "GB",
    "192.168.0.1",
    "1.1.1.",
    "::ffff:",
    "+1 555 010 9999",
    "(555) ",
    "password=",
    "token: {",
    "'",
    "''",
    "\"",
    "\\",
    "%40",
    "%25",
    "\u{200b}",
    "é",
    "$1",
    "$a$",
    "/*",
    "--",
    "#",
    "q'[",
    "= 12345",
    "/",
    ";a=",
    "?a=b&",
    "{\"a\":",
    "[",
    "SET a\n",
    "a",
    " ",
];

/// How pieces become a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Spans of ten attributes with values of 100 bytes.
    Spans,
    /// One attribute with a value of the whole size.
    OneValue,
    /// One span with as many small attributes as fit, all with one key that rules know.
    OneKey,
    /// The same, with two such keys in turn.
    TwoKeys,
    /// One attribute with a list of small values.
    List,
    /// One value inside as many maps as are taken.
    Deep,
    /// Events without end.
    Events,
    /// As the keys of attributes.
    Keys,
    /// Statements of one database system after the other, and URLs.
    Statements,
    /// One statement that is said to be of every database system at once.
    Systems,
    /// A resource whose values are read for each of its spans, of which there are as many as fit.
    Above,
}

/// All of them.
pub const SHAPES: [Shape; 11] = [
    Shape::Spans,
    Shape::OneValue,
    Shape::OneKey,
    Shape::TwoKeys,
    Shape::List,
    Shape::Deep,
    Shape::Events,
    Shape::Keys,
    Shape::Statements,
    Shape::Systems,
    Shape::Above,
];

/// Keys that the reference rules name.
const KNOWN: [&str; 2] = ["http.url", "user.id"];

/// Database systems, one of each language.
const SYSTEMS: [&str; 9] =
    ["postgresql", "mysql", "mssql", "oracle", "sqlite", "other_sql", "redis", "memcached", "mongodb"];

/// Maps inside each other: the walker takes 64 messages, of which a map is three, and five are around the attribute.
const DEPTH: usize = 18;

/// Text without end, cut as it is taken.
struct Text<'t>(&'t str);

impl Text<'_> {
    fn take(&self, bytes: usize) -> String {
        let mut text = self.0.repeat(bytes.div_ceil(self.0.len().max(1)));
        let end = (bytes..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
        text.truncate(end);
        text
    }
}

/// A request of about `size` bytes in which a text is repeated.
pub fn request(shape: Shape, unit: &str, size: usize) -> Bytes {
    let text = Text(unit);
    let mut out = Vec::new();
    encode::field_with(&mut out, 1, |out| {
        if shape == Shape::Above {
            encode::field_with(out, 1, |out| {
                for key in ["k", "env", "service.name"] {
                    encode::key_value(out, 1, key, Value::String(&text.take(size.min(12 << 10) / 3)));
                }
            });
        }
        encode::field_with(out, 2, |out| match shape {
            Shape::Spans => (0..size / 1200).for_each(|number| {
                span(out, number, |out| {
                    for key in 0..10 {
                        encode::key_value(out, 9, &format!("key.{key}"), Value::String(&text.take(100)));
                    }
                });
            }),
            Shape::Statements => (0..size / 2400).for_each(|number| {
                span(out, number, |out| {
                    let system = Value::String(SYSTEMS[number % SYSTEMS.len()]);
                    encode::key_value(out, 9, "db.system.name", system);
                    encode::key_value(out, 9, "db.query.text", Value::String(&text.take(1000)));
                    encode::key_value(out, 9, "url.full", Value::String(&text.take(1000)));
                });
            }),
            Shape::Above => (0..size.saturating_sub(12 << 10) / 45).for_each(|number| {
                span(out, number, |out| encode::key_value(out, 9, "k", Value::String("v")));
            }),
            shape => span(out, 0, |out| one_span(out, shape, &text, size)),
        });
    });
    out.into()
}

fn span(out: &mut Vec<u8>, number: usize, fields: impl FnOnce(&mut Vec<u8>)) {
    encode::field_with(out, 2, |out| {
        encode::field(out, 1, &[1; 16]);
        encode::field(out, 2, &(number as u64 + 1).to_be_bytes());
        fields(out);
    });
}

fn one_span(out: &mut Vec<u8>, shape: Shape, text: &Text<'_>, size: usize) {
    match shape {
        Shape::OneKey | Shape::TwoKeys => {
            // The walker takes 16,384 attributes.
            for number in 0..(size / 40).min(16_000) {
                let key = if shape == Shape::TwoKeys { KNOWN[number % 2] } else { KNOWN[0] };
                encode::key_value(out, 9, key, Value::String(&text.take(24)));
            }
        }
        Shape::Keys => (0..(size / 40).min(16_000)).for_each(|_| {
            encode::key_value(out, 9, &text.take(24), Value::String("v"));
        }),
        Shape::Events => (0..size / 60).for_each(|_| {
            encode::field_with(out, 11, |out| {
                encode::field(out, 2, text.take(8).as_bytes());
                encode::key_value(out, 3, "note", Value::String(&text.take(24)));
            });
        }),
        Shape::List => value(out, "note", |out| {
            encode::field_with(out, 5, |out| {
                for _ in 0..size / 30 {
                    encode::field_with(out, 1, |out| {
                        encode::any_value(out, Value::String(&text.take(24)));
                    });
                }
            });
        }),
        Shape::Deep => value(out, "note", |out| deep(out, DEPTH, &text.take(size))),
        Shape::Systems => {
            for system in SYSTEMS {
                encode::key_value(out, 9, "db.system", Value::String(system));
            }
            encode::key_value(out, 9, "db.statement", Value::String(&text.take(size)));
        }
        _ => encode::key_value(out, 9, "note", Value::String(&text.take(size))),
    }
}

fn value(out: &mut Vec<u8>, key: &str, any: impl FnOnce(&mut Vec<u8>)) {
    encode::field_with(out, 9, |out| {
        encode::field(out, 1, key.as_bytes());
        encode::field_with(out, 2, any);
    });
}

fn deep(out: &mut Vec<u8>, depth: usize, text: &str) {
    if depth == 0 {
        return encode::any_value(out, Value::String(text));
    }
    encode::field_with(out, 6, |out| {
        encode::field_with(out, 1, |out| {
            encode::field(out, 1, b"k");
            encode::field_with(out, 2, |out| deep(out, depth - 1, text));
        });
    });
}

/// What spans hold that nobody made to be expensive.
const BENIGN: &str =
    "GET /api/orders checkout service request completed cache miss for the current session in region west ";

/// A benign request of about `size` bytes. Its shape is ordinary; that a shape is unusual is part of what an adversary
/// does.
pub fn benign(size: usize) -> Bytes {
    request(Shape::Spans, BENIGN, size)
}

/// Names of rules, and the configurations that have them in their first pipeline.
///
/// # Panics
/// When one of them is no configuration.
pub fn configs() -> Vec<(&'static str, Config)> {
    let around = "receivers: {otlp: {protocols: {grpc: }}}\nexporters: {debug: }\nservice: {pipelines: {traces: {receivers: \
                  [otlp], exporters: [debug], processors: ";
    let rules = include_str!("bin/bench/rules.yaml");
    let reference =
        format!("{rules}\n{around}[redaction/pii, transform/scrub-urls, transform/hash-user-ids]}}}}}}\n");
    let detectors = format!("processors: {{scrub: {{}}}}\n{around}[scrub]}}}}}}\n");
    let base64 = format!("processors: {{scrub: {{decode: [base64]}}}}\n{around}[scrub]}}}}}}\n");
    let read = |name: &str, text: &str| {
        config::parse(text, name).unwrap_or_else(|errors| panic!("{name}: {errors}"))
    };
    vec![
        ("the built-in detectors", read("detectors.yaml", &detectors)),
        ("the same in base64", read("base64.yaml", &base64)),
        ("the reference rules", read("rules.yaml", &reference)),
        ("the embedded default", config::default_config().unwrap_or_else(|errors| panic!("{errors}"))),
        ("every kind of statement", read("everything.yaml", crate::fuzz::plan::EVERYTHING)),
    ]
}

/// The plan of a configuration.
///
/// # Panics
/// When it can't be compiled.
pub fn plan(config: &Config) -> Plan {
    pipeline::plan_of(config, &config.service.pipelines[0]).unwrap_or_else(|error| panic!("{error}"))
}

/// The bytes that are looked at for each byte of a request: by the walk, and again by the rules.
///
/// # Panics
/// When the request is refused.
pub fn looks(plan: &Plan, scratch: &mut PlanScratch, request: &Bytes) -> f64 {
    let batch = Batch { data: request.clone(), spans: 0, context: Context::default() };
    plan.apply(batch, scratch).unwrap_or_else(|refusal| panic!("{}", refusal.message));
    1.0 + scratch.looked() as f64 / request.len() as f64
}

/// Texts to begin a search with.
pub fn starts() -> Vec<String> {
    let all = [PIECES.concat(), PIECES.join(" ")];
    PIECES.iter().map(|piece| (*piece).to_owned()).chain(all).collect()
}

/// The worst that a search finds, by a cost, and the text that it is made of: the `starts` first, then random changes of
/// the worst so far. The same search for the same costs.
pub fn search(
    shape: Shape,
    size: usize,
    steps: usize,
    starts: Vec<String>,
    mut cost: impl FnMut(&Bytes) -> f64,
) -> (f64, String) {
    let mut dice = Dice(1);
    let mut worst = (0f64, String::new());
    let mut attempt = |unit: String, worst: &mut (f64, String)| {
        let cost = cost(&request(shape, &unit, size));
        if cost > worst.0 {
            *worst = (cost, unit);
        }
    };
    for unit in starts {
        attempt(unit, &mut worst);
    }
    for _ in 0..steps {
        let mut unit = worst.1.clone();
        for _ in 0..=dice.below(3) {
            let piece = PIECES[dice.below(PIECES.len())];
            let places: Vec<usize> = unit.char_indices().map(|(at, _)| at).collect();
            let at = if places.is_empty() { 0 } else { places[dice.below(places.len())] };
            match dice.below(4) {
                0 => unit.truncate(at),
                1 => unit.replace_range(at..at + unit[at..].chars().next().map_or(0, char::len_utf8), ""),
                _ => unit.insert_str(at, piece),
            }
        }
        if !unit.is_empty() && unit.len() < 4096 {
            attempt(unit, &mut worst);
        }
    }
    worst
}
