//! Made requests, and a consumer that keeps what it gets.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use prost::Message;
use spanwarden::otlp::{Accepted, Batch, Consumer, Consuming, Context, Refusal};
pub(crate) use spanwarden_tests::proto::v1::{
    AnyValue, ExportTraceServiceRequest as Request, InstrumentationScope as Scope, KeyValue, Resource,
    ResourceSpans, ScopeSpans, Span, Status, any_value::Value,
};

pub(crate) fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.into()))
}

pub(crate) fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

/// A span of a trace: `span` numbers it, times are in ms.
pub(crate) fn span(trace: u128, span: u64, start: u64, duration: u64) -> Span {
    Span {
        trace_id: trace.to_be_bytes().into(),
        span_id: span.to_be_bytes().into(),
        parent_span_id: 1u64.to_be_bytes().into(),
        name: format!("span {span}"),
        start_time_unix_nano: (1_700_000_000_000 + start) * 1_000_000,
        end_time_unix_nano: (1_700_000_000_000 + start + duration) * 1_000_000,
        ..Span::default()
    }
}

/// A batch of spans of one resource.
pub(crate) fn batch_of(resource: Vec<KeyValue>, spans: Vec<Span>) -> Batch {
    let scope = Scope {
        name: "made".into(),
        attributes: vec![text("kind", "made")],
        dropped_attributes_count: 3,
        ..Scope::default()
    };
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, schema_url: "scope url".into() }];
    let resource = Some(Resource { attributes: resource, ..Resource::default() });
    batch(&Request {
        resource_spans: vec![ResourceSpans { resource, scope_spans, schema_url: "resource url".into() }],
    })
}

pub(crate) fn batch(request: &Request) -> Batch {
    let spans =
        request.resource_spans.iter().flat_map(|r| &r.scope_spans).map(|s| s.spans.len() as u32).sum();
    Batch { data: request.encode_to_vec().into(), spans, context: Context::default() }
}

/// A span as it arrived at the end, with what was above it.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) trace: u128,
    pub(crate) span: Span,
    pub(crate) resource: Vec<KeyValue>,
    pub(crate) scope: Scope,
}

impl Kept {
    /// The policy that the sampler names.
    pub(crate) fn policy(&self) -> Option<&str> {
        let values: Vec<&KeyValue> =
            self.scope.attributes.iter().filter(|pair| pair.key == "tailsampling.policy").collect();
        assert!(values.len() <= 1, "the policy is named once: {values:?}");
        match values.first()?.value.as_ref()?.value.as_ref()? {
            Value::StringValue(policy) => Some(policy),
            other => panic!("{other:?}"),
        }
    }

    /// Whether it followed an earlier decision.
    pub(crate) fn is_late(&self) -> bool {
        self.scope
            .attributes
            .iter()
            .any(|pair| *pair == attribute("tailsampling.cached_decision", Value::BoolValue(true)))
    }
}

/// The end of a pipeline: keeps batches, or refuses them as told.
#[derive(Default)]
pub(crate) struct Sink {
    batches: Mutex<Vec<Batch>>,
    refusals: Mutex<VecDeque<Refusal>>,
}

impl Sink {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Refuses the next batch; several calls refuse several.
    pub(crate) fn refuse(&self, refusal: Refusal) {
        self.refusals.lock().unwrap().push_back(refusal);
    }

    pub(crate) fn batches(&self) -> Vec<Batch> {
        self.batches.lock().unwrap().clone()
    }

    /// Everything that arrived, in that order.
    pub(crate) fn spans(&self) -> Vec<Kept> {
        let mut all = Vec::new();
        for batch in self.batches() {
            let request = Request::decode(&*batch.data).expect("what leaves is valid");
            let mut spans = 0;
            for resource_spans in request.resource_spans {
                assert_eq!(resource_spans.schema_url, "resource url");
                let resource = resource_spans.resource.expect("the resource comes along").attributes;
                for scope_spans in resource_spans.scope_spans {
                    assert_eq!(scope_spans.schema_url, "scope url");
                    let scope = scope_spans.scope.expect("the scope comes along");
                    assert_eq!((scope.name.as_str(), scope.dropped_attributes_count), ("made", 3));
                    assert_eq!(scope.attributes[0], text("kind", "made"));
                    spans += scope_spans.spans.len() as u32;
                    all.extend(scope_spans.spans.into_iter().map(|span| Kept {
                        trace: u128::from_be_bytes(span.trace_id.as_slice().try_into().unwrap()),
                        span,
                        resource: resource.clone(),
                        scope: scope.clone(),
                    }));
                }
            }
            assert_eq!(spans, batch.spans, "a batch knows how many spans it has");
        }
        all
    }
}

impl Consumer for Sink {
    fn consume(&self, batch: Batch) -> Consuming<'_> {
        Box::pin(async move {
            if let Some(refusal) = self.refusals.lock().unwrap().pop_front() {
                return Err(refusal);
            }
            self.batches.lock().unwrap().push(batch);
            Ok(Accepted::default())
        })
    }
}
