//! From OTTL's tree to what runs: paths to fields, functions to what they do, patterns compiled.

#![forbid(unsafe_code)]

use crate::{
    config::{ConfigError, Located, Location, processors::ErrorMode},
    otlp::{encode, walk::ValueKind},
    scrub::{pattern::Patterns, rule::RuleId},
};

use super::{
    At, OttlError,
    grammar::{self, Call, Node, What},
    program::{Context, Expr, KeyExpr, Keys, Statement},
    value::Key,
};

mod call;
mod editors;
mod paths;

/// Turns statements of one group into what runs.
pub(in crate::scrub) struct Resolver<'a> {
    /// Where patterns are compiled.
    patterns: &'a mut Patterns,
    /// `context:`, where the group has one.
    context: Option<Context>,
    /// Where the statement stands, for patterns.
    at: &'a Location,
    /// The innermost context that a path has named so far, and where.
    inner: Option<(Context, At)>,
}

impl<'a> Resolver<'a> {
    /// For one statement, or one condition.
    pub(in crate::scrub) fn new(
        patterns: &'a mut Patterns,
        context: Option<Context>,
        at: &'a Location,
    ) -> Self {
        Self { patterns, context, at, inner: None }
    }

    /// Resolves a statement under the group's conditions, of which one must hold.
    pub(in crate::scrub) fn statement(
        mut self,
        source: &str,
        conditions: &[Located<String>],
        mode: ErrorMode,
        rule: RuleId,
    ) -> Result<Statement, ConfigError> {
        let at = self.at;
        let here = |error: OttlError| ConfigError { at: at.clone(), message: error.to_string() };
        let tree = grammar::statement(source).map_err(here)?;
        let editor = self.editor(tree.at, &tree.editor).map_err(here)?;
        let own = tree.condition.as_ref().map(|condition| self.condition(condition)).transpose();
        let own = own.map_err(here)?;
        let mut any = Vec::new();
        for condition in conditions {
            let tree = grammar::condition(&condition.value);
            any.push(
                tree.and_then(|tree| self.condition(&tree))
                    .map_err(|error| ConfigError { at: condition.at.clone(), message: error.to_string() })?,
            );
        }
        let group = if any.len() > 1 { Some(Expr::Or(any)) } else { any.pop() };
        let condition = match (group, own) {
            (Some(group), Some(own)) => Some(Expr::And(vec![group, own])),
            (group, own) => group.or(own),
        };
        let context = self.whole_context(tree.at).map_err(here)?;
        Ok(Statement { context, editor, condition, mode, rule })
    }

    /// Resolves a condition by itself, and says for which messages it is asked.
    pub(in crate::scrub) fn alone(mut self, source: &str) -> Result<(Context, Expr), OttlError> {
        let tree = grammar::condition(source)?;
        let condition = self.condition(&tree)?;
        Ok((self.whole_context(tree.at)?, condition))
    }

    /// The messages that the statement runs for: the group's context, or the innermost one that is named.
    fn whole_context(&self, at: At) -> Result<Context, OttlError> {
        match (self.context, self.inner) {
            (Some(context), None) => Ok(context),
            (Some(context), Some((inner, at))) => {
                let around =
                    inner <= context && !(inner == Context::SpanEvent && context == Context::SpanLink);
                if around {
                    return Ok(context);
                }
                let (inner, context) = (inner.name(), context.name());
                fail(
                    at,
                    format!(
                        "`{inner}.…` can't be reached from `context: {context}`; write `context: {inner}`"
                    ),
                )
            }
            (None, Some((inner, _))) => Ok(inner),
            (None, None) => {
                fail(at, format!("no path says what this works on; name a context: {}", Context::NAMES))
            }
        }
    }

    /// Notes that a path begins here.
    fn enter(&mut self, context: Context, at: At) -> Result<(), OttlError> {
        use Context::{SpanEvent, SpanLink};
        match self.inner {
            Some((SpanEvent, _)) if context == SpanLink => {}
            Some((SpanLink, _)) if context == SpanEvent => {}
            Some((inner, _)) if inner >= context => return Ok(()),
            _ => {
                self.inner = Some((context, at));
                return Ok(());
            }
        }
        fail(at, "an event and a link of one span are not in each other's reach; use two statements")
    }

    /// A value that decides.
    fn condition(&mut self, node: &Node) -> Result<Expr, OttlError> {
        let mut all = |terms: &[Node]| -> Result<Vec<Expr>, OttlError> {
            terms.iter().map(|term| self.condition(term)).collect()
        };
        Ok(match &node.what {
            What::And(terms) => Expr::And(all(terms)?),
            What::Or(terms) => Expr::Or(all(terms)?),
            What::Not(inner) => Expr::Not(Box::new(self.condition(inner)?)),
            What::Compare(op, left, right) => {
                Expr::Compare(*op, Box::new(self.expr(left)?), Box::new(self.expr(right)?))
            }
            What::Bool(_) | What::Call(_) | What::Keyed(..) => self.expr(node)?,
            _ => {
                return fail(
                    node.at,
                    "a condition compares with ==, !=, <, <=, > or >=, or is a converter such as IsMatch(…), \
                     true or false",
                );
            }
        })
    }

