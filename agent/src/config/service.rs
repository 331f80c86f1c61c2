//! `service:`

use super::{ComponentId, Location};

/// `service:`
#[derive(Clone, Debug)]
pub struct Service {
    /// Enabled extensions, in order.
    pub extensions: Vec<ComponentId>,
    /// `pipelines:`; only `traces` and `traces/…` exist yet.
    pub pipelines: Vec<Pipeline>,
    /// `telemetry:`
    pub telemetry: Telemetry,
}

/// One pipeline.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// `traces` or `traces/name`
    pub id: ComponentId,
    /// Where it stands.
    pub at: Location,
    /// At least one.
    pub receivers: Vec<ComponentId>,
    /// In order.
    pub processors: Vec<ComponentId>,
    /// At least one.
    pub exporters: Vec<ComponentId>,
}

/// `telemetry:`
#[derive(Clone, Debug)]
pub struct Telemetry {
    /// `host:port` of `/metrics`: `metrics.address` or the pull reader's `host` and `port`; default
    /// `localhost:8888`; `None` when `metrics.level` is `none`.
    pub metrics: Option<String>,
    /// Whether the configuration names the metrics endpoint, so that a port in use is an error and not a warning.
    pub metrics_explicit: bool,
    /// `logs.level`; default `info`
    pub log_level: String,
    /// `logs.encoding: json`; default is text.
    pub log_json: bool,
}
