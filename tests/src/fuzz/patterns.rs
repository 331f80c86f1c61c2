//! The converter of Go's dialect: any text is read or refused, and simple patterns match what a naive matcher says.

use std::{cell::Cell, ops::Range};

use spanwarden::scrub::pattern_matches;

/// Steps of the naive matcher after which a pattern is left alone: it is exponential.
const STEPS: u32 = 20_000;

/// The first byte says how the rest is used: as a pattern and a text, or as choices from which both are made.
///
/// # Panics
/// When the converter panics, matches outside of the text, or says otherwise than the naive matcher.
pub fn pattern(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    if kind.is_multiple_of(2) {
        let text = String::from_utf8_lossy(rest);
        let (pattern, text) = text.split_once('\0').unwrap_or((&text, "a1_ é\n"));
        if let Ok(matches) = pattern_matches(pattern, text) {
            let mut last = 0;
            for found in matches {
                assert!(found.start >= last && text.get(found.clone()).is_some(), "{pattern:?}: {found:?}");
                last = found.end;
            }
        }
        return;
    }
    let mut choices = Choices(rest);
    let node = node(&mut choices, 3);
    let text: Vec<u8> = (0..choices.below(12)).map(|_| b"aabA1 \n"[choices.below(7)]).collect();
    let text = String::from_utf8(text).expect("ASCII");
    let mut pattern = String::new();
    node.write(&mut pattern);
    let Some(expected) = all(&node, text.as_bytes()) else { return };
    let found = pattern_matches(&pattern, &text).unwrap_or_else(|error| panic!("{pattern:?}: {error}"));
    assert_eq!(found, expected, "{pattern:?} in {text:?}");
}

struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn below(&mut self, n: usize) -> usize {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(*first) % n
    }
}

enum Node {
    One { written: &'static str, takes: fn(u8) -> bool },
    Sequence(Vec<Node>),
    Either(Vec<Node>),
    Repeat { of: Box<Node>, written: &'static str, min: usize, max: usize, greedy: bool },
}

/// A pattern of one byte, and the bytes that it takes.
type OneOf = (&'static str, fn(u8) -> bool);

const ONES: [OneOf; 12] = [
    ("a", |byte| byte == b'a'),
    ("b", |byte| byte == b'b'),
    (".", |byte| byte != b'\n'),
    ("[ab]", |byte| matches!(byte, b'a' | b'b')),
    ("[^a]", |byte| byte != b'a'),
    ("\\d", |byte| byte.is_ascii_digit()),
    ("\\W", |byte| !byte.is_ascii_alphanumeric() && byte != b'_'),
    ("(?i:a)", |byte| matches!(byte, b'a' | b'A')),
    ("[[:upper:]]", |byte| byte.is_ascii_uppercase()),
    ("\\Q1\\E", |byte| byte == b'1'),
    ("\\x61", |byte| byte == b'a'),
    ("\\s", |byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0c)),
];

const REPEATS: [(&str, usize, usize, bool); 8] = [
    ("*", 0, usize::MAX, true),
    ("+", 1, usize::MAX, true),
    ("?", 0, 1, true),
    ("*?", 0, usize::MAX, false),
    ("+?", 1, usize::MAX, false),
    ("??", 0, 1, false),
    ("{2}", 2, 2, true),
    ("{1,2}?", 1, 2, false),
];

fn node(choices: &mut Choices<'_>, depth: u32) -> Node {
    let one = |choices: &mut Choices<'_>| {
        let (written, takes) = ONES[choices.below(ONES.len())];
        Node::One { written, takes }
    };
    let many = |choices: &mut Choices<'_>| (0..=choices.below(3)).map(|_| node(choices, depth - 1)).collect();
    match choices.below(if depth == 0 { 1 } else { 5 }) {
        2 => Node::Sequence(many(choices)),
        3 => Node::Either(many(choices)),
        4 => {
            let of = node(choices, depth - 1);
            // What repeats nothing is another matter, and in the table of Go's own answers.
            if of.may_be_empty() {
                return of;
            }
            let (written, min, max, greedy) = REPEATS[choices.below(REPEATS.len())];
            Node::Repeat { of: Box::new(of), written, min, max, greedy }
        }
        _ => one(choices),
    }
}

impl Node {
    fn may_be_empty(&self) -> bool {
        match self {
            Self::One { .. } => false,
            Self::Sequence(parts) => parts.iter().all(Self::may_be_empty),
            Self::Either(parts) => parts.iter().any(Self::may_be_empty),
            Self::Repeat { of, min, .. } => *min == 0 || of.may_be_empty(),
        }
    }

