//! The fields of the trace protos as JSON knows them (opentelemetry-proto 1.10).

/// What a field holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Type {
    /// `string`
    Text,
    /// `bytes`, in base64
    Base64,
    /// `bytes` of this many, in hex
    Id(usize),
    /// `bool`
    Bool,
    /// `uint32`
    Uint32,
    /// `fixed32`
    Fixed32,
    /// `fixed64`
    Fixed64,
    /// `int64`
    Int64,
    /// `double`
    Double,
    /// An enum; names by number.
    Enum(&'static [&'static str]),
    /// A message.
    Message(&'static Message),
}

impl Type {
    /// The wire type of the field.
    pub(super) fn wire(self) -> u8 {
        match self {
            Self::Bool | Self::Uint32 | Self::Int64 | Self::Enum(_) => 0,
            Self::Fixed64 | Self::Double => 1,
            Self::Text | Self::Base64 | Self::Id(_) | Self::Message(_) => 2,
            Self::Fixed32 => 5,
        }
    }
}

/// One field.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) number: u32,
    /// Its name in JSON.
    pub(super) name: &'static str,
    /// Its name in the protos, which readers take too.
    pub(super) proto_name: &'static str,
    pub(super) repeated: bool,
    pub(super) kind: Type,
}

/// One message.
#[derive(Debug)]
pub(super) struct Message {
    /// All its fields are members of one oneof: one may be set, and is written also where it is a default.
    pub(super) oneof: bool,
    /// By number.
    pub(super) fields: &'static [Field],
}

const fn one(number: u32, name: &'static str, proto_name: &'static str, kind: Type) -> Field {
    Field { number, name, proto_name, repeated: false, kind }
}

const fn many(number: u32, name: &'static str, proto_name: &'static str, kind: Type) -> Field {
    Field { number, name, proto_name, repeated: true, kind }
}

const fn message(fields: &'static [Field]) -> Message {
    Message { oneof: false, fields }
}

pub(super) static REQUEST: Message =
    message(&[many(1, "resourceSpans", "resource_spans", Type::Message(&RESOURCE_SPANS))]);

static RESOURCE_SPANS: Message = message(&[
    one(1, "resource", "resource", Type::Message(&RESOURCE)),
    many(2, "scopeSpans", "scope_spans", Type::Message(&SCOPE_SPANS)),
    one(3, "schemaUrl", "schema_url", Type::Text),
]);

static RESOURCE: Message = message(&[
    many(1, "attributes", "attributes", Type::Message(&KEY_VALUE)),
    one(2, "droppedAttributesCount", "dropped_attributes_count", Type::Uint32),
    many(3, "entityRefs", "entity_refs", Type::Message(&ENTITY_REF)),
]);

static ENTITY_REF: Message = message(&[
    one(1, "schemaUrl", "schema_url", Type::Text),
    one(2, "type", "type", Type::Text),
    many(3, "idKeys", "id_keys", Type::Text),
    many(4, "descriptionKeys", "description_keys", Type::Text),
]);

static SCOPE_SPANS: Message = message(&[
    one(1, "scope", "scope", Type::Message(&SCOPE)),
    many(2, "spans", "spans", Type::Message(&SPAN)),
    one(3, "schemaUrl", "schema_url", Type::Text),
]);

static SCOPE: Message = message(&[
    one(1, "name", "name", Type::Text),
    one(2, "version", "version", Type::Text),
    many(3, "attributes", "attributes", Type::Message(&KEY_VALUE)),
    one(4, "droppedAttributesCount", "dropped_attributes_count", Type::Uint32),
]);

static SPAN: Message = message(&[
    one(1, "traceId", "trace_id", Type::Id(16)),
    one(2, "spanId", "span_id", Type::Id(8)),
    one(3, "traceState", "trace_state", Type::Text),
    one(4, "parentSpanId", "parent_span_id", Type::Id(8)),
    one(5, "name", "name", Type::Text),
    one(6, "kind", "kind", Type::Enum(SPAN_KIND)),
    one(7, "startTimeUnixNano", "start_time_unix_nano", Type::Fixed64),
    one(8, "endTimeUnixNano", "end_time_unix_nano", Type::Fixed64),
    many(9, "attributes", "attributes", Type::Message(&KEY_VALUE)),
    one(10, "droppedAttributesCount", "dropped_attributes_count", Type::Uint32),
    many(11, "events", "events", Type::Message(&EVENT)),
    one(12, "droppedEventsCount", "dropped_events_count", Type::Uint32),
    many(13, "links", "links", Type::Message(&LINK)),
    one(14, "droppedLinksCount", "dropped_links_count", Type::Uint32),
    one(15, "status", "status", Type::Message(&STATUS)),
    one(16, "flags", "flags", Type::Fixed32),
]);

const SPAN_KIND: &[&str] = &[
    "SPAN_KIND_UNSPECIFIED",
    "SPAN_KIND_INTERNAL",
    "SPAN_KIND_SERVER",
    "SPAN_KIND_CLIENT",
    "SPAN_KIND_PRODUCER",
    "SPAN_KIND_CONSUMER",
];

static EVENT: Message = message(&[
    one(1, "timeUnixNano", "time_unix_nano", Type::Fixed64),
    one(2, "name", "name", Type::Text),
    many(3, "attributes", "attributes", Type::Message(&KEY_VALUE)),
    one(4, "droppedAttributesCount", "dropped_attributes_count", Type::Uint32),
]);

static LINK: Message = message(&[
    one(1, "traceId", "trace_id", Type::Id(16)),
    one(2, "spanId", "span_id", Type::Id(8)),
    one(3, "traceState", "trace_state", Type::Text),
    many(4, "attributes", "attributes", Type::Message(&KEY_VALUE)),
    one(5, "droppedAttributesCount", "dropped_attributes_count", Type::Uint32),
    one(6, "flags", "flags", Type::Fixed32),
]);

static STATUS: Message =
    message(&[one(2, "message", "message", Type::Text), one(3, "code", "code", Type::Enum(STATUS_CODE))]);

const STATUS_CODE: &[&str] = &["STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR"];

static KEY_VALUE: Message =
    message(&[one(1, "key", "key", Type::Text), one(2, "value", "value", Type::Message(&ANY_VALUE))]);

static ANY_VALUE: Message = Message {
    oneof: true,
    fields: &[
        one(1, "stringValue", "string_value", Type::Text),
        one(2, "boolValue", "bool_value", Type::Bool),
        one(3, "intValue", "int_value", Type::Int64),
        one(4, "doubleValue", "double_value", Type::Double),
        one(5, "arrayValue", "array_value", Type::Message(&ARRAY_VALUE)),
        one(6, "kvlistValue", "kvlist_value", Type::Message(&KVLIST_VALUE)),
        one(7, "bytesValue", "bytes_value", Type::Base64),
    ],
};

static ARRAY_VALUE: Message = message(&[many(1, "values", "values", Type::Message(&ANY_VALUE))]);

static KVLIST_VALUE: Message = message(&[many(1, "values", "values", Type::Message(&KEY_VALUE))]);
