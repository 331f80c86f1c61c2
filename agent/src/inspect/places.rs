//! Where something stands, as an operator finds it again: under which service, in which span.

#![forbid(unsafe_code)]

use std::collections::HashMap;

use crate::{
    otlp::view::{self, ValueView},
    scrub::{SpanId, Spot},
};

/// A span or what is above it.
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

/// Names of spans and services as a plan leaves them.
#[derive(Debug, Default)]
pub struct Places<'r> {
    /// By span: its name and its service's.
    names: HashMap<SpanId, (&'r str, Option<&'r str>)>,
}

impl<'r> Places<'r> {
    /// Of a scrubbed request.
    pub fn new(scrubbed: &'r [u8]) -> Self {
        let mut places = Self::default();
        for resource in view::resource_spans(scrubbed) {
            let service = resource.attributes().find_map(|attribute| match attribute.value {
                ValueView::String(name) if attribute.key == "service.name" => Some(name),
                _ => None,
            });
            for span in resource.scope_spans().flat_map(|scope| scope.spans()) {
                places.names.insert((span.trace_id, span.span_id), (span.name, service));
            }
        }
        places
    }

    /// Where a spot is.
    pub fn of(&self, spot: &Spot) -> Place {
        let service = spot.beside.and_then(|span| self.names.get(&span)?.1).map(str::to_owned);
        let Some(span) = spot.span else { return Place { service, ..Place::default() } };
        Place {
            service,
            trace_id: Some(hex(&span.0)),
            span_id: Some(hex(&span.1)),
            span_name: self.names.get(&span).map(|(name, _)| (*name).to_owned()),
        }
    }
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
