//! Evaluates expressions and conditions.
//!
//! A key may occur several times in a message. A condition holds when one of the occurrences makes it hold, so that
//! a second one can't hide the first from a scrubber.

#![forbid(unsafe_code)]

use std::borrow::Cow;

use crate::scrub::pattern::{Caches, PatternId, Patterns};

use super::{
    functions::{self, Arguments, Function, MAX_VALUE},
    grammar::MathOp,
    program::{Context, Expr, Field, Keys, Place},
    value::{Fit, Key, Unfit, Value},
};

/// Which of several occurrences of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::scrub) enum Pick {
    /// The first, second, … of those that are there; the last where there are fewer.
    Nth(usize),
    /// The one at this place of the message's attributes.
    At(usize),
}

/// What expressions read.
pub(in crate::scrub) trait World {
    /// The value at a place; `Nil` where there is none.
    fn read(&self, owner: Context, field: Field, keys: &[Key], pick: Pick) -> Value<'_>;
    /// How often an attribute's key occurs.
    fn occurrences(&self, owner: Context, name: &str) -> usize;
    /// Whether the span has no parent.
    fn is_root(&self) -> bool;
}

/// How many choices of occurrences a condition tries, as in a walk. Beyond, it counts as held and as not held.
const MAX_CHOICES: usize = 8;

/// The occurrence that is being treated: a condition about the same key is about that one.
#[derive(Clone, Copy, Debug)]
pub(in crate::scrub) struct Own<'k> {
    /// The message.
    pub(in crate::scrub) owner: Context,
    /// The key.
    pub(in crate::scrub) name: &'k str,
    /// Its place.
    pub(in crate::scrub) at: usize,
}

/// An evaluation.
pub(in crate::scrub) struct Eval<'e> {
    /// The plan's patterns.
    pub(in crate::scrub) patterns: &'e Patterns,
    /// Their search state.
    pub(in crate::scrub) caches: &'e mut Caches,
    /// The occurrence that is being treated.
    pub(in crate::scrub) own: Option<Own<'e>>,
    /// Of other keys that occur several times, this one.
    pub(in crate::scrub) nth: usize,
    /// A term of a condition could not be evaluated.
    pub(in crate::scrub) failed: bool,
    /// What such a term counts as, whatever is asked: held where the statement must not be skipped.
    pub(in crate::scrub) closed: bool,
}

impl<'e> Eval<'e> {
    /// With nothing chosen.
    pub(in crate::scrub) fn new(patterns: &'e Patterns, caches: &'e mut Caches, closed: bool) -> Self {
        Self { patterns, caches, own: None, nth: 0, failed: false, closed }
    }

    /// Whether a condition holds for some choice among repeated keys.
    pub(in crate::scrub) fn holds(&mut self, condition: &Expr, world: &dyn World) -> bool {
        self.can_be(condition, true, world)
    }

    /// Whether it does not hold for some choice.
    pub(in crate::scrub) fn can_fail_to_hold(&mut self, condition: &Expr, world: &dyn World) -> bool {
        self.can_be(condition, false, world)
    }

    fn can_be(&mut self, condition: &Expr, wanted: bool, world: &dyn World) -> bool {
        match condition {
            Expr::Not(term) => self.can_be(term, !wanted, world),
            Expr::And(terms) if wanted => terms.iter().all(|term| self.can_be(term, true, world)),
            Expr::And(terms) => terms.iter().any(|term| self.can_be(term, false, world)),
            Expr::Or(terms) if wanted => terms.iter().any(|term| self.can_be(term, true, world)),
            Expr::Or(terms) => terms.iter().all(|term| self.can_be(term, false, world)),
            Expr::Compare(op, left, right) => {
                let (lefts, rights) = (self.choices(left, world), self.choices(right, world));
                if lefts.saturating_mul(rights) > MAX_CHOICES {
                    return true;
                }
                for choice in 0..lefts * rights {
                    let sides = self.at(choice / rights, left, world).and_then(|left| {
                        self.at(choice % rights, right, world).map(|right| left.compare(*op, &right))
                    });
                    if self.is(wanted, sides) {
                        return true;
                    }
                }
                false
            }
            term => {
                let choices = self.choices(term, world);
                if choices > MAX_CHOICES {
                    return true;
                }
                (0..choices).any(|choice| {
                    let value = self.at(choice, term, world).and_then(|value| match value {
                        Value::Bool(flag) => Ok(flag),
                        _ => Err(Unfit),
                    });
                    self.is(wanted, value)
                })
            }
        }
    }

