//! Precision and recall of the built-in detectors, on corpora that this project made itself.
//!
//! `fixtures/pii` holds where secrets turn up and what everyday spans hold; the secrets themselves are made at run
//! time from their parts ([`secrets`]), so that no text in the repository looks like a live one. All of it follows
//! from a seed.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
};

use bytes::Bytes;
use spanwarden::{
    config::{self, detectors},
    otlp::{
        Batch, Context,
        encode::{Value, field, field_with, key_value},
    },
    scrub::{Plan, PlanScratch},
};

use crate::oracle::Dice;

pub mod benign;
pub mod secrets;

use secrets::Secret;

/// What the measurement has detectors write: a name between these.
const OPEN: &str = "<<";
const CLOSE: &str = ">>";
/// Examples that are kept of each kind of mistake of a detector.
const EXAMPLES: usize = 3;
/// Spans of a benign request.
const BATCH: u64 = 256;

const CONTEXTS: &str = include_str!("../fixtures/pii/contexts.tsv");

/// What was found of one detector's corpus.
#[derive(Clone, Debug, Default)]
pub struct Score {
    /// Findings that were planted.
    pub right: u64,
    /// Planted ones that were left, whole or in part, or went by another name.
    pub missed: u64,
    /// Findings that were not planted.
    pub wrong: u64,
    /// What was missed or wrong.
    pub examples: Vec<String>,
}

impl Score {
    /// Of what was planted, the share that was found.
    pub fn recall(&self) -> f64 {
        share(self.right, self.right + self.missed)
    }

    /// Of what was found, the share that was planted.
    pub fn precision(&self) -> f64 {
        share(self.right, self.right + self.wrong)
    }

    fn example(&mut self, what: &str, before: &str, after: &str) {
        if self.examples.len() < EXAMPLES {
            self.examples.push(format!("{what}: {before:?} -> {after:?}"));
        }
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 1.0 } else { part as f64 / whole as f64 }
}

/// A measurement.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// By detector.
    pub scores: BTreeMap<&'static str, Score>,
    /// Benign spans that were looked at.
    pub benign: u64,
    /// Findings in them.
    pub false_positives: u64,
}

impl Report {
    /// Recall and precision over all findings.
    pub fn micro(&self) -> (f64, f64) {
        let mut all = Score::default();
        for score in self.scores.values() {
            all.right += score.right;
            all.missed += score.missed;
            all.wrong += score.wrong;
        }
        (all.recall(), all.precision())
    }

    /// Mean recall and precision of the detectors.
    pub fn macro_mean(&self) -> (f64, f64) {
        let count = self.scores.len().max(1) as f64;
        let mean = |of: fn(&Score) -> f64| self.scores.values().map(of).sum::<f64>() / count;
        (mean(Score::recall), mean(Score::precision))
    }

    /// False positives per million benign spans.
    pub fn per_million(&self) -> f64 {
        self.false_positives as f64 * 1e6 / self.benign.max(1) as f64
    }
}

/// What a measurement is held against.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Least recall of each detector.
    pub recall: f64,
    /// Least precision of each detector.
    pub precision: f64,
    /// Most false positives per million benign spans, not reached.
    pub per_million: f64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { recall: 0.98, precision: 0.95, per_million: 20.0 }
    }
}

impl Bounds {
    /// The bounds that a measurement misses, one line each.
    pub fn missed(&self, report: &Report) -> Vec<String> {
        let mut missed = Vec::new();
        for (name, score) in &report.scores {
            let (recall, precision) = (score.recall(), score.precision());
            if recall < self.recall || precision < self.precision {
                let examples = score.examples.join("\n  ");
                missed.push(format!("{name}: recall {recall:.4}, precision {precision:.4}\n  {examples}"));
            }
        }
        if report.per_million() >= self.per_million {
            missed.push(format!("{:.1} false positives per million benign spans", report.per_million()));
        }
        missed
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<22} {:>8} {:>8} {:>8} {:>8} {:>10}",
            "detector", "right", "missed", "wrong", "recall", "precision"
        )?;
        for (name, score) in &self.scores {
            let (recall, precision) = (score.recall(), score.precision());
            writeln!(
                f,
                "{name:<22} {:>8} {:>8} {:>8} {recall:>8.4} {precision:>10.4}",
                score.right, score.missed, score.wrong
            )?;
            for example in &score.examples {
                writeln!(f, "    {example}")?;
            }
        }
        for (name, (recall, precision)) in [("micro", self.micro()), ("macro", self.macro_mean())] {
            writeln!(f, "{name:<22} {:>8} {:>8} {:>8} {recall:>8.4} {precision:>10.4}", "", "", "")?;
        }
        let rate = self.per_million();
        write!(
            f,
            "{} false positives in {} benign spans: {rate:.1} per million",
            self.false_positives, self.benign
        )
    }
}

/// A plan of `scrub`'s detectors alone that writes their names, with these further lines of configuration.
///
/// # Panics
/// When the lines are not a configuration of `scrub`.
pub fn plan(lines: &str) -> Plan {
    let text = format!(
        "receivers: {{otlp: {{protocols: {{grpc: }}}}}}\nprocessors:\n  scrub:\n    mask: '{OPEN}{{name}}{CLOSE}'\n    statements: {{enabled: false}}\n    urls: {{enabled: false}}\n{lines}\n\
         exporters: {{debug: {{}}}}\nservice:\n  pipelines:\n    traces: {{receivers: [otlp], processors: [scrub], exporters: [debug]}}\n"
    );
    let config = config::parse(&text, "pii.yaml").unwrap_or_else(|errors| panic!("{errors}"));
    let processors: Vec<_> = config.processors.iter().collect();
    Plan::compile(&processors, None).unwrap_or_else(|error| panic!("{error}"))
}

