//! Which tests a guest runs, and what of the product each of them stands for.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::build::{cargo, target};

/// A suite of `tests/suites` that the kernel has a say in.
pub(super) struct Suite {
    /// Its `[[test]]` name.
    pub(super) name: &'static str,
    /// Parts of names of tests that a guest can't run, because they need another language's programs.
    leave_out: &'static [&'static str],
    /// Parts of names of tests that need something of the kernel, with the fact that says whether it is there.
    needs: &'static [(&'static str, &'static str)],
    /// Parts of names of the tests that stand for the suite when time is short.
    short: &'static [&'static str],
}

/// The program that runs in the guest.
pub(super) const GUEST: &str = "kernel-guest";
/// Seconds that one test may take, on an emulated processor and a machine that has other work too.
const SECONDS: u64 = 600;

pub(super) const SUITES: [Suite; 8] = [
    Suite {
        name: "attribution",
        leave_out: &[],
        needs: &[],
        short: &["agent::", "findings::", "evidence_is_never_more", "paths::ten_thousand"],
    },
    Suite {
        name: "kernel_side",
        // 100,000 connections, and 75,000 at once.
        leave_out: &["flood::a_flood", "crowd::"],
        needs: &[],
        short: &["a_blocked_connection_is_silent", "the_deepest_entry_counts"],
    },
    Suite {
        name: "sending",
        // Programs in Go, Node and Python, and OpenSSL's.
        leave_out: &[
            "nothing_of_go",
            "_of_node",
            "nothing_of_python",
            "nothing_of_openssl",
            "nothing_of_early_data",
            "a_proxy_between",
        ],
        needs: &[("tls_by_the_kernel", "ktls"), ("every_way_of_sending", "mptcp")],
        short: &["every_way_of_sending", "every_kind_of_address"],
    },
    Suite {
        name: "fallback",
        leave_out: &["the_sdk_for_python", "the_sdk_for_go"],
        needs: &[],
        short: &["keys::one_destination"],
    },
    Suite { name: "findings", leave_out: &["flood::"], needs: &[], short: &["every_connection_is_one_line"] },
    Suite {
        name: "enforcement",
        leave_out: &[],
        needs: &[],
        short: &["nothing_of_a_span_arrives", "the_application_gets_an_error_at_once"],
    },
    Suite {
        name: "restart",
        leave_out: &[],
        needs: &[],
        short: &["nothing_of_the_time_without_an_agent_is_lost"],
    },
    Suite { name: "abuse", leave_out: &[], needs: &[], short: &["raw", "relay"] },
];

/// What the matrix says of a kernel.
pub(super) struct Capability {
    pub(super) title: &'static str,
    pub(super) shown_by: ShownBy,
}

