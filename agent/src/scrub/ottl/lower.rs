//! Statements that one walk over the bytes can run: those that write one message, and read only that message and
//! attributes of the resource above it.

#![forbid(unsafe_code)]

use crate::{
    otlp::walk::{Kind, ValueKind},
    scrub::builder::Builder,
};

use super::{
    Condition, Editor, Expr, General, Key, Replacement, Statement, Target,
    functions::Function,
    grammar::CompareOp,
    program::{self, Context, Field, Side, Substitute},
    value,
};

/// The lowered statement and the messages it runs for; `None` where it needs the request as a tree.
pub(in crate::scrub) fn lower(
    statement: &program::Statement,
    builder: &mut Builder,
) -> Option<(Kind, Statement)> {
    let target = statement.editor.target()?;
    let kind = kind(target)?;
    let mut lower = Lower { builder, kind, context: statement.context };
    if target.owner != statement.context || !lower.fits(&statement.editor, statement.condition.as_ref()) {
        return None;
    }
    let editor = lower.editor(&statement.editor)?;
    let condition = statement.condition.as_ref().map(|condition| lower.condition(condition));
    let (mode, rule) = (statement.mode, statement.rule);
    Some((kind, Statement { editor, condition, mode, rule }))
}

/// The message on the wire that holds a place, if a walk can reach the place in it.
fn kind(place: &program::Place) -> Option<Kind> {
    let known = place.keys.known()?;
    match (place.field, known) {
        (Field::Attributes, [] | [value::Key::Name(_), ..]) | (Field::Text(_) | Field::TraceState, []) => {
            Some(place.owner.kind())
        }
        (Field::StatusMessage, []) => Some(Kind::Status),
        (Field::SchemaUrl, []) if place.owner == Context::Resource => Some(Kind::ResourceSpans),
        (Field::SchemaUrl, []) => Some(Kind::ScopeSpans),
        _ => None,
    }
}

/// The number of a string field.
fn text(field: Field) -> Option<u32> {
    match field {
        Field::Text(number) => Some(number),
        Field::TraceState | Field::SchemaUrl => Some(3),
        Field::StatusMessage => Some(2),
        _ => None,
    }
}

struct Lower<'b> {
    builder: &'b mut Builder,
    kind: Kind,
    context: Context,
}

