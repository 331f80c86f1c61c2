//! The plan: compiled once, applied to every batch.

#![forbid(unsafe_code)]

use std::{
    fmt,
    ops::Range,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;

use crate::{
    auth::{Identity, Tenant, claims::Claims},
    config::{Component, ConfigError, auth::ClaimMode, processors::Processor},
    origin::Origin,
    otlp::{
        Batch, Context, Refusal, RefusalKind,
        edit::Edits,
        walk::{self, Kind, Limits, Part, Rewrite, Slice},
    },
};

use super::{
    budget::DROPPED as MARK,
    builder::{Builder, Step, slot},
    direct, forgery,
    keys::Keys,
    list::List,
    metrics::{CLAIMS, DROPPED, Handles, Series, Tally, UNKNOWN_FIELDS},
    ottl::tree,
    pattern::{
        Caches, Patterns,
        gate::{Found, Gate},
    },
    record::{Record, Recorder},
    redact::Redactor,
    rule::{Account, Rule},
    run::{Above, Run},
    skip::Skipped,
    stage::{self, Stage, Walk},
    stamp,
};

/// Adjacent scrubbing processors as one: a batch is walked once and written at most once.
///
/// A plan without processors checks a request and strips unknown fields; so every pipeline has one.
pub struct Plan {
    id: u64,
    patterns: Patterns,
    keys: Keys,
    gate: Gate,
    /// The first walk, which also checks the request.
    first: Walk,
    /// What comes after it.
    later: Vec<Stage>,
    redactors: Vec<Redactor>,
    captures: usize,
    handles: Vec<Handles>,
    rules: Vec<Rule>,
    processors: Vec<String>,
    series: OnceLock<Series>,
    claims: [prometheus::IntCounter; stamp::CLAIMS],
    unknown_fields: prometheus::IntCounter,
    dropped: prometheus::IntCounter,
    quarantine: Option<Arc<Tenant>>,
    limits: Limits,
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan")
            .field("steps", &self.first.steps.iter().map(Vec::len).sum::<usize>())
            .finish_non_exhaustive()
    }
}

/// What one thread needs to apply plans; reused from batch to batch. It follows whatever plan it is used with.
#[derive(Debug, Default)]
pub struct PlanScratch {
    plan: u64,
    walk: walk::Scratch,
    edits: Edits,
    work: Work,
}

impl PlanScratch {
    /// How many bytes the rules have looked at in the last request, beyond the look at each that a walk takes. A text that
    /// is looked at for several reasons counts for each.
    pub fn looked(&self) -> u64 {
        self.work.caches.budget.looked()
    }
}

/// The part of the scratch that the steps use.
#[derive(Debug, Default)]
struct Work {
    caches: Caches,
    found: Found,
    list: List,
    direct: direct::Scratch,
    out: Vec<u8>,
    tally: Vec<Tally>,
    account: Account,
    above: Above,
    claims: [u64; stamp::CLAIMS],
    forged: stamp::Forged,
    /// By redactor, where one has something to leave alone.
    skipped: Vec<Skipped>,
    /// Keys of the resource attributes that are ours and not the sender's, for the walks after the first: all
    /// resources of a batch have one sender. Only kept by plans of several stages.
    ours: Vec<Box<[u8]>>,
}

impl Work {
    /// Forgets what was counted: a refused request was not edited.
    fn forget(&mut self) {
        self.tally.fill(Tally::default());
        self.account.forget();
        self.claims = [0; stamp::CLAIMS];
        self.forged = stamp::Forged::default();
    }
}

static NEXT_PLAN: AtomicU64 = AtomicU64::new(1);