/// A request of spans with these attributes.
pub fn request(spans: &[Vec<(String, String)>]) -> Bytes {
    let mut request = Vec::new();
    field_with(&mut request, 1, |resource_spans| {
        field_with(resource_spans, 2, |scope_spans| {
            for attributes in spans {
                field_with(scope_spans, 2, |span| {
                    field(span, 1, &[7; 16]);
                    field(span, 2, &[8; 8]);
                    field(span, 5, b"GET /v1/orders/{id}");
                    for (key, value) in attributes {
                        key_value(span, 9, key, Value::String(value));
                    }
                });
            }
        });
    });
    request.into()
}

fn apply(plan: &Plan, scratch: &mut PlanScratch, data: Bytes) -> Bytes {
    let batch = Batch { data, spans: 0, context: Context::default() };
    plan.apply(batch, scratch).unwrap_or_else(|refusal| panic!("{}", refusal.message)).data
}

/// The names between the marks in some bytes.
fn marks(data: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(data);
    let parts = text.split(OPEN).skip(1);
    parts.filter_map(|part| part.split_once(CLOSE)).map(|(name, _)| name.to_owned()).collect()
}

/// Plants `positives` secrets for each detector of `names`, each in a context of its own, and looks at `benign` spans.
pub fn measure(plan: &Plan, names: &[&'static str], positives: usize, benign: u64, seed: u64) -> Report {
    let mut report = Report::default();
    let mut scratch = PlanScratch::default();
    for name in names {
        let mut dice = Dice::about(seed, &[name.as_bytes()]);
        report.scores.entry(name).or_default();
        for _ in 0..positives {
            planted(plan, &mut scratch, name, &mut dice, &mut report);
        }
    }
    let mut dice = Dice::about(seed, &[b"benign"]);
    while report.benign < benign {
        let count = BATCH.min(benign - report.benign);
        let spans: Vec<_> = (0..count).map(|_| benign::span(&mut dice)).collect();
        report.benign += count;
        let data = request(&spans);
        let out = apply(plan, &mut scratch, data.clone());
        if out != data {
            blame(plan, &mut scratch, &spans, &mut report);
        }
    }
    report
}

/// Finds out which attributes of benign spans were changed.
fn blame(plan: &Plan, scratch: &mut PlanScratch, spans: &[Vec<(String, String)>], report: &mut Report) {
    for attribute in spans.iter().flatten() {
        let out = apply(plan, scratch, request(&[vec![attribute.clone()]]));
        for mark in marks(&out) {
            report.false_positives += 1;
            let name =
                detectors::all().find(|(name, _)| *name == mark).map_or("blocked_keys", |(name, _)| name);
            let score = report.scores.entry(name).or_default();
            score.wrong += 1;
            score.example("false positive", &attribute.0, &attribute.1);
        }
    }
}

/// Plants one secret and judges what became of it.
fn planted(plan: &Plan, scratch: &mut PlanScratch, name: &'static str, dice: &mut Dice, report: &mut Report) {
    let secret = secrets::secret(name, dice);
    let (secret, text) = in_context(&secret, dice);
    let out = apply(plan, scratch, request(&[vec![("note".to_owned(), text.clone())]]));
    let after = String::from_utf8_lossy(&out).into_owned();
    let half = secret.char_indices().nth(secret.chars().count() / 2).map_or(0, |(at, _)| at);
    let left = [&secret[..half], &secret[half..]].iter().any(|part| part.len() >= 4 && after.contains(part));
    let marks = marks(&out);
    let named = marks.iter().any(|mark| mark == name);
    let score = report.scores.get_mut(name).expect("it was put there");
    if named && !left {
        score.right += 1;
    } else {
        score.missed += 1;
        score.example("missed", &text, &after);
    }
    for mark in marks.iter().filter(|mark| *mark != name) {
        let other =
            detectors::all().find(|(other, _)| other == mark).map_or("blocked_keys", |(other, _)| other);
        let score = report.scores.entry(other).or_default();
        score.wrong += 1;
        score.example(&format!("wrong, it is {name}"), &text, &after);
    }
}

/// The secret as it is written in some context, and the whole text.
fn in_context(secret: &Secret, dice: &mut Dice) -> (String, String) {
    let contexts: Vec<(&str, &str)> = CONTEXTS
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('\t'))
        .collect();
    let (form, template) = contexts[dice.below(contexts.len())];
    let template = template.replace("\\n", "\n").replace("\\t", "\t");
    let carried = secret.carrier.replace("{}", &secret.text);
    let write = |text: &str| match form {
        "url" => percent(text),
        "json" => json(text),
        "json2" => json(&json(text)),
        _ => text.to_owned(),
    };
    (write(&secret.text), template.replace("{}", &write(&carried)))
}

/// What `encodeURIComponent` writes.
///
/// # Panics
/// Never: a string takes everything.
pub fn percent(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&byte) {
            out.push(byte.into());
        } else {
            write!(out, "%{byte:02X}").expect("a string takes it");
        }
    }
    out
}

/// What stands between the quotes of a JSON string.
///
/// # Panics
/// Never: every text is JSON.
pub fn json(text: &str) -> String {
    let quoted = serde_json::to_string(text).expect("a text is JSON");
    quoted[1..quoted.len() - 1].to_owned()
}
