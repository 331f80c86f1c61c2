//! What a `string_attribute` policy compares a value with.

use regex_automata::meta::Regex;

use crate::config::{ConfigError, Located, Location};

/// Exact values or patterns.
#[derive(Debug)]
pub(super) enum Matcher {
    /// Sorted.
    Exact(Vec<Box<[u8]>>),
    /// All patterns as one automaton, unanchored.
    Patterns(Regex),
}

impl Matcher {
    /// Any of these values, whole.
    pub(super) fn exact(values: &[Located<String>]) -> Self {
        let mut values: Vec<Box<[u8]>> = values.iter().map(|value| value.value.as_bytes().into()).collect();
        values.sort_unstable();
        Self::Exact(values)
    }

    /// Any of these patterns, anywhere in the value, in Go's dialect.
    pub(super) fn patterns(values: &[Located<String>], at: &Location) -> Result<Self, ConfigError> {
        let patterns: Vec<&str> = values.iter().map(|value| value.value.as_str()).collect();
        Regex::new_many(&patterns)
            .map(Self::Patterns)
            .map_err(|error| ConfigError { at: at.clone(), message: error.to_string() })
    }

    /// Whether the value matches.
    pub(super) fn matches(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(values) => values.binary_search_by(|probe| (**probe).cmp(value)).is_ok(),
            Self::Patterns(regex) => regex.is_match(value),
        }
    }
}