/// What shows a capability.
pub(super) enum ShownBy {
    /// Every program passes the verifier, with the privileges that the agent has.
    Load,
    /// Every program can be attached.
    Attach,
    /// A part of a test that prints `measured: PREFIX…` when it has passed.
    Measured(&'static str),
    /// All tests of a suite whose names contain this.
    Tests(&'static str, &'static str),
    /// A fact about the kernel, which may be either.
    Fact(&'static str),
}

pub(super) const CAPABILITIES: [Capability; 21] = [
    Capability { title: "programs load", shown_by: ShownBy::Load },
    Capability { title: "programs attach", shown_by: ShownBy::Attach },
    Capability { title: "attribution: loopback", shown_by: ShownBy::Measured("loopback") },
    Capability { title: "attribution: veth", shown_by: ShownBy::Measured("veth") },
    Capability { title: "attribution: DNAT", shown_by: ShownBy::Measured("DNAT") },
    Capability {
        title: "attribution: DNAT and masquerade",
        shown_by: ShownBy::Measured("DNAT and masquerade"),
    },
    Capability { title: "attribution: SYN cookies", shown_by: ShownBy::Measured("SYN cookies") },
    Capability {
        title: "attribution: forged and reused names",
        shown_by: ShownBy::Tests("attribution", "forgery::"),
    },
    Capability { title: "attribution: the whole agent", shown_by: ShownBy::Tests("attribution", "agent::") },
    Capability { title: "plaintext detection", shown_by: ShownBy::Tests("attribution", "findings::") },
    Capability { title: "plaintext: every way of sending", shown_by: ShownBy::Tests("sending", "") },
    Capability { title: "fallback from TLS", shown_by: ShownBy::Tests("fallback", "") },
    Capability { title: "findings of a running agent", shown_by: ShownBy::Tests("findings", "") },
    Capability { title: "policy, throttling and denial", shown_by: ShownBy::Tests("kernel_side", "") },
    Capability { title: "block", shown_by: ShownBy::Tests("enforcement", "") },
    Capability { title: "pins: restart and upgrade", shown_by: ShownBy::Tests("restart", "") },
    Capability { title: "forgery: sockets, ports, handshakes", shown_by: ShownBy::Tests("abuse", "") },
    Capability { title: "`SO_NETNS_COOKIE`", shown_by: ShownBy::Fact("netns_cookie") },
    Capability { title: "MPTCP", shown_by: ShownBy::Fact("mptcp") },
    Capability { title: "kTLS", shown_by: ShownBy::Fact("ktls") },
    Capability { title: "io_uring", shown_by: ShownBy::Fact("io_uring") },
];

/// What cargo has built.
#[derive(Default)]
pub(super) struct Built {
    /// The suites' binaries, in the order of [`SUITES`].
    suites: Vec<PathBuf>,
    /// The programs that the suites start.
    pub(super) programs: Vec<PathBuf>,
}

impl Built {
    /// Everything that must be in the guest.
    pub(super) fn everything(&self) -> Vec<PathBuf> {
        self.suites.iter().chain(&self.programs).cloned().collect()
    }

    /// The program that runs in the guest.
    pub(super) fn guest(&self) -> Result<&Path> {
        let guest = self.programs.iter().find(|path| path.ends_with(GUEST));
        guest.map(PathBuf::as_path).context("cargo has built no kernel-guest")
    }
}

/// Programs of the workspace that no suite starts.
const NOT_NEEDED: [&str; 3] = ["bench", "demo", "xtask"];

/// Builds the suites and the programs; `object` is embedded instead of the committed one. Of the whole workspace, with
/// the features that this gives the dependencies, so that what `cargo xtask test` has built is not built again.
pub(super) fn build(object: Option<&Path>, wanted: &[&Suite]) -> Result<Built> {
    let mut suites = Vec::new();
    let mut programs = Vec::new();
    let tests: Vec<&str> = wanted.iter().flat_map(|suite| ["--test", suite.name]).collect();
    let run = |arguments: &[&str]| -> Result<Vec<Value>> {
        let mut command = cargo_json(arguments);
        if let Some(object) = object.filter(|_| !wanted.is_empty()) {
            command.env("SPANWARDEN_EBPF_OBJECT", object);
        }
        messages(&mut command)
    };
    println!("==> the suites and the programs they start");
    let mut messages = if wanted.is_empty() {
        run(&["build", "--workspace", "--bin", GUEST])?
    } else {
        run(&["build", "--workspace", "--bins"])?
    };
    if !tests.is_empty() {
        messages.extend(run(&[&["test", "--no-run", "--workspace"][..], &tests].concat())?);
    }
    for message in &messages {
        let (Some(path), Some(name)) = (message["executable"].as_str(), message["target"]["name"].as_str())
        else {
            continue;
        };
        match message["target"]["kind"][0].as_str() {
            Some("test") => suites.push((name.to_owned(), PathBuf::from(path))),
            Some("bin") if !NOT_NEEDED.contains(&name) && !programs.contains(&PathBuf::from(path)) => {
                programs.push(PathBuf::from(path));
            }
            _ => {}
        }
    }
    let binary = |suite: &&Suite| {
        let found = suites.iter().find(|(name, _)| name == suite.name);
        found
            .map(|(_, path)| path.clone())
            .with_context(|| format!("cargo has built no suite {}", suite.name))
    };
    let suites = wanted.iter().map(binary).collect::<Result<_>>()?;
    println!("    below {}", target().display());
    Ok(Built { suites, programs })
}

/// A cargo that says what it has built.
pub(super) fn cargo_json(arguments: &[&str]) -> Command {
    let mut command = cargo();
    command.args(arguments).args(["--locked", "--message-format=json-render-diagnostics"]);
    command
}

/// Runs it.
pub(super) fn messages(command: &mut Command) -> Result<Vec<Value>> {
    let output = command.stderr(Stdio::inherit()).output().context("cannot run cargo")?;
    ensure!(output.status.success(), "{command:?}: {}", output.status);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().map(|line| serde_json::from_str(line).context("cargo's messages")).collect()
}

/// What `kernel-guest` is to run: every test of the suites whose name contains `filter`; or only those that stand for
/// the others.
pub(super) fn plan(wanted: &[&Suite], built: &Built, filter: &str, short: bool) -> Result<Value> {
    let mut suites = Vec::new();
    for (suite, binary) in wanted.iter().zip(&built.suites) {
        let output = Command::new(binary).args(["--list", "--format", "terse"]).output();
        let output = output.with_context(|| binary.display().to_string())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let tests: Vec<Value> = text
            .lines()
            .filter_map(|line| line.strip_suffix(": test"))
            .filter(|name| name.contains(filter) && !suite.leave_out.iter().any(|part| name.contains(part)))
            .filter(|name| !short || suite.short.iter().any(|part| name.contains(part)))
            .map(|name| {
                let needs = suite.needs.iter().find(|(part, _)| name.contains(part)).map(|(_, fact)| fact);
                json!({ "name": name, "needs": needs })
            })
            .collect();
        ensure!(!tests.is_empty() || !filter.is_empty(), "the suite {} has no tests", suite.name);
        suites.push(json!({ "suite": suite.name, "binary": binary, "seconds": SECONDS, "tests": tests }));
    }
    Ok(json!({ "suites": suites, "environment": {} }))
}
