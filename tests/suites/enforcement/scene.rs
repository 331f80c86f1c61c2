//! A node with an agent that enforces, and a collector elsewhere that keeps every byte it gets.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use spanwarden_tests::patience::deadline;
use spanwarden_tests::{
    agent::{Agent, Directory, Start},
    bpffs::BpfFs,
    certificates,
    node::{Node, Pod, pod_list},
    process::{Place, Process},
};

pub(crate) const EXPORTER: &str = env!("CARGO_BIN_EXE_plain-exporter");
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);
/// In every export of `plain-exporter`.
pub(crate) const CANARY: &str = "canary-4c1f0e5b-of-a-span";
/// The collector, which is the second pod of its node.
pub(crate) const COLLECTOR: &str = "10.244.1.3:4318";
/// Where the collector listens.
pub(crate) const PORTS: [u16; 3] = [4317, 4318, 4319];

const HEALTH: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 13133);
const METRICS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8888);

/// Everything; what ends first stands first.
pub(crate) struct Scene {
    pub(crate) agent: Agent,
    _sink: Process,
    pub(crate) files: Directory,
    pub(crate) collector: Pod,
    pub(crate) agent_pod: Pod,
    pub(crate) node: Node,
    /// For `pin_path`.
    _bpffs: BpfFs,
}

/// What one export came to, as `plain-exporter` tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Export {
    Accepted,
    /// `connect` failed so.
    Connect(String),
    /// The connection ended so, this long after the request was written.
    Failed(String, Duration),
}

impl Export {
    /// Whether the connection was ended under way.
    pub(crate) fn is_ended(&self) -> bool {
        matches!(self, Self::Failed(error, _) if matches!(error.as_str(), "ECONNABORTED" | "ECONNRESET" | "EPIPE"))
    }
}

impl Scene {
    /// Starts an agent with this `plaintext` (YAML; further keys of `origin` may follow in lines of their own), with pods made by `make`, when the
    /// collector runs already, of which it knows those in `listed`.
    pub(crate) fn new<P>(
        plaintext: &str,
        make: impl FnOnce(&Node) -> Result<P>,
        listed: impl Fn(&P) -> Vec<&Pod>,
    ) -> Result<(Self, P)> {
        let bpffs = BpfFs::new()?;
        let node = Node::new()?;
        let (agent_pod, collector) = (node.pod("spanwarden", "agent")?, node.pod("elsewhere", "collector")?);
        let files = certificates::gateway()?;
        let mut command = collector.command(EXPORTER)?;
        command.arg("sink").arg(files.path().join("received")).arg(files.path());
        command.args(PORTS.map(|port| format!("[::]:{port}")));
        let mut sink = Process::spawn("collector", command)?;
        sink.wait_for_line("ready", PATIENCE)?;
        let pods = make(&node)?;
        let known = listed(&pods).into_iter().chain([&agent_pod, &collector]);
        let plaintext = plaintext.replace("PIN_PATH", &bpffs.path().join("spanwarden").display().to_string());
        let agent = Start::new(config(&node, &plaintext, collector.ipv4))
            .place(agent_pod.place())
            .file("pods.json", pod_list(known))
            .ready_at(HEALTH)
            .start()?;
        let mut scene = Self { agent, _sink: sink, files, collector, agent_pod, node, _bpffs: bpffs };
        scene.wait_active(true)?;
        Ok((scene, pods))
    }

    /// The collector over IPv4.
    pub(crate) fn at(&self, port: u16) -> String {
        SocketAddr::new(self.collector.ipv4.into(), port).to_string()
    }

    /// The metrics' line that begins so, without its name.
    pub(crate) fn metric(&self, start: &str) -> Result<Option<u64>> {
        let page = self.agent.get(METRICS, "/metrics")?;
        let line = page.lines().find_map(|line| line.strip_prefix(start)?.strip_prefix(' '));
        Ok(line.and_then(|value| value.parse().ok()))
    }

    /// Waits until the agent says that it enforces, or does not.
    pub(crate) fn wait_active(&mut self, active: bool) -> Result<()> {
        self.wait_metric("spanwarden_enforcement_active", |value| value == Some(u64::from(active)))
    }

