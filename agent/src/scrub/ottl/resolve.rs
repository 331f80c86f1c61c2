//! From OTTL's tree to what runs: paths to fields, functions to editors, names to keys and patterns.

use crate::{
    config::{Located, processors::ErrorMode},
    otlp::{
        encode,
        walk::{Kind, ValueKind},
    },
};

use super::{
    At, Condition, Editor, Expr, Key, OttlError, Replacement, Statement, Target,
    grammar::{self, Call, Field, Node, What},
};
use crate::scrub::{builder::Builder, pattern::Template, rule::RuleId};

const EDITORS: &str = "set, delete_key, delete_matching_keys, keep_keys, keep_matching_keys, replace_pattern, \
                       replace_all_patterns and truncate_all";

/// Where a statement's paths begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::scrub) enum Context {
    /// `resource`
    Resource,
    /// `scope`, `instrumentation_scope`
    Scope,
    /// `span`
    Span,
    /// `spanevent`
    SpanEvent,
    /// `spanlink`: ours, the Collector has no way to a link's attributes
    SpanLink,
}

impl Context {
    /// By its name in paths and under `context:`.
    pub(in crate::scrub) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "resource" => Self::Resource,
            "scope" | "instrumentation_scope" => Self::Scope,
            "span" => Self::Span,
            "spanevent" => Self::SpanEvent,
            "spanlink" => Self::SpanLink,
            _ => return None,
        })
    }

    fn kind(self) -> Kind {
        match self {
            Self::Resource => Kind::Resource,
            Self::Scope => Kind::Scope,
            Self::Span => Kind::Span,
            Self::SpanEvent => Kind::Event,
            Self::SpanLink => Kind::Link,
        }
    }
}

/// A place that a path names.
#[derive(Clone, Debug)]
enum Place {
    Attributes,
    Attribute(Key),
    Text(u32),
}

/// Turns statements of one group into steps.
pub(in crate::scrub) struct Resolver<'a> {
    /// What is being compiled.
    pub(in crate::scrub) builder: &'a mut Builder,
    /// `context:`, where the group has one.
    pub(in crate::scrub) context: Option<Context>,
    /// Where the statement stands, for patterns.
    pub(in crate::scrub) at: crate::config::Location,
    /// The message that the statement works on, once a path has said it.
    kind: Option<Kind>,
}

impl<'a> Resolver<'a> {
    /// For one statement.
    pub(in crate::scrub) fn new(
        builder: &'a mut Builder,
        context: Option<Context>,
        at: &crate::config::Location,
    ) -> Self {
        Self { builder, context, at: at.clone(), kind: None }
    }

    /// Resolves a statement under the group's conditions.
    pub(in crate::scrub) fn statement(
        mut self,
        source: &str,
        conditions: &[Located<String>],
        mode: ErrorMode,
        rule: RuleId,
    ) -> Result<(Kind, Statement), OttlError> {
        let tree = grammar::statement(source)?;
        let editor = self.editor(tree.at, &tree.editor)?;
        let mut all = Vec::new();
        let mut any = Vec::new();
        for condition in conditions {
            let tree = grammar::condition(&condition.value)?;
            any.push(self.condition(&tree)?);
        }
        if !any.is_empty() {
            all.push(Condition::Or(any));
        }
        if let Some(tree) = &tree.condition {
            all.push(self.condition(tree)?);
        }
        let condition = if all.len() > 1 { Some(Condition::And(all)) } else { all.pop() };
        let kind = self.kind.ok_or_else(|| OttlError { at: tree.at, message: "it names no path".into() })?;
        Ok((kind, Statement { editor, condition, mode, rule }))
    }

