//! Better evidence for a connection that was found before: a second line that says so, and still one connection.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use spanwarden_tests::{
    node::Node,
    payload::{
        self, Signal,
        http2::{Block, Connection, Form},
    },
};

use super::world::{Running, Setup, at, post, send_parts, sink};

#[test]
fn a_connection_with_better_evidence_later_is_one_connection() -> Result<()> {
    let node = Node::new()?;
    let (agent, web) = (node.pod("spanwarden", "agent")?, node.pod("shop", "web")?);
    let collector = node.pod("elsewhere", "collector")?;
    let listed = vec![web.manifest(), agent.manifest()];
    let running = Running::start(&node, agent.place(), &Setup { listed, ..Setup::default() })?;
    // A path that is too long to be read, then OTLP's.
    let path = format!("/{}", "x".repeat(400));
    let long = post(&path);
    let unread = Block::start().field(0x44, path.as_bytes()).field(0x5f, b"application/grpc");
    let first = Connection::new().headers(1, &unread).grpc_message(1, &payload::message(100));
    let path = Block::post(Signal::Traces.grpc_path(), Form::Raw);
    let both = first.clone().headers(3, &path).grpc_message(3, &payload::message(100)).bytes();
    let first = first.bytes();
    for (number, (port, parts, proofs)) in [
        (4318, [&long[..], &post("/v1/traces")], ["port", "path"]),
        (18_080, [&first[..], &both[first.len()..]], ["grpc", "path"]),
    ]
    .into_iter()
    .enumerate()
    {
        let _sink = sink(collector.place(), at(collector.ipv4, port))?;
        let sent = send_parts(web.place(), at(collector.ipv4, port), &parts)?;
        let lines = running.lines(2 * (number + 1))?;
        let remote = at(collector.ipv4, port).to_string();
        let of_it: Vec<&Value> =
            lines.iter().filter(|line| line["local"] == *sent.local && line["remote"] == *remote).collect();
        let [before, after] = of_it.as_slice() else { anyhow::bail!("two lines of it: {lines:#?}") };
        let told = |line: &Value| json!([line["proof"], line["signal"], line["revised"]]);
        ensure!(told(before) == json!([proofs[0], "unknown", false]), "{before:#}");
        ensure!(told(after) == json!([proofs[1], "traces", true]), "{after:#}");
        for key in ["connection", "pid", "pod_uid", "since", "count"] {
            ensure!(before[key] == after[key], "{key}: {lines:#?}");
        }
        ensure!(after["count"] == 1, "{after:#}");
        // In metrics it is one connection, and the revision is counted beside.
        let metrics = running.reconcile()?;
        let connections: u64 = metrics
            .iter()
            .filter(|(name, _)| name.starts_with("spanwarden_plaintext_findings{"))
            .map(|(_, count)| count)
            .sum();
        ensure!(connections == number as u64 + 1, "{metrics:#?}");
        let revised = "spanwarden_plaintext_findings_revised{proof=\"path\"}";
        let revised = metrics.get(revised).context("no revision is counted")?;
        ensure!(*revised == number as u64 + 1, "{metrics:#?}");
        // And one row: the first is taken back.
        ensure!(metrics.get("spanwarden_findings_rows") == Some(&(number as u64 + 1)), "{metrics:#?}");
    }
    Ok(())
}
