//! Every position in which OTLP can carry text or bytes, from the descriptors, with a canary planted in it.

use prost::Message as _;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};

use super::request_descriptor;

/// How often `AnyValue` may occur on a path: a value in a list in a list.
const VALUES: usize = 3;

/// A request with one canary.
#[derive(Clone, Debug)]
pub struct Canary {
    /// The names of the fields down to the position, joined by dots.
    pub path: String,
    /// The serialised request.
    pub data: Vec<u8>,
}

/// A request for every string and bytes field that is reachable from `ExportTraceServiceRequest`, with `text`
/// in that field. Everything else in it is what a valid request needs and no more.
pub fn canaries(text: &str) -> Vec<Canary> {
    let mut paths = Vec::new();
    collect(&request_descriptor(), &mut Vec::new(), &mut paths);
    paths
        .iter()
        .map(|path| Canary {
            path: path.iter().map(FieldDescriptor::name).collect::<Vec<_>>().join("."),
            data: build(path, text).encode_to_vec(),
        })
        .collect()
}

fn collect(
    message: &MessageDescriptor,
    path: &mut Vec<FieldDescriptor>,
    paths: &mut Vec<Vec<FieldDescriptor>>,
) {
    for field in message.fields() {
        path.push(field.clone());
        match field.kind() {
            Kind::String | Kind::Bytes => paths.push(path.clone()),
            Kind::Message(inner) => {
                let is_value = |message: &MessageDescriptor| message.name() == "AnyValue";
                let values = path.iter().filter(|field| is_value(field.parent_message())).count();
                if !is_value(&inner) || values < VALUES {
                    collect(&inner, path, paths);
                }
            }
            _ => {}
        }
        path.pop();
    }
}

fn build(path: &[FieldDescriptor], text: &str) -> DynamicMessage {
    let (field, rest) = path.split_first().expect("a path has a field");
    let mut message = DynamicMessage::new(field.parent_message().clone());
    let needed: &[(&str, Value)] = match field.parent_message().name() {
        "Span" => &[
            ("trace_id", Value::Bytes(vec![7; 16].into())),
            ("span_id", Value::Bytes(vec![8; 8].into())),
            ("name", Value::String("checkout".to_owned())),
        ],
        "KeyValue" => &[("key", Value::String("note".to_owned()))],
        _ => &[],
    };
    for (name, value) in needed {
        message.set_field_by_name(name, value.clone());
    }
    let value = match field.kind() {
        Kind::String => Value::String(text.to_owned()),
        Kind::Bytes => Value::Bytes(text.as_bytes().to_vec().into()),
        _ => Value::Message(build(rest, text)),
    };
    message.set_field(field, if field.is_list() { Value::List(vec![value]) } else { value });
    message
}