    fn editor(&mut self, at: At, call: &Call) -> Result<Editor, OttlError> {
        let arguments = |names: &[&str], needed| arguments(at, call, names, needed);
        Ok(match call.name.as_str() {
            "set" => {
                let [target, value] = arguments(&["target", "value"], 2)?[..] else {
                    unreachable!("two are needed")
                };
                let place = self.target(target.expect("needed"))?;
                if self.kind == Some(Kind::Status) {
                    return fail(
                        at,
                        "setting status.message is known but not built yet; replace_pattern on it is",
                    );
                }
                Editor::Set(place, self.expr(value.expect("needed"))?)
            }
            "delete_key" => {
                let given = arguments(&["target", "key"], 2)?;
                self.map(given[0].expect("needed"))?;
                let key = text(given[1].expect("needed"))?;
                Editor::DeleteKey(self.builder.keys.add(key))
            }
            "delete_matching_keys" | "keep_matching_keys" => {
                let given = arguments(&["target", "pattern"], 2)?;
                self.map(given[0].expect("needed"))?;
                let pattern = self.pattern(given[1].expect("needed"))?;
                if call.name.starts_with("keep") {
                    Editor::KeepMatchingKeys(pattern)
                } else {
                    Editor::DeleteMatchingKeys(pattern)
                }
            }
            "keep_keys" => {
                let given = arguments(&["target", "keys"], 2)?;
                self.map(given[0].expect("needed"))?;
                let node = given[1].expect("needed");
                let What::List(keys) = &node.what else {
                    return fail(node.at, "here stands a list of strings");
                };
                let ids = keys.iter().map(|key| Ok(self.builder.keys.add(text(key)?)));
                Editor::KeepKeys(ids.collect::<Result<_, OttlError>>()?)
            }
            "replace_pattern" => {
                let names = ["target", "regex", "replacement", "function", "replacementFormat"];
                let given = arguments(&names, 3)?;
                let target = self.target(given[0].expect("needed"))?;
                let pattern = self.pattern(given[1].expect("needed"))?;
                let replacement = self.replacement(pattern, &given[2..])?;
                Editor::ReplacePattern(target, pattern, replacement)
            }
            "replace_all_patterns" => {
                let names = ["target", "mode", "regex", "replacement", "function", "replacementFormat"];
                let given = arguments(&names, 4)?;
                self.map(given[0].expect("needed"))?;
                let mode = given[1].expect("needed");
                let pattern = self.pattern(given[2].expect("needed"))?;
                let replacement = self.replacement(pattern, &given[3..])?;
                match text(mode)? {
                    "value" => Editor::ReplaceAllValues(pattern, replacement),
                    "key" => Editor::ReplaceAllKeys(pattern, replacement),
                    _ => return fail(mode.at, "the mode is \"value\" or \"key\""),
                }
            }
            "truncate_all" => {
                let given = arguments(&["target", "limit"], 2)?;
                self.map(given[0].expect("needed"))?;
                let node = given[1].expect("needed");
                let What::Int(limit) = node.what else { return fail(node.at, "here stands an integer") };
                let limit = usize::try_from(limit);
                Editor::TruncateAll(limit.or_else(|_| fail(node.at, "the limit is not below 0"))?)
            }
            name => return fail(at, format!("the editor `{name}` is not built; there are {EDITORS}")),
        })
    }

    fn condition(&mut self, tree: &grammar::Condition) -> Result<Condition, OttlError> {
        let mut all = |terms: &[grammar::Condition]| -> Result<Vec<Condition>, OttlError> {
            terms.iter().map(|term| self.condition(term)).collect()
        };
        Ok(match tree {
            grammar::Condition::And(terms) => Condition::And(all(terms)?),
            grammar::Condition::Or(terms) => Condition::Or(all(terms)?),
            grammar::Condition::Not(term) => Condition::Not(Box::new(self.condition(term)?)),
            grammar::Condition::Equal(left, right, equal) => {
                Condition::Equal(self.expr(left)?, self.expr(right)?, *equal)
            }
            grammar::Condition::Value(Node { what: What::Bool(value), .. }) => Condition::Constant(*value),
            grammar::Condition::Value(Node { at, what: What::Call(call) }) if call.name == "IsMatch" => {
                let given = arguments(*at, call, &["target", "pattern"], 2)?;
                let target = self.expr(given[0].expect("needed"))?;
                Condition::Matches(target, self.pattern(given[1].expect("needed"))?)
            }
            grammar::Condition::Value(node) => {
                return fail(
                    node.at,
                    "a condition compares with `==` or `!=`, or is IsMatch(…), true or false",
                );
            }
        })
    }

