//! Takes a batch apart: for each of its traces a summary, and a request of its own.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use foldhash::fast::RandomState;

use super::{hash::TraceId, policy::Policies, summary::Summary};
use crate::{
    auth::Tenant,
    otlp::{
        split::Splitter,
        view::{Content, Fields},
        walk::Malformed,
    },
};

// Field numbers of opentelemetry/proto/collector/trace/v1/trace_service.proto, trace/v1/trace.proto,
// resource/v1/resource.proto and common/v1/common.proto.
const RESOURCE_SPANS: u32 = 1;
const RESOURCE: u32 = 1;
const RESOURCE_ATTRIBUTES: u32 = 1;
const SCOPE_SPANS: u32 = 2;
const SPANS: u32 = 2;
const SPAN_TRACE_ID: u32 = 1;
const SPAN_PARENT_SPAN_ID: u32 = 4;
const SPAN_START: u32 = 7;
const SPAN_END: u32 = 8;
const SPAN_ATTRIBUTES: u32 = 9;
const SPAN_STATUS: u32 = 15;
const STATUS_CODE: u32 = 3;
const KEY: u32 = 1;
const VALUE: u32 = 2;
const STRING_VALUE: u32 = 1;

/// What a batch holds of one trace.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// The trace.
    pub id: TraceId,
    /// Whose it is.
    pub tenant: Option<Arc<Tenant>>,
    /// What the policies need.
    pub summary: Summary,
    /// An `ExportTraceServiceRequest` with these spans, and no other.
    pub data: Bytes,
}

/// Splits a checked request by trace. The order of spans within a trace stays.
pub fn by_trace(
    policies: &Policies,
    request: &Bytes,
    tenant: Option<&Arc<Tenant>>,
) -> Result<Vec<Incoming>, Malformed> {
    let summaries = summarise(policies, request);
    let traces = Splitter::default().group(request)?;
    // A trace that the splitter sees is one that the summaries saw: both read the same fields.
    let with_summary = |trace: crate::otlp::split::Trace| Incoming {
        summary: summaries.get(&trace.id).copied().unwrap_or_default(),
        id: trace.id,
        tenant: tenant.cloned(),
        data: trace.data,
    };
    Ok(traces.into_iter().map(with_summary).collect())
}

/// What the policies need of each trace in a request. It reads fields, not `SpanView`s: names and other text are
/// not checked again.
fn summarise(policies: &Policies, request: &[u8]) -> HashMap<TraceId, Summary, RandomState> {
    let mut traces: HashMap<TraceId, Summary, RandomState> = HashMap::default();
    for resource_spans in Fields::of(request).messages(RESOURCE_SPANS) {
        let of_resource = Fields::of(resource_spans)
            .messages(RESOURCE)
            .fold(0, |bits, resource| bits | matched(policies, resource, RESOURCE_ATTRIBUTES, true));
        for scope_spans in Fields::of(resource_spans).messages(SCOPE_SPANS) {
            for span in Fields::of(scope_spans).messages(SPANS) {
                let (id, mut summary) = span_summary(policies, span);
                summary.matched |= of_resource;
                traces.entry(id).or_default().merge(&summary);
            }
        }
    }
    traces
}

fn span_summary(policies: &Policies, span: &[u8]) -> (TraceId, Summary) {
    let mut id = TraceId::default();
    // A span without a status, or with a code this version does not know, is unset.
    let mut status = 0;
    let mut summary = Summary { spans: 1, root: true, ..Summary::default() };
    for (number, content) in Fields::of(span) {
        match (number, content) {
            (SPAN_TRACE_ID, Content::Bytes(bytes)) => id = bytes.try_into().unwrap_or_default(),
            (SPAN_PARENT_SPAN_ID, Content::Bytes(bytes)) => {
                summary.root = bytes.iter().all(|byte| *byte == 0);
            }
            (SPAN_START, Content::Number(time)) => summary.start = time,
            (SPAN_END, Content::Number(time)) => summary.end = time,
            (SPAN_ATTRIBUTES, Content::Bytes(attribute)) if policies.reads_attributes() => {
                summary.matched |= attribute_bits(policies, attribute, false);
            }
            (SPAN_STATUS, Content::Bytes(message)) => {
                for field in Fields::of(message) {
                    if let (STATUS_CODE, Content::Number(code @ 0..=2)) = field {
                        status = code;
                    }
                }
            }
            _ => {}
        }
    }
    summary.statuses = 1 << status;
    (id, summary)
}

/// The `string_attribute` bits of a message's attributes, each occurrence of a key.
fn matched(policies: &Policies, message: &[u8], number: u32, empty_counts: bool) -> u128 {
    if !policies.reads_attributes() {
        return 0;
    }
    let attributes = Fields::of(message).messages(number);
    attributes.fold(0, |bits, attribute| bits | attribute_bits(policies, attribute, empty_counts))
}

/// The bits of one attribute. Only text is matched; an empty one counts on a resource and not on a span, as in
/// the Collector.
fn attribute_bits(policies: &Policies, attribute: &[u8], empty_counts: bool) -> u128 {
    let (mut key, mut value): (&[u8], Option<&[u8]>) = (&[], None);
    for field in Fields::of(attribute) {
        match field {
            (KEY, Content::Bytes(text)) => key = text,
            (VALUE, Content::Bytes(any)) => value = Fields::of(any).messages(STRING_VALUE).last(),
            _ => {}
        }
    }
    match value {
        Some(value) if empty_counts || !value.is_empty() => policies.attribute(key, value),
        _ => 0,
    }
}
