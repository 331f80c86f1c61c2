//! What runs in the guests of `cargo xtask kernels`, and beside them on the host: says what the kernel can, loads
//! the programs, and runs the suites it is given one test at a time.
//!
//! ```text
//! kernel-guest PLAN     on a machine that runs already
//! /init                 the guest's first process: makes the machine usable first, powers it off at the end
//! ```
//!
//! The answers are lines of JSON, each after [`MARK`]: facts, programs, tests, and `{"done": true}` at the end.

mod boot;
mod facts;
mod own;
mod programs;
mod suites;

use std::{env, path::Path, process::ExitCode};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Tells an answer from what else gets onto a console.
const MARK: &str = "@@ ";

fn main() -> ExitCode {
    if std::process::id() == 1 {
        boot::as_first_process();
    }
    let result = match env::args().nth(1) {
        Some(plan) => run(Path::new(&plan)),
        None => Err(anyhow::anyhow!("arguments: PLAN")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            answer(&serde_json::json!({ "error": format!("{error:#}") }));
            ExitCode::FAILURE
        }
    }
}

/// One line, at once: the machine may be gone right after.
fn answer(value: &Value) {
    println!("{MARK}{value}");
}

/// Reads the plan that xtask wrote.
fn read(plan: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(plan).with_context(|| plan.display().to_string())?;
    serde_json::from_str(&text).with_context(|| plan.display().to_string())
}

fn run(plan: &Path) -> Result<()> {
    let plan = read(plan)?;
    let facts = facts::of_this_kernel()?;
    answer(&serde_json::json!({ "facts": facts }));
    let Some(object) = plan["object"].as_str() else { bail!("the plan names no object") };
    // Without them every test would only say so again.
    if programs::measure(Path::new(object))? {
        suites::run(&plan, &facts)?;
    }
    answer(&serde_json::json!({ "done": true }));
    Ok(())
}
