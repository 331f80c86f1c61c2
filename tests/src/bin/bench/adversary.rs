//! What a sender can make scrubbing cost: values and messages made to be expensive, held against benign ones of the same
//! size. CPU time of one thread, in memory, the least of several tries.
//!
//! The worst known shapes come first; then a search changes the worst of them at random and keeps what is worse still. It is
//! the same search on every run, though what it finds depends on the machine's clock.

use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use nix::time::{ClockId, clock_gettime};
use spanwarden::{
    config,
    otlp::{
        Batch, Context,
        encode::{self, Value},
    },
    pipeline,
    scrub::{Plan, PlanScratch},
};
use spanwarden_tests::oracle::Dice;

/// Most that an adversarial request may cost, in costs of a benign one of the same size.
const BOUND: f64 = 20.0;
/// Bytes of a request, about.
const SIZE: usize = 48 << 10;
const TRIES: usize = 7;
/// Steps of the search.
const STEPS: usize = 300;

/// Pieces of what rules look for: whole matches, halves of matches, and what stands between.
const PIECES: [&str; 40] = [
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
    "'",
    "''",
    "\\",
    "%40",
    "\u{200b}",
    "é",
];

/// How pieces become a request.
#[derive(Clone, Copy, Debug)]
enum Shape {
    /// One attribute with a value of the whole size.
    OneValue,
    /// Spans of ten attributes with values of 100 bytes.
    Spans,
    /// One span with as many small attributes as fit, all with one key that rules know.
    OneKey,
    /// The same, with two such keys in turn.
    TwoKeys,
    /// One attribute with a list of small values.
    List,
    /// Events without end.
    Events,
    /// As the keys of attributes.
    Keys,
}

const SHAPES: [Shape; 7] =
    [Shape::OneValue, Shape::Spans, Shape::OneKey, Shape::TwoKeys, Shape::List, Shape::Events, Shape::Keys];

/// Keys that the reference rules name.
const KNOWN: [&str; 2] = ["http.url", "user.id"];

/// Text without end, cut as it is taken.
struct Text<'t> {
    unit: &'t str,
    at: usize,
}

impl Text<'_> {
    fn take(&mut self, bytes: usize) -> String {
        let mut text = String::new();
        while text.len() < bytes {
            let rest = &self.unit[self.at..];
            text.push_str(rest);
            self.at = 0;
        }
        let mut end = bytes.min(text.len());
        while !text.is_char_boundary(end) {
            end += 1;
        }
        text.truncate(end);
        text
    }
}

fn request(shape: Shape, unit: &str) -> Bytes {
    let mut text = Text { unit, at: 0 };
    let mut out = Vec::new();
    let ids = |out: &mut Vec<u8>, number: usize| {
        encode::field(out, 1, &[1; 16]);
        encode::field(out, 2, &(number as u64 + 1).to_be_bytes());
    };
    encode::field_with(&mut out, 1, |out| {
        encode::field_with(out, 2, |out| match shape {
            Shape::Spans => {
                for number in 0..SIZE / 1200 {
                    encode::field_with(out, 2, |out| {
                        ids(out, number);
                        for key in 0..10 {
                            encode::key_value(out, 9, &format!("key.{key}"), Value::String(&text.take(100)));
                        }
                    });
                }
            }
            shape => encode::field_with(out, 2, |out| {
                ids(out, 0);
                one_span(out, shape, &mut text);
            }),
        });
    });
    out.into()
}

fn one_span(out: &mut Vec<u8>, shape: Shape, text: &mut Text<'_>) {
    match shape {
        Shape::OneValue => encode::key_value(out, 9, "note", Value::String(&text.take(SIZE))),
        Shape::OneKey | Shape::TwoKeys => {
            for number in 0..SIZE / 40 {
                let key = if matches!(shape, Shape::TwoKeys) { KNOWN[number % 2] } else { KNOWN[0] };
                encode::key_value(out, 9, key, Value::String(&text.take(24)));
            }
        }
        Shape::Keys => {
            for _ in 0..SIZE / 40 {
                encode::key_value(out, 9, &text.take(24), Value::String("v"));
            }
        }
        Shape::Events => {
            for _ in 0..SIZE / 60 {
                encode::field_with(out, 11, |out| {
                    encode::field(out, 2, text.take(8).as_bytes());
                    encode::key_value(out, 3, "note", Value::String(&text.take(24)));
                });
            }
        }
        Shape::List | Shape::Spans => {
            encode::field_with(out, 9, |out| {
                encode::field(out, 1, b"note");
                encode::field_with(out, 2, |out| {
                    encode::field_with(out, 5, |out| {
                        for _ in 0..SIZE / 30 {
                            encode::field_with(out, 1, |out| {
                                encode::any_value(out, Value::String(&text.take(24)));
                            });
                        }
                    });
                });
            });
        }
    }
}

