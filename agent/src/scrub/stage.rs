//! What a plan does one after the other: walks over the bytes, and work on the request as a tree.

#![forbid(unsafe_code)]

use bytes::Bytes;

use crate::otlp::{Refusal, RefusalKind};

use super::{
    actions,
    builder::{KINDS, Step},
    filter::Filter,
    matching::Choice,
    ottl::{
        program,
        tree::{self, Work},
    },
    request::Request,
    skip::{Skip, Skipped},
    span::Rules,
};

/// The steps of a walk, by kind of message.
pub(super) type Walk = [Vec<Step>; KINDS.len()];

/// A stage of a plan, after its first walk.
#[derive(Debug)]
pub(super) enum Stage {
    /// A walk.
    Walk(Walk),
    /// Steps on the tree.
    Tree(Vec<TreeStep>),
    /// Finds what a redactor, the first step of the walk that follows, leaves as it is.
    Skip(Skip),
}

/// A step that needs the request as a tree.
#[derive(Debug)]
pub(super) enum TreeStep {
    /// Statements of one group and one context: they share a cache.
    Statements(usize, Vec<program::Statement>),
    /// Drops messages.
    Filter(Filter),
    /// Names and status of spans.
    Span(Rules),
    /// Actions on chosen spans.
    Actions(Choice, Vec<actions::Step>),
}

impl TreeStep {
    fn run(&self, request: &mut Request<'_>, work: &mut Work<'_>) {
        match self {
            Self::Statements(_, statements) => tree::run(statements, request, work),
            Self::Filter(filter) => filter.run(request, work),
            Self::Span(rules) => rules.run(request, work),
            Self::Actions(spans, actions) => actions::run_on_tree(spans, actions, request, work),
        }
    }
}

/// Runs steps on a request that has passed the walker; returns it with its number of spans. Where nothing changes
/// it is the same bytes.
pub(super) fn on_tree(steps: &[TreeStep], data: Bytes, work: &mut Work<'_>) -> Result<(Bytes, u32), Refusal> {
    let mut request = Request::read(&data);
    for step in steps {
        step.run(&mut request, work);
    }
    if request.is_too_large() {
        return Err(too_many());
    }
    if let Some(recorder) = &mut work.account.recorder {
        recorder.settle(|named| request.left(named));
    }
    let spans = request.spans();
    let written = request.is_changed().then(|| request.write());
    Ok((written.map_or(data, Bytes::from), spans))
}

/// What a redactor leaves as it is, and the request's number of spans.
pub(super) fn skipped(skip: &Skip, data: &[u8], work: &mut Work<'_>) -> Result<(Skipped, u32), Refusal> {
    let mut request = Request::read(data);
    let skipped = skip.find(&mut request, work);
    if request.is_too_large() {
        return Err(too_many());
    }
    Ok((skipped, request.spans()))
}

#[cold]
fn too_many() -> Refusal {
    Refusal {
        kind: RefusalKind::TooLarge,
        cause: "too_many_messages",
        message: "the request has too many spans, events and links for the statements and conditions that it must pass; lower the \
                  exporter's batch size, and set event and link limits in the SDK"
            .into(),
    }
}
