//! `spanwarden run`
#![forbid(unsafe_code)]

use std::path::PathBuf;

use clap::Args;

use crate::{config, pipeline, scrub, telemetry};

/// Runs what a configuration says, until SIGTERM or SIGINT; then it drains and ends.
///
/// Scrubbing rules (redaction, transform, attributes and the like) that change in the file are in use a few seconds
/// later, or at once after SIGHUP, without a span being dropped. A file with a mistake, or with a change of anything else, leaves running
/// what runs: the log says why, and `spanwarden_config_stale` is 1.
///
/// Without --config it runs an embedded default: OTLP on localhost:4317 and :4318, scrubbing, tail sampling, kept
/// traces as OTLP JSON lines in ./spanwarden-traces.jsonl, and kernel evidence of the sender where the kernel and
/// the privileges allow it.
#[derive(Args)]
pub(super) struct Run {
    /// The configuration, in the Collector's YAML; the embedded default without it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Prints the embedded default configuration and ends.
    #[arg(long, conflicts_with = "config")]
    print_config: bool,
}

impl Run {
    pub(super) fn run(self) -> anyhow::Result<()> {
        if self.print_config {
            print!("{}", config::DEFAULT);
            return Ok(());
        }
        let (config, shape) = match &self.config {
            Some(path) => config::load_shaped(path)?,
            None => config::default_shaped()?,
        };
        telemetry::process::start();
        let descriptors = telemetry::process::raise_descriptor_limit();
        telemetry::logs::init(&config.service.telemetry.log_level, config.service.telemetry.log_json);
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        for difference in scrub::differences(&config) {
            tracing::info!("{difference}");
        }
        if self.config.is_none() {
            tracing::info!(
                "no --config: running the embedded default (spanwarden run --print-config shows it)"
            );
        }
        match descriptors {
            Ok(limit) => tracing::debug!(limit, "file descriptors"),
            Err(error) => tracing::warn!(%error, "the limit of file descriptors stays as it is"),
        }
        pipeline::run(&config, pipeline::Source { shape, file: self.config })
    }
}
