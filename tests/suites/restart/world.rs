//! A node with an agent that pins, a pod that sends and one that receives.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use spanwarden_tests::patience::deadline;
use spanwarden_tests::{
    agent::{Agent, Directory, Start},
    bpffs::BpfFs,
    node::{Node, Pod, pod_list},
    process::Process,
};

pub(crate) const CLIENT: &str = env!("CARGO_BIN_EXE_restart-client");
const SINK: &str = env!("CARGO_BIN_EXE_pod-client");
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
const HEALTH: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 13133);
const METRICS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8888);
/// Where the collector listens: a port that says nothing.
const PORT: u16 = 18_080;

/// Everything but the agent; fields go in this order.
pub(crate) struct World {
    _sink: Process,
    pub(crate) web: Pod,
    agent: Pod,
    collector: Pod,
    files: Directory,
    pub(crate) node: Node,
    bpffs: BpfFs,
}

/// A connection as its client tells it.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) pid: u64,
    pub(crate) local: String,
}

impl World {
    pub(crate) fn new() -> Result<Self> {
        let bpffs = BpfFs::new()?;
        let node = Node::new()?;
        let (agent, web) = (node.host_network_pod("spanwarden", "agent")?, node.pod("shop", "web")?);
        let collector = node.pod("elsewhere", "collector")?;
        let files = Directory::new()?;
        fs::write(files.path().join("pods.json"), pod_list([&agent, &web, &collector]))?;
        let mut sink = collector.spawn(SINK, &["drain", &format!("[::]:{PORT}")])?;
        sink.wait_for_line("ready", PATIENCE)?;
        Ok(Self { _sink: sink, web, agent, collector, files, node, bpffs })
    }

    /// `extensions.origin.pin_path`.
    pub(crate) fn pin_path(&self) -> PathBuf {
        self.bpffs.path().join("spanwarden")
    }

    /// The only directory of pins.
    pub(crate) fn pins(&self) -> Result<PathBuf> {
        let mut entries = fs::read_dir(self.pin_path())?.collect::<Result<Vec<_>, _>>()?;
        let only = entries.pop().context("no pins")?;
        ensure!(entries.is_empty(), "more than one directory of pins: {entries:?} and {only:?}");
        Ok(only.path())
    }

    pub(crate) fn target(&self) -> String {
        SocketAddr::new(self.collector.ipv4.into(), PORT).to_string()
    }

    fn findings_file(&self) -> PathBuf {
        self.files.path().join("findings.jsonl")
    }

    /// How to start an agent; ready when [`Agent`] is there.
    pub(crate) fn start(&self, pinned: bool) -> Start {
        let path = self.pin_path();
        self.start_at(pinned.then_some(path.as_path())).ready_at(HEALTH)
    }

    /// An agent that pins there, not waited for.
    pub(crate) fn start_at(&self, pin_path: Option<&Path>) -> Start {
        let pin = pin_path.map(|path| format!("pin_path: {}", path.display())).unwrap_or_default();
        let config = format!(
            "extensions:
  origin:
    cgroup: {}
    evidence: required
    {pin}
    # Nobody's namespace: only so that the helper which ends connections is there as well.
    plaintext: {{rules: [{{mode: block, namespaces: [nobody]}}]}}
    pods: {{file: {}}}
    findings: {{file: {}, per_second: 100000, burst: 100000}}
  health_check: {{endpoint: '{HEALTH}'}}
receivers:
  otlp: {{protocols: {{http: {{endpoint: '0.0.0.0:4318'}}}}}}
exporters:
  file: {{path: spans.json}}
service:
  extensions: [origin, health_check]
  pipelines:
    traces: {{receivers: [otlp], exporters: [file]}}
",
            self.node.cgroups().path().display(),
            self.files.path().join("pods.json").display(),
            self.findings_file().display(),
        );
        Start::new(config).place(self.agent.place())
    }

    /// An agent with pins.
    pub(crate) fn agent(&self) -> Result<Agent> {
        self.start(true).start()
    }

    /// One connection in plaintext.
    pub(crate) fn send(&self) -> Result<Connection> {
        let mut client = self.late()?;
        let connection = opened(&mut client)?;
        finish(&mut client)?;
        Ok(connection)
    }

    /// A client whose connection is open and has sent nothing.
    pub(crate) fn late(&self) -> Result<Process> {
        self.web.spawn(CLIENT, &["late", &self.target(), "http1"])
    }

    /// All findings so far, by the sender's address.
    pub(crate) fn findings(&self) -> Result<BTreeMap<String, Vec<Value>>> {
        let mut found = BTreeMap::<_, Vec<_>>::new();
        for line in fs::read_to_string(self.findings_file()).unwrap_or_default().lines() {
            let finding: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
            let local = finding["local"].as_str().context("local")?.to_owned();
            found.entry(local).or_default().push(finding);
        }
        Ok(found)
    }

