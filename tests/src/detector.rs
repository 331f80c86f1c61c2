//! An agent that watches a node and writes its findings to a file, and what the file must hold.

#![forbid(unsafe_code)]

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::patience::deadline;
use crate::{
    agent::{Agent, Start},
    node::{Node, Pod, pod_list},
    payload::{self, Signal, http1},
    process::Process,
};

const HEALTH: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 13_133);
/// Where the canary's export goes.
const CANARY_PORT: u16 = 4_999;
/// Longest that a finding may take from the packet to the file.
const PATIENCE: Duration = Duration::from_secs(30);

/// The agent with its node's canary.
#[derive(Debug)]
pub struct Detector {
    agent: Agent,
    canary: Pod,
    sink: Process,
    client: String,
}

impl Detector {
    /// Starts an agent in a pod of its own. `plaintext` is the value of `extensions.origin.plaintext`, `client` the
    /// program `pod-client`, `pods` those that it shall know.
    pub fn start(node: &Node, plaintext: &str, client: &str, pods: &[&Pod]) -> Result<Self> {
        let own = node.pod("spanwarden", "agent")?;
        let canary = node.pod("canaries", "canary")?;
        let config = format!(
            "extensions:
  origin:
    cgroup: {}
    evidence: required
    plaintext: {plaintext}
    findings: {{file: findings.jsonl, per_second: 1000000, burst: 1000000}}
    pods: {{file: pods.json}}
  health_check: {{endpoint: '{HEALTH}'}}
receivers:
  otlp: {{protocols: {{grpc: {{endpoint: '0.0.0.0:4317'}}}}}}
exporters:
  file: {{path: spans.json}}
service:
  extensions: [origin, health_check]
  pipelines:
    traces: {{receivers: [otlp], exporters: [file]}}
",
            node.cgroups().path().display()
        );
        let sink = canary.spawn(client, &["drain", &format!("127.0.0.1:{CANARY_PORT}")])?;
        let agent = Start::new(config)
            .place(own.place())
            .file("pods.json", pod_list(pods.iter().copied().chain([&own, &canary])))
            .ready_at(HEALTH)
            .start()?;
        let mut detector = Self { agent, canary, sink, client: client.to_owned() };
        detector.sink.wait_for_line("ready", PATIENCE)?;
        Ok(detector)
    }

    /// The agent.
    pub fn agent(&self) -> &Agent {
        &self.agent
    }

    /// Everything that was found so far, without the canaries. A canary's export is sent now and waited for: what
    /// was to be found before it stands before it in the file, so that nothing can come later.
    pub fn findings(&mut self) -> Result<Vec<Value>> {
        let file = self.agent.directory().join("canary.request");
        fs::write(&file, http1::export(Signal::Traces, &payload::message(10)))?;
        let file = file.to_str().context("a path in UTF-8")?;
        let target = format!("127.0.0.1:{CANARY_PORT}");
        let mut client = self.canary.spawn(&self.client, &["via", "write", &target, file])?;
        let pid = client.wait_for_line("pid ", PATIENCE)?;
        client.wait_success(PATIENCE)?;
        let pid: u64 = pid.split(' ').nth(1).and_then(|pid| pid.parse().ok()).context("a pid")?;
        let path = self.agent.directory().join("findings.jsonl");
        let deadline = deadline(PATIENCE);
        loop {
            let lines = read(&path)?;
            if lines.iter().any(|line| line["pid"] == pid) {
                let of_canary = |line: &Value| line["pod_uid"] == self.canary.uid.as_str();
                return Ok(lines.into_iter().filter(|line| !of_canary(line)).collect());
            }
            if Instant::now() > deadline {
                bail!("the canary ({pid}) was not found; lines: {lines:#?}\nlog:\n{}", self.agent.logs());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The whole lines of the file.
fn read(path: &Path) -> Result<Vec<Value>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    };
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

/// What one connection's line must say.
#[derive(Clone, Debug)]
pub struct Expected {
    /// For messages.
    pub case: String,
    /// Keys and values that must be in the line.
    pub fields: Vec<(&'static str, Value)>,
}

impl Expected {
    /// A connection of this process from `local` to `remote`.
    pub fn new(case: impl Into<String>, pod: &Pod, pid: u32, local: SocketAddr, remote: SocketAddr) -> Self {
        Self { case: case.into(), fields: Vec::new() }
            .with("pod_uid", pod.uid.as_str())
            .with("pid", pid)
            .with("local", canonical(local).to_string())
            .with("remote", canonical(remote).to_string())
    }

    /// With another key.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.fields.push((key, value.into()));
        self
    }

    /// By both addresses: the kernel gives a source port again towards another destination.
    fn is_of(&self, line: &Value) -> bool {
        let addresses = self.fields.iter().filter(|(key, _)| matches!(*key, "local" | "remote"));
        addresses.fold(true, |same, (key, value)| same && line[*key] == *value)
    }
}

/// IPv4 for an IPv4-mapped address.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// One line for each expectation, and no other. All that is wrong is said at once.
pub fn compare(lines: &[Value], expected: &[Expected]) -> Result<()> {
    let mut wrong = Vec::new();
    for expectation in expected {
        let of_it: Vec<&Value> = lines.iter().filter(|line| expectation.is_of(line)).collect();
        let [line] = of_it.as_slice() else {
            wrong.push(format!("{}: {} lines instead of one: {of_it:#?}", expectation.case, of_it.len()));
            continue;
        };
        let differs = |(key, value): &(&'static str, Value)| {
            // Nested keys by a path: /tls_failure/kind.
            let found = if key.starts_with('/') { line.pointer(key) } else { line.get(key) };
            let found = found.unwrap_or(&Value::Null);
            (found != value).then(|| format!("{key} is {found}, not {value}"))
        };
        let differences: Vec<String> = expectation.fields.iter().filter_map(differs).collect();
        if !differences.is_empty() {
            wrong.push(format!("{}: {}", expectation.case, differences.join("; ")));
        }
    }
    let known = |line: &Value| expected.iter().any(|expectation| expectation.is_of(line));
    let unknown = lines.iter().filter(|line| !known(line));
    wrong.extend(unknown.map(|line| format!("this should not be found: {line}")));
    ensure!(wrong.is_empty(), "{} of {} cases and more:\n{}", wrong.len(), expected.len(), wrong.join("\n"));
    Ok(())
}
