//! `spanwarden validate`
#![forbid(unsafe_code)]

use std::path::PathBuf;

use clap::Args;

use crate::{config, pipeline};

/// Says whether a configuration would start, and every mistake in it if not.
///
/// Everything is read and compiled (patterns, statements, policies, certificates) but nothing is bound, attached
/// or connected. Exit code 0: it would start; 1: it would not.
#[derive(Args)]
pub(super) struct Validate {
    /// The configuration, in the Collector's YAML.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

impl Validate {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let config = config::load(&self.config)?;
        for warning in &config.warnings {
            eprintln!("warning: {warning}");
        }
        pipeline::check(&config)?;
        let pipelines: Vec<String> = config.service.pipelines.iter().map(|p| p.id.to_string()).collect();
        println!("{}: would start; pipelines: {}", self.config.display(), pipelines.join(", "));
        Ok(())
    }
}