impl Plan {
    /// Compiles processors into a plan that does what they do one after the other.
    ///
    /// With `stamp`, every resource first gets the batch's origin and identity in place of what the sender claims, and
    /// its other claims are held against these rules. A pattern or a statement that can't be compiled is an error at
    /// its place in the configuration.
    pub fn compile(
        processors: &[&Component<Processor>],
        stamp: Option<&Claims>,
    ) -> Result<Self, ConfigError> {
        let mut builder = Builder::default();
        if let Some(rules) = stamp {
            builder.stamp(rules);
        }
        for component in processors {
            builder.processor(component)?;
        }
        let (first, later) = builder.finish();
        let Builder { patterns, keys, gate, redactors, captures, handles, rules, processors, .. } = builder;
        Ok(Self {
            id: NEXT_PLAN.fetch_add(1, Ordering::Relaxed),
            patterns,
            keys,
            gate,
            first,
            later,
            redactors,
            captures,
            handles,
            rules,
            processors,
            series: OnceLock::new(),
            claims: stamp::NAMES.map(|name| CLAIMS.with_label_values(&[name])),
            unknown_fields: UNKNOWN_FIELDS.with_label_values(&[] as &[&str]),
            dropped: DROPPED.with_label_values(&[] as &[&str]),
            quarantine: stamp.and_then(Claims::quarantine),
            limits: Limits::default(),
        })
    }

    /// The rules, in the order in which they were read.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Shows the rules' metrics, at 0 where a rule is new or says something else than before. The first batch does it
    /// too; a stage does it when it starts to use a plan, and so a plan that is never used shows nothing.
    pub fn publish(&self) {
        self.gate.prepare();
        self.series();
    }

    fn series(&self) -> &Series {
        self.series.get_or_init(|| Series::new(&self.processors, &self.rules))
    }

    /// [`Plan::apply`] that also tells what each rule did: for a dry run. `values`: with the values, before and after.
    pub fn apply_recorded(
        &self,
        batch: Batch,
        scratch: &mut PlanScratch,
        values: bool,
    ) -> Result<(Batch, Vec<Record>), Refusal> {
        scratch.work.account.recorder = Some(Box::new(Recorder::new(values)));
        let result = self.apply(batch, scratch);
        let recorder = scratch.work.account.recorder.take();
        result.map(|batch| (batch, recorder.map_or_else(Vec::new, |recorder| recorder.records)))
    }

    /// Checks a batch and makes the plan's edits. Without any, the result holds the same bytes.
    ///
    /// Refuses what is not a well-formed request, and what a statement under `error_mode: propagate` can't handle.
    pub fn apply(&self, batch: Batch, scratch: &mut PlanScratch) -> Result<Batch, Refusal> {
        let began = Instant::now();
        self.adopt(scratch);
        scratch.work.ours.clear();
        scratch.work.caches.budget.begin(batch.data.len());
        let (data, summary, mut refused) = self
            .walk(&self.first, &batch.data, &batch.context, scratch)
            .inspect_err(|_| scratch.work.forget())?;
        let forged = scratch.work.forged;
        forgery::report(&batch.context, forged);
        if forged.mode == Some(ClaimMode::Reject) {
            scratch.work.forget();
            return Err(forgery::refusal());
        }
        let (mut data, mut spans) = (data, summary.spans);
        for stage in &self.later {
            if scratch.work.caches.budget.is_exhausted() {
                break;
            }
            let failed;
            (data, spans, failed) =
                self.stage(stage, data, &batch.context, scratch).inspect_err(|_| scratch.work.forget())?;
            refused |= failed;
        }
        if !self.later.is_empty() && scratch.work.caches.budget.is_exhausted() {
            // No message has passed all stages for certain.
            data = self.drop_values(&data, scratch).inspect_err(|_| scratch.work.forget())?;
        }
        self.count(&mut scratch.work, summary.spans);
        if summary.unknown_fields > 0 {
            self.unknown_fields.inc_by(u64::from(summary.unknown_fields));
        }
        if refused {
            return Err(Refusal {
                kind: RefusalKind::Permanent,
                cause: "statement_failed",
                message:
                    "a transform statement could not handle a value, and its error_mode is propagate; send \
                          the attribute as a string, or ask the operator for another error_mode"
                        .into(),
            });
        }
        let mut context = batch.context;
        if forged.mode == Some(ClaimMode::Quarantine) && self.quarantine.is_some() {
            context.tenant.clone_from(&self.quarantine);
        }
        self.series().took(began.elapsed());
        Ok(Batch { data, spans, context })
    }

