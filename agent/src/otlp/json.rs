//! OTLP/JSON to protobuf and back, without structs in between.
//!
//! OTLP/JSON is protobuf's JSON mapping with two changes
//! (<https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding>): trace and span ids are hex, and enums
//! are written as numbers. Both directions follow one table of fields, `schema`.

#![forbid(unsafe_code)]

use super::walk::{Limits, Malformed};
use crate::telemetry::Cause;

mod read;
mod schema;
mod write;

#[cfg(test)]
mod tests;

/// A JSON request that is refused: what is wrong, and where. It never holds what the sender wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} (line {line}, column {column} of the request)")]
pub struct BadJson {
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1; 0 where a line begins.
    pub column: u32,
    /// What is wrong.
    pub what: WhatJson,
}

/// The classes of bad JSON requests. The text tells the sender what to fix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WhatJson {
    /// Not JSON, or cut off, or nested deeper than any JSON reader goes, or followed by something else.
    #[error("not valid JSON; send one OTLP/JSON object")]
    Syntax,
    /// A value of another type than the field has.
    #[error("a field has another type than the OTLP trace protos give it")]
    Type,
    /// A number outside of the field's range, or text that is no number.
    #[error("a number is out of its field's range or not a number")]
    Number,
    /// An enum name that the protos do not have.
    #[error("an enum has an unknown name; send its number")]
    Enum,
    /// An id that is not the right number of hex digits.
    #[error("an id is not 32 (trace) or 16 (span) hex digits; OTLP/JSON ids are hex, not base64")]
    Id,
    /// A `bytesValue` that is not base64.
    #[error("a bytesValue is not base64")]
    Base64,
    /// A key that occurs twice in an object, or two members of a oneof.
    #[error("a field that may occur once occurs twice in an object")]
    Duplicate,
    /// Messages nested deeper than [`Limits::depth`].
    #[error("values are nested too deep; flatten the attribute")]
    Depth,
    /// More bytes than [`Limits::bytes`].
    #[error("the request is too large; lower the exporter's batch size")]
    Bytes,
}

impl WhatJson {
    /// The value of the metric label `cause`.
    pub fn cause(self) -> Cause {
        match self {
            Self::Syntax => "json_syntax",
            Self::Type => "field_type",
            Self::Number => "number",
            Self::Enum => "enum",
            Self::Id => "id",
            Self::Base64 => "base64",
            Self::Duplicate => "duplicate_field",
            Self::Depth => "depth",
            Self::Bytes => "too_large",
        }
    }
}

/// A request read from JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transcoded {
    /// The protobuf message. It still has to pass the walker: a missing id, for example, is noticed there.
    pub data: Vec<u8>,
    /// Keys that the protos do not know. They are not in `data`.
    pub unknown_fields: u32,
}

/// Reads an OTLP/JSON `ExportTraceServiceRequest`.
///
/// Field names are taken in lowerCamelCase and as the protos write them, 64-bit integers as strings and as
/// numbers, enums as numbers and by name, ids in hex of either case, bytes in either base64 alphabet with or
/// without padding. `null` is a field that is not set.
pub fn to_protobuf(json: &[u8], limits: &Limits) -> Result<Transcoded, BadJson> {
    read::request(json, limits)
}

/// Appends a checked request as OTLP/JSON on one line, without a newline at the end.
///
/// Unknown fields are left out. Malformed bytes are an error, and `out` then ends somewhere in the middle.
pub fn to_json(request: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    write::Writer::new(request, out).request()
}