    fn is(&mut self, wanted: bool, found: Fit<bool>) -> bool {
        found.map_or_else(
            |Unfit| {
                self.failed = true;
                self.closed
            },
            |found| found == wanted,
        )
    }

    /// How many choices there are for the keys that an expression reads.
    fn choices(&self, expr: &Expr, world: &dyn World) -> usize {
        let mut most = 1;
        expr.places(&mut |place| {
            if let Some([Key::Name(name), ..]) = place.keys.known()
                && place.field == Field::Attributes
                && !self.is_own(place.owner, name)
            {
                most = most.max(world.occurrences(place.owner, name));
            }
        });
        most
    }

    fn is_own(&self, owner: Context, name: &str) -> bool {
        self.own.is_some_and(|own| own.owner == owner && own.name == name)
    }

    fn at<'v>(&mut self, nth: usize, expr: &'v Expr, world: &'v dyn World) -> Fit<Value<'v>> {
        self.nth = nth;
        let value = self.value(expr, world);
        self.nth = 0;
        value
    }

    /// The value of an expression.
    pub(in crate::scrub) fn value<'v>(&mut self, expr: &'v Expr, world: &'v dyn World) -> Fit<Value<'v>> {
        Ok(match expr {
            Expr::Literal(kind, content) => Value::of(*kind, Cow::Borrowed(content)),
            Expr::Path(place) => self.path(place, world)?,
            Expr::Dig(inner, keys) => {
                let inner = self.value(inner, world)?;
                let keys = self.keys(keys, world)?;
                inner.dig(&keys)
            }
            Expr::List(list) => {
                let values = list.iter().map(|one| self.value(one, world)).collect::<Fit<Vec<_>>>()?;
                bounded(Value::list(values)?)?
            }
            Expr::Map(map) => {
                let members = map
                    .iter()
                    .map(|(key, one)| Ok((key.as_bytes(), self.value(one, world)?)))
                    .collect::<Fit<Vec<_>>>()?;
                bounded(Value::map(members)?)?
            }
            Expr::Math(op, left, right) => math(*op, &self.value(left, world)?, &self.value(right, world)?)?,
            Expr::Call(function, arguments) => {
                let values = arguments
                    .iter()
                    .map(|one| one.as_ref().map(|one| self.value(one, world)).transpose())
                    .collect::<Fit<Vec<_>>>()?;
                function.call(&Arguments(&values))?
            }
            Expr::IsMatch(target, pattern) => {
                let target = self.value(target, world)?;
                Value::Bool(self.is_match(&target, *pattern)?)
            }
            Expr::Extract(target, pattern) => {
                let target = self.value(target, world)?;
                let groups = self.patterns.groups(*pattern, self.caches, target.as_text()?);
                Value::map(
                    groups.iter().map(|(name, text)| (name.as_bytes(), Value::Text(Cow::Borrowed(*text)))),
                )?
                .into_owned()
            }
            Expr::IsRootSpan => Value::Bool(world.is_root()),
            Expr::Compare(op, left, right) => {
                Value::Bool(self.value(left, world)?.compare(*op, &self.value(right, world)?))
            }
            Expr::And(_) | Expr::Or(_) | Expr::Not(_) => Value::Bool(self.holds(expr, world)),
        })
    }

