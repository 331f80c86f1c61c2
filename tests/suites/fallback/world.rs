//! A node with a collector of many faults, and clients that go to it.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use spanwarden_tests::patience::deadline;
use spanwarden_tests::{
    agent::Directory,
    certificates,
    clients::Client,
    detector::{Detector, Expected, canonical, compare},
    node::{Node, Pod},
    process::{Place, Process},
};

pub(crate) const CLIENT: &str = env!("CARGO_BIN_EXE_pod-client");
const PATIENCE: Duration = Duration::from_mins(1);

/// Everything ends when it is dropped: the programs first, while their cgroup is there.
pub(crate) struct World {
    detector: Detector,
    collectors: Vec<Process>,
    pub(crate) sender: Pod,
    pub(crate) receiver: Pod,
    pub(crate) other: Pod,
    certificates: Directory,
    expected: Vec<Expected>,
    pub(crate) node: Node,
}

/// What a client does: one element of the list that it is given.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) grpc: bool,
    pub(crate) target: SocketAddr,
    pub(crate) steps: &'static [&'static str],
}

/// What must be found of a connection in the clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Plaintext,
    /// With this kind of failure; of another address when `true`.
    Fallback(&'static str, bool),
}

impl World {
    /// With the servers of `ports`, each `PORT=BEHAVIOUR`, in the receiver's and in another pod.
    pub(crate) fn new(plaintext: &str, ports: &[String]) -> Result<Self> {
        let node = Node::new()?;
        let sender = node.pod("shop", "web")?;
        let (receiver, other) =
            (node.pod("elsewhere", "collector-0")?, node.pod("elsewhere", "collector-1")?);
        let certificates = certificates::authority(&[receiver.ipv4.to_string(), other.ipv4.to_string()])?;
        let directory = certificates.path().to_str().context("a path in UTF-8")?;
        let mut collectors = Vec::new();
        for pod in [&receiver, &other] {
            let mut arguments = vec!["collect", directory];
            arguments.extend(ports.iter().map(String::as_str));
            let mut collector = pod.spawn(CLIENT, &arguments)?;
            collector.wait_for_line("ready", PATIENCE)?;
            collectors.push(collector);
        }
        let detector = Detector::start(&node, plaintext, CLIENT, &[&sender, &receiver, &other])?;
        let expected = Vec::new();
        Ok(Self { detector, collectors, sender, receiver, other, certificates, expected, node })
    }

    /// An address of the receiver.
    pub(crate) fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(self.receiver.ipv4), port)
    }

    /// Runs all cases in one process of a client, in the sender's pod: its pid, and what it said about each step.
    pub(crate) fn run(&self, client: &Client, cases: &[Case]) -> Result<(u32, String)> {
        self.run_in(self.sender.place(), client, cases, &[])
    }

    /// The same elsewhere and with environment variables.
    pub(crate) fn run_in(
        &self,
        place: &Place,
        client: &Client,
        cases: &[Case],
        environment: &[(&str, String)],
    ) -> Result<(u32, String)> {
        let list: Vec<Value> = cases
            .iter()
            .map(|case| {
                let protocol = if case.grpc { "grpc" } else { "http" };
                json!({ "name": case.name, "protocol": protocol, "target": case.target, "steps": case.steps })
            })
            .collect();
        let file = self.certificates.path().join("cases.json");
        fs::write(&file, Value::from(list).to_string())?;
        let mut command = place.command(&client.program)?;
        command.args(&client.arguments).arg(self.certificates.path()).arg(file);
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        let mut process = Process::spawn("the client", command)?;
        let pid = process.wait_for_line("pid ", PATIENCE)?;
        process.wait_success(PATIENCE)?;
        let pid = pid.trim_start_matches("pid ").parse().context("a pid")?;
        Ok((pid, process.output()))
    }

    /// Notes what must be found of `case`, which process `pid` of `pod` has run: of each connection in the clear.
    pub(crate) fn expect(&mut self, case: &Case, pod: &Pod, pid: u32, verdicts: &[Verdict]) -> Result<()> {
        // What a collector has said may still be on its way here.
        let deadline = deadline(PATIENCE);
        let mut plain = self.peers(case.target, pod, "plain")?;
        while plain.len() < verdicts.len() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
            plain = self.peers(case.target, pod, "plain")?;
        }
        let tls = self.peers(case.target, pod, "tls")?;
        ensure!(
            plain.len() == verdicts.len(),
            "{}: {} connections in the clear, not {}",
            case.name,
            plain.len(),
            verdicts.len()
        );
        for (local, verdict) in plain.iter().zip(verdicts) {
            let expected = Expected::new(&case.name, pod, pid, *local, case.target)
                .with("protocol", if case.grpc { "h2c" } else { "http/1.1" })
                .with("signal", "traces")
                .with("proof", "path");
            self.expected.push(match verdict {
                Verdict::Plaintext => expected.with("finding", "plaintext").with("tls_failure", Value::Null),
                Verdict::Fallback(kind, weak) => {
                    let expected = expected
                        .with("finding", "fallback")
                        .with("/tls_failure/kind", *kind)
                        .with("/tls_failure/weak", *weak);
                    // Of several attempts it is the last.
                    match tls.last() {
                        Some(last) if !weak => expected
                            .with("/tls_failure/local", last.to_string())
                            .with("/tls_failure/destination", canonical(case.target).to_string()),
                        _ => expected,
                    }
                }
            });
        }
        Ok(())
    }

    /// Compares what was found with what was noted.
    pub(crate) fn check(&mut self) -> Result<()> {
        let lines = self.detector.findings()?;
        compare(&lines, &self.expected)
            .with_context(|| format!("the agent's log:\n{}", self.detector.agent().logs()))
    }

    /// The addresses of `pod` from which connections of this kind have come to `target`.
    fn peers(&self, target: SocketAddr, pod: &Pod, kind: &str) -> Result<Vec<SocketAddr>> {
        let number = usize::from(target.ip() == self.other.ipv4);
        let start = format!("{} {kind} ", target.port());
        let said = self.collectors[number].output();
        let peers = said.lines().filter_map(|line| line.strip_prefix(&start));
        let peers: Vec<SocketAddr> = peers.map(|peer| Ok(peer.parse()?)).collect::<Result<_>>()?;
        let own = |peer: &SocketAddr| peer.ip() == pod.ipv4 || peer.ip() == pod.ipv6;
        Ok(peers.into_iter().filter(own).collect())
    }
}

/// How each step of each case has ended: `CASE STEP` to `ok` or `failed…`.
pub(crate) fn outcomes(said: &str) -> BTreeMap<String, Vec<String>> {
    let mut outcomes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in said.lines() {
        let mut words = line.splitn(3, ' ');
        if let (Some(case), Some(step), Some(outcome)) = (words.next(), words.next(), words.next()) {
            outcomes.entry(case.to_owned()).or_default().push(format!("{step} {outcome}"));
        }
    }
    outcomes
}

/// hyper and rustls.
pub(crate) fn rust() -> Client {
    Client { program: CLIENT.into(), arguments: vec!["cases".to_owned()] }
}
