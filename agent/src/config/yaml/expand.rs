//! `${env:NAME}`, `${env:NAME:-default}`, `${NAME}`, `${file:PATH}` and `$$` in values (never in keys).
//!
//! As in the Collector: a `$` that is followed by neither `{` nor `$` stays, so that `foo$`, `[^$]` and `$1` are
//! patterns as written; `$$` is one `$`; a value that is one reference and nothing else takes the type of what
//! the reference holds (a number, a list, a mapping), while a string field gets its text.
//!
//! Two deliberate differences. A variable that is not set and has no default is an error (the Collector warns and
//! goes on with an empty value, which has sent spans to nowhere and emptied tokens). And what a *variable* holds
//! is never expanded again: a password may contain `$`.

use std::{path::Path, sync::Arc};

use super::{Key, Location, Node, Raw, RawValue, Scalar, Value, is_null_text, parse_raw};
use crate::config::ConfigError;

/// How deep files may include files.
const MAX_INCLUDES: usize = 4;
/// References in one value.
const MAX_REFERENCES: usize = 64;
/// Longest text that expansion may make of one value.
const MAX_EXPANDED: usize = super::MAX_BYTES;
/// Most text that all expansions of one load may make.
const MAX_EXPANDED_TOTAL: usize = 8 * super::MAX_BYTES;

/// Where references are looked up.
pub struct Environment<'a> {
    /// A variable's value; `None` when it is not set.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// A file's text, or why it can't be read.
    pub file: &'a dyn Fn(&Path) -> Result<String, String>,
}

/// What a reference was replaced by.
enum Replacement {
    /// Text as it is.
    Text(String),
    /// A file's text: YAML of its own.
    File { path: String, text: String },
}

pub(super) struct Expander<'e> {
    env: &'e Environment<'e>,
    file: Arc<str>,
    depth: usize,
    made: usize,
    pub(super) errors: Vec<ConfigError>,
}

impl<'e> Expander<'e> {
    pub(super) fn new(env: &'e Environment<'e>, file: &Arc<str>) -> Self {
        Self { env, file: file.clone(), depth: 0, made: 0, errors: Vec::new() }
    }

    /// Gives every node its path and expands its references.
    pub(super) fn locate(&mut self, raw: Raw, path: &str) -> Node {
        let at = self.place(raw.line, raw.column, path);
        let value = match raw.value {
            RawValue::Scalar(scalar) => return self.scalar(scalar, at),
            RawValue::Seq(items) => Value::Seq(
                items
                    .into_iter()
                    .enumerate()
                    .map(|(index, item)| self.locate(item, &format!("{path}[{index}]")))
                    .collect(),
            ),
            RawValue::Map(entries) => Value::Map(
                entries
                    .into_iter()
                    .map(|entry| {
                        let path = if path.is_empty() {
                            entry.key.clone()
                        } else {
                            format!("{path}::{}", entry.key)
                        };
                        let key = Key { at: self.place(entry.line, entry.column, &path), name: entry.key };
                        (key, self.locate(entry.value, &path))
                    })
                    .collect(),
            ),
        };
        Node { at, value, original: None }
    }

    fn place(&self, line: u32, column: u32, path: &str) -> Location {
        Location { file: self.file.clone(), line, column, path: path.into() }
    }

    fn scalar(&mut self, scalar: Scalar, at: Location) -> Node {
        if !scalar.text.contains('$') {
            return typed(scalar, at);
        }
        match self.expand(&scalar, &at) {
            Ok(node) => node,
            Err(message) => {
                self.errors.push(ConfigError { at: at.clone(), message });
                Node { at, value: Value::Null, original: None }
            }
        }
    }

    fn expand(&mut self, scalar: &Scalar, at: &Location) -> Result<Node, String> {
        if let Some(reference) = whole_reference(&scalar.text) {
            let reference = self.inner(reference)?;
            return match self.resolve(&reference)? {
                Replacement::Text(text) => {
                    self.charge(text.len())?;
                    Ok(self.retype(text, at))
                }
                Replacement::File { path, text } => self.include(&path, &text, at),
            };
        }
        let text = self.embedded(&scalar.text)?;
        Ok(typed(Scalar { text, plain: scalar.plain }, at.clone()))
    }

    /// A variable's text as YAML; where it is none, it is a string.
    fn retype(&mut self, text: String, at: &Location) -> Node {
        let scalar = |text: String| typed(Scalar { text, plain: true }, at.clone());
        match parse_raw(&text, &self.file) {
            Ok(Raw { value: RawValue::Scalar(_), .. }) | Err(_) => scalar(text),
            Ok(raw) => {
                let mut node = literal(raw, at, &at.path);
                node.original = Some(text);
                node
            }
        }
    }

    fn include(&mut self, path: &str, text: &str, at: &Location) -> Result<Node, String> {
        if self.depth == MAX_INCLUDES {
            return Err(format!("`${{file:{path}}}`: more than {MAX_INCLUDES} files within files"));
        }
        self.charge(text.len())?;
        let file: Arc<str> = path.into();
        match parse_raw(text, &file) {
            Ok(Raw { value: RawValue::Scalar(_), .. }) | Err(_) => {
                let text = text.trim_end_matches(['\n', '\r']).to_owned();
                Ok(typed(Scalar { text, plain: true }, at.clone()))
            }
            Ok(raw) => {
                let outer = std::mem::replace(&mut self.file, file);
                self.depth += 1;
                let mut node = self.locate(raw, &at.path);
                self.depth -= 1;
                self.file = outer;
                node.original = Some(text.trim_end_matches(['\n', '\r']).to_owned());
                Ok(node)
            }
        }
    }

