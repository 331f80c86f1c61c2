//! A node with an agent that writes findings to a file, and pods that send in the clear.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use spanwarden_tests::patience::deadline;
use spanwarden_tests::{
    agent::{Agent, Start},
    node::{Node, Pod},
    process::{Place, Process},
};

pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
pub(crate) const CLIENT: &str = env!("CARGO_BIN_EXE_raw-client");
const SINK: &str = env!("CARGO_BIN_EXE_pod-client");
const HEALTH: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 13133);
const METRICS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8888);

/// The port on which the agent receives.
pub(crate) const PORT: u16 = 4318;

/// What to say about findings; the rest of the configuration is always the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Setup {
    /// Lines of `extensions.origin`, six spaces deep under their key.
    pub(crate) origin: String,
    /// `findings.file`; `findings.jsonl` in the agent's directory without one.
    pub(crate) file: Option<PathBuf>,
    /// Pods and Services, as the API has them.
    pub(crate) listed: Vec<Value>,
    /// `SPANWARDEN_OWN_ADDRESSES`
    pub(crate) own: String,
}

pub(crate) fn config(node: &Node, setup: &Setup) -> String {
    let file = setup.file.as_ref().map_or("findings.jsonl".into(), |path| path.display().to_string());
    format!(
        "extensions:
  origin:
    cgroup: {}
    pods: {{file: pods.json}}
    findings:
      file: {file}
{}
  health_check: {{endpoint: '{HEALTH}'}}
receivers:
  otlp: {{protocols: {{http: {{endpoint: '[::]:{PORT}'}}}}}}
exporters:
  debug:
service:
  extensions: [origin, health_check]
  telemetry: {{logs: {{encoding: json}}}}
  pipelines:
    traces: {{receivers: [otlp], exporters: [debug]}}
",
        node.cgroups().path().display(),
        setup.origin
    )
}

/// An agent that runs, and its file of findings.
pub(crate) struct Running {
    pub(crate) agent: Agent,
    pub(crate) file: PathBuf,
}

impl Running {
    pub(crate) fn start(node: &Node, place: &Place, setup: &Setup) -> Result<Self> {
        let pods = serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": setup.listed });
        let agent = Start::new(config(node, setup))
            .place(place)
            .file("pods.json", pods.to_string())
            .env("SPANWARDEN_OWN_ADDRESSES", &setup.own)
            .ready_at(HEALTH)
            .start()?;
        let file = setup.file.clone().unwrap_or_else(|| agent.directory().join("findings.jsonl"));
        Ok(Self { agent, file })
    }

    /// The lines of the file once there are `count` of them; more are a fault of the test's expectation, and what
    /// comes shortly after is waited for, so that they show.
    pub(crate) fn lines(&self, count: usize) -> Result<Vec<Value>> {
        let deadline = deadline(PATIENCE);
        while read(&self.file)?.len() < count {
            if Instant::now() > deadline {
                let lines = read(&self.file)?;
                bail!("{} lines instead of {count}: {lines:#?}\n{}", lines.len(), self.agent.logs());
            }
            thread::sleep(Duration::from_millis(20));
        }
        thread::sleep(Duration::from_millis(500));
        let lines = read(&self.file)?;
        ensure!(lines.len() == count, "{} lines instead of {count}: {lines:#?}", lines.len());
        Ok(lines)
    }

    /// The value of a metric, given as it is written: `name{label="value"}`.
    pub(crate) fn metrics(&self) -> Result<BTreeMap<String, u64>> {
        let text = self.agent.get(METRICS, "/metrics")?;
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let samples = samples.filter_map(|line| line.rsplit_once(' '));
        Ok(samples.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect())
    }

