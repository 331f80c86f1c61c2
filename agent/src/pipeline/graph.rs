//! The stages of a configuration, wired: each hands its batches to the next.
//!
//! Processors that change spans and stand next to each other become one plan, so that a request is walked once
//! for all of them. Every pipeline has at least one plan, and the first one is what checks a request: nothing
//! passes that was not walked.
#![forbid(unsafe_code)]

use std::{
    collections::{BTreeSet, HashMap},
    future::Future,
    pin::Pin,
    sync::Arc,
    time::Instant,
};

use tokio::runtime::Handle;

use super::{
    admission::Authenticators,
    batch::BatchProcessor,
    fanout::Fanout,
    memory_limiter::MemoryLimiter,
    scrub_stage::ScrubStage,
    segments::{Segment, segments},
};
use crate::{
    auth::claims::Claims,
    config::{
        Component, ComponentId, Config, ConfigError, Errors, exporters, processors::Processor,
        service::Pipeline,
    },
    export::{self, Exporter, StartError},
    otlp::Consumer,
    sampling::TailSampling,
    scrub::Plan,
};

type Draining = Pin<Box<dyn Future<Output = ()> + Send>>;
/// Sends on what one stage holds, until the deadline.
type Drain = Box<dyn FnOnce(Instant) -> Draining + Send>;

/// Everything between the receivers and the network.
pub(super) struct Graph {
    /// What each receiver hands its batches to.
    pub(super) entries: HashMap<ComponentId, Arc<dyn Consumer>>,
    /// The smallest limit of the memory limiters, bytes.
    pub(super) memory_limit: Option<u64>,
    /// The plans of each pipeline, in the configuration's order and that in which spans flow.
    pub(super) plans: Vec<Vec<Arc<ScrubStage>>>,
    /// Processors that hold something, in the order in which spans flow.
    drains: Vec<(ComponentId, Drain)>,
    exporters: HashMap<ComponentId, Arc<dyn Exporter>>,
}

struct Builder<'a> {
    config: &'a Config,
    authenticators: &'a Authenticators,
    /// The runtimes of the workers, for stages with tasks of their own.
    workers: &'a [Handle],
    graph: Graph,
}

impl Graph {
    /// Builds all pipelines. `stamp`: that origins are written onto the resources, and what those may claim. Must be called
    /// inside a runtime that outlives the graph.
    ///
    /// Fails with the first mistake of every component.
    pub(super) fn build(
        config: &Config,
        stamp: Option<&Claims>,
        authenticators: &Authenticators,
        workers: &[Handle],
    ) -> Result<Self, Errors> {
        Self::wire(config, stamp, authenticators, workers).map_err(|first| {
            let all = mistakes(config, authenticators, workers);
            if all.is_empty() { first.into() } else { Errors(all) }
        })
    }

    fn wire(
        config: &Config,
        stamp: Option<&Claims>,
        authenticators: &Authenticators,
        workers: &[Handle],
    ) -> Result<Self, ConfigError> {
        let graph = Graph {
            entries: HashMap::new(),
            memory_limit: None,
            plans: Vec::new(),
            drains: Vec::new(),
            exporters: HashMap::new(),
        };
        let mut builder = Builder { config, authenticators, workers, graph };
        let mut by_receiver: HashMap<&ComponentId, Vec<Arc<dyn Consumer>>> = HashMap::new();
        for pipeline in &config.service.pipelines {
            let entry = builder.pipeline(pipeline, stamp)?;
            for receiver in &pipeline.receivers {
                by_receiver.entry(receiver).or_default().push(Arc::clone(&entry));
            }
        }
        let mut graph = builder.graph;
        graph.drains.reverse(); // they were found from the last stage to the first
        let entries = by_receiver.into_iter().map(|(id, consumers)| (id.clone(), Fanout::of(consumers)));
        graph.entries = entries.collect();
        Ok(graph)
    }

    /// Starts the exporters' own work on the current runtime.
    pub(super) async fn start(&self) -> Result<(), StartError> {
        for exporter in self.exporters.values() {
            exporter.start().await?;
        }
        Ok(())
    }

    /// Sends on what the stages hold, first to last, until the deadline.
    pub(super) async fn drain(self, deadline: Instant) {
        for (id, drain) in self.drains {
            tracing::debug!(processor = %id, "draining");
            drain(deadline).await;
        }
        for (id, exporter) in self.exporters {
            tracing::debug!(exporter = %id, "draining");
            exporter.shutdown(deadline.into()).await;
        }
    }
}

