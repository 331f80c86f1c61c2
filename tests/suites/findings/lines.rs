//! One line a connection, with the right value under every key; the same in metrics; nothing of what is no telemetry.

use std::{collections::BTreeMap, net::SocketAddr};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use spanwarden_tests::node::{Node, Pod};

use super::world::{Running, Sent, Setup, at, cgroup_of, h2, post, send, sink};

const GRPC: &str = "/opentelemetry.proto.collector.";

/// What is sent, and the finding: protocol, signal, proof.
type Case = (Vec<u8>, Option<(&'static str, &'static str, &'static str)>);

fn cases() -> Vec<Case> {
    let grpc = |service: &str| h2(&format!("{GRPC}{service}/Export"));
    vec![
        (post("/v1/traces"), Some(("http/1.1", "traces", "path"))),
        (post("/v1/metrics"), Some(("http/1.1", "metrics", "path"))),
        (post("/v1/logs"), Some(("http/1.1", "logs", "path"))),
        (post("/tenant-7/otlp/v1/traces"), Some(("http/1.1", "traces", "path"))),
        (post("/v1development/profiles"), Some(("http/1.1", "profiles", "path"))),
        (grpc("trace.v1.TraceService"), Some(("h2c", "traces", "path"))),
        (grpc("metrics.v1.MetricsService"), Some(("h2c", "metrics", "path"))),
        (grpc("logs.v1.LogsService"), Some(("h2c", "logs", "path"))),
        (h2("/v1/traces"), Some(("h2c", "traces", "path"))),
        (post("/api/orders"), None),
        (h2("/shop.Orders/Create"), None),
        (b"\x16\x03\x01\x00\xf4\x01\x00\x00\xf0\x03\x03".to_vec(), None),
    ]
}

struct Expected {
    sent: Sent,
    to: SocketAddr,
    what: (&'static str, &'static str, &'static str),
    case: String,
}

#[test]
fn every_connection_is_one_line_that_says_all() -> Result<()> {
    let node = Node::new()?;
    let (agent, web) = (node.pod("spanwarden", "agent")?, node.pod("shop", "web")?);
    let collector = node.pod("elsewhere", "collector")?;
    let listed = vec![deployed(&web), collector.manifest(), agent.manifest()];
    let running = Running::start(&node, agent.place(), &Setup { listed, ..Setup::default() })?;
    let mut sinks = Vec::new();
    // By both addresses: the kernel gives a source port again towards another destination.
    let mut expected = BTreeMap::new();
    for port in [4317, 18_080] {
        sinks.push(sink(collector.place(), format!("[::]:{port}").parse()?)?);
        for (number, (payload, what)) in cases().iter().enumerate() {
            let to = if number % 2 == 0 { at(collector.ipv4, port) } else { at(collector.ipv6, port) };
            let sent = send(web.place(), to, payload, None)?;
            let case = format!("{} to {to}", String::from_utf8_lossy(payload));
            if let Some(what) = *what {
                let of_it = (sent.local.clone(), to.to_string());
                ensure!(expected.insert(of_it, Expected { sent, to, what, case }).is_none(), "twice: {to}");
            }
        }
    }
    let connections = expected.len();
    let lines = running.lines(connections)?;
    for line in &lines {
        let text = |key: &str| line[key].as_str().map(str::to_owned).context(key.to_owned());
        let expected = expected
            .remove(&(text("local")?, text("remote")?))
            .with_context(|| format!("twice, or of none: {line:#}"))?;
        check(&node, &web, &collector, line, &expected)?;
    }
    let metrics = running.reconcile()?;
    let labels = |finding: &str| {
        metrics
            .iter()
            .filter(|(name, _)| name.starts_with("spanwarden_plaintext_findings{") && name.contains(finding))
            .map(|(_, count)| count)
            .sum::<u64>()
    };
    ensure!(labels("finding=\"plaintext\"") == connections as u64, "{metrics:#?}");
    ensure!(labels("finding=\"fallback\"") == 0, "{metrics:#?}");
    let labelled = "spanwarden_plaintext_findings{finding=\"plaintext\",namespace=\"shop\",proof=\"path\",\
                    protocol=\"http/1.1\",signal=\"traces\",where=\"cluster\",workload=\"web\"}";
    ensure!(metrics.get(labelled) == Some(&4), "{labelled}: {metrics:#?}");
    ensure!(metrics.get("spanwarden_findings_lines{outcome=\"written\"}") == Some(&(connections as u64)));
    logged(&running, connections)
}

/// The pod as a deployment's, which is the workload then.
fn deployed(pod: &Pod) -> Value {
    let mut manifest = pod.manifest();
    manifest["metadata"]["labels"]["pod-template-hash"] = json!("abc12");
    manifest["metadata"]["ownerReferences"] =
        json!([{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-abc12", "controller": true }]);
    manifest
}

fn check(node: &Node, web: &Pod, collector: &Pod, line: &Value, expected: &Expected) -> Result<()> {
    let Expected { sent, to, what: (protocol, signal, proof), case } = expected;
    let wanted = json!({
        "finding": "plaintext",
        "pid": sent.pid,
        "comm": "raw-client",
        "cgroup": cgroup_of(node, web)?,
        "pod_uid": web.uid,
        "local": sent.local,
        "remote": to.to_string(),
        "protocol": protocol,
        "signal": signal,
        "proof": proof,
        "where": "cluster",
        "seen": null,
        "destination": to.to_string(),
        "destination_is": { "kind": "Pod", "namespace": "elsewhere", "name": collector.name },
        "namespace": "shop",
        "pod": "web",
        "workload": "web",
        "container": "main",
        "container_id": web.container_id,
        "uid": 0,
        "mode": "observe",
        "blocked": false,
        "not_enforced": false,
        "revised": false,
        "tunnel": false,
        "tls_failure": null,
    });
    for (key, value) in wanted.as_object().context("an object")? {
        ensure!(line[key] == *value, "{case}: `{key}` should be {value}: {line:#}");
    }
    for key in ["time", "since"] {
        let text = line[key].as_str().context(key)?;
        ensure!(text.len() == 30 && text.starts_with("20") && text.ends_with('Z'), "{case}: {key}: {text}");
    }
    ensure!(line["since"].as_str() <= line["time"].as_str(), "{case}: {line:#}");
    ensure!(line["count"].as_u64() >= Some(1) && line["connection"].as_u64() >= Some(1), "{case}: {line:#}");
    Ok(())
}

/// The log has every finding, quietly: nothing is to be warned about by default.
fn logged(running: &Running, count: usize) -> Result<()> {
    let logs = running.agent.logs();
    let lines: Vec<Value> = logs.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let found = lines.iter().filter(|line| line["target"] == "spanwarden::origin::findings");
    let levels: Vec<&Value> = found.map(|line| &line["level"]).collect();
    ensure!(levels.len() == count && levels.iter().all(|level| **level == "INFO"), "{logs}");
    Ok(())
}

/// TLS that the server closes before it has answered, then the same in the clear: one line that tells of both.
#[test]
fn a_fallback_tells_of_both_connections() -> Result<()> {
    let node = Node::new()?;
    let (agent, web) = (node.pod("spanwarden", "agent")?, node.pod("shop", "web")?);
    let collector = node.pod("elsewhere", "collector")?;
    let listed = vec![web.manifest(), collector.manifest(), agent.manifest()];
    let running = Running::start(&node, agent.place(), &Setup { listed, ..Setup::default() })?;
    let _sink = sink(collector.place(), at(collector.ipv4, 4318))?;
    let to = at(collector.ipv4, 4318);
    // A whole ClientHello record: header, handshake header, version, random, and what else it has.
    let mut hello = b"\x16\x03\x01\x00\xf4\x01\x00\x00\xf0\x03\x03".to_vec();
    hello.resize(5 + 0xf4, 0);
    let first = send(web.place(), to, &hello, None)?;
    let second = send(web.place(), to, &post("/v1/traces"), None)?;
    let lines = running.lines(1)?;
    let line = &lines[0];
    ensure!(line["finding"] == "fallback" && line["local"] == second.local.as_str(), "{line:#}");
    let failure = &line["tls_failure"];
    ensure!(failure["local"] == first.local.as_str() && failure["pid"] == first.pid, "{line:#}");
    ensure!(failure["destination"] == to.to_string() && failure["weak"] == false, "{line:#}");
    let kind = failure["kind"].as_str().context("a kind")?;
    ensure!(["closed", "reset", "no-answer"].contains(&kind), "{line:#}");
    ensure!(failure["seconds_before"].as_f64().is_some_and(|seconds| seconds < 60.0), "{line:#}");
    let metrics = running.reconcile()?;
    let counted = metrics.iter().any(|(name, count)| {
        name.starts_with("spanwarden_plaintext_findings{finding=\"fallback\"") && *count == 1
    });
    ensure!(counted, "{metrics:#?}");
    Ok(())
}

/// Connections to one destination count up, and `since` stays; a mode of `warn` is a warning.
#[test]
fn since_when_and_how_often() -> Result<()> {
    let node = Node::new()?;
    let (agent, web) = (node.pod("spanwarden", "agent")?, node.pod("shop", "web")?);
    let printer = node.pod("shop", "printer")?;
    let origin = "    plaintext:
      rules: [{mode: warn, namespaces: [shop]}]
      exclude: [{match_labels: {app: printer}}]"
        .to_owned();
    let listed = vec![web.manifest(), printer.manifest(), agent.manifest()];
    let running = Running::start(&node, agent.place(), &Setup { origin, listed, ..Setup::default() })?;
    let _sink = sink(printer.place(), at(printer.ipv4, 9000))?;
    let to = at(printer.ipv4, 9000);
    for _ in 0..3 {
        send(web.place(), to, &post("/v1/traces"), None)?;
    }
    send(printer.place(), at(printer.ipv4, 9000), &post("/v1/traces"), None)?;
    let _own = sink(web.place(), at(web.ipv4, 9001))?;
    send(printer.place(), at(web.ipv4, 9001), &post("/v1/traces"), None)?;
    let lines = running.lines(5)?;
    let of = |pod: &Pod| lines.iter().filter(|line| line["pod_uid"] == pod.uid.as_str()).collect::<Vec<_>>();
    let (webs, printers) = (of(&web), of(&printer));
    let counts: Vec<&Value> = webs.iter().map(|line| &line["count"]).collect();
    ensure!(counts == [1, 2, 3].map(Value::from).iter().collect::<Vec<_>>(), "{webs:#?}");
    ensure!(webs.iter().all(|line| line["since"] == webs[0]["time"]), "{webs:#?}");
    ensure!(webs.iter().all(|line| line["mode"] == "warn"), "{webs:#?}");
    ensure!(printers.len() == 2 && printers.iter().all(|line| line["mode"] == "observe"), "{printers:#?}");
    let logs = running.agent.logs();
    let warnings = logs.lines().filter(|line| line.contains("WARN") && line.contains("leaves in plaintext"));
    ensure!(warnings.count() == 3, "{logs}");
    Ok(())
}
