//! Patterns in Go's dialect, compiled; replacement templates in Go's `Expand` syntax.

#![forbid(unsafe_code)]

use std::{ops::Range, sync::LazyLock};

use regex_automata::{
    Input, Match, hybrid,
    meta::{self, Cache, Regex},
    util::{captures::Captures, iter::Searcher},
};
use regex_syntax::hir::Hir;

use self::{chain::Chain, probe::Probe, reach::Reach};
use super::{
    budget::{self, Budget},
    verdicts::Verdicts,
};
use crate::config::{ConfigError, Located, Location};

mod chain;
mod class;
pub(super) mod gate;
mod go;
mod probe;
mod reach;
pub(super) mod window;

/// Bound on one pattern's compiled size. A count of 1000 on a class fits; one that does not is refused at start.
const COMPILED_LIMIT: usize = 16 << 20;
/// Bound on what one pattern's lazy automaton may use in one thread.
const CACHE_LIMIT: usize = 4 << 20;

/// A pattern of the configuration as a syntax tree, for a stage that searches in its own way.
pub(crate) fn syntax(pattern: &Located<String>) -> Result<Hir, ConfigError> {
    go::parse(&pattern.value).map(|parsed| parsed.hir).map_err(|error| ConfigError {
        at: pattern.at.clone(),
        message: format!("not a pattern of RE2: {error}"),
    })
}

/// All matches of a pattern in Go's dialect in a text, as a scrubber finds them, or why it is not a pattern: for checks
/// beside the hot path.
pub fn matches(pattern: &str, text: &str) -> Result<Vec<Range<usize>>, String> {
    let at = Location { file: "<pattern>".into(), line: 0, column: 0, path: "".into() };
    let mut patterns = Patterns::default();
    let id = patterns.build(pattern, &at).map_err(|error| error.message)?;
    let (mut found, mut out, mut caches) = (Vec::new(), Vec::new(), patterns.caches());
    // However long it takes: it is asked for by a person.
    caches.budget.begin(usize::MAX >> 8);
    patterns.replace_each(id, &mut caches, text.as_bytes(), true, &mut out, |captures, _| {
        found.extend(captures.get_match().map(|one| one.range()));
    });
    Ok(found)
}

