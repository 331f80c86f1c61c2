//! What the rules of a configuration do to spans that are not on their way: in files, and in backends.
//!
//! `scrub` asks what a plan would change; `scan` asks what should have been changed already. Both take spans request by
//! request, apply one plan, and collect what each rule did, to what and where. Values are only kept where they are asked for.

#![forbid(unsafe_code)]

pub mod input;
pub mod places;
pub mod remote;

pub mod report;

use bytes::Bytes;

use crate::{
    otlp::{Batch, Context, Refusal},
    scrub::{Did, Plan, PlanScratch, Record},
};
use places::Places;
use report::Report;

/// What is asked of the spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// What would the rules change?
    Change,
    /// What did the rules miss, in spans that should have gone through them?
    Leak,
}

/// Applies a plan and keeps the books.
#[derive(Debug)]
pub struct Inspector {
    plan: Plan,
    question: Question,
    values: bool,
    scratch: PlanScratch,
    /// What was found so far.
    pub report: Report,
}

impl Inspector {
    /// For a plan. `values`: keep values for the report; `examples`: how many places of each finding are kept.
    pub fn new(plan: Plan, question: Question, values: bool, examples: usize) -> Self {
        let report = Report::new(plan.rules(), examples);
        Self { plan, question, values, scratch: PlanScratch::default(), report }
    }

    /// The plan's rules.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Looks at one request: a serialised `ExportTraceServiceRequest`. `source` is where it comes from, for the report.
    /// Returns it scrubbed.
    pub fn request(&mut self, source: &str, data: &Bytes) -> Result<Bytes, Refusal> {
        let (scrubbed, mut records) = self.apply(data.clone(), self.values)?;
        if self.question == Question::Leak && !records.is_empty() {
            let (_, again) = self.apply(scrubbed.data.clone(), false)?;
            self.report.undecided += leaks(&mut records, &again);
        }
        let changed = scrubbed.data != *data;
        self.report.request(scrubbed.spans, changed);
        if !records.is_empty() {
            let places = Places::new(&scrubbed.data);
            for record in records {
                self.report.add(source, &record, &places);
            }
        }
        Ok(scrubbed.data)
    }

    fn apply(&mut self, data: Bytes, values: bool) -> Result<(Batch, Vec<Record>), Refusal> {
        let batch = Batch { data, spans: 0, context: Context::default() };
        self.plan.apply_recorded(batch, &mut self.scratch, values)
    }
}

/// Leaves the records that show something stored as it must not be, and says how many others can't be decided.
///
/// A rule that hits its own result again (a hash of a hash) hits whether or not it was applied before, so such a hit says
/// nothing by itself. What was hashed shows itself by its form. What a rule only adds or sets is no leak.
fn leaks(records: &mut Vec<Record>, again: &[Record]) -> u64 {
    let mut undecided = 0;
    records.retain(|record| match record.did {
        Did::Set | Did::Failed => false,
        Did::Hashed if record.hashed_before.is_some() => record.hashed_before == Some(false),
        Did::Hashed | Did::Masked | Did::Removed => {
            let repeats = again.iter().any(|other| {
                other.rule == record.rule && other.kind == record.kind && other.field == record.field
            });
            undecided += u64::from(repeats);
            !repeats
        }
    });
    undecided
}
