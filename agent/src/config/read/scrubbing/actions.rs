//! `attributes` and `resource`: lists of actions.

use super::spans;
use crate::config::{
    fields::{
        Fields,
        scalars::{decimal, integer},
    },
    processors::{Action, ActionValue, AttributeAction, Attributes, ConvertTo, Literal},
    yaml::{Node, Value},
};

pub(in crate::config::read) fn attributes(mut fields: Fields<'_>) -> Attributes {
    let spans = spans::choice(&mut fields);
    Attributes { actions: list(fields, "actions"), spans }
}

pub(in crate::config::read) fn resource(fields: Fields<'_>) -> Vec<AttributeAction> {
    list(fields, "attributes")
}

fn list(mut fields: Fields<'_>, key: &'static str) -> Vec<AttributeAction> {
    let report = fields.report();
    let items = fields.list(key);
    if items.is_empty() {
        fields.error(format!("`{key}` is required and must not be empty"));
    }
    items.iter().filter_map(|item| action(Fields::new(report, item))).collect()
}

/// The words of `action`, before what belongs to them is read.
#[derive(Clone, Copy, PartialEq)]
enum Word {
    Insert,
    Update,
    Upsert,
    Delete,
    Hash,
    Extract,
    Convert,
}

fn action(mut fields: Fields<'_>) -> Option<AttributeAction> {
    let words = [
        ("insert", Word::Insert),
        ("update", Word::Update),
        ("upsert", Word::Upsert),
        ("delete", Word::Delete),
        ("hash", Word::Hash),
        ("extract", Word::Extract),
        ("convert", Word::Convert),
    ];
    let key = fields.located("key").filter(|key| !key.value.is_empty());
    let pattern = fields.located("pattern").filter(|pattern| !pattern.value.is_empty());
    let value = fields.get("value");
    let from_attribute = fields.string("from_attribute").filter(|name| !name.is_empty());
    if fields.get("from_context").is_some() {
        fields.get("action");
        fields.error_at(
            "from_context",
            "`from_context` is not supported: what the connection proves is written by the identity and origin \
             extensions; write `value` or `from_attribute`",
        );
        return None;
    }
    fields.not_built(&["default_value"]);
    let types = [("string", ConvertTo::String), ("int", ConvertTo::Int), ("double", ConvertTo::Double)];
    let converted = fields.choice("converted_type", &types);
    if fields.get("action").is_none() {
        fields.error(
            "`action` is required: `insert`, `update`, `upsert`, `delete`, `hash`, `extract` or `convert`",
        );
        return None;
    }
    let word = fields.choice("action", &words)?;
    if converted.is_some() && word != Word::Convert {
        fields.error_at("converted_type", "belongs to `convert`");
    }
    let by_pattern = matches!(word, Word::Delete | Word::Hash);
    if key.is_none() && !(by_pattern && pattern.is_some()) {
        fields.error(if by_pattern { "`key` or `pattern` is required" } else { "`key` is required" });
        return None;
    }
    let takes_value = matches!(word, Word::Insert | Word::Update | Word::Upsert);
    if !takes_value && (value.is_some() || from_attribute.is_some()) {
        fields.error("only `insert`, `update` and `upsert` take a `value`");
    }
    if (takes_value || word == Word::Convert) && pattern.is_some() {
        fields.error_at("pattern", "belongs to `delete`, `hash` and `extract`");
    }
    let action = match word {
        Word::Delete => Action::Delete { pattern },
        Word::Hash => Action::Hash { pattern },
        Word::Extract => {
            if let Some(pattern) = pattern {
                Action::Extract(pattern)
            } else {
                fields.error("`pattern` is required: its named groups become attributes");
                return None;
            }
        }
        Word::Convert => {
            if let Some(to) = converted {
                Action::Convert(to)
            } else {
                fields.error("`converted_type` is required: `string`, `int` or `double`");
                return None;
            }
        }
        word => {
            let source = source(&fields, value, from_attribute)?;
            match word {
                Word::Insert => Action::Insert(source),
                Word::Update => Action::Update(source),
                _ => Action::Upsert(source),
            }
        }
    };
    let at = fields.at.clone();
    Some(AttributeAction { key: key.unwrap_or(crate::config::Located { value: String::new(), at }), action })
}

fn source(fields: &Fields<'_>, value: Option<&Node>, from: Option<String>) -> Option<ActionValue> {
    match (value, from) {
        (Some(node), None) => literal(fields, node).map(ActionValue::Literal),
        (None, Some(name)) => Some(ActionValue::FromAttribute(name)),
        (None, None) => {
            fields.error("`value` or `from_attribute` is required");
            None
        }
        (Some(_), Some(_)) => {
            fields.error("has both `value` and `from_attribute`; one is needed");
            None
        }
    }
}

/// A value as YAML 1.2 types it.
pub(super) fn literal(fields: &Fields<'_>, node: &Node) -> Option<Literal> {
    let Value::Scalar(scalar) = &node.value else {
        fields.report().error(&node.at, format!("{} as a value is known but not built yet", node.kind()));
        return None;
    };
    let text = scalar.text.as_str();
    if !scalar.plain {
        return Some(Literal::String(text.to_owned()));
    }
    match text {
        "true" | "True" | "TRUE" => return Some(Literal::Bool(true)),
        "false" | "False" | "FALSE" => return Some(Literal::Bool(false)),
        _ => {}
    }
    if let Some(number) = integer(text) {
        let number = i64::try_from(number).ok();
        if number.is_none() {
            fields.report().error(&node.at, "does not fit into 64 bits; quote it to make it a string");
        }
        return number.map(Literal::Int);
    }
    let double = decimal(text).filter(|number| number.is_finite());
    Some(double.map_or_else(|| Literal::String(text.to_owned()), Literal::Double))
}
