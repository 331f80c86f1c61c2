//! Metadata that come late, from an API server that is away at first; and the Event on a pod.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use spanwarden_tests::{
    agent::{Agent, Start},
    kubernetes::api::{ApiServer, Fault, wait_until},
    node::{Node, Pod},
};

use super::common::*;

const CLIENT: &str = env!("CARGO_BIN_EXE_pod-client");

fn config(node: &Node, server: &ApiServer) -> String {
    format!(
        "
extensions:
  origin:
    cgroup: {}
    pods: {{api: {{endpoint: '{}', ca_file: '{}', token_file: '{}'}}}}
    events: true
    plaintext: {{mode: warn, where: [agent]}}
  health_check: {{endpoint: '{HEALTH}'}}
receivers:
  otlp: {{protocols: {{http: {{endpoint: '0.0.0.0:4318'}}}}}}
processors:
  k8sattributes:
    extract:
      metadata: [k8s.pod.name, k8s.pod.uid, k8s.namespace.name, k8s.node.name]
      labels: [{{tag_name: app, key: app, from: pod}}]
exporters:
  file: {{path: spans.jsonl}}
service:
  extensions: [origin, health_check]
  pipelines:
    traces: {{receivers: [otlp], processors: [k8sattributes], exporters: [file]}}
",
        node.cgroups().path().display(),
        server.url(),
        server.ca_file().display(),
        server.token_file().display()
    )
}

fn send(agent: &Agent, pod: &Pod, node: &Node, service: &str) -> Result<()> {
    let body = agent.directory().join(format!("{service}.request"));
    fs::write(&body, request(vec![text("service.name", service)], vec![span(1, 0, false)]))?;
    let target = format!("{}:4318", node.ipv4());
    pod.spawn(CLIENT, &["post", &target, body.to_str().context("a path")?])?.wait_success(PATIENCE)
}

fn threads(agent: &Agent) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for task in fs::read_dir(format!("/proc/{}/task", agent.id()))? {
        names.push(fs::read_to_string(task?.path().join("comm"))?.trim().to_owned());
    }
    Ok(names)
}

#[test]
fn spans_wait_for_no_metadata_and_get_them_as_soon_as_they_are_there() -> Result<()> {
    let node = Node::new()?;
    let pod = node.pod("shop", "shop-0")?;
    let place = node.service_place("spanwarden")?;
    let server = node.netns().within(ApiServer::start)??;
    server.fail(Fault::Status(503));
    let agent = Start::new(config(&node, &server))
        .place(&place)
        .env("K8S_NODE_NAME", "node-a")
        .ready_at(HEALTH)
        .start()?;
    server.wait_for("a watch", |path| path.contains("fieldSelector=spec.nodeName%3Dnode-a"))?;
    let readiness = agent.get(HEALTH, "/readyz")?;
    ensure!(readiness.starts_with("ready; no answer about pods yet"), "{readiness}");
    let names = threads(&agent)?;
    ensure!(names.contains(&"pods".to_owned()) && names.contains(&"events".to_owned()), "{names:?}");
    send(&agent, &pod, &node, "before")?;
    let mut manifest = pod.manifest();
    manifest["spec"]["nodeName"] = json!("node-a");
    manifest["metadata"]["labels"] = json!({"app": "checkout"});
    server.put(manifest);
    server.fail(Fault::None);
    wait_until("pods", || {
        let metrics = agent.get(METRICS, "/metrics").ok()?;
        metrics.contains("spanwarden_pods_current{source=\"api\"} 1").then_some(())
    })?;
    ensure!(agent.get(HEALTH, "/readyz")? == "ready\n");
    send(&agent, &pod, &node, "after")?;
    let event = wait_until("the Event", || server.events().into_iter().next());
    let event = event.with_context(|| agent.logs())?;
    ensure!(event["regarding"]["uid"] == pod.uid.as_str(), "{event}");
    ensure!(
        event["reason"] == "PlaintextTelemetry" && event["regarding"]["name"] == pod.name.as_str(),
        "{event}"
    );
    let file = agent.directory().join("spans.jsonl");
    let (status, log, found) = agent.stop_and(|| written(&file))?;
    ensure!(status.success(), "{status}\n{log}");
    let found = found?;
    let of = |service: &str| {
        let value = json!({"stringValue": service});
        let span = found.iter().find(|span| span.resource.get("service.name") == Some(&value));
        span.map(|span| span.resource.clone()).with_context(|| format!("{service}: {found:?}"))
    };
    let (before, after) = (of("before")?, of("after")?);
    let string = |value: &str| Some(json!({"stringValue": value}));
    for resource in [&before, &after] {
        ensure!(resource.get("k8s.pod.uid").cloned() == string(&pod.uid), "{resource:?}");
        ensure!(resource.get("otlp.origin.evidence").cloned() == string("kernel"), "{resource:?}");
    }
    ensure!(!before.contains_key("k8s.pod.name"), "{before:?}");
    let expected: [(&str, Option<Value>); 4] = [
        ("k8s.pod.name", string(&pod.name)),
        ("k8s.namespace.name", string("shop")),
        ("k8s.node.name", string("node-a")),
        ("app", string("checkout")),
    ];
    for (key, value) in expected {
        ensure!(after.get(key).cloned() == value, "{key}: {after:?}");
    }
    Ok(())
}