    /// A value.
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
            What::List(list) => Expr::List(list.iter().map(|one| self.expr(one)).collect::<Result<_, _>>()?),
            What::Map(map) => {
                let members = map.iter().map(|(key, value)| Ok((key.as_str().into(), self.expr(value)?)));
                Expr::Map(members.collect::<Result<_, OttlError>>()?)
            }
            What::Path(path) => {
                let place = self.place(node.at, path)?;
                Expr::Path(Box::new(place))
            }
            What::Call(call) => self.call(node.at, call)?,
            What::Keyed(inner, keys) => {
                let inner = self.expr(inner)?;
                Expr::Dig(Box::new(inner), Keys::new(self.keys(keys)?))
            }
            What::Symbol(name) => literal(ValueKind::Int, varint(symbol(node.at, name)?)),
            What::Math(op, left, right) => {
                for side in [left, right] {
                    let fits = matches!(
                        side.what,
                        What::Int(_)
                            | What::Float(_)
                            | What::Path(_)
                            | What::Call(_)
                            | What::Keyed(..)
                            | What::Math(..)
                            | What::Symbol(_)
                    );
                    if !fits {
                        return fail(
                            side.at,
                            "arithmetic takes numbers, paths and converters; join texts with Concat([…], \"\")",
                        );
                    }
                }
                Expr::Math(*op, Box::new(self.expr(left)?), Box::new(self.expr(right)?))
            }
            What::Compare(..) | What::Not(_) | What::And(_) | What::Or(_) => {
                return fail(node.at, "a comparison belongs after `where`; here stands a value");
            }
        })
    }

    /// Keys in brackets.
    fn keys(&mut self, nodes: &[Node]) -> Result<Vec<KeyExpr>, OttlError> {
        nodes
            .iter()
            .map(|node| {
                Ok(match &node.what {
                    What::Text(name) => KeyExpr::Known(Key::Name(name.as_str().into())),
                    What::Int(index) => match usize::try_from(*index) {
                        Ok(index) => KeyExpr::Known(Key::Index(index)),
                        Err(_) => return fail(node.at, "an index is not below 0"),
                    },
                    What::Path(_) | What::Call(_) | What::Keyed(..) | What::Math(..) => {
                        KeyExpr::Computed(self.expr(node)?)
                    }
                    _ => return fail(node.at, "a key is a string, an index, a path or a converter"),
                })
            })
            .collect()
    }
}

/// The number of an enum's symbol.
fn symbol(at: At, name: &str) -> Result<u64, OttlError> {
    const SYMBOLS: [(&str, u64); 9] = [
        ("SPAN_KIND_UNSPECIFIED", 0),
        ("SPAN_KIND_INTERNAL", 1),
        ("SPAN_KIND_SERVER", 2),
        ("SPAN_KIND_CLIENT", 3),
        ("SPAN_KIND_PRODUCER", 4),
        ("SPAN_KIND_CONSUMER", 5),
        ("STATUS_CODE_UNSET", 0),
        ("STATUS_CODE_OK", 1),
        ("STATUS_CODE_ERROR", 2),
    ];
    match SYMBOLS.iter().find(|(known, _)| *known == name) {
        Some((_, number)) => Ok(*number),
        None => fail(
            at,
            format!("there is no symbol `{name}`; there are {}", SYMBOLS.map(|(name, _)| name).join(", ")),
        ),
    }
}

pub(super) fn fail<T>(at: At, message: impl Into<String>) -> Result<T, OttlError> {
    Err(OttlError { at, message: message.into() })
}

/// A string literal.
fn text(node: &Node) -> Result<&str, OttlError> {
    match &node.what {
        What::Text(text) => Ok(text),
        _ => fail(node.at, "here stands a string literal"),
    }
}

/// A list of string literals.
fn texts(node: &Node) -> Result<Vec<Box<str>>, OttlError> {
    let What::List(list) = &node.what else { return fail(node.at, "here stands a list of strings") };
    list.iter().map(|one| Ok(text(one)?.into())).collect()
}

/// A number literal that is not negative.
fn count(node: &Node) -> Result<usize, OttlError> {
    match node.what {
        What::Int(number) => usize::try_from(number).or_else(|_| fail(node.at, "the limit is not below 0")),
        _ => fail(node.at, "here stands an integer"),
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
        match (slot, name) {
            (Some(slot), _) if given[slot].is_none() => given[slot] = Some(node),
            (None, Some(name)) => {
                return fail(node.at, format!("there is no argument `{name}`: {}", usage()));
            }
            _ => return fail(node.at, format!("this argument is one too many: {}", usage())),
        }
    }
    match given[..needed].iter().position(Option::is_none) {
        Some(missing) => fail(at, format!("`{}` is missing: {}", names[missing], usage())),
        None => Ok(given),
    }
}
