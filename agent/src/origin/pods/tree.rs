//! YAML or JSON text as one tree, within bounds.

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value};

/// Deeper than any pod: affinity terms, the deepest of them, stay below 20.
const MAX_DEPTH: usize = 64;

/// The one document of `text`. All YAML scalars but null become strings: what is read here are strings.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    if text.trim_start().starts_with('{') {
        // serde_json bounds the depth itself (128).
        return serde_json::from_str(text).map_err(|error| format!("is not JSON: {error}"));
    }
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| format!("is not YAML: {error}"))?;
        let line = span.start.line();
        builder.take(event).map_err(|message| format!("line {line}: {message}"))?;
    }
    builder.root.ok_or_else(|| "is empty".to_owned())
}

/// Containers that are open, outermost first.
#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    root: Option<Value>,
}

enum Open {
    Sequence(Vec<Value>),
    /// With the key whose value is to come.
    Mapping(Map<String, Value>, Option<String>),
}

impl Builder {
    fn take(&mut self, event: Event<'_>) -> Result<(), String> {
        match event {
            Event::Scalar(text, style, _, _) => {
                let null = style == ScalarStyle::Plain && matches!(&*text, "" | "~" | "null");
                self.value(if null { Value::Null } else { Value::String(text.into_owned()) })
            }
            Event::SequenceStart(..) => self.open(Open::Sequence(Vec::new())),
            Event::MappingStart(..) => self.open(Open::Mapping(Map::new(), None)),
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::Sequence(items)) => self.value(Value::Array(items)),
                Some(Open::Mapping(map, _)) => self.value(Value::Object(map)),
                None => Err("a list or mapping ends that never began".to_owned()),
            },
            Event::Alias(_) => Err("aliases (`*name`) are not taken here; write the value out".to_owned()),
            Event::DocumentStart(_) if self.root.is_some() => {
                Err("a second document; put the pods in one list, as `kubectl get pods -o yaml` does"
                    .to_owned())
            }
            _ => Ok(()),
        }
    }

    fn open(&mut self, container: Open) -> Result<(), String> {
        if self.open.len() >= MAX_DEPTH {
            return Err(format!("nested deeper than {MAX_DEPTH}"));
        }
        self.open.push(container);
        Ok(())
    }

    fn value(&mut self, value: Value) -> Result<(), String> {
        match self.open.last_mut() {
            None => self.root = Some(value),
            Some(Open::Sequence(items)) => items.push(value),
            Some(Open::Mapping(map, key)) => match (key.take(), value) {
                (None, Value::String(name)) => *key = Some(name),
                (None, _) => return Err("a key that is no text".to_owned()),
                (Some(name), value) => {
                    if map.insert(name.clone(), value).is_some() {
                        return Err(format!("`{name}` is there twice"));
                    }
                }
            },
        }
        Ok(())
    }
}
