//! The simplest patterns without an automaton: bytes and runs of bytes one after the other, around a rare one.
//!
//! `'[^']*'`, `= [0-9]{4,}` and `[a-z.]+@[a-z.]+\.[a-z]{2,}` are such chains. Each run takes all it can; only one may
//! have to give back (the second of the e-mail address, for the dot and the letters). That costs a fifth of setting up
//! a search of the pattern engine in a text of a hundred bytes, and most texts are shorter.

#![forbid(unsafe_code)]

use std::ops::Range;

use regex_syntax::hir::{Class, Hir, HirKind, Repetition};

use super::window;

/// Most links.
const MOST: usize = 16;
/// A byte more frequent than this is not looked for.
const RARE: f64 = 0.012;
/// How often a search may look at a byte of its text, on average, before it is given to the engine.
const LOOKS: usize = 4;

/// One byte, or a run of bytes.
#[derive(Clone, Copy, Debug)]
struct Link {
    min: usize,
    max: usize,
    /// What follows may begin with a byte that it can take.
    gives_back: bool,
}

/// A compiled chain.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    links: Vec<Link>,
    /// For each byte, the links that take it.
    takes: Box<[u16; 256]>,
    /// The link of the rare byte: the first or the second.
    pivot: usize,
    rare: u8,
    /// A run takes what is not ASCII, which is to be taken by characters.
    ascii: bool,
}

/// What a search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The match, if there is one.
    pub(super) range: Option<Range<usize>>,
    /// Bytes that were looked at.
    pub(super) looks: usize,
}

impl Chain {
    /// For a pattern that is one.
    pub(super) fn new(hir: &Hir) -> Option<Self> {
        let mut chain =
            Self { links: Vec::new(), takes: Box::new([0; 256]), pivot: 0, rare: 0, ascii: false };
        chain.add(hir)?;
        let single = |link: usize| {
            let mut taken = (0..=255u8).filter(|byte| chain.takes(link, *byte));
            let byte = taken.next()?;
            let once = chain.links.get(link).is_some_and(|link| (link.min, link.max) == (1, 1));
            (once && taken.next().is_none() && window::share(byte) <= RARE).then_some((link, byte))
        };
        (chain.pivot, chain.rare) = single(0).or_else(|| single(1))?;
        if chain.pivot == 1 && chain.takes(0, chain.rare) {
            return None;
        }
        for link in chain.pivot + 1..chain.links.len() {
            chain.links[link].gives_back = chain.may_give_back(link);
        }
        (chain.links.iter().filter(|link| link.gives_back).count() <= 1).then_some(chain)
    }

    fn add(&mut self, hir: &Hir) -> Option<()> {
        match hir.kind() {
            HirKind::Literal(literal) => literal.0.iter().try_for_each(|byte| {
                self.link(1, 1)?;
                self.take(*byte, *byte);
                Some(())
            }),
            HirKind::Class(class) => {
                self.link(1, 1)?;
                self.class(class)
            }
            HirKind::Repetition(Repetition { min, max, greedy: true, sub }) => {
                let HirKind::Class(class) = sub.kind() else {
                    let HirKind::Literal(literal) = sub.kind() else { return None };
                    let [byte] = *literal.0 else { return None };
                    self.link(*min, max.unwrap_or(u32::MAX))?;
                    self.take(byte, byte);
                    return Some(());
                };
                self.link(*min, max.unwrap_or(u32::MAX))?;
                self.class(class)
            }
            HirKind::Concat(parts) => parts.iter().try_for_each(|part| self.add(part)),
            _ => None,
        }
    }

    fn link(&mut self, min: u32, max: u32) -> Option<()> {
        self.links.push(Link { min: min as usize, max: max as usize, gives_back: false });
        (self.links.len() <= MOST).then_some(())
    }

    fn take(&mut self, low: u8, high: u8) {
        for byte in low..=high {
            self.takes[usize::from(byte)] |= 1 << (self.links.len() - 1);
        }
    }

    fn class(&mut self, class: &Class) -> Option<()> {
        let Class::Unicode(set) = class else { return None };
        for range in set.iter() {
            let (low, high) = (range.start(), range.end());
            if low.is_ascii() {
                self.take(low as u8, high.min('\x7f') as u8);
            }
            self.ascii |= !high.is_ascii();
        }
        Some(())
    }

    #[inline]
    fn takes(&self, link: usize, byte: u8) -> bool {
        self.takes[usize::from(byte)] >> link & 1 == 1
    }

    /// Whether a run may have to end before a byte that it could take.
    fn may_give_back(&self, link: usize) -> bool {
        let varies = self.links[link].min < self.links[link].max;
        let mut following = self.links[link + 1..].iter().zip(link + 1..);
        varies
            && following
                .by_ref()
                .scan(false, |done, (next, number)| {
                    let again = !std::mem::replace(done, *done || next.min > 0);
                    again.then_some(number)
                })
                .any(|next| (0..=255u8).any(|byte| self.takes(link, byte) && self.takes(next, byte)))
    }

