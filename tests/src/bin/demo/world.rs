//! The node, its pods, the agent and the gateways.

use std::{
    collections::BTreeMap,
    env, fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use spanwarden_tests::{
    agent::{Agent, Directory, Start},
    certificates,
    node::{Node, Pod, pod_list},
    process::{Place, Process},
};

use super::{Senders, directory, evidence::Evidence, progress};

const GATEWAYS: usize = 3;
/// Namespace and name of the pods; the key is what the demo calls them.
const PODS: [(&str, &str, &str); 4] = [
    ("shop", "shop", "shop-6f7d9c5b8-k4xqz"),
    ("forger", "batch-jobs", "report-job-28411-9zv2m"),
    ("inventory", "shop", "inventory-0"),
    ("collector", "legacy", "old-collector-0"),
];

/// Everything that runs. Dropping it ends and removes all of it.
pub(super) struct World {
    agent: Agent,
    gateways: Vec<Agent>,
    pods: BTreeMap<&'static str, Pod>,
    node: Option<Node>,
    files: PathBuf,
    /// The gateways' certificate; removed with this.
    _tls: Directory,
}

impl World {
    /// Makes the node with its pods where `with_pods`, and starts the agent and the gateways.
    pub(super) fn new(with_pods: bool) -> Result<Self> {
        let files = directory()?;
        fs::create_dir_all(&files)?;
        let node = if with_pods { Some(Node::new()?) } else { None };
        let mut pods = BTreeMap::new();
        if let Some(node) = &node {
            progress("making a node: pods as network namespaces, cgroups named as the kubelet names them");
            for (key, namespace, name) in PODS {
                pods.insert(key, node.pod(namespace, name)?);
            }
            fs::write(files.join("pods.yaml"), pod_list(pods.values()))?;
        }
        let tls = certificates::gateway()?;
        let place = |name: &str| match &node {
            Some(node) => node.service_place(name),
            None => Ok(Place::default()),
        };
        progress("starting three gateways and one agent");
        let mut gateways = Vec::new();
        for number in 0..GATEWAYS {
            let config = gateway_config(number, &files, tls.path());
            fs::write(files.join(format!("gateway-{number}.yaml")), &config)?;
            let kept = kept_file(&files, number);
            let _from_the_last_run = fs::remove_file(&kept);
            let log = "info,spanwarden::sampling=debug";
            let place = place(&format!("gateway-{number}"))?;
            gateways.push(
                Start::new(config).place(&place).env("RUST_LOG", log).ready_at(health(number)).start()?,
            );
        }
        let config = agent_config(&files, tls.path(), node.as_ref());
        fs::write(files.join("agent.yaml"), &config)?;
        let agent = Start::new(config)
            .place(&place("spanwarden")?)
            .env("RUST_LOG", "info,spanwarden::receiver=debug")
            .ready_at(health(GATEWAYS))
            .start()?;
        Ok(Self { agent, gateways, pods, node, files, _tls: tls })
    }

    /// Whether there are pods, and with them kernel evidence.
    pub(super) fn has_pods(&self) -> bool {
        self.node.is_some()
    }

    /// Starts one of the SDK scripts in its pod.
    pub(super) fn sender(&self, pod: &str, script: &str, arguments: &[&str]) -> Result<Process> {
        let python =
            env::var_os("SPANWARDEN_PYTHON").context("SPANWARDEN_PYTHON is not set: use cargo xtask demo")?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/sdk").join(script);
        let mut command = match self.pods.get(pod) {
            Some(pod) => pod.command(&python)?,
            None => Place::default().command(&python)?,
        };
        let host = self.node.as_ref().map_or(Ipv4Addr::LOCALHOST, Node::ipv4);
        let port = if script.ends_with("shop.py") { 24_317 } else { 24_318 };
        command.arg(script).args(arguments);
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{host}:{port}"));
        command.env("OTEL_SERVICE_NAME", pod);
        Process::spawn(pod, command)
    }

    /// A pod's address, for another one to send to.
    pub(super) fn address_of(&self, pod: &str, port: u16) -> Result<String> {
        let pod = self.pods.get(pod).with_context(|| format!("no pod {pod}"))?;
        Ok(format!("{}:{port}", pod.ipv4))
    }

    /// Waits until the gateways have decided on so many traces.
    pub(super) fn wait_for_decisions(&mut self, traces: usize) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(20);
        while Instant::now() < end {
            let decided: usize = self
                .gateways
                .iter()
                .map(|g| g.logs().matches("spanwarden::sampling::decision").count())
                .sum();
            if decided >= traces {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        bail!("the gateways did not decide on all {traces} traces within 20 s")
    }

    /// Stops everything and collects what it left.
    pub(super) fn end(self, senders: Senders) -> Result<Evidence> {
        progress("stopping: what is still buffered is sent on first");
        let Self { agent, gateways, pods, node, files, _tls } = self;
        let metrics = agent.get(metrics_address(), "/metrics")?;
        let (status, agent_log) = agent.stop()?;
        if !status.success() {
            bail!("the agent ended with {status}:\n{agent_log}");
        }
        fs::write(files.join("agent.log"), &agent_log)?;
        let mut gateway_logs = Vec::new();
        for (number, gateway) in gateways.into_iter().enumerate() {
            let (status, log) = gateway.stop()?;
            if !status.success() {
                bail!("gateway {number} ended with {status}:\n{log}");
            }
            fs::write(files.join(format!("gateway-{number}.log")), &log)?;
            gateway_logs.push(log);
        }
        let uids = pods.iter().map(|(key, pod)| (*key, pod.uid.clone())).collect();
        drop((pods, node));
        let kept =
            (0..GATEWAYS).map(|number| fs::read_to_string(kept_file(&files, number)).unwrap_or_default());
        Evidence::read(
            senders,
            &agent_log,
            &gateway_logs,
            &kept.collect::<Vec<_>>(),
            metrics,
            uids,
            files.clone(),
        )
    }
}

fn kept_file(files: &Path, gateway: usize) -> PathBuf {
    files.join(format!("gateway-{gateway}.jsonl"))
}

fn health(number: usize) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 24_330 + number as u16))
}

fn metrics_address() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 24_388))
}

fn gateway_config(number: usize, files: &Path, tls: &Path) -> String {
    include_str!("gateway.yaml")
        .replace("PORT", &(24_320 + number).to_string())
        .replace("HEALTH", &health(number).to_string())
        .replace("TLS", &tls.display().to_string())
        .replace("FILE", &kept_file(files, number).display().to_string())
}

fn agent_config(files: &Path, tls: &Path, node: Option<&Node>) -> String {
    let origin = node.map_or(String::new(), |node| {
        format!(
            "  origin:\n    cgroup: {}\n    evidence: required\n    pods: {{file: {}}}\n",
            node.cgroups().path().display(),
            files.join("pods.yaml").display()
        )
    });
    let (enabled, listen) =
        if node.is_some() { ("origin, health_check", "0.0.0.0") } else { ("health_check", "127.0.0.1") };
    include_str!("agent.yaml")
        .replace("  ORIGIN\n", &origin)
        .replace("ENABLED", enabled)
        .replace("LISTEN", listen)
        .replace("HEALTH", &health(GATEWAYS).to_string())
        .replace("TLS", &tls.display().to_string())
        .replace("METRICS_PORT", &metrics_address().port().to_string())
}