    fn write(&self, out: &mut String) {
        match self {
            Self::One { written, .. } => out.push_str(written),
            Self::Sequence(parts) => parts.iter().for_each(|part| part.write(out)),
            Self::Either(parts) => {
                out.push_str("(?:");
                for (number, part) in parts.iter().enumerate() {
                    if number > 0 {
                        out.push('|');
                    }
                    part.write(out);
                }
                out.push(')');
            }
            Self::Repeat { of, written, .. } => {
                out.push('(');
                of.write(out);
                out.push(')');
                out.push_str(written);
            }
        }
    }

    /// The end that backtracking finds first for which `then` succeeds.
    fn run(
        &self,
        text: &[u8],
        at: usize,
        steps: &Cell<u32>,
        then: &dyn Fn(usize) -> Option<usize>,
    ) -> Option<usize> {
        steps.set(steps.get() + 1);
        if steps.get() > STEPS {
            return None;
        }
        match self {
            Self::One { takes, .. } => text.get(at).filter(|byte| takes(**byte)).and_then(|_| then(at + 1)),
            Self::Sequence(parts) => match parts.split_first() {
                None => then(at),
                Some((first, rest)) => {
                    first.run(text, at, steps, &|at| sequence(rest, text, at, steps, then))
                }
            },
            Self::Either(parts) => parts.iter().find_map(|part| part.run(text, at, steps, then)),
            Self::Repeat { of, min, max, greedy, .. } => {
                repeat(of, (*min, *max, *greedy), text, at, steps, then)
            }
        }
    }
}

fn sequence(
    parts: &[Node],
    text: &[u8],
    at: usize,
    steps: &Cell<u32>,
    then: &dyn Fn(usize) -> Option<usize>,
) -> Option<usize> {
    match parts.split_first() {
        None => then(at),
        Some((first, rest)) => first.run(text, at, steps, &|at| sequence(rest, text, at, steps, then)),
    }
}

fn repeat(
    of: &Node,
    (min, max, greedy): (usize, usize, bool),
    text: &[u8],
    at: usize,
    steps: &Cell<u32>,
    then: &dyn Fn(usize) -> Option<usize>,
) -> Option<usize> {
    let more = || {
        (max > 0)
            .then(|| {
                let left = (min.saturating_sub(1), if max == usize::MAX { max } else { max - 1 }, greedy);
                of.run(text, at, steps, &|at| repeat(of, left, text, at, steps, then))
            })
            .flatten()
    };
    let enough = || (min == 0).then(|| then(at)).flatten();
    if greedy { more().or_else(enough) } else { enough().or_else(more) }
}

/// All matches from left to right, as Go finds them; `None` where that took too many steps.
fn all(node: &Node, text: &[u8]) -> Option<Vec<Range<usize>>> {
    let (mut found, mut at, mut last) = (Vec::new(), 0, None);
    let steps = Cell::new(0);
    while at <= text.len() {
        let end = node.run(text, at, &steps, &Some);
        if steps.get() > STEPS {
            return None;
        }
        match end {
            // An empty match right after another one is none.
            Some(end) if end > at || last != Some(at) => {
                found.push(at..end);
                last = Some(end);
                at = end.max(at + usize::from(end == at));
            }
            _ => at += 1,
        }
    }
    Some(found)
}
