//! Typed reading of a mapping's keys.
//!
//! A [`Fields`] remembers which keys it was asked for. When it goes out of scope, every other key of the mapping
//! is an error with its place and the nearest name that would have been right; nothing is ever ignored silently.
//! Errors are collected in a [`Report`], all of them, so that one run of `validate` shows everything.

use std::{cell::RefCell, path::PathBuf, time::Duration};

use super::{
    ConfigError, Located, Location,
    yaml::{Key, Node, Value},
};

pub mod duration;
pub mod nearest;
pub(in crate::config) mod scalars;

/// What a reader found wrong so far.
#[derive(Debug, Default)]
pub struct Report {
    errors: RefCell<Vec<ConfigError>>,
    warnings: RefCell<Vec<String>>,
}

impl Report {
    /// Adds an error.
    pub fn error(&self, at: &Location, message: impl Into<String>) {
        self.errors.borrow_mut().push(ConfigError { at: at.clone(), message: message.into() });
    }

    /// Adds a line for the log at start.
    pub fn warn(&self, at: &Location, message: impl AsRef<str>) {
        self.warnings.borrow_mut().push(format!("{at}: {}", message.as_ref()));
    }

    /// All errors in the order of the file, and all warnings.
    pub fn into_parts(self) -> (Vec<ConfigError>, Vec<String>) {
        let mut errors = self.errors.into_inner();
        errors
            .sort_by(|a, b| (&a.at.file, a.at.line, a.at.column).cmp(&(&b.at.file, b.at.line, b.at.column)));
        (errors, self.warnings.into_inner())
    }
}

