//! What a `string_attribute` policy compares a value with.

use regex_automata::meta;

use crate::{
    config::{ConfigError, Located, Location},
    scrub::pattern,
};

/// Bound on the compiled size of one policy's patterns.
const COMPILED_LIMIT: usize = 16 << 20;

/// Exact values or patterns.
#[derive(Debug)]
pub(super) enum Matcher {
    /// Sorted.
    Exact(Vec<Box<[u8]>>),
    /// All patterns as one automaton, unanchored.
    Patterns(meta::Regex),
}

impl Matcher {
    /// Any of these values, whole.
    pub(super) fn exact(values: &[Located<String>]) -> Self {
        let mut values: Vec<Box<[u8]>> = values.iter().map(|value| value.value.as_bytes().into()).collect();
        values.sort_unstable();
        Self::Exact(values)
    }

    /// Any of these patterns, anywhere in the value, in Go's dialect. `at` is where the policy stands.
    pub(super) fn patterns(values: &[Located<String>], at: &Location) -> Result<Self, ConfigError> {
        let patterns = values.iter().map(pattern::syntax).collect::<Result<Vec<_>, _>>()?;
        let config = meta::Config::new().nfa_size_limit(Some(COMPILED_LIMIT));
        meta::Regex::builder().configure(config).build_many_from_hir(&patterns).map(Self::Patterns).map_err(
            |_| ConfigError {
                at: at.clone(),
                message: format!(
                    "the patterns compile to more than {} MiB; use smaller counts",
                    COMPILED_LIMIT >> 20
                ),
            },
        )
    }

    /// Whether the value matches.
    pub(super) fn matches(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(values) => values.binary_search_by(|probe| (**probe).cmp(value)).is_ok(),
            Self::Patterns(regex) => regex.is_match(value),
        }
    }
}
