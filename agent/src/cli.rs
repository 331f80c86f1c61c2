//! The command line: one file a subcommand.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod doctor;
mod findings;
mod run;
mod scan;
mod scrub;
mod validate;

/// Receives OpenTelemetry spans, learns from the kernel who sent them, scrubs, routes, samples and exports them.
///
/// Agent and gateway are two configurations of this program, in the OpenTelemetry Collector's YAML.
/// Start with `spanwarden run --print-config`.
#[derive(Parser)]
#[command(name = "spanwarden", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(run::Run),
    Validate(validate::Validate),
    Doctor(doctor::Doctor),
    Scrub(scrub::Scrub),
    Scan(Box<scan::Scan>),
}

/// Parses the arguments, runs, and says with the exit code how it went: 0 well, 1 failed, 2 bad arguments. Commands
/// that answer a question (`scrub`, `scan`) say the answer with 0 or 1, and failures with 2, as `diff` does.
pub fn main() -> ExitCode {
    let command = Cli::parse().command;
    let failure = match command {
        Command::Scrub(_) | Command::Scan(_) => ExitCode::from(2),
        _ => ExitCode::FAILURE,
    };
    let outcome = match command {
        Command::Run(run) => run.run().map(|()| ExitCode::SUCCESS),
        Command::Validate(validate) => validate.run().map(|()| ExitCode::SUCCESS),
        Command::Doctor(doctor) => doctor.run(),
        Command::Scrub(scrub) => scrub.run(),
        Command::Scan(scan) => scan.run(),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{}", chain(&error));
            failure
        }
    }
}

/// The error and its causes on one line, without those that an outer message already quotes.
fn chain(error: &anyhow::Error) -> String {
    let mut line = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !line.contains(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    line
}
