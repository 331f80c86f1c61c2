//! A pipeline's processors as stages: neighbours that change spans are one plan.

#![forbid(unsafe_code)]

use crate::{
    auth::claims::Claims,
    config::{Component, Config, ConfigError, processors::Processor, service::Pipeline},
    scrub::Plan,
};

/// A stage of a pipeline.
#[derive(Clone, Debug)]
pub(super) enum Segment<'c> {
    /// Processors that change spans: what one plan does. The first one of a pipeline may have none and is there all the same,
    /// because it checks the request.
    Plan(Vec<&'c Component<Processor>>),
    /// Any other processor.
    Other(&'c Component<Processor>),
}

impl<'c> Segment<'c> {
    /// The processors of a plan.
    pub(super) fn into_plan(self) -> Option<Vec<&'c Component<Processor>>> {
        match self {
            Self::Plan(processors) => Some(processors),
            Self::Other(_) => None,
        }
    }
}

/// A pipeline's stages, in the order in which spans flow: memory limiters, the first plan, the rest.
pub(super) fn segments<'c>(config: &'c Config, pipeline: &Pipeline) -> Vec<Segment<'c>> {
    let processors: Vec<_> = pipeline.processors.iter().filter_map(|id| config.processor(id)).collect();
    let limiters = processors.iter().take_while(|p| matches!(p.config, Processor::MemoryLimiter(_))).count();
    let mut segments: Vec<Segment<'c>> = processors[..limiters].iter().map(|p| Segment::Other(p)).collect();
    segments.push(Segment::Plan(Vec::new()));
    for processor in &processors[limiters..] {
        match segments.last_mut() {
            Some(Segment::Plan(plan)) if changes_spans(processor) => plan.push(processor),
            _ if changes_spans(processor) => segments.push(Segment::Plan(vec![processor])),
            _ => segments.push(Segment::Other(processor)),
        }
    }
    segments
}

/// Everything that a pipeline changes in spans, as one plan, whatever stands between: for a dry run. Without a sender there
/// is no origin to write.
pub fn plan_of(config: &Config, pipeline: &Pipeline) -> Result<Plan, ConfigError> {
    let processors: Vec<_> = pipeline
        .processors
        .iter()
        .filter_map(|id| config.processor(id))
        .filter(|processor| changes_spans(processor))
        .collect();
    Plan::compile(&processors, None::<&Claims>)
}

/// Whether one plan can hold it.
pub(super) fn changes_spans(component: &Component<Processor>) -> bool {
    match component.config {
        Processor::Redaction(_)
        | Processor::Scrub(_)
        | Processor::Transform(_)
        | Processor::Attributes(_)
        | Processor::Resource(_)
        | Processor::Filter(_)
        | Processor::Span(_)
        | Processor::K8sAttributes(_) => true,
        Processor::MemoryLimiter(_) | Processor::Batch(_) | Processor::TailSampling(_) => false,
    }
}
