//! A compiled plan as a stage of the pipeline.
#![forbid(unsafe_code)]

use std::{cell::RefCell, sync::Arc};

use crate::{
    otlp::{Accepted, Batch, Consumer, Consuming},
    scrub::{Plan, PlanScratch},
};

thread_local! {
    /// One worker thread applies one plan at a time: `Plan::apply` never awaits.
    static SCRATCH: RefCell<PlanScratch> = RefCell::default();
}

/// Checks and scrubs every batch, then hands it on.
pub(super) struct ScrubStage {
    pub(super) plan: Plan,
    pub(super) next: Arc<dyn Consumer>,
}

impl Consumer for ScrubStage {
    fn consume(&self, batch: Batch) -> Consuming<'_> {
        Box::pin(async move {
            let batch = SCRATCH.with_borrow_mut(|scratch| self.plan.apply(batch, scratch))?;
            if batch.spans == 0 {
                return Ok(Accepted::default());
            }
            self.next.consume(batch).await
        })
    }
}