    pub(crate) fn wait_metric(&self, start: &str, found: impl Fn(Option<u64>) -> bool) -> Result<()> {
        let deadline = deadline(PATIENCE);
        loop {
            let value = self.metric(start)?;
            if found(value) {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{start}: {value:?} after {PATIENCE:?}\n{}", self.agent.logs());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// How often the canary has arrived in the clear.
    pub(crate) fn arrived(&self) -> Result<usize> {
        let received = fs::read(self.files.path().join("received"))?;
        Ok(received.windows(CANARY.len()).filter(|window| *window == CANARY.as_bytes()).count())
    }

    /// Fails when a part of the canary has arrived.
    pub(crate) fn nothing_arrived(&self) -> Result<()> {
        let received = fs::read(self.files.path().join("received"))?;
        let text = String::from_utf8_lossy(&received);
        ensure!(!text.contains("canary") && !text.contains("/v1/traces"), "this arrived: {text}");
        ensure!(!text.contains("TraceService"), "this arrived: {text}");
        Ok(())
    }

    /// The lines of the file of findings, when there are as many.
    pub(crate) fn findings(&self, count: usize) -> Result<Vec<serde_json::Value>> {
        let path = self.agent.directory().join("findings.jsonl");
        let deadline = deadline(PATIENCE);
        loop {
            let text = fs::read_to_string(&path).unwrap_or_default();
            // The last line may be under way.
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            if whole.lines().count() >= count {
                return whole.lines().map(|line| Ok(serde_json::from_str(line)?)).collect();
            }
            ensure!(Instant::now() < deadline, "{} of {count} findings\n{text}", text.lines().count());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Rewrites the file of pods.
    pub(crate) fn list<'a>(&'a self, pods: impl IntoIterator<Item = &'a Pod>) -> Result<()> {
        let list = pod_list(pods.into_iter().chain([&self.agent_pod, &self.collector]));
        let (path, new) = (self.agent.directory().join("pods.json"), self.agent.directory().join("pods.new"));
        fs::write(&new, list)?;
        Ok(fs::rename(new, path)?)
    }

    /// The directory with certificates.
    pub(crate) fn certificates(&self) -> String {
        self.files.path().display().to_string()
    }

    /// What is configured as the kill switch.
    pub(crate) fn kill_switch(&self) -> PathBuf {
        kill_switch(&self.node)
    }
}

/// Unlike any other test's, and known before the agent has a directory.
fn kill_switch(node: &Node) -> PathBuf {
    let name = node.cgroups().path().file_name().unwrap_or_default().to_string_lossy().into_owned();
    std::env::temp_dir().join(format!("{name}-kill-switch"))
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.kill_switch());
    }
}

fn config(node: &Node, plaintext: &str, collector: Ipv4Addr) -> String {
    let plaintext = plaintext.replace("KILL_SWITCH", &kill_switch(node).display().to_string());
    let findings = if plaintext.contains("findings:") {
        ""
    } else {
        "findings: {file: findings.jsonl, per_second: 1000, burst: 1000}"
    };
    format!(
        "extensions:
  origin:
    cgroup: {}
    plaintext: {plaintext}
    pods: {{file: pods.json}}
    {findings}
  health_check: {{endpoint: '{HEALTH}'}}
receivers:
  otlp: {{protocols: {{http: {{endpoint: '0.0.0.0:4318'}}}}}}
exporters:
  otlphttp: {{endpoint: 'http://{collector}:4318', compression: none}}
service:
  extensions: [origin, health_check]
  pipelines:
    traces: {{receivers: [otlp], exporters: [otlphttp]}}
",
        node.cgroups().path().display()
    )
}

/// Starts an exporter.
pub(crate) fn start(place: &Place, arguments: &[&str]) -> Result<Process> {
    let mut command = place.command(EXPORTER)?;
    command.args(arguments);
    Process::spawn("exporter", command)
}

/// Runs an exporter to its end; its lines.
pub(crate) fn run(place: &Place, arguments: &[&str]) -> Result<Vec<String>> {
    let mut process = start(place, arguments)?;
    process.wait_success(PATIENCE)?;
    // What it said last is on its way to us longer than it lives, on a busy machine.
    let deadline = deadline(PATIENCE);
    loop {
        let mut lines: Vec<String> = process.output().lines().map(str::to_owned).collect();
        if lines.pop_if(|line| line == "end").is_some() {
            return Ok(lines);
        }
        ensure!(Instant::now() < deadline, "the exporter did not say all: {lines:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs an exporter to its end; what its exports came to.
pub(crate) fn export(place: &Place, arguments: &[&str]) -> Result<Vec<Export>> {
    run(place, arguments)?.iter().map(|line| parse(line)).collect()
}

/// One export.
pub(crate) fn once(place: &Place, protocol: &str, target: &str) -> Result<Export> {
    let exports = export(place, &[protocol, target, "1"])?;
    exports.into_iter().next().context("the exporter said nothing")
}

fn parse(line: &str) -> Result<Export> {
    let words: Vec<&str> = line.split(' ').collect();
    match words.as_slice() {
        [_, "accepted"] => Ok(Export::Accepted),
        [_, "connect", error] => Ok(Export::Connect((*error).to_owned())),
        [_, "failed", error, micros] => {
            Ok(Export::Failed((*error).to_owned(), Duration::from_micros(micros.parse()?)))
        }
        _ => bail!("what is this? {line}"),
    }
}
