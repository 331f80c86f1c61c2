//! YAML text to a tree whose every node knows its line, column and key path.
//!
//! Two passes: events to a raw tree (anchors, aliases and merge keys resolved, all bounded), then raw tree to
//! [`Node`]s with paths, where `${…}` is [expanded](expand). Scalars keep their text; a field's reader types it,
//! so that a string field gets `0123` or `1.10` as written.

use std::{collections::HashMap, sync::Arc};

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput, Tag};

use super::{ConfigError, Location};

pub mod expand;
#[cfg(test)]
mod tests;

use expand::Environment;

/// Longest text of one file, 1 MiB: what a Kubernetes `ConfigMap` can hold.
pub const MAX_BYTES: usize = 1 << 20;
/// Most nodes in a tree, copies made by aliases included.
const MAX_NODES: usize = 50_000;
/// Deepest nesting; the Collector's own configurations stay below 16.
const MAX_DEPTH: usize = 48;
/// Longest key, in bytes; paths are made of keys.
const MAX_KEY: usize = 512;

/// A value with its place.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where it stands.
    pub at: Location,
    /// What it is.
    pub value: Value,
    /// The text of a variable or file that this mapping or list was read from, for a field that wants text.
    pub original: Option<String>,
}

/// What a [`Node`] holds.
#[derive(Clone, Debug)]
pub enum Value {
    /// Empty, `~`, `null`.
    Null,
    /// Any other scalar, not typed yet.
    Scalar(Scalar),
    /// A list.
    Seq(Vec<Node>),
    /// A mapping, in the file's order, keys unique.
    Map(Vec<(Key, Node)>),
}

/// Text of a scalar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scalar {
    /// With escapes and variables resolved.
    pub text: String,
    /// Whether it may be a number or a boolean: not quoted, no block, not tagged `!!str`.
    pub plain: bool,
}

/// A key of a mapping.
#[derive(Clone, Debug)]
pub struct Key {
    /// As written.
    pub name: String,
    /// Where it stands, with the path of its value.
    pub at: Location,
}

impl Node {
    /// The kind in words, for errors.
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Scalar(scalar) if scalar.plain => "a plain value",
            Value::Scalar(_) => "a string",
            Value::Seq(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    /// The text of a scalar, or the text that a variable held.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(scalar) => Some(&scalar.text),
            Value::Null => None,
            Value::Seq(_) | Value::Map(_) => self.original.as_deref(),
        }
    }

    /// Whether it is `null` or nothing.
    pub fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }
}

/// Whether a plain scalar means null, as YAML 1.2's core schema says.
fn is_null_text(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// Reads one document. All errors of variables are collected; an error of the syntax is the only one.
pub fn parse(text: &str, file: &Arc<str>, env: &Environment<'_>) -> Result<Node, Vec<ConfigError>> {
    let raw = parse_raw(text, file).map_err(|error| vec![error])?;
    let mut expander = expand::Expander::new(env, file);
    let node = expander.locate(raw, "");
    if expander.errors.is_empty() { Ok(node) } else { Err(expander.errors) }
}

/// A node before paths and variables.
#[derive(Clone, Debug)]
pub(super) struct Raw {
    line: u32,
    column: u32,
    /// Nodes in it, itself included, long text counted as several: what a copy by an alias costs.
    size: usize,
    /// Levels below and with it.
    height: usize,
    value: RawValue,
}

#[derive(Clone, Debug)]
enum RawValue {
    Scalar(Scalar),
    Seq(Vec<Raw>),
    Map(Vec<RawEntry>),
}

#[derive(Clone, Debug)]
struct RawEntry {
    key: String,
    line: u32,
    column: u32,
    value: Raw,
}

/// Parses the only document of `text`.
pub(super) fn parse_raw(text: &str, file: &Arc<str>) -> Result<Raw, ConfigError> {
    let place = |line: u32, column: u32| Location { file: file.clone(), line, column, path: "".into() };
    if text.len() > MAX_BYTES {
        let message = format!("the file has {} bytes; at most {MAX_BYTES} are read", text.len());
        return Err(ConfigError { at: place(0, 0), message });
    }
    let mut builder = Builder::new(text);
    builder.document().map_err(|error| ConfigError {
        at: place(error.line, error.column),
        message: format!("not valid YAML: {}", error.message),
    })
}

/// Why the events make no tree.
struct Fault {
    line: u32,
    column: u32,
    message: String,
}

fn place_of(span: Span) -> (u32, u32) {
    let line = u32::try_from(span.start.line()).unwrap_or(u32::MAX);
    let column = u32::try_from(span.start.col() + 1).unwrap_or(u32::MAX);
    (line.max(1), column)
}

fn fault<T>(span: Span, message: impl Into<String>) -> Result<T, Fault> {
    let (line, column) = place_of(span);
    Err(Fault { line, column, message: message.into() })
}

struct Builder<'t> {
    events: Parser<'t, StrInput<'t>>,
    anchors: HashMap<usize, Raw>,
    nodes: usize,
}

impl<'t> Builder<'t> {
    fn new(text: &'t str) -> Self {
        Self { events: Parser::new_from_str(text), anchors: HashMap::new(), nodes: 0 }
    }

