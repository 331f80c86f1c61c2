//! The OTLP trace protos as prost types, from `fixtures/proto`. `proto::v1` is the flat list of what tests use.

#![allow(missing_docs, unused_qualifications, clippy::all, clippy::pedantic)]

include!(concat!(env!("OUT_DIR"), "/otlp.rs"));

/// The serialised `FileDescriptorSet` of the same files.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The messages, without their packages.
pub mod v1 {
    pub use super::opentelemetry::proto::collector::trace::v1::*;
    pub use super::opentelemetry::proto::common::v1::*;
    pub use super::opentelemetry::proto::resource::v1::*;
    pub use super::opentelemetry::proto::trace::v1::*;
}
