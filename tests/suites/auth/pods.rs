//! The real agent with the kernel's evidence: a pod floods it, another's requests all pass.

use std::{
    fmt::Write as _,
    fs,
    net::{Ipv4Addr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use spanwarden_tests::{
    agent::{Agent, Start},
    node::{Node, pod_list},
    process::Process,
};

use super::harness::request;

const FLOOD: &str = env!("CARGO_BIN_EXE_raw-client");
const PATIENCE: Duration = Duration::from_mins(2);
const HEALTH: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 13133);
const METRICS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8888);
const REQUESTS: u64 = 20;

fn config(node: &Node) -> String {
    format!(
        "extensions:
  origin:
    cgroup: {}
    evidence: required
    pods: {{file: pods.json}}
  bearertokenauth: {{filename: tokens}}
  health_check: {{endpoint: '{HEALTH}'}}
receivers:
  otlp: {{protocols: {{http: {{endpoint: '0.0.0.0:4318', auth: {{authenticator: bearertokenauth}}}}}}}}
exporters:
  file: {{path: spans.json}}
service:
  extensions: [origin, bearertokenauth, health_check]
  pipelines:
    traces: {{receivers: [otlp], exporters: [file]}}
",
        node.cgroups().path().display()
    )
}

/// An HTTP/1 request in hexadecimal; its body may be cut short.
fn post(token: &str, body: &[u8], sent: usize) -> String {
    let head = format!(
        "POST /v1/traces HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/x-protobuf\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    head.bytes().chain(body[..sent].iter().copied()).fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// The sum of a counter's series that have all these labels.
fn metric(agent: &Agent, name: &str, labels: &[&str]) -> Result<u64> {
    let text = agent.get(METRICS, "/metrics")?;
    let lines = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{')?.split_once("} "));
    let matching = lines.filter(|(found, _)| labels.iter().all(|label| found.contains(label)));
    matching.map(|(_, value)| Ok(value.parse::<u64>()?)).sum()
}

#[test]
fn a_pod_that_floods_is_slowed_and_refused_and_the_other_is_not() -> Result<()> {
    let node = Node::new()?;
    let agent_pod = node.pod("spanwarden", "agent")?;
    let (good, bad) = (node.pod("shop", "good")?, node.pod("batch", "bad")?);
    let agent = Start::new(config(&node))
        .place(agent_pod.place())
        .file("pods.json", pod_list([&good, &bad, &agent_pod]))
        .file("tokens", "shop-secret-token-1 shop\nbatch-secret-token-2 batch\n")
        .ready_at(HEALTH)
        .start()?;
    let target = format!("{}:4318", agent_pod.ipv4);
    let body = request(1, 200);
    // Bodies that do not end, credentials that are wrong, and connections as fast as can be.
    let floods = [post("batch-secret-token-2", &body, 50), post("guess", &body, body.len()), "16".to_owned()];
    let mut flooding = Vec::new();
    for payload in &floods {
        flooding.push(bad.spawn(FLOOD, &["flood", &target, payload, "1000000"])?);
    }
    let slowed = "spanwarden_receiver_slowed_connections";
    let deadline = Instant::now() + PATIENCE;
    while metric(&agent, slowed, &[])? == 0 {
        ensure!(Instant::now() < deadline, "nobody was slowed\n{}", agent.logs());
        thread::sleep(Duration::from_millis(100));
    }
    let file = agent.directory().join("request");
    fs::write(&file, &body)?;
    for _ in 0..REQUESTS {
        let mut command = good.command(env!("CARGO_BIN_EXE_pod-client"))?;
        command.arg("post").arg(&target).arg(&file);
        command.env("POD_CLIENT_AUTHORIZATION", "Bearer shop-secret-token-1");
        Process::spawn("pod-client", command)?.wait_success(PATIENCE)?;
    }
    let accepted = metric(&agent, "otelcol_receiver_accepted_spans", &["transport=\"http\""])?;
    drop(flooding);
    let connections = metric(&agent, "spanwarden_receiver_connections", &["evidence=\"kernel\""])?;
    let (status, log) = agent.stop()?;
    ensure!(status.success(), "{status}\n{log}");
    ensure!(accepted == REQUESTS, "{accepted} of {REQUESTS} passed\n{log}");
    ensure!(connections > REQUESTS, "who is who was known: {connections}\n{log}");
    Ok(())
}
