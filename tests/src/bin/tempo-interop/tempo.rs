//! Tempo on loopback, all its parts in one process, with tenants and local storage.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use spanwarden::transport::http::{Client, ClientOptions};
use spanwarden_tests::{agent::Directory, process::Process};
use tokio::runtime::Builder;

/// A Tempo. It ends when it is dropped, and leaves nothing.
pub(crate) struct Tempo {
    process: Process,
    http: u16,
    otlp: u16,
    /// Dropped after the process.
    _files: Directory,
}

impl Tempo {
    pub(crate) fn start(program: &Path) -> Result<Self> {
        let files = Directory::new()?;
        let [http, grpc, otlp, gossip] = free_ports()?;
        let config = files.path().join("tempo.yaml");
        fs::write(&config, configuration(files.path(), [http, grpc, otlp, gossip]))?;
        let mut command = Command::new(program);
        command
            .arg("-target=all")
            .arg(format!("-config.file={}", config.display()))
            .current_dir(files.path());
        let process = Process::spawn("tempo", command)?;
        let tempo = Self { process, http, otlp, _files: files };
        tempo.wait_ready()?;
        Ok(tempo)
    }

    fn wait_ready(&self) -> Result<()> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let client = Client::new(ClientOptions::default())?;
        let deadline = Instant::now() + crate::PATIENCE;
        loop {
            let answer = runtime.block_on(client.get(&format!("{}/ready", self.url())));
            if answer.is_ok_and(|answer| answer.status.is_success()) {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("Tempo is not ready within {:?}\n{}", crate::PATIENCE, self.said());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Its HTTP API.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.http)
    }

    /// Where it takes OTLP/gRPC.
    pub(crate) fn otlp(&self) -> String {
        format!("127.0.0.1:{}", self.otlp)
    }

    /// Its last words.
    pub(crate) fn said(&self) -> String {
        let said = self.process.output();
        let lines: Vec<&str> = said.lines().rev().take(8).collect();
        format!("tempo:\n{}", lines.into_iter().rev().collect::<Vec<_>>().join("\n"))
    }
}

/// It calls home unless it is told not to, and waits a minute for other compactors.
fn configuration(files: &Path, [http, grpc, otlp, gossip]: [u16; 4]) -> String {
    let files = files.display();
    let ring = "kvstore: {store: inmemory}";
    format!(
        "multitenancy_enabled: true
usage_report: {{reporting_enabled: false}}
server: {{http_listen_address: 127.0.0.1, http_listen_port: {http}, grpc_listen_address: 127.0.0.1, grpc_listen_port: {grpc}}}
distributor:
  ring: {{instance_addr: 127.0.0.1, {ring}}}
  receivers: {{otlp: {{protocols: {{grpc: {{endpoint: \"127.0.0.1:{otlp}\"}}}}}}}}
ingester:
  lifecycler: {{address: 127.0.0.1, min_ready_duration: 0s, ring: {{replication_factor: 1, {ring}}}}}
  trace_idle_period: 1s
  flush_check_period: 1s
  max_block_duration: 1m
compactor: {{ring: {{instance_addr: 127.0.0.1, wait_stability_min_duration: 0s, {ring}}}}}
memberlist: {{bind_addr: [\"127.0.0.1\"], bind_port: {gossip}}}
querier: {{frontend_worker: {{frontend_address: \"127.0.0.1:{grpc}\"}}}}
storage: {{trace: {{backend: local, local: {{path: {files}/blocks}}, wal: {{path: {files}/wal}}}}}}
"
    )
}

/// Ports that nobody has a moment ago.
pub(crate) fn free_ports<const N: usize>() -> Result<[u16; N]> {
    // Held together, so that they differ.
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0"));
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(listeners) {
        *port = listener?.local_addr()?.port();
    }
    Ok(ports)
}
