//! `debug`: counts to the log.

use super::{Leaf, failure::Failure};
use crate::{
    config::{Component, exporters::DebugExporter},
    otlp::{Accepted, Batch},
};

/// Says how much came by, never what.
pub(super) struct Debug {
    exporter: String,
    normal: bool,
}

impl Debug {
    pub(super) fn new<T>(component: &Component<T>, config: &DebugExporter) -> Self {
        Self { exporter: component.id.to_string(), normal: config.normal }
    }
}

impl Leaf for Debug {
    async fn send(&self, batch: &Batch) -> Result<Accepted, Failure> {
        let exporter = &self.exporter;
        if self.normal {
            let evidence = batch.context.origin.as_ref().map(|o| o.evidence.as_str());
            tracing::info!(exporter, spans = batch.spans, bytes = batch.data.len(), evidence, "traces");
        } else {
            tracing::info!(exporter, spans = batch.spans, "traces");
        }
        Ok(Accepted::default())
    }

    async fn close(&self) {}
}
