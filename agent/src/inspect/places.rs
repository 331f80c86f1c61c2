//! Where in a request something stands: under which service, in which span.

#![forbid(unsafe_code)]

use std::{collections::HashMap, ops::Range};

use crate::otlp::view::{self, ValueView};

/// A span, as an operator finds it again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// `service.name` of the resource, scrubbed.
    pub service: Option<String>,
    /// 32 hex digits.
    pub trace_id: Option<String>,
    /// 16 hex digits.
    pub span_id: Option<String>,
    /// Scrubbed; `None` where the span was dropped.
    pub span_name: Option<String>,
}

/// The spans of a request by their offsets.
#[derive(Debug, Default)]
pub struct Places {
    /// In wire order.
    resources: Vec<(Range<usize>, Place)>,
    /// In wire order.
    spans: Vec<(Range<usize>, Place)>,
}

impl Places {
    /// Of a request that passed the walker, and of what the plan made of it: names and services are shown as they are there.
    pub fn new(request: &[u8], scrubbed: &[u8]) -> Self {
        let names: HashMap<([u8; 16], [u8; 8]), &str> =
            view::spans(scrubbed).map(|(_, _, span)| ((span.trace_id, span.span_id), span.name)).collect();
        let services: Vec<Option<String>> = view::resource_spans(scrubbed)
            .map(|resource| {
                resource.attributes().find_map(|attribute| match attribute.value {
                    ValueView::String(name) if attribute.key == "service.name" => Some(name.to_owned()),
                    _ => None,
                })
            })
            .collect();
        // A plan may drop what has become empty; then nobody knows which is which.
        let known = view::resource_spans(request).count() == services.len();
        let mut places = Self::default();
        for (number, resource) in view::resource_spans(request).enumerate() {
            let service = services.get(number).filter(|_| known).cloned().flatten();
            let place = Place { service: service.clone(), ..Place::default() };
            places.resources.push((range(request, resource.body()), place));
            for span in resource.scope_spans().flat_map(|scope| scope.spans()) {
                let place = Place {
                    service: service.clone(),
                    trace_id: Some(hex(&span.trace_id)),
                    span_id: Some(hex(&span.span_id)),
                    span_name: names.get(&(span.trace_id, span.span_id)).map(|name| (*name).to_owned()),
                };
                places.spans.push((range(request, span.body()), place));
            }
        }
        places
    }

    /// What is around an offset: the span, else the resource, else nothing.
    pub fn at(&self, offset: u32) -> Place {
        let offset = offset as usize;
        let find = |list: &[(Range<usize>, Place)]| {
            let after = list.partition_point(|(range, _)| range.start <= offset);
            list[..after].last().filter(|(range, _)| offset <= range.end).map(|(_, place)| place.clone())
        };
        find(&self.spans).or_else(|| find(&self.resources)).unwrap_or_default()
    }
}

/// Where a part of a request lies in it.
fn range(request: &[u8], part: &[u8]) -> Range<usize> {
    let start = part.as_ptr() as usize - request.as_ptr() as usize;
    start..start + part.len()
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