/// Pattern, text, and where it matches.
type Answer = (&'static str, &'static str, &'static [(usize, usize)]);

/// What Go 1.26 answers, where it and the `regex` crate differ most: checked before the first pattern is compiled, so
/// that no pattern means something else than its author meant.
const SELF_TEST: [Answer; 12] = [
    ("\\d+", "1\u{663}2", &[(0, 1), (3, 4)]),
    ("a\\b", "a\u{e9}", &[(0, 1)]),
    ("\\s", "\u{b}\t\u{a0}", &[(1, 2)]),
    ("[a&&b]+", "a&b", &[(0, 3)]),
    ("[[]", "[", &[(0, 1)]),
    ("\\Qa.b\\E+", "a.bb", &[(0, 4)]),
    ("\\07", "\u{7}", &[(0, 1)]),
    ("a{,5}", "a{,5}", &[(0, 5)]),
    ("a|ab", "ab", &[(0, 1)]),
    ("(?U)a+", "aa", &[(0, 1), (1, 2)]),
    ("(?i)k", "\u{212a}", &[(0, 3)]),
    ("a*", "ba", &[(0, 0), (1, 2)]),
];

/// The first of them that fails.
static FAILED: LazyLock<Option<&str>> = LazyLock::new(|| {
    let same = |pattern, text, expected: &[(usize, usize)]| {
        let expected = expected.iter().map(|(start, end)| *start..*end);
        matches(pattern, text).is_ok_and(|found| found.into_iter().eq(expected))
    };
    SELF_TEST
        .iter()
        .find(|(pattern, text, expected)| !same(pattern, text, expected))
        .map(|(pattern, ..)| *pattern)
});

/// The windows of a pattern of our own.
///
/// # Panics
/// Where it is not a pattern.
pub(super) fn windows(pattern: &str) -> Vec<window::Window> {
    let parsed = go::parse(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
    window::required(&parsed.hir).windows
}

/// One compiled pattern.
#[derive(Debug)]
pub(super) struct Pattern {
    regex: Regex,
    groups: Vec<Option<String>>,
    /// What every match contains; empty when nothing useful can be said.
    pub(super) windows: Vec<window::Window>,
    probe: Option<Probe>,
    chain: Option<Chain>,
    /// Most bytes of a match, where there is a bound.
    longest: Option<usize>,
    /// Where there is none, how far a search looks.
    reach: Option<Reach>,
}

/// What the patterns of a plan need to search, in one thread.
#[derive(Debug, Default)]
pub(super) struct Caches {
    engines: Vec<Cache>,
    slots: Vec<Captures>,
    /// Of the automata that measure, where one was needed.
    reaches: Vec<Option<hybrid::dfa::Cache>>,
    /// What the request at hand may still cost.
    pub(super) budget: Budget,
    /// Texts in which nothing was found lately.
    pub(super) clean: Verdicts,
}

/// All patterns of a plan.
#[derive(Debug, Default)]
pub(super) struct Patterns {
    list: Vec<Pattern>,
}

/// Which pattern of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PatternId(u32);

impl Patterns {
    /// Compiles a pattern of the configuration.
    pub(super) fn add(&mut self, pattern: &Located<String>) -> Result<PatternId, ConfigError> {
        self.compile(&pattern.value, &pattern.at)
    }

    /// Compiles a pattern found at `at`.
    pub(super) fn compile(&mut self, pattern: &str, at: &Location) -> Result<PatternId, ConfigError> {
        if let Some(failed) = *FAILED {
            let message = format!(
                "patterns don't mean here what they mean in Go (`{failed}` matches something else): this build is \
                 broken, and would let pass what it should mask; use another one"
            );
            return Err(ConfigError { at: at.clone(), message });
        }
        self.build(pattern, at)
    }

    fn build(&mut self, pattern: &str, at: &Location) -> Result<PatternId, ConfigError> {
        let bad = |message: String| ConfigError { at: at.clone(), message };
        let parsed = go::parse(pattern).map_err(|error| bad(format!("not a pattern of RE2: {error}")))?;
        let config =
            meta::Config::new().nfa_size_limit(Some(COMPILED_LIMIT)).hybrid_cache_capacity(CACHE_LIMIT);
        let regex = Regex::builder().configure(config).build_from_hir(&parsed.hir).map_err(|_| {
            bad(format!("the pattern compiles to more than {} MiB; use smaller counts", COMPILED_LIMIT >> 20))
        })?;
        let window::Required { windows, prefix } = window::required(&parsed.hir);
        let longest = parsed.hir.properties().maximum_len();
        self.list.push(Pattern {
            regex,
            groups: parsed.groups,
            probe: Probe::new(&windows, prefix),
            chain: Chain::new(&parsed.hir),
            windows,
            reach: if longest.is_none() { Reach::new(&parsed.hir) } else { None },
            longest,
        });
        Ok(PatternId(self.list.len() as u32 - 1))
    }

    /// The pattern itself.
    pub(super) fn get(&self, id: PatternId) -> &Pattern {
        &self.list[id.0 as usize]
    }

    /// Search state for one thread.
    pub(super) fn caches(&self) -> Caches {
        Caches {
            engines: self.list.iter().map(|pattern| pattern.regex.create_cache()).collect(),
            slots: self.list.iter().map(|pattern| pattern.regex.create_captures()).collect(),
            reaches: self.list.iter().map(|_| None).collect(),
            ..Caches::default()
        }
    }

    /// Whether it matches anywhere.
    pub(super) fn is_match(&self, id: PatternId, caches: &mut Caches, text: &[u8]) -> bool {
        let pattern = self.get(id);
        let Some(from) = pattern.begin(text, 0) else { return false };
        caches.budget.look(text.len() - from);
        let input = Input::new(text).range(from..).earliest(true);
        pattern.regex.search_half_with(&mut caches.engines[id.0 as usize], &input).is_some()
    }

    /// The named groups of the first match, those that took part in it.
    pub(super) fn groups<'t>(
        &self,
        id: PatternId,
        caches: &mut Caches,
        text: &'t [u8],
    ) -> Vec<(&str, &'t [u8])> {
        let pattern = self.get(id);
        caches.budget.look(text.len());
        let captures = &mut caches.slots[id.0 as usize];
        pattern.regex.search_captures_with(&mut caches.engines[id.0 as usize], &Input::new(text), captures);
        let named =
            pattern.groups.iter().enumerate().filter_map(|(number, name)| Some((number, name.as_deref()?)));
        named.filter_map(|(number, name)| Some((name, &text[captures.get_group(number)?.range()]))).collect()
    }

    /// Appends `text` to `out` with every match replaced. `false`, and nothing appended, where nothing matches.
    pub(super) fn replace(
        &self,
        id: PatternId,
        caches: &mut Caches,
        text: &[u8],
        template: &Template,
        out: &mut Vec<u8>,
    ) -> bool {
        self.replace_each(id, caches, text, template.captures, out, |captures, out| {
            template.expand(captures, text, out);
        })
    }

    /// As [`Self::replace`], with what `write` appends for each match. Groups are found only if `groups` says so.
    ///
    /// One search for a pattern takes time linear in the text. Finding all matches may not: what lies behind a match
    /// is looked at again for the next. So each text is searched once for each pattern, and searches after a match
    /// are spent. A text of a request that has used up what it may cost is replaced as a whole.
    pub(super) fn replace_each(
        &self,
        id: PatternId,
        caches: &mut Caches,
        text: &[u8],
        groups: bool,
        out: &mut Vec<u8>,
        mut write: impl FnMut(&Captures, &mut Vec<u8>),
    ) -> bool {
        if self.get(id).is_absent(text) {
            return false;
        }
        let (before, budget) = (out.len(), caches.budget.clone());
        let mut done = self.replace_within(id, caches, text, groups, out, &mut write, false);
        if done.is_none() && self.get(id).reach.is_some() {
            // What was counted is the most that it can have cost.
            out.truncate(before);
            caches.budget = budget;
            done = self.replace_within(id, caches, text, groups, out, &mut write, true);
        }
        done.unwrap_or_else(|| {
            out.truncate(before);
            out.extend_from_slice(budget::DROPPED);
            caches.budget.dropped(1);
            true
        })
    }

    /// [`Self::replace_each`] as far as the budget goes: `None` where it is used up. `exact`: searches are measured.
    #[expect(clippy::too_many_arguments, reason = "those of its caller, and how to count")]
    fn replace_within(
        &self,
        id: PatternId,
        caches: &mut Caches,
        text: &[u8],
        groups: bool,
        out: &mut Vec<u8>,
        write: &mut impl FnMut(&Captures, &mut Vec<u8>),
        exact: bool,
    ) -> Option<bool> {
        let pattern = self.get(id);
        let mut searcher = Searcher::new(Input::new(text));
        let mut copied = 0;
        let (mut found, mut spent, mut ascii) = (false, false, None);
        while let Some(range) = searcher.advance(|input| {
            let from = input.start();
            let (range, mut cost) = match pattern.short_cut(text, from, groups, &mut ascii) {
                Some(found) => (found.range.map(|range| Match::must(0, range)), found.looks),
                None => pattern.search(text, from, groups, caches, id),
            };
            if let Some(reach) = pattern.reach.as_ref().filter(|_| exact) {
                let cache = caches.reaches[id.0 as usize].get_or_insert_with(|| reach.cache());
                cost = reach.of(cache, text, from);
            }
            // A search that finds nothing is free: it is the last.
            if range.is_some() {
                spent = !caches.budget.spend(cost);
            } else {
                caches.budget.look(cost);
            }
            Ok(range.filter(|_| !spent))
        }) {
            found = true;
            out.extend_from_slice(&text[copied..range.start()]);
            copied = range.end();
            write(&caches.slots[id.0 as usize], out);
        }
        if found && !spent {
            out.extend_from_slice(&text[copied..]);
        }
        (!spent).then_some(found)
    }
}

/// A replacement: `$1`, `${1}`, `$name`, `${name}`, `$$`. As in Go, `$1x` is the group named `1x`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template {
    parts: Vec<TemplatePart>,
    captures: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum TemplatePart {
    Text(Box<[u8]>),
    Group(usize),
}

impl Template {
    /// Text that stands for itself.
    pub(super) fn literal(text: &str) -> Self {
        Self { parts: vec![TemplatePart::Text(text.as_bytes().into())], captures: false }
    }

    /// Reads a template for a pattern. A group that the pattern has not is empty, and a `$` before anything but a
    /// name is a `$`, both as in Go.
    pub(super) fn parse(template: &str, pattern: &Pattern) -> Self {
        let mut parts = Vec::new();
        let mut text = String::new();
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('$') {
            text.push_str(before);
            if let Some(after) = after.strip_prefix('$') {
                text.push('$');
                rest = after;
            } else if let Some((name, after)) = reference(after) {
                rest = after;
                if let Some(index) = pattern.group(name) {
                    parts.push(TemplatePart::Text(std::mem::take(&mut text).into_bytes().into()));
                    parts.push(TemplatePart::Group(index));
                }
            } else {
                text.push('$');
                rest = after;
            }
        }
        text.push_str(rest);
        parts.push(TemplatePart::Text(text.into_bytes().into()));
        parts.retain(|part| !matches!(part, TemplatePart::Text(text) if text.is_empty()));
        let captures = parts.iter().any(|part| matches!(part, TemplatePart::Group(_)));
        Self { parts, captures }
    }

    pub(super) fn expand(&self, captures: &Captures, text: &[u8], out: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                TemplatePart::Text(text) => out.extend_from_slice(text),
                TemplatePart::Group(index) => {
                    if let Some(span) = captures.get_group(*index) {
                        out.extend_from_slice(&text[span.start..span.end]);
                    }
                }
            }
        }
    }
}

