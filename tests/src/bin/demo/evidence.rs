//! What the demo left behind, read back from logs and files: nothing here is known beforehand.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use super::Senders;

/// Everything that the report shows and checks.
pub(super) struct Evidence {
    pub(super) senders: Senders,
    /// Accepted connections, as the agent logged them.
    pub(super) connections: Vec<Value>,
    /// Plaintext findings, as the agent logged them.
    pub(super) findings: Vec<Value>,
    /// By trace id: every decision with the gateway that took it. More than one is a split trace.
    pub(super) decisions: BTreeMap<String, Vec<(usize, Value)>>,
    /// By trace id: the kept spans with their resource's attributes.
    pub(super) kept: BTreeMap<String, Vec<KeptSpan>>,
    /// The text of every file that a gateway wrote.
    pub(super) stored: String,
    /// The agent's metrics at the end.
    pub(super) metrics: String,
    /// Pod uids by the demo's names.
    pub(super) uids: BTreeMap<&'static str, String>,
    pub(super) files: PathBuf,
}

/// One span of a kept trace.
pub(super) struct KeptSpan {
    pub(super) gateway: usize,
    pub(super) span: Value,
    pub(super) resource: BTreeMap<String, String>,
}

impl Evidence {
    pub(super) fn read(
        senders: Senders,
        agent_log: &str,
        gateway_logs: &[String],
        files_kept: &[String],
        metrics: String,
        uids: BTreeMap<&'static str, String>,
        files: PathBuf,
    ) -> Result<Self> {
        let agent: Vec<Value> = lines(agent_log);
        let from = |target: &str| agent.iter().filter(|l| l["target"] == target).cloned().collect();
        let mut decisions: BTreeMap<String, Vec<(usize, Value)>> = BTreeMap::new();
        for (gateway, log) in gateway_logs.iter().enumerate() {
            for line in lines(log).into_iter().filter(|l| l["target"] == "spanwarden::sampling::decision") {
                decisions.entry(text(&line["trace_id"])).or_default().push((gateway, line));
            }
        }
        let mut kept: BTreeMap<String, Vec<KeptSpan>> = BTreeMap::new();
        for (gateway, file) in files_kept.iter().enumerate() {
            for line in file.lines() {
                let request = serde_json::from_str(line).context("a kept line is not JSON")?;
                collect(gateway, &request, &mut kept);
            }
        }
        let (connections, findings) =
            (from("spanwarden::receiver::connection"), from("spanwarden::origin::findings"));
        let stored = files_kept.concat();
        Ok(Self { senders, connections, findings, decisions, kept, stored, metrics, uids, files })
    }

    /// The traces that a sender says it made, with what it calls them.
    pub(super) fn traces(output: &str) -> Vec<(String, String)> {
        let parts = output.lines().filter_map(|line| line.strip_prefix("trace ")?.split_once(' '));
        parts.map(|(id, kind)| (id.to_owned(), kind.to_owned())).collect()
    }
}

fn lines(log: &str) -> Vec<Value> {
    log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// A JSON string's text, or the JSON itself.
pub(super) fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn collect(gateway: usize, request: &Value, kept: &mut BTreeMap<String, Vec<KeptSpan>>) {
    for resource_spans in array(&request["resourceSpans"]) {
        let resource = attributes(&resource_spans["resource"]["attributes"]);
        for span in array(&resource_spans["scopeSpans"]).iter().flat_map(|scope| array(&scope["spans"])) {
            let kept_span = KeptSpan { gateway, span: span.clone(), resource: resource.clone() };
            kept.entry(text(&span["traceId"])).or_default().push(kept_span);
        }
    }
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// OTLP JSON attributes as a map; a value is the text of its only member.
pub(super) fn attributes(list: &Value) -> BTreeMap<String, String> {
    let pair = |kv: &Value| {
        let value = kv["value"].as_object().and_then(|member| member.values().next());
        (text(&kv["key"]), value.map(text).unwrap_or_default())
    };
    array(list).iter().map(pair).collect()
}