    fn expr(&mut self, node: &Node) -> Result<Expr, OttlError> {
        let literal = |kind, content: Vec<u8>| Expr::Literal(kind, content.into());
        let varint = |number: u64| {
            let mut content = Vec::new();
            encode::varint(&mut content, number);
            content
        };
        Ok(match &node.what {
            What::Nil => literal(ValueKind::Empty, Vec::new()),
            What::Text(text) => literal(ValueKind::String, text.clone().into_bytes()),
            What::Int(number) => literal(ValueKind::Int, varint(number.cast_unsigned())),
            What::Float(number) => literal(ValueKind::Double, number.to_le_bytes().to_vec()),
            What::Bool(flag) => literal(ValueKind::Bool, varint(u64::from(*flag))),
            What::Bytes(bytes) => literal(ValueKind::Bytes, bytes.clone()),
            What::Path(path) => return self.read(node.at, path),
            What::Call(call) if call.name == "SHA256" => {
                let given = arguments(node.at, call, &["target"], 1)?;
                Expr::Sha256(Box::new(self.expr(given[0].expect("needed"))?))
            }
            What::Call(call) if call.name == "Concat" => {
                let given = arguments(node.at, call, &["vals", "delimiter"], 2)?;
                let list = given[0].expect("needed");
                let What::List(parts) = &list.what else { return fail(list.at, "here stands a list") };
                let parts = parts.iter().map(|part| self.expr(part)).collect::<Result<_, _>>()?;
                Expr::Concat(parts, text(given[1].expect("needed"))?.into())
            }
            What::Call(call) => {
                let message = format!(
                    "the converter `{}` is not built here; there are SHA256, Concat and, in conditions, IsMatch",
                    call.name
                );
                return fail(node.at, message);
            }
            What::List(_) => return fail(node.at, "lists as values are known but not built yet"),
            What::Symbol(name) => {
                return fail(node.at, format!("the symbol `{name}` is known but not built yet"));
            }
        })
    }

    /// A path that is read.
    fn read(&mut self, at: At, path: &[Field]) -> Result<Expr, OttlError> {
        let (context, rest) = self.split(at, path)?;
        let above = context == Context::Resource
            && (self.context.is_some_and(|own| own != Context::Resource)
                || self.kind.is_some_and(|kind| kind != Kind::Resource));
        if above {
            return match self.place(at, context, rest)?.1 {
                Place::Attribute(key) => Ok(Expr::Captured(self.builder.capture(key.id))),
                _ => fail(at, "of the resource, only its attributes can be read from here"),
            };
        }
        match self.at_hand(at, context, rest)? {
            Place::Attribute(key) => Ok(Expr::Attribute(key.id)),
            Place::Text(number) => Ok(Expr::Text(number)),
            Place::Attributes => fail(at, "the whole map as a value is known but not built yet; name a key"),
        }
    }

    /// A path that is written: one attribute or a string field.
    fn target(&mut self, node: &Node) -> Result<Target, OttlError> {
        let What::Path(path) = &node.what else { return fail(node.at, "the target is a path") };
        let (context, rest) = self.split(node.at, path)?;
        match self.at_hand(node.at, context, rest)? {
            Place::Attribute(key) => Ok(Target::Attribute(key)),
            Place::Text(number) => Ok(Target::Text(number)),
            Place::Attributes => {
                fail(node.at, "the whole map as a target is known but not built yet; name a key")
            }
        }
    }

    /// `attributes`, the whole map.
    fn map(&mut self, node: &Node) -> Result<(), OttlError> {
        let What::Path(path) = &node.what else {
            return fail(node.at, "the target is a map, as in `attributes`");
        };
        let (context, rest) = self.split(node.at, path)?;
        match self.at_hand(node.at, context, rest)? {
            Place::Attributes => Ok(()),
            _ => fail(node.at, "the target is a map, as in `attributes`"),
        }
    }

    fn pattern(&mut self, node: &Node) -> Result<crate::scrub::pattern::PatternId, OttlError> {
        let pattern = text(node)?;
        let compiled = self.builder.patterns.compile(pattern, &self.at);
        compiled.map_err(|error| OttlError { at: node.at, message: error.message })
    }

    /// `replacement[, SHA256[, "format %s"]]`.
    fn replacement(
        &mut self,
        pattern: crate::scrub::pattern::PatternId,
        given: &[Option<&Node>],
    ) -> Result<Replacement, OttlError> {
        let template = Template::parse(text(given[0].expect("needed"))?, self.builder.patterns.get(pattern));
        let format = match given[2] {
            None => ("".into(), "".into()),
            Some(node) => match text(node)?.split_once("%s") {
                Some((before, after)) if !before.contains('%') && !after.contains('%') => {
                    (before.into(), after.into())
                }
                _ => return fail(node.at, "the format holds `%s` once and no other `%`"),
            },
        };
        let hashed = match given[1] {
            None => None,
            Some(Node { what: What::Symbol(name), .. }) if name == "SHA256" => Some(format),
            Some(node) => return fail(node.at, "the function is SHA256; others are not built"),
        };
        Ok(Replacement { template, hashed })
    }