    /// Waits until a metric has reached a value.
    pub(crate) fn wait_for(&self, metric: &str, least: u64) -> Result<()> {
        let deadline = deadline(PATIENCE);
        loop {
            let metrics = self.metrics()?;
            if metrics.get(metric).is_some_and(|value| *value >= least) {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{metric} is not {least}: {metrics:#?}\n{}", self.agent.logs());
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Every finding is accounted for: delivered, lost or throttled in the kernel, and read.
    pub(crate) fn reconcile(&self) -> Result<BTreeMap<String, u64>> {
        let deadline = deadline(PATIENCE);
        loop {
            let metrics = self.metrics()?;
            let of = |outcome: &str| event(&metrics, outcome);
            if of("seen") == of("delivered") + of("full") + of("throttled") && of("delivered") == of("read") {
                return Ok(metrics);
            }
            ensure!(Instant::now() < deadline, "events do not add up: {metrics:#?}");
            thread::sleep(Duration::from_millis(100));
        }
    }
}

/// `spanwarden_bpf_events{outcome="…"}`
pub(crate) fn event(metrics: &BTreeMap<String, u64>, outcome: &str) -> u64 {
    metrics.get(&format!("spanwarden_bpf_events{{outcome=\"{outcome}\"}}")).copied().unwrap_or_default()
}

/// The lines of a file, each of which must be JSON without a control character.
pub(crate) fn read(file: &std::path::Path) -> Result<Vec<Value>> {
    let bytes = fs::read(file).with_context(|| file.display().to_string())?;
    let text = String::from_utf8(bytes)?;
    // A line without its end is still being written.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole
        .lines()
        .map(|line| {
            ensure!(!line.chars().any(char::is_control), "a control character: {line:?}");
            serde_json::from_str(line).with_context(|| format!("{line:?}"))
        })
        .collect()
}

/// Accepts on `address` of `place` and reads what comes.
pub(crate) fn sink(place: &Place, address: SocketAddr) -> Result<Process> {
    let mut command = place.command(SINK)?;
    command.args(["drain", &address.to_string()]);
    let mut sink = Process::spawn("sink", command)?;
    sink.wait_for_line("ready", PATIENCE)?;
    Ok(sink)
}

/// What a client says about itself.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) pid: u32,
    pub(crate) local: String,
}

/// Sends `payload` from `place`, under the client's own name or another one.
pub(crate) fn send(place: &Place, target: SocketAddr, payload: &[u8], comm: Option<&[u8]>) -> Result<Sent> {
    let mut command = place.command(CLIENT)?;
    command.args(["send", &target.to_string(), &hex(payload)]);
    command.args(comm.map(hex));
    sent(command)
}

/// Sends these packets over one connection.
pub(crate) fn send_parts(place: &Place, target: SocketAddr, parts: &[&[u8]]) -> Result<Sent> {
    let mut command = place.command(CLIENT)?;
    command.args(["parts", &target.to_string()]);
    command.args(parts.iter().map(|part| hex(part)));
    sent(command)
}

fn sent(command: std::process::Command) -> Result<Sent> {
    let mut client = Process::spawn("raw-client", command)?;
    let line = client.wait_for_line("pid ", PATIENCE)?;
    client.wait_success(PATIENCE)?;
    let fields: Vec<&str> = line.split(' ').collect();
    let ["pid", pid, "local", local] = fields.as_slice() else { bail!("{line}") };
    Ok(Sent { pid: pid.parse()?, local: (*local).to_owned() })
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

pub(crate) fn post(path: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nHost: c\r\nContent-Type: application/x-protobuf\r\nContent-Length: 2\r\n\r\n\n\0"
    )
    .into_bytes()
}

/// An HTTP/2 request: preface, SETTINGS, HEADERS with a literal `:path`.
pub(crate) fn h2(path: &str) -> Vec<u8> {
    let length = u8::try_from(path.len()).unwrap_or(u8::MAX);
    // `:method: POST` and `:scheme: http` are in the static table (RFC 7541 appendix A), `:path` is its name 4.
    let mut block = vec![0x83, 0x86, 0x04, length];
    block.extend_from_slice(path.as_bytes());
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    bytes.extend([0, 0, block.len() as u8, 0x01, 0x04, 0, 0, 0, 1]);
    bytes.extend(block);
    bytes
}

/// The address that a finding writes.
pub(crate) fn at(address: impl Into<IpAddr>, port: u16) -> SocketAddr {
    SocketAddr::new(address.into(), port)
}

/// A pod's path below the watched root.
pub(crate) fn cgroup_of(node: &Node, pod: &Pod) -> Result<String> {
    let cgroup = pod.place().cgroup.as_ref().context("a cgroup")?;
    Ok(format!("/{}", cgroup.strip_prefix(node.cgroups().path())?.display()))
}
