//! A compiled plan as a stage of the pipeline.
#![forbid(unsafe_code)]

use std::{
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use arc_swap::ArcSwap;

use crate::{
    otlp::{Accepted, Batch, Consumer, Consuming, Refusal},
    scrub::{Plan, PlanScratch},
};

thread_local! {
    /// By [`ScrubStage::number`]: a scratch keeps the caches of one plan's patterns, and would have to build them
    /// anew for another plan's. One plan is applied at a time on a thread, because `Plan::apply` never awaits.
    static SCRATCHES: RefCell<Vec<PlanScratch>> = const { RefCell::new(Vec::new()) };
}

/// Checks and scrubs every batch, then hands it on.
pub(super) struct ScrubStage {
    plan: ArcSwap<Plan>,
    next: Arc<dyn Consumer>,
    number: usize,
}

impl ScrubStage {
    pub(super) fn new(plan: Plan, next: Arc<dyn Consumer>) -> Self {
        static STAGES: AtomicUsize = AtomicUsize::new(0);
        plan.publish();
        Self { plan: ArcSwap::from_pointee(plan), next, number: STAGES.fetch_add(1, Ordering::Relaxed) }
    }

    /// Uses another plan from the next request on. A request that is being scrubbed is scrubbed by the plan before.
    pub(super) fn swap(&self, plan: Plan) {
        plan.publish();
        self.plan.store(Arc::new(plan));
    }

    /// Which plan it uses.
    #[cfg(test)]
    pub(super) fn plan_id(&self) -> usize {
        Arc::as_ptr(&self.plan.load()) as usize
    }

    fn apply(&self, batch: Batch) -> Result<Batch, Refusal> {
        SCRATCHES.with_borrow_mut(|scratches| {
            if scratches.len() <= self.number {
                scratches.resize_with(self.number + 1, PlanScratch::default);
            }
            self.plan.load().apply(batch, &mut scratches[self.number])
        })
    }
}

impl Consumer for ScrubStage {
    fn consume(&self, batch: Batch) -> Consuming<'_> {
        Box::pin(async move {
            let batch = self.apply(batch)?;
            if batch.spans == 0 {
                return Ok(Accepted::default());
            }
            self.next.consume(batch).await
        })
    }
}
