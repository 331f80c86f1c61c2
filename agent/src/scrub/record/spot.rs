//! Where in a request something was hit, in a way that outlives the bytes: later stages of a plan move everything.

#![forbid(unsafe_code)]

use std::ops::Range;

use crate::otlp::view;

/// A span's trace and own id.
pub type SpanId = ([u8; 16], [u8; 8]);

/// Where something was hit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spot {
    /// The span that it is, or in which it is; `None` for what is above spans.
    pub span: Option<SpanId>,
    /// Any span of the same resource, by which the resource is found again.
    pub beside: Option<SpanId>,
}

/// The spans of a request that passed the walker, by their offsets.
#[derive(Debug)]
pub(super) struct Spots {
    /// In wire order.
    resources: Vec<(Range<usize>, Spot)>,
    /// In wire order.
    spans: Vec<(Range<usize>, Spot)>,
}

impl Spots {
    /// Of a request.
    pub(super) fn new(request: &[u8]) -> Self {
        let mut spots = Self { resources: Vec::new(), spans: Vec::new() };
        for resource in view::resource_spans(request) {
            let first = spots.spans.len();
            for span in resource.scope_spans().flat_map(|scope| scope.spans()) {
                let id = Some((span.trace_id, span.span_id));
                spots.spans.push((range(request, span.body()), Spot { span: id, beside: id }));
            }
            let beside = spots.spans.get(first).and_then(|(_, spot)| spot.span);
            spots.resources.push((range(request, resource.body()), Spot { span: None, beside }));
        }
        spots
    }

    /// What is around an offset: the span, else the resource, else nothing.
    pub(super) fn at(&self, offset: u32) -> Spot {
        let offset = offset as usize;
        let find = |list: &[(Range<usize>, Spot)]| {
            let after = list.partition_point(|(range, _)| range.start <= offset);
            list[..after].last().filter(|(range, _)| offset <= range.end).map(|(_, spot)| *spot)
        };
        find(&self.spans).or_else(|| find(&self.resources)).unwrap_or_default()
    }
}

/// Where a part of a request lies in it.
fn range(request: &[u8], part: &[u8]) -> Range<usize> {
    let start = part.as_ptr() as usize - request.as_ptr() as usize;
    start..start + part.len()
}
