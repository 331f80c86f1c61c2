//! Everyday spans: what detectors must leave alone.

use std::fmt::Write as _;

use crate::oracle::Dice;

const TEMPLATES: &str = include_str!("../../fixtures/pii/benign.tsv");

const WORDS: [&str; 24] = [
    "orders",
    "checkout",
    "payment",
    "inventory",
    "catalog",
    "shipping",
    "auth",
    "gateway",
    "search",
    "billing",
    "profile",
    "notification",
    "session",
    "ledger",
    "pricing",
    "warehouse",
    "customers",
    "reports",
    "scheduler",
    "token",
    "basic",
    "secrets",
    "analytics",
    "telemetry",
];

const AGENTS: [&str; 6] = [
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.6723.91 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:132.0) Gecko/20100101 Firefox/132.0",
    "Go-http-client/2.0",
    "okhttp/4.12.0",
    "kube-probe/1.32+ (linux/amd64) kubernetes/70d3cc9",
];

/// The attributes of one span.
pub fn span(dice: &mut Dice) -> Vec<(String, String)> {
    let count = 8 + dice.below(9);
    let lines: Vec<(&str, &str)> = lines();
    (0..count)
        .map(|_| {
            let (key, template) = lines[dice.below(lines.len())];
            (key.to_owned(), filled(template, dice))
        })
        .collect()
}

fn lines() -> Vec<(&'static str, &'static str)> {
    thread_local! {
        static LINES: Vec<(&'static str, &'static str)> = TEMPLATES
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once('\t'))
            .collect();
    }
    LINES.with(Clone::clone)
}

fn filled(template: &str, dice: &mut Dice) -> String {
    let mut out = String::with_capacity(template.len() + 64);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        let known = after.split_once('}').filter(|(name, _)| value(name, dice, &mut out));
        rest = if let Some((_, after)) = known {
            after
        } else {
            out.push('{');
            after
        };
    }
    out.push_str(rest);
    out.replace("\\n", "\n").replace("\\t", "\t")
}

/// `count` characters of an alphabet.
pub fn from(alphabet: &[u8], count: usize, dice: &mut Dice) -> String {
    (0..count).map(|_| char::from(alphabet[dice.below(alphabet.len())])).collect()
}

/// Hex digits.
pub const HEX: &[u8] = b"0123456789abcdef";
/// Letters and digits.
pub const ALNUM: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Digits.
pub const DIGITS: &[u8] = b"0123456789";
const SKU: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZ";
const BASE64: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Appends what a placeholder stands for; `false` where it is none.
fn value(name: &str, dice: &mut Dice, out: &mut String) -> bool {
    let mut put = |text: std::fmt::Arguments<'_>| out.write_fmt(text).expect("a string takes it");
    let day = |dice: &mut Dice| (2020 + dice.below(8), 1 + dice.below(12), 1 + dice.below(28));
    match name {
        "word" => put(format_args!("{}", WORDS[dice.below(WORDS.len())])),
        "version" => put(format_args!("{}.{}.{}", dice.below(30), dice.below(40), dice.below(200))),
        "uuid" => {
            let hex = from(HEX, 32, dice);
            put(format_args!(
                "{}-{}-4{}-a{}-{}",
                &hex[..8],
                &hex[8..12],
                &hex[13..16],
                &hex[17..20],
                &hex[20..]
            ));
        }
        "trace" => put(format_args!("{}", from(HEX, 32, dice))),
        "span" => put(format_args!("{}", from(HEX, 16, dice))),
        "digest" => put(format_args!("{}", from(HEX, 64, dice))),
        "sha40" => put(format_args!("{}", from(HEX, 40, dice))),
        "sha10" => put(format_args!("{}", from(HEX, 10, dice))),
        "sha8" => put(format_args!("{}", from(HEX, 8, dice))),
        "sha7" => put(format_args!("{}", from(HEX, 7, dice))),
        "sha6" => put(format_args!("{}", from(HEX, 6, dice))),
        "alnum29" => put(format_args!("{}", from(ALNUM, 29, dice))),
        "pod" => put(format_args!(
            "{}-{}-{}",
            WORDS[dice.below(WORDS.len())],
            from(b"bcdf456789", 9, dice),
            from(b"bcdfghjklmnpqrstvwxz2456789", 5, dice)
        )),
        "byte" => put(format_args!("{}", dice.below(256))),
        "small" => put(format_args!("{}", dice.below(100))),
        "number" => {
            let digits = 1 + dice.below(9);
            put(format_args!("{}", dice.roll() % 10u64.pow(digits as u32)));
        }
        "bigint" => {
            // Identifiers that carry a time in milliseconds since 2015 in their upper bits.
            let at = 300_000_000_000 + dice.roll() % 80_000_000_000;
            put(format_args!("{}", at << 22 | dice.roll() & 0x3f_ffff));
        }
        "decimal" => put(format_args!("{}.{:02}", dice.below(100_000), dice.below(100))),
        "double" => put(format_args!("{}", dice.roll() as f64 / u64::MAX as f64)),
        "ip" => put(format_args!("10.{}.{}.{}", dice.below(256), dice.below(256), 1 + dice.below(254))),
        "port" => put(format_args!("{}", 1024 + dice.below(64_000))),
        "id" => put(format_args!("{}", 1 + dice.below(10_000_000))),
        "sku" => put(format_args!("{}-{}", from(SKU, 3, dice), from(DIGITS, 5, dice))),
        "date" => {
            let (year, month, day) = day(dice);
            put(format_args!("{year}{month:02}{day:02}"));
        }
        "timestamp" => {
            let (year, month, day) = day(dice);
            let (hour, minute, second) = (dice.below(24), dice.below(60), dice.below(60));
            let sign = if dice.below(2) == 0 { 'T' } else { ' ' };
            let zone = ["Z", "", "+02:00", " +0100"][dice.below(4)];
            let micros = dice.below(1_000_000);
            put(format_args!(
                "{year}-{month:02}-{day:02}{sign}{hour:02}:{minute:02}:{second:02}.{micros:06}{zone}"
            ));
        }
        "epoch" => put(format_args!("{}", 1_600_000_000 + dice.below(200_000_000))),
        "epochms" => put(format_args!("{}", 1_600_000_000_000 + dice.roll() % 200_000_000_000)),
        "epochns" => {
            put(format_args!("{}", 1_600_000_000_000_000_000 + dice.roll() % 200_000_000_000_000_000));
        }
        "duration" => {
            put(format_args!("{}.{}{}", dice.below(900), dice.below(1000), ["ms", "s", "µs"][dice.below(3)]));
        }
        "base64" => {
            let length = 4 * (5 + dice.below(40));
            put(format_args!("{}==", from(BASE64, length - 2, dice)));
        }
        "ua" => put(format_args!("{}", AGENTS[dice.below(AGENTS.len())])),
        "mac" => {
            let hex = from(HEX, 12, dice);
            let pairs: Vec<&str> = (0..6).map(|at| &hex[2 * at..2 * at + 2]).collect();
            put(format_args!("{}", pairs.join(":")));
        }
        _ => return false,
    }
    true
}
