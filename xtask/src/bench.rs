//! `cargo xtask bench`

use std::{path::PathBuf, process::Command};

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::{
    build::{cargo, step, target},
    setup,
};

/// Arguments of `bench`.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Bench {
    /// Seconds of load for each row of the table
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    #[command(subcommand)]
    other: Option<Other>,
}

#[derive(Subcommand)]
enum Other {
    /// What admission adds to the span path: two agents in turns, with it and without
    Admission,
    /// What a sender can make scrubbing cost, in costs of benign spans; fails above 20
    Adversary,
    /// What the kernel programs cost: per packet, per connection, and in requests a second (root)
    Kernel {
        /// Seconds of each part: five flows, two kinds of connections; each of four loads takes twice as long
        #[arg(long, default_value_t = 20)]
        seconds: u32,
        /// The loads alone
        #[arg(long)]
        load: bool,
    },
    /// Precision and recall of the built-in detectors, and false positives in benign spans
    Pii {
        /// Planted for each detector
        #[arg(long, default_value_t = 2000)]
        positives: u32,
        /// Benign spans
        #[arg(long, default_value_t = 1_000_000)]
        benign: u32,
        /// Of the corpora
        #[arg(long, default_value_t = 1)]
        seed: u32,
    },
}

impl Bench {
    pub(crate) fn run(self) -> Result<()> {
        match self.other {
            Some(Other::Kernel { seconds, load }) => kernel(seconds, load),
            Some(Other::Admission) => admission(),
            Some(Other::Pii { positives, benign, seed }) => pii([positives, benign, seed]),
            Some(Other::Adversary) => adversary(),
            None => spans(self.seconds),
        }
    }
}

fn spans(seconds: u32) -> Result<()> {
    let release = released()?;
    let mut bench = Command::new(release.join("bench"));
    bench.arg(release.join("spanwarden")).arg(seconds.to_string());
    step("the benchmark; leave the machine alone meanwhile", &mut bench)
}

fn admission() -> Result<()> {
    let release = released()?;
    let mut bench = Command::new(release.join("bench"));
    bench.arg("admission").arg(release.join("spanwarden"));
    step("the benchmark, about two minutes; leave the machine alone meanwhile", &mut bench)
}

fn adversary() -> Result<()> {
    let release = released()?;
    let mut bench = Command::new(release.join("bench"));
    bench.arg("adversary");
    step("the search for expensive spans, about two minutes; leave the machine alone meanwhile", &mut bench)
}

/// The folder of the release build.
fn released() -> Result<PathBuf> {
    let mut build = cargo();
    build.args(["build", "--release", "--package", "spanwarden", "--package", "spanwarden-tests", "--bins"]);
    step("the release build", &mut build)?;
    Ok(target().join("release"))
}

fn kernel(seconds: u32, load: bool) -> Result<()> {
    let go_load = setup::go_load()?;
    let mut build = cargo();
    build.args(["build", "--release", "--package", "spanwarden-tests", "--bin", "kernel-bench"]);
    step("the release build", &mut build)?;
    let mut bench = Command::new(target().join("release/kernel-bench"));
    bench.arg(seconds.to_string()).args(load.then_some("load")).env("SPANWARDEN_GO_LOAD", go_load);
    step("the benchmark of the kernel programs; leave the machine alone meanwhile", &mut bench)
}

fn pii(arguments: [u32; 3]) -> Result<()> {
    let mut build = cargo();
    build.args(["build", "--release", "--package", "spanwarden-tests", "--bin", "pii"]);
    step("the release build", &mut build)?;
    let mut bench = Command::new(target().join("release/pii"));
    bench.args(arguments.map(|argument| argument.to_string()));
    step("precision and recall", &mut bench)
}
