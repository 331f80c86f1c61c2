//! What a configuration says, without where it says it: for telling what a changed file changes.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use super::{
    ComponentId,
    yaml::{Node, Value},
};

/// The content of a file, variables expanded. Order of keys, comments, quotes around text, anchors and line numbers
/// don't count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape(Tree);

/// A value of it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Tree {
    Null,
    /// Whether it may be a number or a boolean is part of what it says: `"1"` is text.
    Scalar(String, bool),
    Seq(Vec<Tree>),
    Map(BTreeMap<String, Tree>),
}

impl From<&Node> for Shape {
    fn from(node: &Node) -> Self {
        Self(Tree::from(node))
    }
}

impl From<&Node> for Tree {
    fn from(node: &Node) -> Self {
        match &node.value {
            Value::Null => Self::Null,
            Value::Scalar(scalar) => Self::Scalar(scalar.text.clone(), scalar.plain),
            Value::Seq(items) => Self::Seq(items.iter().map(Self::from).collect()),
            Value::Map(entries) => {
                Self::Map(entries.iter().map(|(key, value)| (key.name.clone(), Self::from(value))).collect())
            }
        }
    }
}

impl Tree {
    fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Map(map) => map.get(key),
            _ => None,
        }
    }
}

impl Shape {
    /// Whether a processor is there in both and says the same.
    pub fn same_processor(&self, other: &Self, id: &ComponentId) -> bool {
        let of =
            |shape: &'_ Self| shape.0.get("processors").and_then(|all| all.get(&id.to_string())).cloned();
        let (mine, theirs) = (of(self), of(other));
        mine.is_some() && mine == theirs
    }

    /// Where the two say different things, beside processors and the pipelines' lists of them: the keys' paths.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        compare(&self.0, &other.0, "", &mut found);
        found
    }
}

/// How many names of a path are told; what is below is the reader's to find.
const TOLD: usize = 3;

fn compare(one: &Tree, other: &Tree, path: &str, found: &mut Vec<String>) {
    let depth = if path.is_empty() { 0 } else { path.matches("::").count() + 1 };
    if one == other || reloadable(path) {
        return;
    }
    let (Tree::Map(one), Tree::Map(other)) = (one, other) else { return found.push(path.to_owned()) };
    // A pipeline is looked into however deep: its list of processors must not count.
    if depth >= TOLD && !path.starts_with("service::pipelines::") {
        return found.push(path.to_owned());
    }
    let keys: std::collections::BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    for key in keys {
        let path = if path.is_empty() { key.clone() } else { format!("{path}::{key}") };
        match (one.get(key), other.get(key)) {
            (Some(one), Some(other)) => compare(one, other, &path, found),
            (here, there) if here != there && !reloadable(&path) => found.push(path),
            _ => {}
        }
    }
}

/// Whether a path is of what can be changed while spans flow, or is judged elsewhere.
fn reloadable(path: &str) -> bool {
    let list = path.strip_prefix("service::pipelines::").and_then(|rest| rest.split_once("::"));
    path == "processors" || list.is_some_and(|(_, rest)| rest == "processors")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{parse_shaped, read_file, yaml::expand::Environment};

    const BASE: &str = "
receivers: {otlp: {protocols: {grpc: }}}
processors:
  redaction: {allow_all_keys: true, blocked_keys: [a]}
  batch: {timeout: 1s}
exporters: {debug: {}, debug/2: {}}
service:
  pipelines:
    traces: {receivers: [otlp], processors: [redaction, batch], exporters: [debug]}
";

    fn shape(text: &str) -> Shape {
        let env = Environment { variable: &|_| None, file: &read_file };
        parse_shaped(text, "test.yaml", &env).unwrap_or_else(|errors| panic!("{errors}\n{text}")).1
    }

    fn id(kind: &str) -> ComponentId {
        ComponentId { kind: kind.into(), name: None }
    }

    #[test]
    fn comments_order_and_places_do_not_count() {
        let moved = BASE
            .replace("{allow_all_keys: true, blocked_keys: [a]}", "{blocked_keys: [a], allow_all_keys: true}")
            .replace("exporters: {debug", "# a comment\n\n\nexporters: {debug");
        assert_eq!(shape(BASE), shape(&moved));
    }

    #[test]
    fn what_is_changed_is_named() {
        for (from, to, told, redaction, batch) in [
            ("blocked_keys: [a]", "blocked_keys: [b]", &[][..], false, true),
            ("[redaction, batch]", "[batch, redaction]", &[], true, true),
            ("timeout: 1s", "timeout: 2s", &[], true, false),
            ("debug: {},", "debug: {verbosity: normal},", &["exporters::debug::verbosity"], true, true),
            ("grpc: }", "grpc: , http: }", &["receivers::otlp::protocols"], true, true),
            (
                "exporters: [debug]",
                "exporters: [debug/2]",
                &["service::pipelines::traces::exporters"],
                true,
                true,
            ),
        ] {
            let (one, other) = (shape(BASE), shape(&BASE.replace(from, to)));
            assert_ne!(one, other);
            assert_eq!(one.differences(&other), told, "{to}");
            assert_eq!(one.same_processor(&other, &id("redaction")), redaction, "{to}");
            assert_eq!(one.same_processor(&other, &id("batch")), batch, "{to}");
        }
        assert!(
            !shape(BASE).same_processor(&shape(BASE), &id("transform")),
            "what is not there is not the same"
        );
    }
}
