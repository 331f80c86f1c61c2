//! A node with a pod that sends, one that receives, and an agent that watches.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, Result};
use spanwarden_tests::{
    agent::Directory,
    detector::{Detector, Expected, compare},
    node::{Node, Pod},
    process::Process,
};

pub(crate) const CLIENT: &str = env!("CARGO_BIN_EXE_pod-client");
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Everything ends when it is dropped: the programs first, while their cgroup is there.
pub(crate) struct World {
    pub(crate) detector: Detector,
    sinks: Vec<Process>,
    pub(crate) sender: Pod,
    pub(crate) receiver: Pod,
    pub(crate) files: Directory,
    pub(crate) expected: Vec<Expected>,
    _node: Node,
}

/// A connection that a client has made.
pub(crate) struct Connection {
    pub(crate) pid: u32,
    pub(crate) local: SocketAddr,
}

impl World {
    pub(crate) fn new() -> Result<Self> {
        let node = Node::new()?;
        let (sender, receiver) = (node.pod("shop", "web")?, node.pod("elsewhere", "collector")?);
        let detector = Detector::start(&node, "observe", CLIENT, &[&sender, &receiver])?;
        let (files, sinks, expected) = (Directory::new()?, Vec::new(), Vec::new());
        Ok(Self { detector, sinks, sender, receiver, files, expected, _node: node })
    }

    /// A server that reads to the end, in the receiver's pod.
    pub(crate) fn sink(&mut self, port: u16, options: &[&str]) -> Result<()> {
        let pod = self.receiver.clone();
        self.sink_in(&pod, port, options)
    }

    /// The same in another pod.
    pub(crate) fn sink_in(&mut self, pod: &Pod, port: u16, options: &[&str]) -> Result<()> {
        let address = format!("[::]:{port}");
        let mut sink = pod.spawn(CLIENT, &[&["drain", &address], options].concat())?;
        sink.wait_for_line("ready", PATIENCE)?;
        self.sinks.push(sink);
        Ok(())
    }

    /// An address of the receiver.
    pub(crate) fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(self.receiver.ipv4), port)
    }

    /// Sends `turns` and gives the connections that were made for it.
    pub(crate) fn send(&self, way: &str, target: SocketAddr, turns: &[Vec<u8>]) -> Result<Vec<Connection>> {
        self.send_from(&self.sender, way, target, turns)
    }

    /// The same from another pod.
    pub(crate) fn send_from(
        &self,
        pod: &Pod,
        way: &str,
        target: SocketAddr,
        turns: &[Vec<u8>],
    ) -> Result<Vec<Connection>> {
        let mut arguments = vec!["via".to_owned(), way.to_owned(), target.to_string()];
        for (number, turn) in turns.iter().enumerate() {
            let file = self.files.path().join(format!("turn-{number}"));
            fs::write(&file, turn)?;
            arguments.push(file.display().to_string());
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut client = pod.spawn(CLIENT, &arguments)?;
        client.wait_success(PATIENCE).with_context(|| format!("{way} to {target}"))?;
        let output = client.output();
        output.lines().filter(|line| line.starts_with("pid ")).map(connection).collect()
    }

    /// Sends what must be found once a connection, and notes it.
    pub(crate) fn found(
        &mut self,
        case: &str,
        (way, target): (&str, SocketAddr),
        turns: &[Vec<u8>],
        (protocol, signal, proof): (&str, &str, &str),
    ) -> Result<()> {
        for made in self.send(way, target, turns).with_context(|| case.to_owned())? {
            let expected = Expected::new(case, &self.sender, made.pid, made.local, target)
                .with("finding", "plaintext")
                .with("comm", "pod-client")
                .with("protocol", protocol)
                .with("signal", signal)
                .with("proof", proof);
            self.expected.push(expected);
        }
        Ok(())
    }

    /// Compares what was found with what was noted.
    pub(crate) fn check(&mut self) -> Result<()> {
        let lines = self.detector.findings()?;
        compare(&lines, &self.expected)
            .with_context(|| format!("the agent's log:\n{}", self.detector.agent().logs()))
    }
}

/// `pid P local L`
pub(crate) fn connection(line: &str) -> Result<Connection> {
    let fields: Vec<&str> = line.split(' ').collect();
    let ["pid", pid, "local", local, ..] = fields.as_slice() else { anyhow::bail!("{line}") };
    Ok(Connection { pid: pid.parse()?, local: local.parse()? })
}
