//! `set_semconv_span_name`: a name of low cardinality, as the semantic conventions form it for HTTP, RPC, databases
//! and messaging.

#![forbid(unsafe_code)]

use super::{Context, Did, Field, Key, Pick, Runner, Target, Value};
use crate::scrub::ottl::program::Number;

/// Kinds of spans.
const SERVER: i64 = 2;
const CLIENT: i64 = 3;
const PRODUCER: i64 = 4;
const CONSUMER: i64 = 5;

impl Runner<'_, '_, '_> {
    pub(super) fn semconv_name(&mut self, keep_as: Option<&str>) {
        let name = Target { owner: Context::Span, field: Field::Text(5), keys: &[], pick: Pick::Nth(0) };
        let kind = Target { field: Field::Number(6, Number::Varint), ..name };
        let Value::Int(kind) = self.value(kind) else { return };
        let old = self.value(name).into_owned();
        let Some(new) = derive(kind, &|key| self.attribute(key)) else { return };
        let new = Value::text(new);
        if let Ok(true) = self.put(name, Some(&new)) {
            self.hit(Did::Set, Some(name));
            if let Some(key) = keep_as {
                let keys = [Key::Name(key.into())];
                let kept = Target { field: Field::Attributes, keys: &keys, ..name };
                if let Ok(true) = self.put(kept, Some(&old)) {
                    self.hit(Did::Set, Some(kept));
                }
            }
        }
    }

    /// An attribute of the span as text; `None` where it is not there.
    fn attribute(&self, key: &str) -> Option<String> {
        let keys = [Key::Name(key.into())];
        let target =
            Target { owner: Context::Span, field: Field::Attributes, keys: &keys, pick: Pick::Nth(0) };
        let text = self.value(target);
        text.to_text().ok().flatten().map(|text| String::from_utf8_lossy(&text).into_owned())
    }
}

/// Reads an attribute.
type Read<'r> = &'r dyn Fn(&str) -> Option<String>;

fn derive(kind: i64, read: Read<'_>) -> Option<String> {
    match kind {
        SERVER => http(read, "http.route").or_else(|| rpc(read)).or_else(|| messaging(read)),
        CLIENT => http(read, "url.template")
            .or_else(|| rpc(read))
            .or_else(|| database(read))
            .or_else(|| messaging(read)),
        PRODUCER | CONSUMER => messaging(read),
        _ => None,
    }
}

/// `{method} {target}`
fn http(read: Read<'_>, target: &str) -> Option<String> {
    let method = read("http.request.method").or_else(|| read("http.method"))?;
    Some(match read(target) {
        Some(target) => format!("{method} {target}"),
        None => method,
    })
}

/// `{service}/{method}`
fn rpc(read: Read<'_>) -> Option<String> {
    let system = read("rpc.system.name").or_else(|| read("rpc.system"))?;
    let method = read("rpc.method").or_else(|| read("rpc.grpc.method"));
    let service = read("rpc.service").or_else(|| read("rpc.grpc.service"));
    Some(match (service, method) {
        (Some(service), Some(method)) => format!("{service}/{method}"),
        (None, Some(method)) => method,
        (Some(service), None) => format!("{service}/*"),
        (None, None) => system,
    })
}

/// The query's summary, or `{operation} {target}`
fn database(read: Read<'_>) -> Option<String> {
    let system = read("db.system.name").or_else(|| read("db.system"))?;
    if let Some(summary) = read("db.query.summary") {
        return Some(summary);
    }
    let operation = read("db.operation.name").or_else(|| read("db.operation"));
    let namespace = read("db.namespace").or_else(|| read("db.name"));
    let object = read("db.collection.name").or_else(|| read("db.stored_procedure.name"));
    let target = match (namespace, object) {
        (Some(namespace), Some(object)) => Some(format!("{namespace}.{object}")),
        (None, Some(object)) => Some(object),
        (Some(namespace), None) => Some(namespace),
        (None, None) => server(read),
    };
    Some(match (operation, target) {
        (Some(operation), Some(target)) => format!("{operation} {target}"),
        (operation, target) => operation.or(target).unwrap_or(system),
    })
}

/// `{operation} {destination}`
fn messaging(read: Read<'_>) -> Option<String> {
    let system = read("messaging.system")?;
    let operation = read("messaging.operation.name").or_else(|| read("messaging.operation"));
    let is = |key: &str| read(key).as_deref() == Some("true");
    let destination = if is("messaging.destination.temporary") {
        Some("(temporary)".to_owned())
    } else if is("messaging.destination.anonymous") {
        Some("(anonymous)".to_owned())
    } else {
        read("messaging.destination.template")
            .or_else(|| read("messaging.destination.name"))
            .or_else(|| read("messaging.destination"))
            .or_else(|| server(read))
    };
    Some(match (operation, destination) {
        (Some(operation), Some(destination)) => format!("{operation} {destination}"),
        (operation, destination) => destination.or(operation).unwrap_or(system),
    })
}

fn server(read: Read<'_>) -> Option<String> {
    let address = read("server.address")?;
    Some(match read("server.port") {
        Some(port) => format!("{address}:{port}"),
        None => address,
    })
}
