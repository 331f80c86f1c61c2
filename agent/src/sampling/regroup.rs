//! Makes several requests of one: each span goes to a group, and takes its resource and scope along.

use super::wire::{self, Fields};

// Field numbers of opentelemetry/proto/collector/trace/v1/trace_service.proto and trace/v1/trace.proto.
const RESOURCE_SPANS: u32 = 1;
const RESOURCE: u32 = 1;
const SCOPE_SPANS: u32 = 2;
const SPANS: u32 = 2;

/// What the one who groups is shown.
pub(crate) enum Seen<'a> {
    /// A `ResourceSpans` begins; this is its `Resource` message, empty where it has none. The answer is ignored.
    Resource(&'a [u8]),
    /// A `Span` message; the answer is its group.
    Span(&'a [u8]),
}

/// A span's field, and where it stood.
struct Place<'a> {
    group: usize,
    resource: usize,
    scope: usize,
    span: &'a [u8],
}

/// A `ResourceSpans` or a `ScopeSpans` without its repeated children.
struct Shell<'a> {
    fields: Vec<&'a [u8]>,
    len: usize,
}

/// Splits a request into one for each group, in the order of their numbers. Within a group spans keep their order.
pub(crate) fn regroup<'a>(request: &'a [u8], mut group: impl FnMut(Seen<'a>) -> usize) -> Vec<Vec<u8>> {
    let (mut places, mut resources, mut scopes) = (Vec::new(), Vec::new(), Vec::new());
    for resource_spans in children(request, RESOURCE_SPANS) {
        resources.push(Shell::of(resource_spans, SCOPE_SPANS));
        group(Seen::Resource(children(resource_spans, RESOURCE).last().unwrap_or_default()));
        for scope_spans in children(resource_spans, SCOPE_SPANS) {
            scopes.push(Shell::of(scope_spans, SPANS));
            for field in Fields(scope_spans).filter(|field| field.number == SPANS) {
                let group = group(Seen::Span(field.value.bytes()));
                let (resource, scope) = (resources.len() - 1, scopes.len() - 1);
                places.push(Place { group, resource, scope, span: field.whole });
            }
        }
    }
    places.sort_by_key(|place| place.group);
    let groups = places.chunk_by(|a, b| a.group == b.group);
    groups.map(|places| write(places, &resources, &scopes)).collect()
}

/// The contents of a message's fields of this number.
pub(crate) fn children(message: &[u8], number: u32) -> impl Iterator<Item = &[u8]> {
    Fields(message).filter(move |field| field.number == number).map(|field| field.value.bytes())
}

impl<'a> Shell<'a> {
    fn of(message: &'a [u8], children: u32) -> Self {
        let fields: Vec<&[u8]> =
            Fields(message).filter(|field| field.number != children).map(|field| field.whole).collect();
        let len = fields.iter().map(|field| field.len()).sum();
        Self { fields, len }
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.fields.iter().for_each(|field| out.extend_from_slice(field));
    }
}

fn write(places: &[Place<'_>], resources: &[Shell<'_>], scopes: &[Shell<'_>]) -> Vec<u8> {
    let scope_len = |places: &[Place<'_>]| {
        scopes[places[0].scope].len + places.iter().map(|place| place.span.len()).sum::<usize>()
    };
    let resource_len = |places: &[Place<'_>]| {
        let by_scope = places.chunk_by(|a, b| a.scope == b.scope);
        resources[places[0].resource].len
            + by_scope.map(|places| wire::field_len(scope_len(places))).sum::<usize>()
    };
    let by_resource = || places.chunk_by(|a, b| a.resource == b.resource);
    let len = by_resource().map(|places| wire::field_len(resource_len(places))).sum();
    let mut out = Vec::with_capacity(len);
    for of_resource in by_resource() {
        wire::put_header(&mut out, RESOURCE_SPANS, resource_len(of_resource));
        resources[of_resource[0].resource].write(&mut out);
        for of_scope in of_resource.chunk_by(|a, b| a.scope == b.scope) {
            wire::put_header(&mut out, SCOPE_SPANS, scope_len(of_scope));
            scopes[of_scope[0].scope].write(&mut out);
            of_scope.iter().for_each(|place| out.extend_from_slice(place.span));
        }
    }
    out
}
