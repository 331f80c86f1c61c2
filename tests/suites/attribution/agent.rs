//! The real agent: what it writes about a sender is what the kernel saw, whatever the sender claims.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
};

use anyhow::{Context, Result, ensure};
use prost::Message as _;
use serde_json::{Value, json};
use spanwarden_tests::{
    agent::Start,
    node::{Node, Pod, pod_list},
    proto::v1::{
        AnyValue, ExportTraceServiceRequest, KeyValue, Resource, ResourceSpans, ScopeSpans, Span, any_value,
    },
};

use super::server::{CLIENT, CLUSTER_IP, MASQUERADED, PATIENCE};

const HEALTH: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 13133);
const METRICS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8888);

fn config(node: &Node) -> String {
    format!(
        "extensions:
  origin:
    cgroup: {}
    evidence: required
    plaintext: observe
    pods: {{file: pods.json}}
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
        node.cgroups().path().display()
    )
}

/// One span of a service that says it runs in `claimed`.
fn request(service: &str, claimed: &Pod) -> ExportTraceServiceRequest {
    let text = |key: &str, value: &str| KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) }),
        ..KeyValue::default()
    };
    let attributes = vec![
        text("service.name", service),
        text("k8s.pod.uid", &claimed.uid),
        text("k8s.pod.name", &claimed.name),
        text("container.id", &claimed.container_id),
        text("otlp.origin.evidence", "kernel"),
    ];
    let span = Span {
        trace_id: b"0123456789abcdef".to_vec(),
        span_id: b"01234567".to_vec(),
        name: "checkout".to_owned(),
        start_time_unix_nano: 1_780_000_000_000_000_000,
        end_time_unix_nano: 1_780_000_000_001_000_000,
        ..Span::default()
    };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource { attributes, ..Resource::default() }),
            scope_spans: vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }],
            ..ResourceSpans::default()
        }],
    }
}

/// Resource attributes of the spans in the file, by service; a key that is there twice is a fault.
fn resource_of(file: &str, service: &str) -> Result<serde_json::Map<String, Value>> {
    for line in file.lines() {
        let request: Value = serde_json::from_str(line)?;
        for resource in request["resourceSpans"].as_array().into_iter().flatten() {
            let mut found = serde_json::Map::new();
            for attribute in resource["resource"]["attributes"].as_array().into_iter().flatten() {
                let key = attribute["key"].as_str().context("a key")?;
                let twice = found.insert(key.to_owned(), attribute["value"].clone());
                ensure!(twice.is_none(), "`{key}` is there twice: {resource:#}");
            }
            if found.get("service.name").is_some_and(|name| name["stringValue"] == service) {
                return Ok(found);
            }
        }
    }
    anyhow::bail!("nothing of {service} in\n{file}")
}

#[test]
fn the_agent_writes_what_the_kernel_saw_and_not_what_the_sender_claims() -> Result<()> {
    let node = Node::new()?;
    let agent_pod = node.pod("spanwarden", "agent")?;
    let (victim, thief) = (node.pod("shop", "victim")?, node.pod("batch", "thief")?);
    node.service(CLUSTER_IP.0, CLUSTER_IP.1, &agent_pod, false)?;
    node.service(MASQUERADED.0, MASQUERADED.1, &agent_pod, true)?;
    let start = Start::new(config(&node))
        .place(agent_pod.place())
        .file("pods.json", pod_list([&victim, &thief, &agent_pod]))
        .env("SPANWARDEN_OWN_ADDRESSES", format!("{},{}", CLUSTER_IP.0, MASQUERADED.0))
        .ready_at(HEALTH);
    let agent = start.start()?;
    let mut pids = Vec::new();
    for (service, address) in
        [("direct", agent_pod.ipv4), ("through-dnat", CLUSTER_IP.0), ("masqueraded", MASQUERADED.0)]
    {
        let body = agent.directory().join(format!("{service}.request"));
        fs::write(&body, request(service, &victim).encode_to_vec())?;
        let body = body.to_str().context("a path")?;
        let mut client = thief.spawn(CLIENT, &["post", &format!("{address}:4318"), body])?;
        let line = client.wait_for_line("pid ", PATIENCE)?;
        client.wait_success(PATIENCE)?;
        pids.push((service, line.trim_start_matches("pid ").to_owned()));
    }
    let metrics = agent.get(METRICS, "/metrics")?;
    let spans = agent.directory().join("spans.json");
    let directory = agent.directory().to_owned();
    let (status, log, file) = agent.stop_and(|| fs::read_to_string(&spans))?;
    ensure!(status.success(), "{status}\n{log}");
    let file = file.with_context(|| format!("no spans in {}\n{log}", directory.display()))?;
    for (service, pid) in pids {
        let resource = resource_of(&file, service)?;
        for (key, expected) in [
            ("k8s.pod.uid", json!({ "stringValue": thief.uid })),
            ("k8s.pod.name", json!({ "stringValue": thief.name })),
            ("k8s.namespace.name", json!({ "stringValue": thief.namespace })),
            ("container.id", json!({ "stringValue": thief.container_id })),
            ("otlp.origin.evidence", json!({ "stringValue": "kernel" })),
            ("otlp.origin.pid", json!({ "intValue": pid })),
            ("otlp.origin.comm", json!({ "stringValue": "pod-client" })),
        ] {
            ensure!(resource.get(key) == Some(&expected), "{service}: {key}: {:?}\n{log}", resource.get(key));
        }
    }
    for lie in ["k8s.pod.uid", "k8s.pod.name", "container.id"] {
        let counted = metrics.lines().any(|line| {
            line.starts_with("spanwarden_origin_claims_overwritten{")
                && line.contains(lie)
                && line.ends_with(" 3")
        });
        ensure!(counted, "the lies about {lie} are not counted:\n{metrics}");
    }
    Ok(())
}
