//! Paths to places.

#![forbid(unsafe_code)]

use super::{At, Context, OttlError, Resolver, fail};
use crate::scrub::ottl::{
    grammar,
    program::{Field, KeyExpr, Keys, Number, Place},
    value::Key,
};

impl Resolver<'_> {
    /// The place that a path names.
    pub(super) fn place(&mut self, at: At, path: &[grammar::Field]) -> Result<Place, OttlError> {
        let (owner, rest) = self.owner(at, path)?;
        let names: Vec<&str> = rest.iter().map(|field| field.name.as_str()).collect();
        let field = match (owner, names.as_slice()) {
            (_, ["attributes"]) => Some(Field::Attributes),
            (_, ["cache"]) => Some(Field::Cache),
            (Context::Resource, [name]) => resource(name),
            (Context::Scope, [name]) => scope(name),
            (Context::Span, names) => span(names),
            (Context::SpanEvent, [name]) => event(name),
            (Context::SpanLink, names) => link(names),
            _ => None,
        }
        .ok_or(())
        .or_else(|()| fail(at, unknown(owner, &names)))?;
        let keys = self.all_keys(at, rest, field)?;
        // Only what has no path of its own can be meant by the group's context.
        if field == Field::Cache && self.context.is_some_and(|context| context != owner) {
            return fail(at, "only the cache of the group's own context can be reached");
        }
        self.enter(owner, at)?;
        Ok(Place { owner, field, keys: Keys::new(keys) })
    }

    /// The message that a path begins at, and what follows.
    fn owner<'p>(
        &self,
        at: At,
        path: &'p [grammar::Field],
    ) -> Result<(Context, &'p [grammar::Field]), OttlError> {
        let first = &path[0];
        let named = Context::named(&first.name).filter(|_| path.len() > 1 && first.keys.is_empty());
        match (named, self.context) {
            (Some(context), _) => Ok((context, &path[1..])),
            (None, Some(context)) => Ok((context, path)),
            (None, None) => fail(
                at,
                format!("`{}` needs its context: write `span.{0}`, `resource.{0}` or the like", first.name),
            ),
        }
    }

    fn all_keys(&mut self, at: At, rest: &[grammar::Field], field: Field) -> Result<Vec<KeyExpr>, OttlError> {
        let (last, before) = rest.split_last().expect("a path has a field");
        if before.iter().any(|field| !field.keys.is_empty()) {
            return fail(at, "this field has no keys");
        }
        let keys = self.keys(&last.keys)?;
        match field {
            Field::Attributes | Field::Cache => {
                if matches!(keys.first(), Some(KeyExpr::Known(Key::Index(_)))) {
                    return fail(at, "this map has names as keys");
                }
            }
            Field::Events | Field::Links => {}
            Field::TraceState if keys.len() < 2 => {}
            _ if keys.is_empty() => {}
            _ => return fail(at, "this field has no keys"),
        }
        Ok(keys)
    }
}

fn resource(name: &str) -> Option<Field> {
    Some(match name {
        "dropped_attributes_count" => Field::Number(2, Number::Varint),
        "schema_url" => Field::SchemaUrl,
        _ => return None,
    })
}

fn scope(name: &str) -> Option<Field> {
    Some(match name {
        "name" => Field::Text(1),
        "version" => Field::Text(2),
        "dropped_attributes_count" => Field::Number(4, Number::Varint),
        "schema_url" => Field::SchemaUrl,
        _ => return None,
    })
}

fn span(names: &[&str]) -> Option<Field> {
    Some(match names {
        ["trace_id"] => Field::Id(1),
        ["trace_id", "string"] => Field::IdText(1),
        ["span_id"] => Field::Id(2),
        ["span_id", "string"] => Field::IdText(2),
        ["trace_state"] => Field::TraceState,
        ["parent_span_id"] => Field::Id(4),
        ["parent_span_id", "string"] => Field::IdText(4),
        ["name"] => Field::Text(5),
        ["kind"] => Field::Number(6, Number::Varint),
        ["kind", "string"] => Field::KindText,
        ["kind", "deprecated_string"] => Field::KindSymbol,
        ["start_time"] => Field::Time(7),
        ["start_time_unix_nano"] => Field::Number(7, Number::Fixed64),
        ["end_time"] => Field::Time(8),
        ["end_time_unix_nano"] => Field::Number(8, Number::Fixed64),
        ["dropped_attributes_count"] => Field::Number(10, Number::Varint),
        ["events"] => Field::Events,
        ["dropped_events_count"] => Field::Number(12, Number::Varint),
        ["links"] => Field::Links,
        ["dropped_links_count"] => Field::Number(14, Number::Varint),
        ["flags"] => Field::Number(16, Number::Fixed32),
        ["status", "code"] => Field::StatusCode,
        ["status", "message"] => Field::StatusMessage,
        _ => return None,
    })
}

fn event(name: &str) -> Option<Field> {
    Some(match name {
        "name" => Field::Text(2),
        "time" => Field::Time(1),
        "time_unix_nano" => Field::Number(1, Number::Fixed64),
        "dropped_attributes_count" => Field::Number(4, Number::Varint),
        "event_index" => Field::EventIndex,
        _ => return None,
    })
}

fn link(names: &[&str]) -> Option<Field> {
    Some(match names {
        ["trace_id"] => Field::Id(1),
        ["trace_id", "string"] => Field::IdText(1),
        ["span_id"] => Field::Id(2),
        ["span_id", "string"] => Field::IdText(2),
        ["trace_state"] => Field::TraceState,
        ["dropped_attributes_count"] => Field::Number(5, Number::Varint),
        ["flags"] => Field::Number(6, Number::Fixed32),
        _ => return None,
    })
}

fn unknown(owner: Context, names: &[&str]) -> String {
    let known = match owner {
        Context::Resource => "attributes, dropped_attributes_count, schema_url and cache",
        Context::Scope => "attributes, name, version, dropped_attributes_count, schema_url and cache",
        Context::Span => {
            "attributes, name, kind(.string, .deprecated_string), trace_id(.string), span_id(.string), \
             parent_span_id(.string), trace_state, status.code, status.message, start_time, start_time_unix_nano, \
             end_time, end_time_unix_nano, flags, events, links, dropped_attributes_count, dropped_events_count, \
             dropped_links_count and cache"
        }
        Context::SpanEvent => {
            "attributes, name, time, time_unix_nano, event_index, dropped_attributes_count and cache"
        }
        Context::SpanLink => {
            "attributes, trace_id(.string), span_id(.string), trace_state, flags, dropped_attributes_count and cache"
        }
    };
    format!("there is no path `{}.{}`; a {0} has {known}", owner.name(), names.join("."))
}