    /// Waits for the finding of each connection: one, with its whole origin.
    pub(crate) fn expect(&self, connections: &[Connection]) -> Result<()> {
        let deadline = deadline(PATIENCE);
        loop {
            let found = self.findings()?;
            let missing: Vec<_> =
                connections.iter().filter(|connection| !found.contains_key(&connection.local)).collect();
            if missing.is_empty() {
                return connections
                    .iter()
                    .try_for_each(|connection| self.is_right(connection, &found[&connection.local]));
            }
            if Instant::now() > deadline {
                bail!("{} of {} not found: {missing:?}", missing.len(), connections.len());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn is_right(&self, connection: &Connection, found: &[Value]) -> Result<()> {
        let [finding] = found else { bail!("{connection:?} is found more than once: {found:#?}") };
        ensure!(finding["pid"] == connection.pid, "{connection:?}: {finding:#}");
        ensure!(finding["pod_uid"] == self.web.uid.as_str(), "{connection:?}: {finding:#}");
        ensure!(finding["comm"] == "restart-client", "{connection:?}: {finding:#}");
        ensure!(finding["remote"] == self.target().as_str(), "{connection:?}: {finding:#}");
        ensure!(finding["proof"] == "path" && finding["signal"] == "traces", "{connection:?}: {finding:#}");
        Ok(())
    }
}

/// The next connection of a client.
pub(crate) fn opened(client: &mut Process) -> Result<Connection> {
    parse(&client.wait_for_line("open ", PATIENCE)?)
}

pub(crate) fn parse(line: &str) -> Result<Connection> {
    let fields: Vec<&str> = line.split(' ').collect();
    let ["open", pid, local] = fields.as_slice() else { bail!("a client said {line:?}") };
    Ok(Connection { pid: pid.parse()?, local: (*local).to_owned() })
}

/// Makes a late client send, and waits for its end.
pub(crate) fn finish(client: &mut Process) -> Result<()> {
    client.say("go")?;
    client.wait_for_line("sent", PATIENCE)?;
    client.wait_success(PATIENCE)
}

/// `kill -9`.
pub(crate) fn kill(mut agent: Agent) -> Result<()> {
    agent.process().signal(Signal::SIGKILL)?;
    agent.process().wait(PATIENCE)?;
    Ok(())
}

/// What became of the pins at this agent's start, by its metrics.
pub(crate) fn result_of(agent: &Agent) -> Result<String> {
    let results: Vec<String> =
        samples(agent, "spanwarden_origin_pins")?.into_iter().map(|(labels, _)| labels).collect();
    let [only] = results.as_slice() else { bail!("not one result: {results:?}") };
    let value = only.strip_prefix("result=\"").and_then(|rest| rest.strip_suffix('"'));
    value.map(str::to_owned).with_context(|| only.clone())
}

/// One of `spanwarden_bpf_events`; 0 when it was never counted.
pub(crate) fn events(agent: &Agent, outcome: &str) -> Result<u64> {
    let label = format!("outcome=\"{outcome}\"");
    let samples = samples(agent, "spanwarden_bpf_events")?;
    Ok(samples.into_iter().find(|(labels, _)| *labels == label).map_or(0, |(_, value)| value))
}

/// Labels and values of a family of counters.
fn samples(agent: &Agent, family: &str) -> Result<Vec<(String, u64)>> {
    let metrics = agent.get(METRICS, "/metrics")?;
    let mut found = Vec::new();
    for line in metrics.lines() {
        let Some(rest) = line.strip_prefix(family) else { continue };
        let rest = rest.strip_prefix("_total").unwrap_or(rest);
        let Some((labels, value)) = rest.strip_prefix('{').and_then(|rest| rest.split_once("} ")) else {
            continue;
        };
        found.push((labels.to_owned(), value.parse()?));
    }
    Ok(found)
}

/// Waits until `holds`.
pub(crate) fn wait_for(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = deadline(PATIENCE);
    while !holds()? {
        ensure!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// A copy of the agent that has other programs in it, as another version would: the embedded object is found by its
/// ELF header, and in each program the first `rX = N` is written `wX = N`, which does the same.
pub(crate) fn another_version(to: &Path) -> Result<()> {
    const EM_BPF: u16 = 247;
    let mut program = fs::read(spanwarden_tests::agent::binary()?)?;
    let header = regex::bytes::Regex::new(r"(?-u)\x7fELF\x02\x01\x01")?;
    let is_bpf = |at: &usize| program.get(at + 18..at + 20) == Some(&EM_BPF.to_le_bytes()[..]);
    let starts: Vec<usize> = header.find_iter(&program).map(|found| found.start()).filter(is_bpf).collect();
    let [start] = starts.as_slice() else { bail!("{} BPF objects in the program", starts.len()) };
    let object = &mut program[*start..];
    // elf(5): e_shoff, e_shnum; of each header of 64 bytes sh_flags with SHF_EXECINSTR (4), sh_offset, sh_size.
    let (headers, count) = (number(object, 40, 8)?, number(object, 60, 2)?);
    let mut changed = 0;
    for header in (0..count).map(|section| headers + 64 * section) {
        if number(object, header + 8, 8)? & 4 == 0 {
            continue;
        }
        let (at, size) = (number(object, header + 24, 8)?, number(object, header + 32, 8)?);
        let code = object.get_mut(at..at + size).context("a short object")?;
        // BPF_ALU64 | BPF_MOV | BPF_K; no source register, no offset, a number that is not negative.
        let mov =
            code.chunks_exact_mut(8).find(|i| i[0] == 0xb7 && i[1] < 10 && i[2..4] == [0, 0] && i[7] < 0x80);
        if let Some(mov) = mov {
            mov[0] = 0xb4;
            changed += 1;
        }
    }
    ensure!(changed > 0, "no instruction to change");
    fs::write(to, program)?;
    fs::set_permissions(to, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    Ok(())
}

/// Little-endian.
fn number(bytes: &[u8], at: usize, length: usize) -> Result<usize> {
    let field = bytes.get(at..at + length).context("a short object")?;
    Ok(field.iter().rev().fold(0, |number, &byte| number << 8 | usize::from(byte)))
}
