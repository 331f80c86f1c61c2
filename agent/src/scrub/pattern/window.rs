//! What every match of a pattern must contain: a *window*, a short sequence of byte sets.
//!
//! `\b(?:\d[ -]*?){13,16}\b` contains a digit and then twelve digits, spaces or dashes; `(?i)bearer\s+…` contains
//! `[Bb][Ee][Aa][Rr][Ee][Rr]` and a space. Text without any window of a pattern cannot match it, and windows are
//! found far faster than matches ([`super::gate`]).

use regex_syntax::hir::{Class, Hir, HirKind};

/// Longest window: longer ones tell little more.
pub(crate) const LONGEST: usize = 16;
/// Most alternatives of one pattern.
const MOST: usize = 8;
/// A window that random text meets more often than once in 2^this many positions is not worth finding.
const WORTH: f64 = 9.0;

/// A set of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ByteSet([u64; 4]);

impl ByteSet {
    /// Whether the byte is in it.
    pub(crate) fn has(&self, byte: u8) -> bool {
        self.0[usize::from(byte >> 6)] >> (byte & 63) & 1 == 1
    }

    fn of(byte: u8) -> Self {
        let mut set = Self::default();
        set.add(byte, byte);
        set
    }

    fn add(&mut self, low: u8, high: u8) {
        for byte in low..=high {
            self.0[usize::from(byte >> 6)] |= 1 << (byte & 63);
        }
    }

    fn or(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] | other.0[i]))
    }

    /// The bytes in it.
    pub(crate) fn bytes(&self) -> impl Iterator<Item = u8> + use<'_> {
        (0..=255u8).filter(|byte| self.has(*byte))
    }

    /// How often a byte of telemetry is in it.
    pub(super) fn share(&self) -> f64 {
        self.bytes().map(share).sum()
    }

    /// How much meeting this set tells, in bits.
    fn bits(&self) -> f64 {
        -self.share().clamp(1e-4, 1.0).log2()
    }
}

/// A rough guess at how often a byte stands in telemetry.
pub(crate) fn share(byte: u8) -> f64 {
    match byte {
        b'a'..=b'z' => 0.024,
        b'0'..=b'9' => 0.020,
        b' ' | b'-' | b'.' | b'/' | b'_' | b':' => 0.012,
        b'A'..=b'Z' | 0..=0x1f => 0.004,
        _ => 0.001,
    }
}

/// A sequence of byte sets that every match contains.
pub(crate) type Window = Vec<ByteSet>;

/// What every match contains.
#[derive(Debug, Default)]
pub(crate) struct Required {
    /// At least one of these; empty where none is worth finding.
    pub(crate) windows: Vec<Window>,
    /// They stand where the match begins.
    pub(crate) prefix: bool,
}

/// What every match of the expression contains.
pub(crate) fn required(hir: &Hir) -> Required {
    let facts = facts(hir);
    let best = better(facts.best, vec![facts.prefix.clone()]);
    let best = better(best, vec![facts.suffix]);
    let prefix = matches!(&best[..], [window] if facts.prefix.starts_with(window));
    if score(&best) < WORTH { Required::default() } else { Required { windows: best, prefix } }
}

/// What is known of the texts that an expression matches.
struct Facts {
    /// Shortest match, in bytes.
    min: usize,
    /// All matches have the length `min`, and `prefix` covers them whole.
    exact: bool,
    /// Sets of the first bytes, `min(min, LONGEST)` of them.
    prefix: Window,
    /// Sets of the last bytes, as many.
    suffix: Window,
    /// Every byte that can occur.
    bytes: ByteSet,
    /// The best alternatives found inside.
    best: Vec<Window>,
}

impl Facts {
    fn empty() -> Self {
        Self {
            min: 0,
            exact: true,
            prefix: Vec::new(),
            suffix: Vec::new(),
            bytes: ByteSet::default(),
            best: Vec::new(),
        }
    }

    fn exactly(sets: &[ByteSet]) -> Self {
        let bytes = sets.iter().fold(ByteSet::default(), |all, set| all.or(set));
        let min = sets.len();
        let prefix = sets[..min.min(LONGEST)].to_vec();
        let suffix = sets[min - min.min(LONGEST)..].to_vec();
        Self { min, exact: min <= LONGEST, best: vec![prefix.clone()], prefix, suffix, bytes }
    }

    /// Fills both ends up to the shortest match with any byte that can occur.
    fn padded(mut self) -> Self {
        let length = self.min.min(LONGEST);
        while self.prefix.len() < length {
            self.prefix.push(self.bytes);
        }
        while self.suffix.len() < length {
            self.suffix.insert(0, self.bytes);
        }
        self
    }
}

fn facts(hir: &Hir) -> Facts {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => Facts::empty(),
        HirKind::Literal(literal) => {
            Facts::exactly(&literal.0.iter().map(|byte| ByteSet::of(*byte)).collect::<Vec<_>>())
        }
        HirKind::Class(set) => of_class(set),
        HirKind::Capture(capture) => facts(&capture.sub),
        HirKind::Repetition(repetition) => repeated(&facts(&repetition.sub), repetition.min, repetition.max),
        HirKind::Concat(parts) => {
            parts.iter().map(facts).reduce(|a, b| joined(&a, &b)).unwrap_or_else(Facts::empty)
        }
        HirKind::Alternation(branches) => one_of(&branches.iter().map(facts).collect::<Vec<_>>()),
    }
}