    /// Text, numbers by their decimal text, lists and maps by their JSON; bytes as they are. `nil` matches nothing.
    pub(in crate::scrub) fn is_match(&mut self, target: &Value<'_>, pattern: PatternId) -> Fit<bool> {
        let text = match target {
            Value::Bytes(bytes) => Some(Cow::Borrowed(&bytes[..])),
            target => target.to_text()?,
        };
        Ok(text.is_some_and(|text| self.patterns.is_match(pattern, self.caches, &text)))
    }

    fn path<'v>(&mut self, place: &'v Place, world: &'v dyn World) -> Fit<Value<'v>> {
        let keys = self.keys(&place.keys, world)?;
        let pick = match (self.own, keys.first()) {
            (Some(own), Some(Key::Name(name)))
                if place.field == Field::Attributes && self.is_own(place.owner, name) =>
            {
                Pick::At(own.at)
            }
            _ => Pick::Nth(self.nth),
        };
        Ok(world.read(place.owner, place.field, &keys, pick))
    }

    /// The keys of a place.
    pub(in crate::scrub) fn keys<'k>(&mut self, keys: &'k Keys, world: &dyn World) -> Fit<Cow<'k, [Key]>> {
        keys.all(|expr| functions::key(&self.value(expr, world)?))
    }

    /// A function of one text that gives a text, as `replace_pattern` takes it.
    pub(in crate::scrub) fn apply(function: Function, text: Vec<u8>) -> Fit<Vec<u8>> {
        let value = function.call(&Arguments(&[Some(Value::Text(Cow::Owned(text)))]))?;
        value.to_text()?.map(Cow::into_owned).ok_or(Unfit)
    }
}

fn bounded(value: Value<'_>) -> Fit<Value<'_>> {
    match &value {
        Value::List(content) | Value::Map(content) if content.len() > MAX_VALUE => Err(Unfit),
        _ => Ok(value),
    }
}

/// Integers stay integers; with a double they become doubles; times and durations add up. What leaves 64 bits, and
/// a division by zero, is unfit.
#[expect(clippy::match_same_arms, reason = "names in a pattern have one type in all its alternatives")]
fn math(op: MathOp, left: &Value<'_>, right: &Value<'_>) -> Fit<Value<'static>> {
    let whole = |left: i64, right: i64| {
        match op {
            MathOp::Add => left.checked_add(right),
            MathOp::Subtract => left.checked_sub(right),
            MathOp::Multiply => left.checked_mul(right),
            MathOp::Divide => left.checked_div(right),
        }
        .ok_or(Unfit)
    };
    let real = |left: f64, right: f64| {
        let result = match op {
            MathOp::Add => left + right,
            MathOp::Subtract => left - right,
            MathOp::Multiply => left * right,
            MathOp::Divide => left / right,
        };
        if result.is_finite() { Ok(Value::Double(result)) } else { Err(Unfit) }
    };
    match (left, right, op) {
        (Value::Int(left), Value::Int(right), _) => whole(*left, *right).map(Value::Int),
        (Value::Int(left), Value::Double(right), _) => real(*left as f64, *right),
        (Value::Double(left), Value::Int(right), _) => real(*left, *right as f64),
        (Value::Double(left), Value::Double(right), _) => real(*left, *right),
        (Value::Time(left), Value::Time(right), MathOp::Subtract) => {
            whole(*left, *right).map(Value::Duration)
        }
        (Value::Time(left), Value::Duration(right), MathOp::Add | MathOp::Subtract) => {
            whole(*left, *right).map(Value::Time)
        }
        (Value::Duration(left), Value::Time(right), MathOp::Add) => whole(*left, *right).map(Value::Time),
        (Value::Duration(left), Value::Duration(right), MathOp::Add | MathOp::Subtract) => {
            whole(*left, *right).map(Value::Duration)
        }
        _ => Err(Unfit),
    }
}
