//! `cargo xtask bench`

use std::process::Command;

use anyhow::Result;
use clap::Args;

use crate::build::{cargo, step, target};

/// Arguments of `bench`.
#[derive(Args)]
pub(crate) struct Bench {
    /// Seconds of load for each row of the table
    #[arg(long, default_value_t = 10)]
    seconds: u32,
}

impl Bench {
    pub(crate) fn run(self) -> Result<()> {
        let mut build = cargo();
        build.args([
            "build",
            "--release",
            "--package",
            "spanwarden",
            "--package",
            "spanwarden-tests",
            "--bins",
        ]);
        step("the release build", &mut build)?;
        let release = target().join("release");
        let mut bench = Command::new(release.join("bench"));
        bench.arg(release.join("spanwarden")).arg(self.seconds.to_string());
        step("the benchmark; leave the machine alone meanwhile", &mut bench)
    }
}
