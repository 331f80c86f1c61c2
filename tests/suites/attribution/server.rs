//! `origin-server` in the agent's pod.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use spanwarden_tests::{
    agent::Directory,
    node::{Node, Pod, pod_list},
    process::Process,
};

pub(crate) const CLIENT: &str = env!("CARGO_BIN_EXE_pod-client");
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);
pub(crate) const PORT: u16 = 4317;

/// A Service in front of the agent.
pub(crate) const CLUSTER_IP: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(10, 96, 0, 7), Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 7));
/// Another, whose connections are masqueraded.
pub(crate) const MASQUERADED: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(10, 96, 0, 8), Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 8));

/// The server in the agent's pod.
pub(crate) struct Server {
    // Ends first, so that the programs are detached while the cgroup is there.
    process: Process,
    _files: Directory,
}

impl Server {
    /// Starts the server in `agent`, with a pod file that lists `pods`.
    pub(crate) fn start(node: &Node, agent: &Pod, pods: &[Pod]) -> Result<Self> {
        let files = Directory::new()?;
        let list = files.path().join("pods.json");
        fs::write(&list, pod_list(pods.iter().chain([agent])))?;
        let mut command = agent.command(env!("CARGO_BIN_EXE_origin-server"))?;
        command.arg(node.cgroups().path()).arg(list).arg(format!("[::]:{PORT}"));
        command.env(
            "SPANWARDEN_OWN_ADDRESSES",
            format!("{},{},{},{}", CLUSTER_IP.0, CLUSTER_IP.1, MASQUERADED.0, MASQUERADED.1),
        );
        let mut process = Process::spawn("origin-server", command)?;
        process.wait_for_line("ready", PATIENCE)?;
        Ok(Self { process, _files: files })
    }

    /// The server's process id.
    #[allow(dead_code, reason = "of the suites that share this, one looks into the server's maps")]
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Gives a command without waiting for its answer.
    pub(crate) fn ask(&mut self, command: &str) -> Result<()> {
        self.process.say(command)
    }

    /// The next answer.
    pub(crate) fn answer(&mut self) -> Result<Value> {
        let line = self.process.wait_for_line("answer ", PATIENCE)?;
        Ok(serde_json::from_str(line.trim_start_matches("answer "))?)
    }

    /// Takes `count` connections that have been made already, all of which must be right.
    pub(crate) fn accept_right(&mut self, count: u64) -> Result<Value> {
        self.ask(&format!("accept {count}"))?;
        let report = self.answer()?;
        all_right(&report, count)?;
        Ok(report)
    }
}

/// Not one missing, not one wrong, none twice.
pub(crate) fn all_right(report: &Value, count: u64) -> Result<()> {
    let number = |key: &str| report[key].as_u64().context(key.to_owned());
    let got = (number("accepted")?, number("right")?, number("missing")?, number("wrong")?, number("twice")?);
    ensure!(
        got == (count, count, 0, 0, 0),
        "(accepted, right, missing, wrong, twice) of {count}: {got:?}\n{report:#}"
    );
    Ok(())
}

/// `address:PORT`
pub(crate) fn at(address: impl Into<IpAddr>) -> String {
    SocketAddr::new(address.into(), PORT).to_string()
}
