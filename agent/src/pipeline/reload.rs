//! New rules while spans flow: a changed configuration file compiles the plans anew and swaps them.
//!
//! What can be swapped is what changes spans, and nothing else: a change of anything beside it keeps what runs, and says
//! that a restart is needed. All plans are compiled before the first one is swapped, so that a file with a mistake
//! changes nothing. A request is scrubbed by one plan from its first byte to its last.
//!
//! Where spans wait between two plans of one pipeline (a batch, a sampler), rules may move from one plan to the other
//! with the change, and what waits would meet them in neither. So no more than one plan of a pipeline is swapped at once.

#![forbid(unsafe_code)]

mod watch;

use std::sync::Arc;

use super::{
    graph::Graph,
    scrub_stage::ScrubStage,
    segments::{Segment, segments},
};
use crate::{
    auth::claims::Claims,
    config::{Component, Config, ConfigError, processors::Processor, shape::Shape},
    scrub::Plan,
};

pub(super) use watch::watch;

/// What came of a configuration that was read again.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It says what the one before says.
    Unchanged,
    /// So many plans were swapped.
    Swapped(usize),
    /// It says what can't be changed while spans flow; nothing was changed.
    RestartNeeded(String),
    /// A plan can't be built; nothing was changed.
    Failed(ConfigError),
}

/// What runs, for holding a new configuration against it.
pub(super) struct Running {
    config: Config,
    shape: Shape,
    /// By pipeline, then in the order in which spans flow.
    plans: Vec<Vec<Arc<ScrubStage>>>,
    stamp: Option<Claims>,
}

/// A plan to be.
struct Change {
    pipeline: usize,
    /// Among the pipeline's plans.
    place: usize,
    plan: Plan,
}

impl Running {
    /// What `graph` was built of.
    pub(super) fn new(config: &Config, shape: Shape, graph: &Graph, stamp: Option<&Claims>) -> Self {
        Self { config: config.clone(), shape, plans: graph.plans.clone(), stamp: stamp.cloned() }
    }

    /// Whether this is what runs.
    pub(super) fn is(&self, shape: &Shape) -> bool {
        *shape == self.shape
    }

    /// Uses a configuration's rules from now on, if that is all that it changes. `all`: also those that say what they
    /// said, because what they read beside the configuration may have changed.
    pub(super) fn apply(&mut self, config: Config, shape: Shape, all: bool) -> Outcome {
        if shape == self.shape && !all {
            return Outcome::Unchanged;
        }
        let beside = self.shape.differences(&shape);
        if !beside.is_empty() {
            return Outcome::RestartNeeded(format!("{} differs", beside.join(", ")));
        }
        let changes = match self.changes(&config, &shape, all) {
            Ok(changes) => changes,
            Err(outcome) => return outcome,
        };
        let count = changes.len();
        for Change { pipeline, place, plan } in changes {
            self.plans[pipeline][place].swap(plan);
        }
        (self.config, self.shape) = (config, shape);
        Outcome::Swapped(count)
    }

    /// Compiles what is to be swapped.
    fn changes(&self, config: &Config, shape: &Shape, all: bool) -> Result<Vec<Change>, Outcome> {
        let mut changes = Vec::new();
        for (pipeline, old) in self.config.service.pipelines.iter().enumerate() {
            // The reader keeps the file's order, which does not matter.
            let Some(new) = config.service.pipelines.iter().find(|new| new.id == old.id) else {
                return Err(Outcome::RestartNeeded(format!("the pipeline {} is gone", old.id)));
            };
            let (old_segments, new_segments) = (segments(&self.config, old), segments(config, new));
            if !self.same_frame(shape, &old_segments, &new_segments) {
                return Err(Outcome::RestartNeeded(format!(
                    "processors of the pipeline {} that don't change spans differ, or stand elsewhere",
                    old.id
                )));
            }
            let mut differing = 0;
            // `same_frame` has seen that they are as many.
            for (place, (old, new)) in plans(old_segments).zip(plans(new_segments)).enumerate() {
                let same = old.len() == new.len()
                    && old
                        .iter()
                        .zip(&new)
                        .all(|(old, new)| old.id == new.id && self.shape.same_processor(shape, &new.id));
                differing += usize::from(!same);
                if !same || all {
                    let stamp = self.stamp.as_ref().filter(|_| place == 0);
                    let plan = Plan::compile(&new, stamp).map_err(Outcome::Failed)?;
                    changes.push(Change { pipeline, place, plan });
                }
            }
            if differing > 1 {
                return Err(Outcome::RestartNeeded(format!(
                    "rules before and after a processor of the pipeline {} that holds spans differ; changed one side at a \
                     time they can be reloaded",
                    old.id
                )));
            }
        }
        Ok(changes)
    }

    /// Whether the stages that are no plans are the same and stand at the same places.
    fn same_frame(&self, shape: &Shape, old: &[Segment<'_>], new: &[Segment<'_>]) -> bool {
        old.len() == new.len()
            && old.iter().zip(new).all(|pair| match pair {
                (Segment::Plan(_), Segment::Plan(_)) => true,
                (Segment::Other(old), Segment::Other(new)) => {
                    old.id == new.id && self.shape.same_processor(shape, &new.id)
                }
                _ => false,
            })
    }
}

/// The plans among a pipeline's stages.
fn plans(segments: Vec<Segment<'_>>) -> impl Iterator<Item = Vec<&Component<Processor>>> {
    segments.into_iter().filter_map(Segment::into_plan)
}

#[cfg(test)]
mod tests;