/// What spans hold that nobody made to be expensive.
const BENIGN: &str =
    "GET /api/orders checkout service request completed cache miss for the current session in region west ";

pub(crate) fn run() -> Result<()> {
    let reference = format!(
        "{}\nexporters: {{debug: }}\nreceivers: {{otlp: {{protocols: {{grpc: }}}}}}\nservice: {{pipelines: {{traces: \
         {{receivers: [otlp], processors: [redaction/pii, transform/scrub-urls, transform/hash-user-ids], exporters: \
         [debug]}}}}}}\n",
        super::RULES
    );
    let detectors = "receivers: {otlp: {protocols: {grpc: }}}\nprocessors: {scrub: {}}\nexporters: {debug: }\nservice: {pipelines: {traces: \
                     {receivers: [otlp], processors: [scrub], exporters: [debug]}}}\n";
    let configs = [
        ("the built-in detectors", config::parse(detectors, "detectors.yaml")?),
        ("the reference rules", config::parse(&reference, "rules.yaml")?),
        ("the embedded default", config::default_config()?),
    ];
    println!("A request of {} KiB, in costs of a benign one of that size; {BOUND} is allowed.\n", SIZE >> 10);
    println!("| rules | shape | benign, ns/byte | worst | of |");
    println!("|---|---|---|---|---|");
    let mut worst_of_all = 0f64;
    for (name, config) in &configs {
        let plan = pipeline::plan_of(config, &config.service.pipelines[0])?;
        // Of an ordinary shape: that a shape is unusual is part of what an adversary does.
        let benign = cost(&plan, &request(Shape::Spans, BENIGN))?;
        for shape in SHAPES {
            let (worst, unit) = search(&plan, shape, benign)?;
            worst_of_all = worst_of_all.max(worst);
            let shown: String = unit.escape_default().take(60).collect();
            println!("| {name} | {shape:?} | {benign:.2} | {worst:.1} | `{shown}` |");
        }
    }
    ensure!(worst_of_all <= BOUND, "a sender can make scrubbing cost {worst_of_all:.1} times what it should");
    Ok(())
}

/// The worst found, in costs of the benign one, and the text that it is made of.
fn search(plan: &Plan, shape: Shape, benign: f64) -> Result<(f64, String)> {
    let mut dice = Dice(1);
    let mut worst = (0f64, String::new());
    let mut starts: Vec<String> = PIECES.iter().map(|piece| (*piece).to_owned()).collect();
    starts.push(PIECES.concat());
    starts.push(PIECES.join(" "));
    for unit in starts {
        worst = try_one(plan, shape, benign, unit, worst)?;
    }
    for _ in 0..STEPS {
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
            worst = try_one(plan, shape, benign, unit, worst)?;
        }
    }
    Ok(worst)
}

fn try_one(
    plan: &Plan,
    shape: Shape,
    benign: f64,
    unit: String,
    worst: (f64, String),
) -> Result<(f64, String)> {
    let ratio = cost(plan, &request(shape, &unit))? / benign;
    Ok(if ratio > worst.0 { (ratio, unit) } else { worst })
}

/// Nanoseconds a byte.
fn cost(plan: &Plan, request: &Bytes) -> Result<f64> {
    thread_local! {
        static SCRATCH: std::cell::RefCell<PlanScratch> = std::cell::RefCell::default();
    }
    let mut best = Duration::MAX;
    for _ in 0..TRIES {
        let start = Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?);
        let batch = Batch { data: request.clone(), spans: 0, context: Context::default() };
        let done = SCRATCH.with_borrow_mut(|scratch| plan.apply(batch, scratch));
        let end = Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?);
        ensure!(done.is_ok(), "the request is refused: {done:?}");
        best = best.min(end.saturating_sub(start));
    }
    Ok(best.as_secs_f64() * 1e9 / request.len() as f64)
}
