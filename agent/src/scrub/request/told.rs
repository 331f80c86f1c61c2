//! What a dry run tells of a request: values as they came, and as the steps have left them.

#![forbid(unsafe_code)]

use super::{Cursor, NodeId, Raw, Request, Seen, access::STATUS};
use crate::{
    otlp::walk::Kind,
    scrub::{
        ottl::{
            eval::{Pick, World as _},
            program::{Context, Field},
            value::Value,
        },
        record::{Content, Named},
    },
};

impl Request<'_> {
    /// The value at a place before any step; of a key that occurs twice the first.
    pub(in crate::scrub) fn came(&self, named: &Named) -> Option<Content> {
        let Named { cursor, context, field, key } = named;
        let raw = match field {
            Field::Cache => return None,
            Field::StatusCode | Field::StatusMessage => {
                Raw { kind: Kind::Status, body: self.nodes[cursor.span?].raw().field(STATUS)? }
            }
            Field::SchemaUrl => self.nodes[Self::holder(*cursor, *context)?].raw(),
            _ => self.nodes[self.message(*cursor, *context)?].raw(),
        };
        content(&raw.value(*field, key.as_slice()))
    }

    /// The value at a place as it is now; nothing where its message was dropped.
    pub(in crate::scrub) fn left(&self, named: &Named) -> Option<Content> {
        let Named { cursor, context, field, key } = named;
        if *field == Field::Cache || self.is_dropped(*cursor, *context) {
            return None;
        }
        let cache = Value::Nil;
        let seen = Seen { request: self, cursor: *cursor, cache: &cache };
        content(&seen.read(*context, *field, key.as_slice(), Pick::Nth(0)))
    }

    fn is_dropped(&self, cursor: Cursor, context: Context) -> bool {
        let mut around: Vec<NodeId> = vec![cursor.resource];
        if context > Context::Resource {
            around.extend(cursor.scope);
        }
        if context > Context::Scope {
            around.extend(cursor.span);
        }
        if context > Context::Span {
            around.extend(cursor.item.map(|(item, _)| item));
        }
        around.iter().any(|id| self.nodes[*id].dropped)
    }
}

/// An empty text is one that is not there.
fn content(value: &Value<'_>) -> Option<Content> {
    match value {
        Value::Nil => None,
        Value::Text(text) if text.is_empty() => None,
        value => value.parts().ok().map(|(kind, content)| (kind, content.into_owned())),
    }
}