    /// A value with references inside of other text.
    fn embedded(&mut self, text: &str) -> Result<String, String> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        let mut references = 0;
        while let Some(dollar) = rest.find('$') {
            out.push_str(&rest[..dollar]);
            rest = &rest[dollar..];
            if let Some(after) = rest.strip_prefix("$$") {
                out.push('$');
                rest = after;
            } else if let Some(end) = reference_end(rest) {
                references += 1;
                if references > MAX_REFERENCES {
                    return Err(format!("more than {MAX_REFERENCES} references in one value"));
                }
                let reference = self.inner(&rest[2..end - 1])?;
                match self.resolve(&reference)? {
                    Replacement::Text(text) => out.push_str(&text),
                    Replacement::File { text, .. } => out.push_str(text.trim_end_matches(['\n', '\r'])),
                }
                rest = &rest[end..];
            } else {
                out.push('$');
                rest = &rest[1..];
            }
            if out.len() > MAX_EXPANDED {
                return Err(format!("expands to more than {MAX_EXPANDED} bytes"));
            }
        }
        out.push_str(rest);
        self.charge(out.len())?;
        Ok(out)
    }

    /// What stands between the braces, where a reference may hold references (`${env:${env:STAGE}_HOST}`).
    fn inner(&mut self, reference: &str) -> Result<String, String> {
        if !reference.contains("${") {
            return Ok(reference.to_owned());
        }
        self.depth += 1;
        let inner = if self.depth > MAX_INCLUDES {
            Err(format!("more than {MAX_INCLUDES} references within references"))
        } else {
            self.embedded(reference)
        };
        self.depth -= 1;
        inner
    }

    fn charge(&mut self, bytes: usize) -> Result<(), String> {
        self.made = self.made.saturating_add(bytes);
        if self.made > MAX_EXPANDED_TOTAL {
            return Err(format!("all references together expand to more than {MAX_EXPANDED_TOTAL} bytes"));
        }
        Ok(())
    }

    fn resolve(&self, reference: &str) -> Result<Replacement, String> {
        if let Some(path) = reference.strip_prefix("file:") {
            return (self.env.file)(Path::new(path))
                .map(|text| Replacement::File { path: path.to_owned(), text })
                .map_err(|why| format!("`${{file:{path}}}` can't be read: {why}"));
        }
        for scheme in ["yaml", "http", "https"] {
            if reference.strip_prefix(scheme).is_some_and(|rest| rest.starts_with(':')) {
                return Err(format!("`${{{scheme}:…}}` is known but not built yet; `env` and `file` are"));
            }
        }
        let variable = reference.strip_prefix("env:").unwrap_or(reference);
        let (name, default) = match variable.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (variable, None),
        };
        if !is_variable_name(name) {
            return Err(format!(
                "`${{{reference}}}` names no variable (letters, digits and `_`); for the text itself write `$${{{reference}}}`"
            ));
        }
        match ((self.env.variable)(name), default) {
            (Some(value), _) => Ok(Replacement::Text(value)),
            (None, Some(default)) => Ok(Replacement::Text(default.to_owned())),
            (None, None) => Err(format!(
                "the environment variable `{name}` is not set; set it, or give a default: `${{env:{name}:-…}}`"
            )),
        }
    }
}

fn typed(scalar: Scalar, at: Location) -> Node {
    let null = scalar.plain && is_null_text(&scalar.text);
    Node { at, value: if null { Value::Null } else { Value::Scalar(scalar) }, original: None }
}

/// A tree from a variable: all at the place of its reference, nothing in it expanded.
fn literal(raw: Raw, at: &Location, path: &str) -> Node {
    let here = |path: &str| Location { path: path.into(), ..at.clone() };
    let value = match raw.value {
        RawValue::Scalar(scalar) => return typed(scalar, here(path)),
        RawValue::Seq(items) => Value::Seq(
            items
                .into_iter()
                .enumerate()
                .map(|(index, item)| literal(item, at, &format!("{path}[{index}]")))
                .collect(),
        ),
        RawValue::Map(entries) => Value::Map(
            entries
                .into_iter()
                .map(|entry| {
                    let path = format!("{path}::{}", entry.key);
                    (Key { at: here(&path), name: entry.key }, literal(entry.value, at, &path))
                })
                .collect(),
        ),
    };
    Node { at: here(path), value, original: None }
}

/// The inside of a text that is exactly one `${…}`.
fn whole_reference(text: &str) -> Option<&str> {
    (reference_end(text)? == text.len()).then(|| &text[2..text.len() - 1])
}

/// Where the reference at the start of `text` ends, its closing brace included.
fn reference_end(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    if !text.starts_with("${") {
        return None;
    }
    let mut open = 1_usize;
    let mut at = 2;
    while at < bytes.len() {
        match bytes[at] {
            b'$' if bytes.get(at + 1) == Some(&b'{') => {
                open += 1;
                at += 1;
            }
            b'}' => {
                open -= 1;
                if open == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
        at += 1;
    }
    None
}

fn is_variable_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
