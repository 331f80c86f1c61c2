//! `tail_sampling`, `batch` and `memory_limiter` from outside, with the clock stopped.

#[path = "sampling/batching.rs"]
mod batching;
#[path = "sampling/documents.rs"]
mod documents;
#[path = "sampling/model.rs"]
mod model;
#[path = "sampling/properties.rs"]
mod properties;
#[path = "sampling/single.rs"]
mod single;
#[path = "sampling/spans.rs"]
mod spans;

use std::{future::Future, time::Duration};

use spanwarden::config::{
    self, Component,
    processors::{Processor, TailSampling},
};

/// Runs a test on one thread with the clock stopped: waiting takes no time.
fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(test)
}

/// Lets time pass, and everything happen that is due.
async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

/// The only processor of a kind in a configuration.
fn processor<T>(text: &str, pick: impl Fn(Processor) -> Option<T>) -> Component<T> {
    let config = config::parse(text, "test.yaml").unwrap_or_else(|errors| panic!("{errors}\n{text}"));
    let mut found = config.processors.into_iter().filter_map(|component| {
        Some(Component { id: component.id, at: component.at, config: pick(component.config)? })
    });
    found.next().expect("the configuration has this processor")
}

fn tail_sampling(text: &str) -> Component<TailSampling> {
    processor(text, |processor| match processor {
        Processor::TailSampling(config) => Some(config),
        _ => None,
    })
}

/// A configuration with this one processor, whose keys are in `body`, a flow mapping without its braces.
fn pipeline(kind: &str, body: &str) -> String {
    format!(
        "receivers: {{otlp: {{protocols: {{grpc: {{}}}}}}}}\n\
         processors: {{{kind}: {{{body}}}}}\n\
         exporters: {{debug: {{}}}}\n\
         service: {{pipelines: {{traces: {{receivers: [otlp], processors: [{kind}], exporters: [debug]}}}}}}\n"
    )
}
