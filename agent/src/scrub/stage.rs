//! What a plan does one after the other: walks over the bytes, and work on the request as a tree.

#![forbid(unsafe_code)]

use bytes::Bytes;

use crate::otlp::{Refusal, RefusalKind};

use super::{
    actions,
    builder::{KINDS, Step},
    direct::Direct,
    filter::Filter,
    keys::Keys,
    matching::Choice,
    ottl::{
        program,
        tree::{self, Work},
    },
    redact::Redactor,
    request::{Allowance, Request},
    rule::Rule,
    skip::{Skip, Skipped},
    span::Rules,
};

/// Steps by kind of message.
pub(super) type Steps = [Vec<Step>; KINDS.len()];

/// What a walk does.
#[derive(Debug)]
pub(super) struct Walk {
    /// The steps of the long way.
    pub(super) steps: Steps,
    /// The short way of most messages, where there is one.
    pub(super) direct: [Option<Direct>; KINDS.len()],
}

impl Walk {
    /// For these steps.
    pub(super) fn new(steps: Steps, redactors: &[Redactor], rules: &[Rule], keys: &Keys) -> Self {
        let direct = std::array::from_fn(|kind| Direct::new(&steps[kind], redactors, rules, keys));
        Self { steps, direct }
    }
}

/// A stage of a plan, after its first walk.
#[derive(Debug)]
pub(super) enum Stage {
    /// A walk.
    Walk(Box<Walk>),
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

/// How often a step may look at each byte of a request: at the message for the places of its target, at each for what it
/// reads, and at what it writes. More than that is spent from the request's budget.
const LOOKS: u64 = 4;

impl TreeStep {
    /// How many looks at the whole request are its own.
    fn looks(&self) -> u64 {
        LOOKS
            * match self {
                Self::Statements(_, statements) => statements.len(),
                Self::Filter(filter) => filter.len(),
                Self::Span(rules) => rules.len(),
                Self::Actions(_, actions) => 1 + actions.len(),
            } as u64
    }

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
    let mut request = Request::read(&data, allowance(steps.iter().map(TreeStep::looks).sum(), &data, work));
    for step in steps {
        step.run(&mut request, work);
    }
    if request.is_too_large() {
        return Err(too_many());
    }
    settle(&request, work);
    if let Some(recorder) = &mut work.account.recorder {
        recorder.settle(|named| request.left(named));
    }
    let spans = request.spans();
    let written = request.is_changed().then(|| request.write());
    Ok((written.map_or(data, Bytes::from), spans))
}

/// What a redactor leaves as it is, and the request's number of spans.
pub(super) fn skipped(skip: &Skip, data: &[u8], work: &mut Work<'_>) -> Result<(Skipped, u32), Refusal> {
    let mut request = Request::read(data, allowance(LOOKS * skip.len() as u64, data, work));
    let skipped = skip.find(&mut request, work);
    if request.is_too_large() {
        return Err(too_many());
    }
    settle(&request, work);
    Ok((skipped, request.spans()))
}

/// What steps may look at that have so many looks of their own.
fn allowance(looks: u64, data: &[u8], work: &Work<'_>) -> Allowance {
    Allowance { own: looks * data.len() as u64, spare: work.caches.budget.left() }
}

/// Spends what was looked at beyond that.
fn settle(request: &Request<'_>, work: &mut Work<'_>) {
    let (own, spare) = request.looked();
    work.caches.budget.look(own as usize);
    work.caches.budget.spent(spare as usize);
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