fn of_class(class: &Class) -> Facts {
    let (mut ascii, mut longer, mut first) = (ByteSet::default(), false, ByteSet::default());
    match class {
        Class::Bytes(set) => set.iter().for_each(|range| ascii.add(range.start(), range.end())),
        Class::Unicode(set) => {
            for range in set.iter() {
                let (low, high) = (range.start() as u32, range.end() as u32);
                if low < 0x80 {
                    ascii.add(low as u8, high.min(0x7f) as u8);
                }
                if high >= 0x80 {
                    longer = true;
                    first.add(0xc2, 0xf4);
                }
            }
        }
    }
    let start = ascii.or(&first);
    let mut facts = Facts::exactly(&[start]);
    if longer {
        let mut tail = ByteSet::default();
        tail.add(0x80, 0xbf);
        facts.exact = false;
        facts.bytes = start.or(&tail);
        facts.suffix = vec![ascii.or(&tail)];
    }
    facts
}

fn joined(a: &Facts, b: &Facts) -> Facts {
    let mut prefix = a.prefix.clone();
    if a.exact {
        prefix.extend(&b.prefix);
    }
    prefix.truncate(LONGEST);
    let mut suffix = b.suffix.clone();
    if b.exact {
        suffix.splice(..0, a.suffix.iter().copied());
    }
    suffix.drain(..suffix.len().saturating_sub(LONGEST));
    // What ends the first and begins the second stands together.
    let junction: Window = a.suffix.iter().chain(&b.prefix).copied().collect();
    let min = a.min.saturating_add(b.min);
    let bytes = a.bytes.or(&b.bytes);
    let exact = a.exact && b.exact && min <= LONGEST;
    let best = better(better(a.best.clone(), b.best.clone()), vec![sharpest(&junction)]);
    Facts { min, exact, prefix, suffix, bytes, best }.padded()
}

fn repeated(sub: &Facts, min: u32, max: Option<u32>) -> Facts {
    if min == 0 {
        let mut facts = Facts::empty();
        facts.exact = max == Some(0);
        facts.bytes = sub.bytes;
        return facts;
    }
    let times = |end: &Window| -> Window {
        if sub.exact {
            end.iter().copied().cycle().take((end.len() * min as usize).min(LONGEST)).collect()
        } else {
            end.clone()
        }
    };
    let prefix = times(&sub.prefix);
    // The last bytes of an exact repetition: its cycle must end where the text ends.
    let mut suffix = sub.suffix.clone();
    if sub.exact {
        while !sub.suffix.is_empty() && suffix.len() < (sub.min * min as usize).min(LONGEST) {
            suffix.splice(..0, sub.suffix.iter().copied());
        }
        suffix.drain(..suffix.len().saturating_sub(LONGEST));
    }
    let min_length = sub.min.saturating_mul(min as usize);
    let mut facts = Facts {
        min: min_length,
        exact: sub.exact && max == Some(min) && min_length <= LONGEST,
        prefix,
        suffix,
        bytes: sub.bytes,
        best: sub.best.clone(),
    }
    .padded();
    facts.best = better(facts.best, vec![facts.prefix.clone()]);
    facts
}

fn one_of(branches: &[Facts]) -> Facts {
    let min = branches.iter().map(|branch| branch.min).min().unwrap_or(0);
    let length = min.min(LONGEST);
    let bytes = branches.iter().fold(ByteSet::default(), |all, branch| all.or(&branch.bytes));
    let at = |pick: &dyn Fn(&Facts) -> ByteSet| {
        branches.iter().fold(ByteSet::default(), |all, b| all.or(&pick(b)))
    };
    let prefix = (0..length).map(|i| at(&|branch| branch.prefix[i])).collect();
    let suffix = (0..length).map(|i| at(&|branch| branch.suffix[branch.suffix.len() - length + i])).collect();
    let exact = branches.iter().all(|branch| branch.exact && branch.min == min);
    let best: Vec<Window> = branches.iter().flat_map(|branch| branch.best.clone()).collect();
    let usable = best.len() <= MOST && branches.iter().all(|branch| !branch.best.is_empty());
    Facts { min, exact, prefix, suffix, bytes, best: if usable { best } else { Vec::new() } }
}

/// The part of a window, no longer than [`LONGEST`], that tells the most.
fn sharpest(window: &Window) -> Window {
    window
        .windows(LONGEST.min(window.len()).max(1))
        .max_by(|a, b| bits(a).total_cmp(&bits(b)))
        .map_or_else(Vec::new, <[ByteSet]>::to_vec)
}

/// How much meeting a window tells, in bits.
pub(crate) fn bits(window: &[ByteSet]) -> f64 {
    window.iter().map(ByteSet::bits).sum()
}

/// What a choice of windows tells: as much as its weakest.
fn score(windows: &[Window]) -> f64 {
    windows.iter().map(|window| bits(window)).fold(f64::INFINITY, f64::min).min(if windows.is_empty() {
        0.0
    } else {
        f64::INFINITY
    })
}

fn better(a: Vec<Window>, b: Vec<Window>) -> Vec<Window> {
    if score(&b) > score(&a) { b } else { a }
}
