//! Takes a batch apart: for each of its traces a summary, and a request of its own.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::{
    hash::TraceId,
    policy::Policies,
    regroup::{Seen, children, regroup},
    summary::Summary,
    wire::{Field, Fields, Value},
};

// Field numbers of opentelemetry/proto/trace/v1/trace.proto, common/v1 and resource/v1.
const RESOURCE_ATTRIBUTES: u32 = 1;
const SPAN_TRACE_ID: u32 = 1;
const SPAN_PARENT_SPAN_ID: u32 = 4;
const SPAN_START: u32 = 7;
const SPAN_END: u32 = 8;
const SPAN_ATTRIBUTES: u32 = 9;
const SPAN_STATUS: u32 = 15;
const STATUS_CODE: u32 = 3;

/// What a batch holds of one trace.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// The trace.
    pub id: TraceId,
    /// What the policies need.
    pub summary: Summary,
    /// An `ExportTraceServiceRequest` with these spans, and no other.
    pub data: Vec<u8>,
}

/// Splits a request by trace. The order of spans within a trace stays.
pub fn by_trace(policies: &Policies, request: &[u8]) -> Vec<Incoming> {
    let mut traces: Vec<Incoming> = Vec::new();
    let mut index: HashMap<TraceId, usize, RandomState> = HashMap::default();
    let mut of_resource = 0;
    let requests = regroup(request, |seen| match seen {
        Seen::Resource(resource) => {
            of_resource = matched(policies, resource, RESOURCE_ATTRIBUTES, true);
            0
        }
        Seen::Span(span) => {
            let (id, mut summary) = summarise(policies, span);
            summary.matched |= of_resource;
            let trace = *index.entry(id).or_insert_with(|| {
                traces.push(Incoming { id, summary: Summary::default(), data: Vec::new() });
                traces.len() - 1
            });
            traces[trace].summary.merge(&summary);
            trace
        }
    });
    for (trace, request) in traces.iter_mut().zip(requests) {
        trace.data = request;
    }
    traces
}

fn summarise(policies: &Policies, span: &[u8]) -> (TraceId, Summary) {
    let mut id = TraceId::default();
    // A span without a status, or with a code this version does not know, is unset.
    let mut status = 0;
    let mut summary = Summary { spans: 1, root: true, ..Summary::default() };
    for Field { number, value, .. } in Fields(span) {
        match (number, value) {
            (SPAN_TRACE_ID, Value::Bytes(bytes)) => id = bytes.try_into().unwrap_or_default(),
            (SPAN_PARENT_SPAN_ID, Value::Bytes(bytes)) => {
                summary.root = bytes.iter().all(|byte| *byte == 0);
            }
            (SPAN_START, Value::Fixed64(time)) => summary.start = time,
            (SPAN_END, Value::Fixed64(time)) => summary.end = time,
            (SPAN_STATUS, Value::Bytes(message)) => {
                for field in Fields(message).filter(|field| field.number == STATUS_CODE) {
                    if let Value::Varint(code @ 0..=2) = field.value {
                        status = code;
                    }
                }
            }
            _ => {}
        }
    }
    summary.statuses = 1 << status;
    summary.matched = matched(policies, span, SPAN_ATTRIBUTES, false);
    (id, summary)
}

/// The `string_attribute` bits of a message's attributes, each occurrence of a key. An empty string counts on a
/// resource and not on a span, as in the Collector.
fn matched(policies: &Policies, message: &[u8], number: u32, empty_counts: bool) -> u128 {
    if !policies.reads_attributes() {
        return 0;
    }
    let mut bits = 0;
    for attribute in children(message, number) {
        let (mut key, mut value): (&[u8], Option<&[u8]>) = (&[], None);
        for field in Fields(attribute) {
            match field.number {
                1 => key = field.value.bytes(),
                2 => value = string(field.value.bytes()),
                _ => {}
            }
        }
        if let Some(value) = value.filter(|value| empty_counts || !value.is_empty()) {
            bits |= policies.attribute(key, value);
        }
    }
    bits
}

/// The text of an `AnyValue` that holds a string.
fn string(value: &[u8]) -> Option<&[u8]> {
    let last = Fields(value).last()?;
    (last.number == 1).then(|| last.value.bytes())
}
