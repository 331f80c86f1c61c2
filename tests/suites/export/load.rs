//! Requests made and read with prost, independent of the program's own walker.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use spanwarden::otlp::{Batch, Context};

/// The fields of the trace protos that routing can disturb, under their numbers.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Request {
    #[prost(message, repeated, tag = "1")]
    pub(crate) resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ResourceSpans {
    #[prost(message, repeated, tag = "2")]
    pub(crate) scope_spans: Vec<ScopeSpans>,
    #[prost(string, tag = "3")]
    pub(crate) schema_url: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ScopeSpans {
    #[prost(message, repeated, tag = "2")]
    pub(crate) spans: Vec<Span>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Message)]
pub(crate) struct Span {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) id: Vec<u8>,
    #[prost(string, tag = "5")]
    pub(crate) name: String,
}

/// A batch of `traces` traces with `each` spans, the traces interleaved, in two resources. Batches with another
/// `seed` hold other traces.
pub(crate) fn batch(seed: u64, traces: u64, each: u64) -> Batch {
    let span = |number: u64| {
        let trace = number % traces;
        let mixed = u128::from(seed << 32 | trace)
            .wrapping_add(1)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        Span {
            trace_id: mixed.to_be_bytes().to_vec(),
            id: (number + 1).to_be_bytes().to_vec(),
            name: format!("span {seed}-{number} of a trace that is spread over the batch"),
        }
    };
    let spans: Vec<Span> = (0..traces * each).map(span).collect();
    let half = spans.len() / 2;
    let resource = |spans: &[Span], url: &str| ResourceSpans {
        scope_spans: vec![ScopeSpans { spans: spans.to_vec() }],
        schema_url: url.to_owned(),
    };
    let request = Request {
        resource_spans: vec![resource(&spans[..half], "first"), resource(&spans[half..], "second")],
    };
    Batch {
        data: Bytes::from(request.encode_to_vec()),
        spans: spans.len() as u32,
        context: Context::default(),
    }
}

/// The spans of requests, each with how often it occurs.
pub(crate) fn spans<'a>(requests: impl IntoIterator<Item = &'a Bytes>) -> BTreeMap<Span, usize> {
    let mut counts = BTreeMap::new();
    for request in requests {
        let request = Request::decode(&request[..]).expect("a request");
        for span in request.resource_spans.into_iter().flat_map(|r| r.scope_spans).flat_map(|s| s.spans) {
            *counts.entry(span).or_default() += 1;
        }
    }
    counts
}