    /// Whether there is none, by the rare byte alone.
    #[inline]
    pub(super) fn is_absent(&self, text: &[u8]) -> bool {
        memchr::memchr(self.rare, text).is_none()
    }

    /// The leftmost match from `from` on. `None` where it can't say. `ascii` is whether the text is, once that was asked:
    /// kept from match to match, or each would look at all of it.
    #[inline]
    pub(super) fn find(&self, text: &[u8], from: usize, ascii: &mut Option<bool>) -> Option<Found> {
        let mut at = from;
        let mut looks = 0;
        loop {
            let Some(offset) = text.get(at..).and_then(|rest| memchr::memchr(self.rare, rest)) else {
                return Some(Found { range: None, looks });
            };
            if self.ascii && looks == 0 && !*ascii.get_or_insert_with(|| text.is_ascii()) {
                return None;
            }
            at += offset;
            if let Some(start) = self.before(text, from, at, &mut looks)
                && let Some(end) = self.after(text, at + 1, self.pivot + 1, &mut looks)
            {
                return Some(Found { range: Some(start..end), looks });
            }
            if looks > LOOKS * (text.len() - from) {
                return None;
            }
            at += 1;
        }
    }

    /// Where a match with the rare byte at `at` begins.
    fn before(&self, text: &[u8], from: usize, at: usize, looks: &mut usize) -> Option<usize> {
        *looks += 1;
        if self.pivot == 0 {
            return Some(at);
        }
        let Link { min, max, .. } = self.links[0];
        let rest = &text[from.max(at.saturating_sub(max))..at];
        let run = rest.iter().rev().position(|byte| !self.takes(0, *byte)).unwrap_or(rest.len());
        *looks += run;
        (run >= min).then_some(at - run)
    }

    /// Where it ends, if the links from number `link` on match at `at`.
    fn after(&self, text: &[u8], mut at: usize, link: usize, looks: &mut usize) -> Option<usize> {
        for (number, Link { min, max, gives_back }) in self.links.iter().enumerate().skip(link) {
            let rest = text.get(at..)?;
            let rest = &rest[..rest.len().min(*max)];
            let run = rest.iter().position(|byte| !self.takes(number, *byte)).unwrap_or(rest.len());
            *looks += run + 1;
            if run < *min {
                return None;
            }
            if *gives_back {
                // The run as long as possible comes first, as everywhere in regular expressions.
                return (*min..=run).rev().find_map(|run| self.after(text, at + run, number + 1, looks));
            }
            at += run;
        }
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::scrub::pattern::go;

    const CHAINS: [&str; 10] = [
        "'[^']*'",
        "= [0-9]{4,}",
        "[a-zA-Z0-9._%+-]+@[a-zA-Z0-9.-]+\\.[a-zA-Z]{2,}",
        "[ab]{2,3}@[a.]*\\.a{1,2}",
        "@a*a",
        "@a?b?a?",
        "=a{2}b*",
        "a*@",
        "@[^a]+b",
        "@[ab]*b=?a",
    ];

    fn chain(pattern: &str) -> Option<Chain> {
        Chain::new(&go::parse(pattern).expect("a pattern").hir)
    }

    #[test]
    fn what_is_no_chain_is_left_to_the_engine() {
        for pattern in [
            "a+b",
            "(@)a",
            "@a|b",
            "\\b@a",
            "@a+?b",
            "(?:ab)+@",
            "[a@]+@a",
            "@[ab]*[bc]*b",
            "@aaaaaaaaaaaaaaaaaa",
            "(?i)sk-1",
        ] {
            assert!(chain(pattern).is_none(), "{pattern}");
        }
    }

    #[test]
    fn a_search_that_takes_too_long_is_given_up() {
        let chain = chain("@[^z]*z").expect("a chain");
        assert_eq!(chain.find("@a".repeat(1000).as_bytes(), 0, &mut None), None);
        assert_eq!(chain.find("é@z".as_bytes(), 0, &mut None), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(6000))]

        #[test]
        fn chains_find_what_the_engine_finds(
            which in 0..CHAINS.len(),
            text in prop_oneof!["[ab@.=' ]{0,24}", "(a|ab|@|\\.|= 1|234|'|x@y\\.zz|é){0,16}"],
        ) {
            let chain = chain(CHAINS[which]).expect("a chain");
            let hir = go::parse(CHAINS[which]).expect("a pattern").hir;
            let regex = regex_automata::meta::Regex::builder().build_from_hir(&hir).expect("a pattern");
            let theirs: Vec<_> = regex.find_iter(&text).map(|found| found.range()).collect();
            let (mut ours, mut from, mut ascii) = (Vec::new(), 0, None);
            while let Some(found) = chain.find(text.as_bytes(), from, &mut ascii) {
                let Some(range) = found.range else {
                    prop_assert_eq!(&ours, &theirs, "{}", CHAINS[which]);
                    break;
                };
                from = range.end;
                ours.push(range);
            }
            prop_assert!(theirs.starts_with(&ours), "{}", CHAINS[which]);
        }
    }
}