    /// A path's context, and what follows it.
    fn split<'p>(&self, at: At, path: &'p [Field]) -> Result<(Context, &'p [Field]), OttlError> {
        let named = Context::named(&path[0].name).filter(|_| path.len() > 1 && path[0].keys.is_empty());
        match (named, self.context) {
            (Some(context), _) => Ok((context, &path[1..])),
            (None, Some(context)) => Ok((context, path)),
            (None, None) => fail(
                at,
                format!("`{}` needs its context: write `span.{0}`, `resource.{0}` or the like", path[0].name),
            ),
        }
    }

    /// A place of the message that the statement works on.
    fn at_hand(&mut self, at: At, context: Context, rest: &[Field]) -> Result<Place, OttlError> {
        let (kind, place) = self.place(at, context, rest)?;
        if self.kind.is_some_and(|own| own != kind) {
            return fail(
                at,
                format!(
                    "reading {kind:?} fields beside {:?} fields is known but not built yet; the resource's attributes can be read from anywhere",
                    self.kind.unwrap_or(kind)
                ),
            );
        }
        if self.kind.is_none() && self.context.is_some_and(|own| own != context) {
            return fail(at, "a statement changes what its `context:` names; put it into a group of its own");
        }
        self.kind = Some(kind);
        Ok(place)
    }

    fn place(&mut self, at: At, context: Context, rest: &[Field]) -> Result<(Kind, Place), OttlError> {
        let names: Vec<&str> = rest.iter().map(|field| field.name.as_str()).collect();
        let kind = context.kind();
        let no_keys = rest.iter().all(|field| field.keys.is_empty());
        let number = match (context, names.as_slice()) {
            (_, ["attributes"]) => {
                return match rest[0].keys.as_slice() {
                    [] => Ok((kind, Place::Attributes)),
                    [key] => {
                        let name = text(key)?;
                        let id = self.builder.keys.add(name);
                        Ok((kind, Place::Attribute(Key { id, name: name.into() })))
                    }
                    _ => fail(at, "keys inside an attribute's value are known but not built yet"),
                };
            }
            (Context::Span, ["status", "message"]) if no_keys => return Ok((Kind::Status, Place::Text(2))),
            (Context::Span, ["name"]) => 5,
            (Context::SpanEvent, ["name"]) | (Context::Scope, ["version"]) => 2,
            (Context::Scope, ["name"]) => 1,
            (Context::Span | Context::SpanLink, ["trace_state"]) => 3,
            (Context::Span, ["status", "code"])
            | (
                Context::Span | Context::SpanEvent,
                [
                    "cache" | "kind" | "trace_id" | "span_id" | "parent_span_id" | "events" | "links"
                    | "flags",
                    ..,
                ],
            )
            | (_, ["start_time" | "end_time" | "time" | "dropped_attributes_count" | "schema_url", ..]) => {
                return fail(at, format!("the path `{}` is known but not built yet", names.join(".")));
            }
            _ => {
                return fail(
                    at,
                    format!(
                        "there is no path `{}` here; there are attributes[\"…\"], name, trace_state, status.message and version",
                        names.join(".")
                    ),
                );
            }
        };
        if !no_keys {
            return fail(at, "this field has no keys");
        }
        Ok((kind, Place::Text(number)))
    }
}

fn fail<T>(at: At, message: impl Into<String>) -> Result<T, OttlError> {
    Err(OttlError { at, message: message.into() })
}

/// A string literal.
fn text(node: &Node) -> Result<&str, OttlError> {
    match &node.what {
        What::Text(text) => Ok(text),
        _ => fail(node.at, "here stands a string literal"),
    }
}

/// A call's arguments by parameter; the first `needed` of them must be there.
fn arguments<'c>(
    at: At,
    call: &'c Call,
    names: &[&str],
    needed: usize,
) -> Result<Vec<Option<&'c Node>>, OttlError> {
    let usage = || format!("{}({})", call.name, names.join(", "));
    let mut given = vec![None; names.len()];
    for (position, (name, node)) in call.arguments.iter().enumerate() {
        let slot = match name {
            None => (position < names.len()).then_some(position),
            Some(name) => names.iter().position(|known| known == name),
        };
        match slot {
            Some(slot) if given[slot].is_none() => given[slot] = Some(node),
            _ => return fail(node.at, format!("this argument is one too many: {}", usage())),
        }
    }
    match given[..needed].iter().position(Option::is_none) {
        Some(missing) => fail(at, format!("`{}` is missing: {}", names[missing], usage())),
        None => Ok(given),
    }
}