/// A mapping that is being read.
pub struct Fields<'a> {
    /// Where the mapping stands.
    pub at: &'a Location,
    report: &'a Report,
    entries: &'a [(Key, Node)],
    known: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// Starts on `node`; nothing there counts as an empty mapping, anything else is an error.
    pub fn new(report: &'a Report, node: &'a Node) -> Self {
        let entries: &[(Key, Node)] = match &node.value {
            Value::Map(entries) => entries,
            Value::Null => &[],
            _ => {
                report.error(&node.at, format!("must be a mapping, but this is {}", node.kind()));
                &[]
            }
        };
        Self { at: &node.at, report, entries, known: Vec::new() }
    }

    /// The report that errors go to.
    pub fn report(&self) -> &'a Report {
        self.report
    }

    /// The value of a key that is there, be it null.
    pub fn present(&mut self, key: &'static str) -> Option<&'a Node> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.entries.iter().find(|(name, _)| name.name == key).map(|(_, node)| node)
    }

    /// The value of a key; null counts as absent, as in the Collector.
    pub fn get(&mut self, key: &'static str) -> Option<&'a Node> {
        self.present(key).filter(|node| !node.is_null())
    }

    /// The mapping under a key; null counts as absent.
    pub fn table(&mut self, key: &'static str) -> Option<Fields<'a>> {
        let node = self.get(key)?;
        Some(Fields::new(self.report, node))
    }

    /// The items of a list; anything else is an error.
    pub fn list(&mut self, key: &'static str) -> &'a [Node] {
        match self.get(key) {
            None => &[],
            Some(Node { value: Value::Seq(items), .. }) => items,
            Some(node) => {
                self.report.error(&node.at, format!("must be a list, but this is {}", node.kind()));
                &[]
            }
        }
    }

    /// All entries, for mappings whose keys are the user's (headers, component ids).
    pub fn entries(&mut self) -> &'a [(Key, Node)] {
        std::mem::take(&mut self.entries)
    }

    /// An error at the mapping itself.
    pub fn error(&self, message: impl Into<String>) {
        self.report.error(self.at, message);
    }

    /// An error at a key's value, or at the mapping where the key is missing.
    pub fn error_at(&self, key: &str, message: impl Into<String>) {
        let found = self.entries.iter().find(|(name, _)| name.name == key);
        self.report.error(found.map_or(self.at, |(_, node)| &node.at), message);
    }

    /// A line for the log about a key, or about the mapping where the key is missing.
    pub fn warn_at(&self, key: &str, message: impl AsRef<str>) {
        let found = self.entries.iter().find(|(name, _)| name.name == key);
        self.report.warn(found.map_or(self.at, |(_, node)| &node.at), message);
    }

    /// Where a key stands, or the mapping where it is missing.
    fn key_at(&self, key: &str) -> &'a Location {
        self.entries.iter().find(|(name, _)| name.name == key).map_or(self.at, |(name, _)| &name.at)
    }

    /// Text, at its place.
    pub fn located(&mut self, key: &'static str) -> Option<Located<String>> {
        let node = self.get(key)?;
        let value = scalars::string(self.report, node)?;
        Some(Located { value, at: node.at.clone() })
    }

    /// Text. A plain number or boolean is taken as written.
    pub fn string(&mut self, key: &'static str) -> Option<String> {
        self.located(key).map(|located| located.value)
    }

    /// Text that must be there and not be empty; an error otherwise.
    pub fn required(&mut self, key: &'static str) -> Option<Located<String>> {
        if self.get(key).is_none() {
            self.error(format!("`{key}` is required"));
            return None;
        }
        let text = self.located(key)?;
        if text.value.is_empty() {
            self.report.error(&text.at, "must not be empty");
            return None;
        }
        Some(text)
    }

    /// A list of texts, each at its place.
    pub fn located_strings(&mut self, key: &'static str) -> Vec<Located<String>> {
        let report = self.report;
        self.list(key)
            .iter()
            .filter_map(|node| {
                scalars::string(report, node).map(|value| Located { value, at: node.at.clone() })
            })
            .collect()
    }

    /// A list of texts.
    pub fn strings(&mut self, key: &'static str) -> Vec<String> {
        self.located_strings(key).into_iter().map(|text| text.value).collect()
    }

    /// A boolean.
    pub fn boolean(&mut self, key: &'static str) -> Option<bool> {
        let node = self.get(key)?;
        scalars::boolean(self.report, node)
    }

    /// A whole number that is not negative.
    pub fn unsigned<T: TryFrom<u64>>(&mut self, key: &'static str) -> Option<T> {
        let node = self.get(key)?;
        let number = scalars::unsigned(self.report, node)?;
        let converted = T::try_from(number).ok();
        if converted.is_none() {
            self.report.error(&node.at, format!("{number} is too large"));
        }
        converted
    }

    /// A number.
    pub fn float(&mut self, key: &'static str) -> Option<f64> {
        let node = self.get(key)?;
        scalars::float(self.report, node)
    }

    /// A duration in Go's form.
    pub fn duration(&mut self, key: &'static str) -> Option<Duration> {
        let node = self.get(key)?;
        scalars::duration(self.report, node)
    }

    /// One of several words.
    pub fn choice<T: Copy>(&mut self, key: &'static str, words: &[(&'static str, T)]) -> Option<T> {
        let node = self.get(key)?;
        scalars::choice(self.report, node, words)
    }

    /// A list of words of a fixed set, each at its place.
    pub fn choices<T: Copy>(&mut self, key: &'static str, words: &[(&'static str, T)]) -> Vec<Located<T>> {
        let report = self.report;
        self.list(key)
            .iter()
            .filter_map(|node| {
                scalars::choice(report, node, words).map(|value| Located { value, at: node.at.clone() })
            })
            .collect()
    }

    /// An absolute path.
    pub fn absolute(&mut self, key: &'static str, example: &str) -> Option<PathBuf> {
        let path = self.located(key)?;
        if !path.value.starts_with('/') {
            self.report.error(&path.at, format!("must be an absolute path, such as `{example}`"));
        }
        Some(PathBuf::from(path.value))
    }

    /// Keys that the Collector knows and that are not built here yet. Written out as their neutral value
    /// (`false`, `""`, `0`, nothing, an empty list or mapping, `enabled: false`, parts that are all so) they change nothing and pass.
    pub fn not_built(&mut self, keys: &[&'static str]) {
        for key in keys {
            if self.get(key).is_some_and(|node| !is_neutral(node)) {
                self.report.error(self.key_at(key), format!("`{key}` is known but not built yet"));
            }
        }
    }

    /// Keys that are accepted though they mean nothing here: one warning each, with the reason.
    pub fn ignored(&mut self, keys: &[&'static str], reason: &str) {
        for key in keys {
            if self.get(key).is_some() {
                self.report
                    .warn(self.key_at(key), format!("`{key}` is accepted but has no effect: {reason}"));
            }
        }
    }
}

impl Drop for Fields<'_> {
    fn drop(&mut self) {
        for (key, _) in self.entries {
            if !self.known.contains(&key.name.as_str()) {
                let message = nearest::unknown("key", &key.name, &self.known);
                self.report.error(&key.at, message);
            }
        }
    }
}

/// Whether a value says "off" whatever its key means.
fn is_neutral(node: &Node) -> bool {
    match &node.value {
        Value::Null => true,
        Value::Scalar(scalar) => matches!(scalar.text.as_str(), "" | "false" | "0" | "0s"),
        Value::Seq(items) => items.is_empty(),
        Value::Map(entries) => entries.iter().all(|(_, part)| is_disabled(part)) || is_disabled(node),
    }
}

/// Whether a mapping has `enabled: false`.
fn is_disabled(node: &Node) -> bool {
    match &node.value {
        Value::Map(entries) => entries.iter().any(|(key, value)| {
            key.name == "enabled" && matches!(&value.value, Value::Scalar(scalar) if scalar.text == "false")
        }),
        _ => false,
    }
}