    /// One walk: the bytes with its edits made, what it found, and whether a statement refuses the request.
    fn walk(
        &self,
        walk: &Walk,
        data: &Bytes,
        context: &Context,
        scratch: &mut PlanScratch,
    ) -> Result<(Bytes, walk::Summary, bool), Refusal> {
        let PlanScratch { walk: walk_scratch, edits, work, .. } = scratch;
        if data.len() <= self.limits.bytes as usize {
            self.gate.find(data, &mut work.found);
        }
        let mut rewriter = Rewriter {
            plan: self,
            walk,
            work,
            origin: context.origin.as_deref(),
            identity: context.identity.as_deref(),
            refused: false,
        };
        let walked = walk::walk(data, &self.limits, walk_scratch, &mut rewriter, edits);
        let refused = rewriter.refused;
        let summary = walked.map_err(refusal)?;
        if let Some(recorder) = &mut work.account.recorder {
            recorder.locate(data);
        }
        Ok((edits.apply(data), summary, refused))
    }

    /// A stage after the first walk: the bytes after it, their spans, and whether a statement refuses the request.
    fn stage(
        &self,
        stage: &Stage,
        data: Bytes,
        context: &Context,
        scratch: &mut PlanScratch,
    ) -> Result<(Bytes, u32, bool), Refusal> {
        match stage {
            Stage::Walk(walk) => {
                let (data, summary, refused) = self.walk(walk, &data, context, scratch)?;
                Ok((data, summary.spans, refused))
            }
            Stage::Tree(steps) => {
                let before = data.clone();
                self.look(scratch, &before, |work| {
                    let (data, spans) = stage::on_tree(steps, data, work)?;
                    Ok((data, spans, work.refused))
                })
            }
            Stage::Skip(skip) => {
                let (skipped, spans) = self.look(scratch, &data, |work| stage::skipped(skip, &data, work))?;
                scratch.work.skipped[skip.redactor] = skipped;
                Ok((data, spans, false))
            }
        }
    }

    /// Work on a request that is no walk.
    fn look<T>(
        &self,
        scratch: &mut PlanScratch,
        data: &Bytes,
        what: impl FnOnce(&mut tree::Work<'_>) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let Work { caches, tally, account, .. } = &mut scratch.work;
        let (patterns, rules) = (&self.patterns, &self.rules[..]);
        let mut work = tree::Work { patterns, caches, tally, rules, account, refused: false };
        let done = what(&mut work)?;
        if let Some(recorder) = &mut work.account.recorder {
            recorder.locate(data);
        }
        Ok(done)
    }

    /// Drops the values of a request whose budget is used up.
    fn drop_values(&self, data: &Bytes, scratch: &mut PlanScratch) -> Result<Bytes, Refusal> {
        let PlanScratch { walk: walk_scratch, edits, work, .. } = scratch;
        let mut dropper = Dropper { keys: &self.keys, work };
        walk::walk(data, &self.limits, walk_scratch, &mut dropper, edits).map_err(refusal)?;
        Ok(edits.apply(data))
    }

    /// Makes the scratch fit this plan.
    fn adopt(&self, scratch: &mut PlanScratch) {
        if scratch.plan == self.id {
            return;
        }
        scratch.plan = self.id;
        scratch.work.caches = self.patterns.caches();
        scratch.work.tally = vec![Tally::default(); self.handles.len()];
        scratch.work.account.adopt(self.rules.len());
        scratch.work.above = Above::new(self.captures);
        let skips = self.later.iter().any(|stage| matches!(stage, Stage::Skip(_)));
        scratch.work.skipped = vec![Skipped::default(); if skips { self.redactors.len() } else { 0 }];
    }

    fn count(&self, work: &mut Work, spans: u32) {
        if let Some(counts) = work.account.counts() {
            self.series().add(counts);
        }
        for (handles, tally) in self.handles.iter().zip(&work.tally) {
            handles.add(tally, u64::from(spans));
        }
        for (counter, count) in self.claims.iter().zip(work.claims) {
            if count > 0 {
                counter.inc_by(count);
            }
        }
        let dropped = work.caches.budget.take_dropped();
        if dropped > 0 {
            self.dropped.inc_by(dropped);
        }
        work.forget();
    }
}

struct Rewriter<'a> {
    plan: &'a Plan,
    walk: &'a Walk,
    work: &'a mut Work,
    origin: Option<&'a Origin>,
    identity: Option<&'a Identity>,
    refused: bool,
}

