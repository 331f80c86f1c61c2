//! Whether the kernel side works on this very machine, asked of the kernel itself, check by check.
//!
//! Nothing here is inferred from a version number that can be tried instead: every program is loaded, attached, met
//! by a connection and undone. Nothing is pinned, and programs of a running agent are neither replaced nor read.

mod canary;
mod cgroup;
mod hooks;
mod kernel;
mod network;
mod pins;
mod privileges;
mod programs;
mod query;
#[cfg(test)]
mod tests;

use crate::config::extensions::OriginExtension;
use serde::Serialize;
use std::{fs, path::PathBuf};

/// Goes up when a key of [`Report`] changes its meaning or goes; new keys and new checks may come without.
const SCHEMA: u32 = 1;

/// What is to be looked at.
pub struct Options {
    /// The cgroup2 directory where the agent will attach.
    pub cgroup: PathBuf,
    /// `extensions.origin` of the configuration that the agent will run with, where one is given.
    pub extension: Option<OriginExtension>,
    /// Whether programs may be attached to `cgroup` for the moment of the canary.
    pub attach: bool,
}

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Not looked at, because nothing depends on it here; `cause` says why.
    Skipped,
    /// Works.
    Ok,
    /// Works, with a reservation.
    Warn,
    /// Does not work, or is needed and could not be checked.
    Fail,
}

impl Status {
    /// As printed, and as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Skipped => "skipped",
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One check's outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Stable, for scripts: `kernel-version`, `program/origin_connect4`.
    pub name: String,
    /// How it went.
    pub status: Status,
    /// What was found.
    pub detail: String,
    /// Why it is not `ok`.
    pub cause: Option<String>,
    /// What to do about that.
    pub remedy: Option<String>,
    /// Of `program/…`: how many instructions the verifier went through, where the kernel tells it (5.16).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified_instructions: Option<u32>,
}

impl Check {
    fn new(name: impl Into<String>, status: Status, detail: impl Into<String>) -> Self {
        let (name, detail) = (name.into(), detail.into());
        Self { name, status, detail, cause: None, remedy: None, verified_instructions: None }
    }

    fn ok(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(name, Status::Ok, detail)
    }

    fn warn(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(name, Status::Warn, detail)
    }

    fn fail(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(name, Status::Fail, detail)
    }

    /// Nothing depends on it.
    fn skipped(name: impl Into<String>, cause: impl Into<String>) -> Self {
        Self::new(name, Status::Skipped, "not checked").because(cause)
    }

    /// It is needed, and another failure stands before it.
    fn unchecked(name: impl Into<String>, cause: impl Into<String>) -> Self {
        Self::fail(name, "could not be checked").because(cause)
    }

    fn because(self, cause: impl Into<String>) -> Self {
        Self { cause: Some(cause.into()), ..self }
    }

    fn remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..self }
    }
}

/// Everything that was found; its JSON form is `spanwarden doctor -o json`.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Version of this form.
    pub schema: u32,
    /// Version of spanwarden.
    pub version: &'static str,
    /// `uname -r`
    pub kernel: String,
    /// `uname -m`, as this program was compiled for it.
    pub architecture: &'static str,
    /// The directory that was looked at.
    pub cgroup: PathBuf,
    /// The worst of `checks`, `ok` at least.
    pub outcome: Status,
    /// In the order in which they were made.
    pub checks: Vec<Check>,
}

/// Makes every check. Takes some hundred milliseconds, most of it the verifier's.
pub fn run(options: &Options) -> Report {
    let mut checks = kernel::checks();
    checks.extend(privileges::checks(options.extension.as_ref()));
    let root = cgroup::check(&options.cgroup, &mut checks);
    let loads = programs::checks(&mut checks);
    checks.push(hooks::check(root.as_ref(), &loads.names));
    canary::checks(options, root.is_some(), loads.all, &mut checks);
    checks.push(network::fast_open());
    checks.push(network::sock_destroy(options.extension.as_ref()));
    checks.push(pins::check(options.extension.as_ref().and_then(|extension| extension.pin_path.as_deref())));
    Report {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION"),
        kernel: read("/proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".to_owned()),
        architecture: std::env::consts::ARCH,
        cgroup: options.cgroup.clone(),
        outcome: checks.iter().map(|check| check.status).max().unwrap_or(Status::Ok).max(Status::Ok),
        checks,
    }
}

/// A one-line file of `/proc` or `/sys`.
fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}