impl Lower<'_> {
    /// Whether everything that is read is at hand.
    fn fits(&self, editor: &program::Editor, condition: Option<&program::Expr>) -> bool {
        let mut fits = true;
        let mut check = |expr: &program::Expr| {
            fits &= !expr.asks_for_root();
            expr.places(&mut |place| {
                let own = kind(place) == Some(self.kind) && place.owner == self.context;
                // The whole map as a value is made by a tree alone.
                fits &= own && !place.is_all_attributes() || self.is_above(place);
            });
        };
        editor.expressions(&mut check);
        condition.into_iter().for_each(&mut check);
        fits
    }

    fn is_above(&self, place: &program::Place) -> bool {
        place.owner == Context::Resource
            && self.context != Context::Resource
            && matches!(
                (place.field, place.keys.known()),
                (Field::Attributes, Some([value::Key::Name(_), ..]))
            )
    }

    fn editor(&mut self, editor: &program::Editor) -> Option<Editor> {
        use program::Editor as Full;
        let on_map = editor.target().is_some_and(program::Place::is_all_attributes);
        Some(match editor {
            // A status, and the messages of schema URLs, are not shown where there is nothing in them yet.
            Full::Set(place, value) if self.kind == place.owner.kind() => {
                Editor::Set(self.target(place)?, self.expr(value))
            }
            Full::ReplacePattern(place, pattern, with) => {
                Editor::ReplacePattern(self.target(place)?, *pattern, replacement(with)?)
            }
            Full::DeleteKey(_, key) if on_map => Editor::DeleteKey(self.builder.keys.add(key)),
            Full::DeleteMatchingKeys(_, pattern) if on_map => Editor::DeleteMatchingKeys(*pattern),
            Full::KeepKeys(_, keys) if on_map => {
                Editor::KeepKeys(keys.iter().map(|key| self.builder.keys.add(key)).collect())
            }
            Full::KeepMatchingKeys(_, pattern) if on_map => Editor::KeepMatchingKeys(*pattern),
            Full::ReplaceAllPatterns(_, Side::Values, pattern, with) if on_map => {
                Editor::ReplaceAllValues(*pattern, replacement(with)?)
            }
            Full::ReplaceAllPatterns(_, Side::Keys, pattern, with) if on_map => {
                Editor::ReplaceAllKeys(*pattern, replacement(with)?)
            }
            Full::TruncateAll(_, limit) if on_map => Editor::TruncateAll(*limit),
            _ => return None,
        })
    }

    fn target(&mut self, place: &program::Place) -> Option<Target> {
        match place.attribute() {
            Some(name) => Some(Target::Attribute(Key { id: self.builder.keys.add(name), name: name.into() })),
            None => text(place.field).map(Target::Text),
        }
    }

    /// A value; what is not usual stays as it was resolved.
    fn expr(&mut self, expr: &program::Expr) -> Expr {
        self.usual(expr).unwrap_or_else(|| Expr::General(Box::new(self.general(expr))))
    }

    fn usual(&mut self, expr: &program::Expr) -> Option<Expr> {
        Some(match expr {
            program::Expr::Literal(kind, content) => Expr::Literal(*kind, content.clone()),
            program::Expr::Path(place) => match place.attribute() {
                Some(name) if self.is_above(place) => {
                    let id = self.builder.keys.add(name);
                    Expr::Captured(self.builder.capture(id))
                }
                Some(name) => Expr::Attribute(self.builder.keys.add(name)),
                None => Expr::Text(text(place.field)?),
            },
            program::Expr::Call(Function::Sha256, given) => match &given[..] {
                [Some(inner)] => Expr::Sha256(Box::new(self.usual(inner)?)),
                _ => return None,
            },
            program::Expr::Call(Function::Concat, given) => match &given[..] {
                [
                    Some(program::Expr::List(parts)),
                    Some(program::Expr::Literal(ValueKind::String, between)),
                ] => {
                    let parts = parts.iter().map(|part| self.usual(part)).collect::<Option<_>>()?;
                    Expr::Concat(parts, std::str::from_utf8(between).ok()?.into())
                }
                _ => return None,
            },
            _ => return None,
        })
    }

    fn condition(&mut self, condition: &program::Expr) -> Condition {
        self.usual_condition(condition)
            .unwrap_or_else(|| Condition::General(Box::new(self.general(condition))))
    }

    fn usual_condition(&mut self, condition: &program::Expr) -> Option<Condition> {
        Some(match condition {
            program::Expr::And(terms) => {
                Condition::And(terms.iter().map(|term| self.usual_condition(term)).collect::<Option<_>>()?)
            }
            program::Expr::Or(terms) => {
                Condition::Or(terms.iter().map(|term| self.usual_condition(term)).collect::<Option<_>>()?)
            }
            program::Expr::Not(term) => Condition::Not(Box::new(self.usual_condition(term)?)),
            program::Expr::Compare(op @ (CompareOp::Equal | CompareOp::NotEqual), left, right) => {
                let (left, right) = (self.plain(left)?, self.plain(right)?);
                Condition::Equal(left, right, *op == CompareOp::Equal)
            }
            program::Expr::IsMatch(target, pattern) => Condition::Matches(self.plain(target)?, *pattern),
            program::Expr::Literal(ValueKind::Bool, content) => Condition::Constant(**content != [0]),
            _ => return None,
        })
    }

    /// A path or a literal: what can't fail.
    fn plain(&mut self, expr: &program::Expr) -> Option<Expr> {
        match expr {
            program::Expr::Literal(..) | program::Expr::Path(_) => self.usual(expr),
            _ => None,
        }
    }

    fn general(&mut self, expr: &program::Expr) -> General {
        let mut captured: Vec<(Box<str>, usize)> = Vec::new();
        expr.places(&mut |place| {
            let Some([value::Key::Name(name), ..]) = place.keys.known() else { return };
            if place.field != Field::Attributes {
                return;
            }
            let id = self.builder.keys.add(name);
            if self.is_above(place) && !captured.iter().any(|(known, _)| known == name) {
                captured.push((name.clone(), self.builder.capture(id)));
            }
        });
        General { expr: expr.clone(), context: self.context, captured }
    }
}

fn replacement(with: &program::Replacement) -> Option<Replacement> {
    let Substitute::Known(template, _) = &with.text else { return None };
    let hashed = match &with.function {
        None => None,
        Some((Function::Sha256, before, after)) => Some((before.clone(), after.clone())),
        Some(_) => return None,
    };
    Some(Replacement { template: template.clone(), hashed })
}
