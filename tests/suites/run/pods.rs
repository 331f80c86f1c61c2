//! Kernel origins end to end over both protocols, in a process that has no capability left.

use std::{collections::BTreeMap, fs};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use spanwarden_tests::{
    agent::{Agent, Start},
    node::{Node, Pod, pod_list},
};

use super::common::*;

const CLIENT: &str = env!("CARGO_BIN_EXE_pod-client");

fn config(node: &Node) -> String {
    format!(
        "
extensions:
  origin: {{cgroup: {}, evidence: required, pods: {{file: pods.json}}}}
  health_check: {{endpoint: '{HEALTH}'}}
receivers:
  otlp: {{protocols: {{grpc: {{endpoint: '0.0.0.0:4317'}}, http: {{endpoint: '0.0.0.0:4318'}}}}}}
processors:
  k8sattributes:
    extract:
      metadata: [k8s.pod.name, k8s.pod.uid, k8s.namespace.name]
      labels: [{{tag_name: app, key: app, from: pod}}]
exporters:
  file: {{path: spans.jsonl}}
service:
  extensions: [origin, health_check]
  pipelines:
    traces: {{receivers: [otlp], processors: [k8sattributes], exporters: [file]}}
",
        node.cgroups().path().display()
    )
}

/// `CapEff` and the like of every thread: `(thread, capability set, value)`.
fn capabilities(agent: &Agent) -> Result<Vec<(String, String, String)>> {
    let mut found = Vec::new();
    for task in fs::read_dir(format!("/proc/{}/task", agent.id()))? {
        let path = task?.path().join("status");
        let status = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let value = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
            line.map(str::to_owned).with_context(|| format!("no {name} in {}", path.display()))
        };
        for set in ["CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb", "NoNewPrivs"] {
            found.push((value("Name")?, set.to_owned(), value(set)?));
        }
    }
    Ok(found)
}

fn send_forged(agent: &Agent, from: &Pod, victim: &Pod, way: &str, target: &str) -> Result<()> {
    let claims = vec![
        text("service.name", &format!("{}-{way}", from.name)),
        text("k8s.pod.name", &victim.name),
        text("k8s.namespace.name", &victim.namespace),
        text("k8s.pod.uid", &victim.uid),
    ];
    let body = agent.directory().join(format!("{}-{way}.request", from.name));
    fs::write(&body, request(claims, vec![span(1, 0, false)]))?;
    let mut client = from.spawn(CLIENT, &[way, target, body.to_str().context("a path")?])?;
    client.wait_success(PATIENCE)
}

#[test]
fn origins_are_the_kernel_s_over_both_protocols_without_a_capability() -> Result<()> {
    let node = Node::new()?;
    let (shop, forger) = (node.pod("shop", "shop-0")?, node.pod("batch", "forger-0")?);
    let place = node.service_place("spanwarden")?;
    let agent = Start::new(config(&node))
        .place(&place)
        .file("pods.json", pod_list([&shop, &forger]))
        .ready_at(HEALTH)
        .start()?;
    let sets = capabilities(&agent)?;
    assert!(sets.len() > 6, "one thread only: {sets:?}");
    for (thread, set, value) in &sets {
        let expected = u64::from(set == "NoNewPrivs");
        assert_eq!(u64::from_str_radix(value, 16)?, expected, "{set} of thread {thread}");
    }
    for pod in [&shop, &forger] {
        send_forged(&agent, pod, &shop, "post", &format!("{}:4318", node.ipv4()))?;
        send_forged(&agent, pod, &shop, "grpc", &format!("{}:4317", node.ipv4()))?;
    }
    let metrics = agent.get(METRICS, "/metrics")?;
    let file = agent.directory().join("spans.jsonl");
    let (status, log, found) = agent.stop_and(|| written(&file))?;
    ensure!(status.success(), "{status}\n{log}");
    let found: BTreeMap<String, _> = found?
        .into_iter()
        .map(|span| (span.resource["service.name"]["stringValue"].to_string(), span.resource))
        .collect();
    assert_eq!(found.len(), 4, "{found:?}");
    for pod in [&shop, &forger] {
        for way in ["post", "grpc"] {
            let resource = &found[&format!("\"{}-{way}\"", pod.name)];
            for (key, value) in [
                ("k8s.pod.name", &pod.name),
                ("k8s.namespace.name", &pod.namespace),
                ("k8s.pod.uid", &pod.uid),
                ("container.id", &pod.container_id),
                ("app", &pod.name),
            ] {
                assert_eq!(
                    resource.get(key),
                    Some(&json!({"stringValue": value})),
                    "{way}: {key}: {resource:?}"
                );
            }
            assert_eq!(resource["otlp.origin.evidence"], json!({"stringValue": "kernel"}));
            assert_eq!(resource["otlp.origin.comm"], json!({"stringValue": "pod-client"}));
        }
    }
    let lies = metrics.lines().find(|line| {
        line.starts_with("spanwarden_origin_claims_overwritten{") && line.contains("k8s.pod.name")
    });
    assert!(lies.is_some_and(|line| !line.ends_with(" 0")), "{metrics}");
    Ok(())
}