    fn next(&mut self) -> Result<(Event<'t>, Span), Fault> {
        match self.events.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => fault(Span::empty(*error.marker()), error.info().to_owned()),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn document(&mut self) -> Result<Raw, Fault> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => break,
                Event::DocumentStart(_) if root.is_some() => {
                    return fault(span, "a second document starts here; a configuration is one document");
                }
                Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
                other => root = Some(self.node(other, span, 1)?),
            }
        }
        Ok(root.unwrap_or(Raw { line: 1, column: 1, size: 1, height: 1, value: RawValue::Scalar(null()) }))
    }

    fn count(&mut self, span: Span, nodes: usize) -> Result<(), Fault> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > MAX_NODES {
            return fault(span, format!("more than {MAX_NODES} values, counting every use of an alias"));
        }
        Ok(())
    }

    fn node(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Raw, Fault> {
        if depth > MAX_DEPTH {
            return fault(span, format!("nested deeper than {MAX_DEPTH} levels"));
        }
        let (line, column) = place_of(span);
        let (value, anchor) = match event {
            Event::Alias(id) => return self.alias(id, span, depth),
            Event::Scalar(text, style, anchor, tag) => {
                let string = tagged_string(tag.as_deref(), span)?;
                let plain = matches!(style, ScalarStyle::Plain) && !string;
                (RawValue::Scalar(Scalar { text: text.into_owned(), plain }), anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                tagged_string(tag.as_deref(), span)?;
                (RawValue::Seq(self.sequence(depth)?), anchor)
            }
            Event::MappingStart(anchor, tag) => {
                tagged_string(tag.as_deref(), span)?;
                (RawValue::Map(self.mapping(depth)?), anchor)
            }
            other => return fault(span, format!("unexpected {other:?}")),
        };
        let (own, size, height) = measure(&value);
        self.count(span, own)?;
        let raw = Raw { line, column, size, height, value };
        if anchor > 0 {
            self.anchors.insert(anchor, raw.clone());
        }
        Ok(raw)
    }

    fn alias(&mut self, id: usize, span: Span, depth: usize) -> Result<Raw, Fault> {
        let Some(target) = self.anchors.get(&id) else {
            return fault(span, "an alias inside of what it names");
        };
        if depth + target.height > MAX_DEPTH {
            return fault(span, format!("nested deeper than {MAX_DEPTH} levels"));
        }
        let copy = target.clone();
        self.count(span, copy.size)?;
        Ok(copy)
    }

    fn sequence(&mut self, depth: usize) -> Result<Vec<Raw>, Fault> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(items),
                (event, span) => items.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<Vec<RawEntry>, Fault> {
        let mut entries: Vec<RawEntry> = Vec::new();
        let mut seen: HashMap<String, u32> = HashMap::new();
        let mut merged = Vec::new();
        loop {
            let (event, span) = match self.next()? {
                (Event::MappingEnd, _) => break,
                other => other,
            };
            let (line, column) = place_of(span);
            let key = self.node(event, span, depth + 1)?;
            let RawValue::Scalar(Scalar { text: key, plain }) = key.value else {
                return fault(span, "a key must be a single word or string");
            };
            if key.len() > MAX_KEY {
                return fault(span, format!("a key of {} bytes; at most {MAX_KEY}", key.len()));
            }
            let (event, value_span) = self.next()?;
            let value = self.node(event, value_span, depth + 1)?;
            if plain && key == "<<" {
                merged.push((value, value_span));
                continue;
            }
            if let Some(first) = seen.insert(key.clone(), line) {
                return fault(span, format!("`{key}` is here twice in one mapping (first in line {first})"));
            }
            entries.push(RawEntry { key, line, column, value });
        }
        for (value, span) in merged {
            merge(&mut entries, value, span)?;
        }
        Ok(entries)
    }
}

/// `<<`: the keys of the named mappings that are not there yet (YAML 1.1's merge, which the Collector reads).
fn merge(entries: &mut Vec<RawEntry>, value: Raw, span: Span) -> Result<(), Fault> {
    let sources = match value.value {
        RawValue::Map(map) => vec![map],
        RawValue::Seq(items) => items
            .into_iter()
            .map(|item| match item.value {
                RawValue::Map(map) => Ok(map),
                _ => fault(span, "`<<` merges mappings only"),
            })
            .collect::<Result<_, _>>()?,
        RawValue::Scalar(_) => return fault(span, "`<<` merges mappings only"),
    };
    let mut present: std::collections::HashSet<String> =
        entries.iter().map(|entry| entry.key.clone()).collect();
    for entry in sources.into_iter().flatten() {
        if present.insert(entry.key.clone()) {
            entries.push(entry);
        }
    }
    Ok(())
}

fn null() -> Scalar {
    Scalar { text: String::new(), plain: true }
}

/// What a node costs by itself and with all below it, and how many levels it has.
fn measure(value: &RawValue) -> (usize, usize, usize) {
    // Copies of long text cost memory too: 32 bytes weigh as much as a node.
    let weight = |text: &str| text.len() / 32;
    let (own, children): (usize, Vec<&Raw>) = match value {
        RawValue::Scalar(scalar) => (1 + weight(&scalar.text), Vec::new()),
        RawValue::Seq(items) => (1, items.iter().collect()),
        RawValue::Map(entries) => (
            1 + entries.iter().map(|entry| weight(&entry.key)).sum::<usize>(),
            entries.iter().map(|entry| &entry.value).collect(),
        ),
    };
    let size = own + children.iter().map(|child| child.size).sum::<usize>();
    (own, size, 1 + children.iter().map(|child| child.height).max().unwrap_or(0))
}

/// Whether a tag makes a scalar a string; tags other than YAML's own types are refused.
fn tagged_string(tag: Option<&Tag>, span: Span) -> Result<bool, Fault> {
    match tag {
        None => Ok(false),
        Some(tag) if tag.is_yaml_core_schema() => match tag.suffix.as_str() {
            "str" => Ok(true),
            "int" | "float" | "bool" | "null" | "map" | "seq" => Ok(false),
            other => fault(span, format!("the tag `!!{other}` is not supported")),
        },
        Some(tag) if tag.handle.is_empty() && tag.suffix == "!" => Ok(true),
        Some(tag) => fault(span, format!("the tag `{tag}` is not supported")),
    }
}
