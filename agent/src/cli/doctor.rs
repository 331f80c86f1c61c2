//! `spanwarden doctor`
#![forbid(unsafe_code)]

use std::{fmt::Write as _, path::PathBuf, process::ExitCode};

use clap::{Args, ValueEnum};

use crate::{
    config,
    origin::doctor::{self, Check, Options, Report, Status},
};

/// Says whether kernel evidence works on this machine, check by check, with cause and remedy.
///
/// Run it where the agent will run: on the node, or in the agent's pod (`kubectl exec`). It loads every program,
/// attaches them to the cgroup for a moment, connects to itself over loopback, and looks whether that connection
/// was attributed to it and its plaintext found; then it detaches. Nothing is pinned or left behind, and an agent that
/// runs there already goes on undisturbed (it reports the canary's plaintext, to loopback, as it would anybody's). With
/// --no-attach nothing is attached: everything but attach, canary and findings ring is still checked.
///
/// `ok` works; `warn` works, with a reservation; `fail` does not work, or is needed and could not be checked, for want of
/// privileges as a rule; `skipped` is not needed here.
///
/// Exit code 0: ok or warnings; 1: something fails; 2: bad arguments or a configuration with mistakes.
///
/// Examples:
///   spanwarden doctor                                       as root, with the default cgroup
///   spanwarden doctor --config /etc/spanwarden/config.yaml  what this configuration needs: cgroup, pins, block
///   spanwarden doctor --cgroup /sys/fs/cgroup/unified       where cgroup v1 and v2 are side by side
///   spanwarden doctor --no-attach -o json                   careful, for machines
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Doctor {
    /// The agent's configuration: its `extensions.origin` says the cgroup, the pins, and whether anything blocks.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The cgroup2 directory to attach to; from --config without it, else /sys/fs/cgroup.
    #[arg(long, value_name = "PATH")]
    cgroup: Option<PathBuf>,
    /// Loads the programs but attaches nothing: no canary.
    #[arg(long)]
    no_attach: bool,
    /// How to print it; the keys of `json` are stable.
    #[arg(short, long, value_name = "FORM", value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// Where checks' details begin, and where lines are broken.
const INDENT: usize = 38;
const WIDTH: usize = 118;

impl Doctor {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let extension = match self.config.as_deref().map(config::load) {
            Some(Ok(config)) => config.origin().cloned(),
            Some(Err(error)) => {
                eprintln!("{error}");
                return Ok(ExitCode::from(2));
            }
            None => None,
        };
        if self.config.is_some() && extension.is_none() {
            eprintln!(
                "the configuration has no `extensions.origin`, so it loads nothing into the kernel; checking the defaults"
            );
        }
        let configured = extension.as_ref().map(|extension| extension.cgroup.clone());
        let cgroup = self.cgroup.or(configured).unwrap_or_else(|| PathBuf::from("/sys/fs/cgroup"));
        let report = doctor::run(&Options { cgroup, extension, attach: !self.no_attach });
        match self.output {
            Output::Text => print!("{}", text(&report)),
            Output::Json => println!("{}", serde_json::to_string_pretty(&report)?),
        }
        Ok(if report.outcome == Status::Fail { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

fn text(report: &Report) -> String {
    let mut text = format!(
        "spanwarden {} on Linux {} ({}), cgroup {}\n\n",
        report.version,
        report.kernel,
        report.architecture,
        report.cgroup.display()
    );
    for check in &report.checks {
        entry(&mut text, check);
    }
    let count = |status| report.checks.iter().filter(|check| check.status == status).count();
    let _ = writeln!(
        text,
        "\n{}: {} ok, {} warnings, {} failures, {} skipped",
        verdict(report),
        count(Status::Ok),
        count(Status::Warn),
        count(Status::Fail),
        count(Status::Skipped)
    );
    text
}

fn verdict(report: &Report) -> &'static str {
    let attached = report.checks.iter().any(|check| check.name == "attach" && check.status == Status::Ok);
    match report.outcome {
        Status::Fail => "kernel evidence does not work here",
        _ if !attached => "nothing speaks against kernel evidence here; without --no-attach it is tried",
        Status::Warn => "kernel evidence works here, with reservations",
        Status::Ok | Status::Skipped => "kernel evidence works here",
    }
}

fn entry(text: &mut String, check: &Check) {
    let head = format!("{:<7}  {}", check.status.as_str(), check.name);
    wrapped(text, &head, &check.detail);
    for (word, line) in [("cause", &check.cause), ("remedy", &check.remedy)] {
        if let Some(line) = line {
            wrapped(text, "", &format!("{word}: {line}"));
        }
    }
}

/// `head`, then `body` from column [`INDENT`] on, broken between words.
fn wrapped(text: &mut String, head: &str, body: &str) {
    let mut line = format!("{head:<INDENT$}");
    let mut empty = true;
    for word in body.split_whitespace() {
        if !empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            let _ = writeln!(text, "{}", line.trim_end());
            line = " ".repeat(INDENT);
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    let _ = writeln!(text, "{}", line.trim_end());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_broken_between_words_and_aligned() {
        let mut text = String::new();
        wrapped(&mut text, "ok       name", &"word ".repeat(60));
        assert!(text.lines().count() > 2);
        for (number, line) in text.lines().enumerate() {
            assert!(line.chars().count() <= WIDTH, "{line}");
            assert_eq!(line.find("word"), Some(INDENT));
            assert_eq!(line.starts_with("ok"), number == 0);
        }
    }
}