impl Rewrite for Rewriter<'_> {
    const WHOLE_FIELDS: bool = true;

    fn part(&mut self, part: &Part<'_>, edits: &mut Edits) {
        let steps = &self.walk.steps[slot(part.kind)];
        if steps.is_empty()
            || part.attributes.is_empty()
                && part.texts.is_empty()
                && part.kind != Kind::Resource
                && !adds(steps)
        {
            return;
        }
        let Work {
            caches,
            found,
            list,
            direct: scratch,
            out,
            tally,
            account,
            above,
            claims,
            forged,
            skipped,
            ours,
        } = &mut *self.work;
        let (keys, patterns) = (&self.plan.keys, &self.plan.patterns);
        let hits = self.plan.gate.within(part.buf, found, hull(part));
        if let Some(direct) = &self.walk.direct[slot(part.kind)]
            && account.recorder.is_none()
            && !caches.budget.is_exhausted()
        {
            let mut work = direct::Work { keys, patterns, caches, scratch, tally, account };
            if direct.run(part, &hits, &mut work, edits) {
                return;
            }
        }
        list.load(part, keys);
        let passes_on = part.kind == Kind::Resource && !self.plan.later.is_empty();
        if passes_on {
            list.recognise(part.buf, ours);
        }
        let mut run = Run {
            buf: part.buf,
            patterns,
            keys,
            gate: &self.plan.gate,
            caches,
            list,
            out,
            tally,
            rules: &self.plan.rules,
            account,
            above,
            origin: self.origin,
            identity: self.identity,
            forged,
            claims,
            at: part.insert_at,
            skipped,
            hits,
            found,
            refused: false,
        };
        for step in steps {
            if !run.caches.budget.is_exhausted() || step.is_ours() {
                step.run(part.kind, &self.plan.redactors, &mut run);
            }
        }
        if run.caches.budget.is_exhausted() {
            let dropped = run.list.drop_values(run.buf, MARK);
            run.caches.budget.dropped(dropped);
        }
        self.refused |= run.refused;
        if passes_on {
            run.list.remember(part.buf, ours);
        }
        run.list.emit(part, edits);
        if let Some(recorder) = &mut run.account.recorder {
            recorder.finish(part, run.list);
        }
    }
}

/// Drops everything that is not ours.
struct Dropper<'a> {
    keys: &'a Keys,
    work: &'a mut Work,
}

impl Rewrite for Dropper<'_> {
    const WHOLE_FIELDS: bool = true;

    fn part(&mut self, part: &Part<'_>, edits: &mut Edits) {
        let Work { caches, list, ours, .. } = &mut *self.work;
        list.load(part, self.keys);
        if part.kind == Kind::Resource {
            list.recognise(part.buf, ours);
        }
        caches.budget.dropped(list.drop_values(part.buf, MARK));
        list.emit(part, edits);
    }
}

fn refusal(malformed: walk::Malformed) -> Refusal {
    Refusal {
        kind: match malformed.what {
            walk::What::Bytes | walk::What::Spans => RefusalKind::TooLarge,
            _ => RefusalKind::Malformed,
        },
        cause: malformed.what.cause(),
        message: malformed.to_string(),
    }
}

/// Whether a step may add something to a message that has nothing.
fn adds(steps: &[Step]) -> bool {
    steps.iter().any(|step| !matches!(step, Step::Redact(_) | Step::Detect(_)))
}

/// The range of the request that holds all attributes and texts of a message. Other fields may lie between them,
/// which can only make the gate more careful.
fn hull(part: &Part<'_>) -> Range<usize> {
    // Both lists are in wire order.
    debug_assert!(part.attributes.is_sorted_by_key(|attribute| attribute.field.end));
    debug_assert!(part.texts.is_sorted_by_key(|text| text.field.end));
    let ends = |first: Option<Slice>, last: Option<Slice>| {
        (first.map_or(u32::MAX, |first| first.start), last.map_or(0, |last| last.end))
    };
    let attributes =
        ends(part.attributes.first().map(|first| first.field), part.attributes.last().map(|last| last.field));
    let texts = ends(part.texts.first().map(|first| first.field), part.texts.last().map(|last| last.field));
    let (start, end) = (attributes.0.min(texts.0), attributes.1.max(texts.1));
    if start < end { start as usize..end as usize } else { 0..0 }
}

#[cfg(test)]
mod tests;