/// The name after a `$`, and what follows it.
fn reference(text: &str) -> Option<(&str, &str)> {
    let word = |c: char| c == '_' || c.is_alphanumeric();
    if let Some(braced) = text.strip_prefix('{') {
        let (name, after) = braced.split_once('}')?;
        return (!name.is_empty() && name.chars().all(word)).then_some((name, after));
    }
    let end = text.find(|c| !word(c)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

impl Pattern {
    /// The names of its groups.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.groups.iter().filter_map(Option::as_deref)
    }

    /// Whether it matches nowhere, where that can be seen at once.
    #[inline]
    fn is_absent(&self, text: &[u8]) -> bool {
        match &self.chain {
            Some(chain) => chain.is_absent(text),
            None => self.begin(text, 0).is_none(),
        }
    }

    /// What can be said without the engine.
    #[inline]
    fn short_cut(
        &self,
        text: &[u8],
        from: usize,
        groups: bool,
        ascii: &mut Option<bool>,
    ) -> Option<chain::Found> {
        match &self.chain {
            Some(chain) if !groups => chain.find(text, from, ascii),
            _ => None,
        }
    }

    /// The first match from `from` on, and how many bytes were looked at for it at most.
    fn search(
        &self,
        text: &[u8],
        from: usize,
        groups: bool,
        caches: &mut Caches,
        id: PatternId,
    ) -> (Option<Match>, usize) {
        let Some(from) = self.begin(text, from) else { return (None, 0) };
        let input = Input::new(text).range(from..);
        let (cache, captures) = (&mut caches.engines[id.0 as usize], &mut caches.slots[id.0 as usize]);
        let range = if groups {
            self.regex.search_captures_with(cache, &input, captures);
            captures.get_match()
        } else {
            self.regex.search_with(cache, &input)
        };
        // A search goes on behind a match as long as a longer one is possible.
        let rest = text.len().saturating_sub(from);
        let cost = match (range, self.longest) {
            (Some(range), Some(longest)) => rest.min((range.end() - from).saturating_add(longest)),
            _ => rest,
        };
        (range, cost)
    }

    /// Where a search from `from` on may begin; `None` where nothing can match from there on.
    #[inline]
    fn begin(&self, text: &[u8], from: usize) -> Option<usize> {
        match &self.probe {
            Some(probe) => probe.find(text, from),
            None => Some(from),
        }
    }

    fn group(&self, name: &str) -> Option<usize> {
        if name.bytes().all(|b| b.is_ascii_digit()) {
            return name.parse().ok().filter(|index| *index < self.groups.len());
        }
        self.groups.iter().position(|group| group.as_deref() == Some(name))
    }
}

#[cfg(test)]
mod tests;