impl Builder<'_> {
    fn pipeline(
        &mut self,
        pipeline: &Pipeline,
        stamp: Option<&Claims>,
    ) -> Result<Arc<dyn Consumer>, ConfigError> {
        let mut next = self.fan_out(pipeline)?;
        let segments = segments(self.config, pipeline);
        let first = segments.iter().position(|segment| matches!(segment, Segment::Plan(_)));
        let mut plans = Vec::new();
        for (place, segment) in segments.iter().enumerate().rev() {
            next = match segment {
                Segment::Plan(processors) => {
                    let stamp = stamp.filter(|_| first == Some(place));
                    let stage = Arc::new(ScrubStage::new(Plan::compile(processors, stamp)?, next));
                    plans.push(Arc::clone(&stage));
                    stage
                }
                Segment::Other(component) => self.stage(component, next)?,
            };
        }
        plans.reverse();
        self.graph.plans.push(plans);
        Ok(next)
    }

    /// One processor that changes no spans, in front of `next`.
    fn stage(
        &mut self,
        component: &Component<Processor>,
        next: Arc<dyn Consumer>,
    ) -> Result<Arc<dyn Consumer>, ConfigError> {
        match &component.config {
            Processor::MemoryLimiter(config) => {
                let limiter = MemoryLimiter::new(&with(component, config), next)?;
                let limit = limiter.limit_bytes();
                self.graph.memory_limit =
                    Some(self.graph.memory_limit.map_or(limit, |lowest| lowest.min(limit)));
                Ok(Arc::new(limiter))
            }
            Processor::Batch(config) => {
                let batch = Arc::new(BatchProcessor::new(&with(component, config), next));
                let held = Arc::clone(&batch);
                self.drain(component, move |left| async move { held.shutdown(left).await });
                Ok(batch)
            }
            Processor::TailSampling(config) => {
                let sampling = Arc::new(TailSampling::on(&with(component, config), next, self.workers)?);
                let held = Arc::clone(&sampling);
                self.drain(component, move |left| async move { held.shutdown(left).await });
                Ok(sampling)
            }
            _ => Ok(Arc::new(ScrubStage::new(Plan::compile(&[component], None)?, next))),
        }
    }

    fn drain<F>(
        &mut self,
        component: &Component<Processor>,
        shutdown: impl FnOnce(std::time::Duration) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let drain: Drain = Box::new(|deadline| {
            Box::pin(shutdown(deadline.saturating_duration_since(Instant::now()))) as Draining
        });
        self.graph.drains.push((component.id.clone(), drain));
    }

    fn fan_out(&mut self, pipeline: &Pipeline) -> Result<Arc<dyn Consumer>, ConfigError> {
        let mut consumers: Vec<Arc<dyn Consumer>> = Vec::new();
        for component in pipeline.exporters.iter().filter_map(|id| self.config.exporter(id)) {
            let exporter = match self.graph.exporters.get(&component.id) {
                Some(exporter) => Arc::clone(exporter),
                None => exporter(component, self.authenticators)?,
            };
            self.graph.exporters.insert(component.id.clone(), Arc::clone(&exporter));
            consumers.push(exporter);
        }
        Ok(Fanout::of(consumers))
    }
}

fn exporter(
    component: &Component<exporters::Exporter>,
    authenticators: &Authenticators,
) -> Result<Arc<dyn Exporter>, ConfigError> {
    export::build_with(component, &|auth| authenticators.credentials(auth))
}

/// What is wrong with each component by itself, in the file's order: who corrects a file wants to see all of it.
fn mistakes(config: &Config, authenticators: &Authenticators, workers: &[Handle]) -> Vec<ConfigError> {
    let nowhere = || Fanout::of(Vec::new());
    let processor = |component: &Component<Processor>| match &component.config {
        Processor::MemoryLimiter(limits) => MemoryLimiter::new(&with(component, limits), nowhere()).err(),
        Processor::TailSampling(policies) => {
            TailSampling::on(&with(component, policies), nowhere(), workers).err()
        }
        Processor::Batch(_) => None,
        _ => Plan::compile(&[component], None).err(),
    };
    let pipelines = &config.service.pipelines;
    let processors: BTreeSet<_> = pipelines.iter().flat_map(|pipeline| &pipeline.processors).collect();
    let exporters: BTreeSet<_> = pipelines.iter().flat_map(|pipeline| &pipeline.exporters).collect();
    let mut found: Vec<ConfigError> = (processors.into_iter())
        .filter_map(|id| processor(config.processor(id)?))
        .chain(exporters.into_iter().filter_map(|id| exporter(config.exporter(id)?, authenticators).err()))
        .collect();
    found.sort_by_key(|error| (error.at.line, error.at.column));
    found
}

/// The same component with the configuration of its own type.
fn with<T: Clone>(component: &Component<Processor>, config: &T) -> Component<T> {
    Component { id: component.id.clone(), at: component.at.clone(), config: config.clone() }
}
