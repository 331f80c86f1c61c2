//! Runs tests of the suites' own binaries, each in a process of its own, with a limit of time.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt as _,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use serde_json::{Map, Value, json};

use crate::{answer, own::Directory};

/// What a test prints to say which part of it has passed.
const MEASURED: &str = "measured: ";
/// Characters of a failed test's output that are kept, from its end.
const SAID: usize = 16_000;

/// Runs what the plan lists; one answer a test.
pub(crate) fn run(plan: &Value, facts: &Map<String, Value>) -> Result<()> {
    let output = Directory::new()?;
    let output = output.path().join("output");
    for suite in plan["suites"].as_array().into_iter().flatten() {
        let name = suite["suite"].as_str().context("a suite without name")?;
        let binary = suite["binary"].as_str().context("a suite without binary")?;
        let limit = Duration::from_secs(suite["seconds"].as_u64().context("a suite without time")?);
        for test in suite["tests"].as_array().into_iter().flatten() {
            let test_name = test["name"].as_str().context("a test without name")?;
            let mut said = json!({ "suite": name, "test": test_name });
            let lacking = test["needs"].as_str().filter(|fact| facts.get(*fact) != Some(&json!(true)));
            if let Some(lacking) = lacking {
                said["outcome"] = json!("unsupported");
                said["lacking"] = json!(lacking);
                answer(&said);
                continue;
            }
            let mut command = Command::new(binary);
            command.args(["--exact", test_name, "--nocapture", "--test-threads=1"]);
            for (key, value) in plan["environment"].as_object().into_iter().flatten() {
                command.env(key, value.as_str().context("a variable that is no text")?);
            }
            let into = File::create(&output)?;
            command.stdin(Stdio::null()).stdout(into.try_clone()?).stderr(into).process_group(0);
            let start = Instant::now();
            let status = within(limit, command.spawn().with_context(|| binary.to_owned())?)?;
            said["ms"] = json!(start.elapsed().as_millis());
            let text = String::from_utf8_lossy(&fs::read(&output)?).into_owned();
            // The first comes right after libtest's `test NAME ... `.
            let measured: Vec<&str> =
                text.lines().filter_map(|line| Some(line.split_once(MEASURED)?.1)).collect();
            said["measured"] = json!(measured);
            // A filter that matches nothing is a success too; it must not count as one.
            let ran = text.lines().any(|line| line.starts_with("test result:") && line.contains(" 1 passed"));
            said["outcome"] = json!(match status {
                Some(status) if status.success() && ran => "ok",
                Some(_) => "failed",
                None => "timeout",
            });
            if said["outcome"] != "ok" {
                let from = text.char_indices().rev().nth(SAID).map_or(0, |(at, _)| at);
                said["output"] = json!(text[from..]);
            }
            answer(&said);
        }
    }
    Ok(())
}

/// The status of a process that has ended by itself; ends it, and what it has started, when it has not.
fn within(limit: Duration, mut child: Child) -> Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() > deadline {
            killpg(Pid::from_raw(child.id().try_into()?), Signal::SIGKILL)?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(5));
    }
}
