//! Plaintext telemetry towards anybody, on any port: one finding a connection, with the right sender.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use spanwarden_tests::{node::Node, process::Process};

use super::server::{CLIENT, PATIENCE, Server, at};

/// Protocol, signal, proof.
type What = (&'static str, &'static str, &'static str);

const TRACES: What = ("http/1.1", "traces", "path");

/// Payload, bytes a packet, what is to be found.
const CASES: [(&str, Option<&str>, Option<What>); 25] = [
    ("http1", None, Some(TRACES)),
    ("http1", Some("1"), Some(TRACES)),
    ("http1", Some("7"), Some(TRACES)),
    ("http1-prefixed", None, Some(TRACES)),
    ("http1-metrics", Some("11"), Some(("http/1.1", "metrics", "path"))),
    ("http1-logs", None, Some(("http/1.1", "logs", "path"))),
    ("http1-profiles", None, Some(("http/1.1", "profiles", "path"))),
    ("proxied", None, Some(("http/1.1", "logs", "path"))),
    ("proxied", Some("3"), Some(("http/1.1", "logs", "path"))),
    ("h2c-traces", None, Some(("h2c", "traces", "path"))),
    ("h2c-traces", Some("1"), Some(("h2c", "traces", "path"))),
    ("h2c-metrics", None, Some(("h2c", "metrics", "path"))),
    ("h2c-metrics", Some("5"), Some(("h2c", "metrics", "path"))),
    ("h2c-logs", Some("13"), Some(("h2c", "logs", "path"))),
    ("h2c-health", None, None),
    // Nothing better will come when it closes, and only on OTLP's port.
    ("h2c", None, Some(("h2c", "unknown", "port"))),
    ("h2c", Some("5"), Some(("h2c", "unknown", "port"))),
    ("tls", None, None),
    ("tls", Some("1"), None),
    ("post-in-tls", None, None),
    ("http1-get", None, None),
    ("http1-other", Some("3"), None),
    ("redis", None, None),
    ("binary", None, None),
    ("short", None, None),
];

#[test]
fn one_finding_for_each_plaintext_connection_and_none_for_others() -> Result<()> {
    let node = Node::new()?;
    let (agent, web) = (node.pod("spanwarden", "agent")?, node.pod("shop", "web")?);
    let collector = node.pod("elsewhere", "collector")?;
    let mut server = Server::start(&node, &agent, &[web.clone(), collector.clone()])?;
    let mut sinks = Vec::new();
    // By both addresses: the kernel gives a source port again towards another destination.
    let mut expected = BTreeMap::new();
    // OTLP's port, and two that nobody would suspect.
    for port in [4317, 443, 18_080] {
        let mut sink = collector.spawn(CLIENT, &["drain", &format!("[::]:{port}")])?;
        sink.wait_for_line("ready", PATIENCE)?;
        sinks.push(sink);
        for (number, (name, chunk, what)) in CASES.iter().enumerate() {
            let target = if number % 2 == 0 { at(collector.ipv4) } else { at(collector.ipv6) };
            let target = target.replace(":4317", &format!(":{port}"));
            let mut arguments = vec!["send", &target, name];
            arguments.extend(*chunk);
            let (pid, local) = send(&web, &arguments)?;
            if let Some(what) = what.filter(|what| what.2 != "port" || port == 4317) {
                let case = format!("{name} by {chunk:?} to {target}");
                ensure!(expected.insert((local, target), (pid, what, case)).is_none(), "a connection twice");
            }
        }
    }
    server.ask(&format!("findings {}", expected.len()))?;
    let findings = server.answer()?;
    let findings = findings.as_array().context("a list")?;
    for finding in findings {
        let text = |key: &str| finding[key].as_str().map(str::to_owned).context(key.to_owned());
        let (pid, (protocol, signal, proof), case) = expected
            .remove(&(text("local")?, text("remote")?))
            .with_context(|| format!("found twice, or should not be: {finding:#}"))?;
        ensure!(finding["protocol"] == protocol && finding["pid"] == pid, "{case}: {finding:#}");
        ensure!(finding["signal"] == signal && finding["proof"] == proof, "{case}: {finding:#}");
        ensure!(finding["destination"] == finding["remote"], "{case}: {finding:#}");
        ensure!(finding["pod_uid"] == web.uid.as_str() && finding["pod"] == "web", "{case}: {finding:#}");
        ensure!(finding["evidence"] == "kernel" && finding["where"] != "agent", "{case}: {finding:#}");
    }
    ensure!(expected.is_empty(), "not found: {expected:#?}");
    // The table has a row for each destination and kind of what was found, and counts every connection.
    server.ask("table")?;
    let table = server.answer()?;
    let table = table.as_array().context("a list")?;
    let kinds: BTreeSet<String> =
        findings.iter().map(|f| format!("{} {} {}", f["destination"], f["protocol"], f["signal"])).collect();
    ensure!(table.len() == kinds.len(), "{} rows for {kinds:#?}", table.len());
    let counted: u64 = table.iter().filter_map(|row| row["count"].as_u64()).sum();
    ensure!(counted == findings.len() as u64, "{counted} of {} connections", findings.len());
    ensure!(table.iter().all(|row| row["in_order"] == true && row["last"]["pod"] == "web"), "{table:#?}");
    Ok(())
}

/// The client's pid and source address.
fn send(pod: &spanwarden_tests::node::Pod, arguments: &[&str]) -> Result<(u64, String)> {
    let mut client: Process = pod.spawn(CLIENT, arguments)?;
    let line = client.wait_for_line("pid", PATIENCE)?;
    client.wait_success(PATIENCE)?;
    let fields: Vec<&str> = line.split(' ').collect();
    let ["pid", pid, "local", local] = fields.as_slice() else { anyhow::bail!("{line}") };
    Ok((pid.parse()?, (*local).to_owned()))
}
