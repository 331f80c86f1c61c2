//! What a person reads in a minute, and what must hold for it to be true.

use std::collections::BTreeMap;

use serde_json::Value;

use super::evidence::{Evidence, KeptSpan, attributes, text};

/// Values that the shop planted and nobody may find in what was stored.
const PLANTED: [&str; 7] = [
    "@example.com",
    "eyJhbGciOiJIUzI1NiJ9",
    "session=0123456789abcdef",
    "4111 1111 1111",
    "4111111111111111",
    "078-05-1120",
    "\"user-",
];

/// Prints the report.
pub(super) fn print(evidence: &Evidence) {
    if !evidence.uids.is_empty() {
        print_connections(evidence);
        print_forgery(evidence);
        print_findings(evidence);
    }
    print_scrubbing(evidence);
    print_decisions(evidence);
    heading("Files");
    println!("  {}", evidence.files.display());
    println!(
        "  gateway-N.jsonl: kept traces as OTLP JSON lines; *.yaml: the configurations; *.log: structured logs"
    );
}

/// Everything that is not as it must be.
pub(super) fn wrong(evidence: &Evidence) -> Vec<String> {
    let mut wrong = Vec::new();
    for planted in PLANTED {
        if evidence.stored.contains(planted) {
            wrong.push(format!("{planted:?} was stored"));
        }
    }
    for (id, kind) in Evidence::traces(&evidence.senders.shop) {
        match evidence.decisions.get(&id).map(Vec::as_slice) {
            Some([_]) => {}
            Some(several) => {
                wrong.push(format!("trace {id} was decided {} times: it was split", several.len()));
            }
            None => wrong.push(format!("nobody decided on trace {id}")),
        }
        let spans = evidence.kept.get(&id).map_or(0, Vec::len);
        if kind != "normal" && spans != 3 {
            wrong.push(format!("the {kind} trace {id} must be kept whole, and has {spans} of 3 spans"));
        }
    }
    if !evidence.uids.is_empty() {
        wrong.extend(wrong_origins(evidence));
    }
    wrong
}

fn wrong_origins(evidence: &Evidence) -> Vec<String> {
    let mut wrong = Vec::new();
    let forger = evidence.senders.forger.as_deref().unwrap_or_default();
    for (sender, output) in [("shop", evidence.senders.shop.as_str()), ("forger", forger)] {
        for (id, _) in Evidence::traces(output) {
            for KeptSpan { resource, .. } in evidence.kept.get(&id).into_iter().flatten() {
                let (uid, level) = (resource.get("k8s.pod.uid"), resource.get("otlp.origin.evidence"));
                if uid != evidence.uids.get(sender) || level.map(String::as_str) != Some("kernel") {
                    wrong.push(format!(
                        "a span of {sender} is stored as from pod {uid:?} with evidence {level:?}"
                    ));
                }
            }
        }
    }
    let inventory = &evidence.uids["inventory"];
    let is_fallback = |f: &&Value| f["where"] != "agent" && text(&f["k8s.pod.uid"]) == *inventory;
    match evidence.findings.iter().filter(is_fallback).count() {
        1 => {}
        other => wrong.push(format!("{other} plaintext findings for the pod that fell back, instead of 1")),
    }
    if Evidence::traces(forger).iter().all(|(id, _)| !evidence.kept.contains_key(id)) {
        wrong.push("none of the forged traces was stored, so nothing shows their origin".into());
    }
    wrong
}

fn heading(title: &str) {
    println!("\n{title}\n{}", "-".repeat(title.len()));
}

fn print_connections(evidence: &Evidence) {
    heading("Who sent what: connections to the agent, by kernel evidence");
    println!("  {:<10} {:<36} {:>7} {:<12} {:<8} from", "evidence", "pod", "pid", "process", "protocol");
    for c in &evidence.connections {
        let pod = format!("{}/{}", text(&c["k8s.namespace.name"]), text(&c["k8s.pod.name"]));
        println!(
            "  {:<10} {pod:<36} {:>7} {:<12} {:<8} {}",
            text(&c["evidence"]),
            text(&c["process.pid"]),
            text(&c["process.comm"]),
            text(&c["transport"]),
            text(&c["peer"]),
        );
    }
}

fn print_forgery(evidence: &Evidence) {
    heading("A forged identity: what the sender claimed, and what was stored");
    let forger = evidence.senders.forger.as_deref().unwrap_or_default();
    let stored = Evidence::traces(forger).iter().find_map(|(id, _)| evidence.kept.get(id)?.first());
    let Some(KeptSpan { resource, .. }) = stored else { return println!("  (nothing was kept)") };
    let claims = [
        ("k8s.namespace.name", "payments"),
        ("k8s.pod.name", "payment-7d4b9c6f5-x2x9k"),
        ("k8s.pod.uid", "11111111-2222-3333-4444-555555555555"),
    ];
    for (key, claimed) in claims {
        println!("  {key:<20} {claimed:<38} -> {}", resource.get(key).map_or("(removed)", String::as_str));
    }
    let process = |key: &str| resource.get(key).map_or("?", String::as_str);
    println!(
        "  opened by process {} ({}), evidence: {}",
        process("otlp.origin.pid"),
        process("otlp.origin.comm"),
        process("otlp.origin.evidence")
    );
    for line in evidence.metrics.lines().filter(|l| l.starts_with("spanwarden_origin_claims_overwritten{")) {
        println!("  {line}");
    }
}

fn print_findings(evidence: &Evidence) {
    heading("Telemetry that leaves in plaintext (kernel, any destination, any port)");
    let (own, others): (Vec<&Value>, Vec<&Value>) =
        evidence.findings.iter().partition(|f| f["where"] == "agent");
    for f in others {
        println!(
            "  {}/{}, process {} ({}): {} from {} to {}, proof: {}",
            text(&f["k8s.namespace.name"]),
            text(&f["k8s.pod.name"]),
            text(&f["process.pid"]),
            text(&f["process.comm"]),
            text(&f["protocol"]),
            text(&f["local"]),
            text(&f["remote"]),
            text(&f["proof"]),
        );
    }
    println!(
        "  and {} connections in plaintext to this node's own agent, which listens without TLS here",
        own.len()
    );
}

fn print_scrubbing(evidence: &Evidence) {
    heading("Spans before and after scrubbing");
    let before: Vec<Value> = evidence
        .senders
        .shop
        .lines()
        .filter_map(|line| serde_json::from_str(line.strip_prefix("span ")?).ok())
        .collect();
    let trace =
        before.first().map(|span| text(&span["context"]["trace_id"]).replace("0x", "")).unwrap_or_default();
    for KeptSpan { span, .. } in evidence.kept.get(&trace).into_iter().flatten() {
        let Some(original) = before.iter().find(|b| b["name"] == span["name"]) else { continue };
        println!("  {}", text(&span["name"]));
        print_changes(&plain(&original["attributes"]), &attributes(&span["attributes"]));
        let event = |events: &Value| events.get(0).map(|e| e["attributes"].clone()).unwrap_or_default();
        print_changes(&plain(&event(&original["events"])), &attributes(&event(&span["events"])));
        let status = |text: &Value| BTreeMap::from([("(status message)".to_owned(), self::text(text))]);
        if original["status"]["description"].is_string() {
            print_changes(&status(&original["status"]["description"]), &status(&span["status"]["message"]));
        }
    }
}

fn plain(attributes: &Value) -> BTreeMap<String, String> {
    attributes.as_object().into_iter().flatten().map(|(key, value)| (key.clone(), text(value))).collect()
}

fn print_changes(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) {
    for (key, old) in before {
        match after.get(key) {
            Some(new) if new == old => {}
            Some(new) => println!("    {key}\n      - {old}\n      + {new}"),
            None => println!("    {key}\n      - {old}\n      + (deleted)"),
        }
    }
}

fn print_decisions(evidence: &Evidence) {
    heading("Where each trace went, and why it was kept or dropped");
    let forger = evidence.senders.forger.as_deref().unwrap_or_default();
    let mut rows: BTreeMap<(String, String, String), Vec<usize>> = BTreeMap::new();
    for (id, kind) in Evidence::traces(&evidence.senders.shop).into_iter().chain(Evidence::traces(forger)) {
        for (gateway, line) in evidence.decisions.get(&id).into_iter().flatten() {
            let key = (kind.clone(), text(&line["decision"]), text(&line["policy"]));
            rows.entry(key).or_default().push(*gateway);
        }
    }
    println!("  {:<8} {:<12} {:<12} {:>6}   gateway 0 / 1 / 2", "traces", "decision", "policy", "number");
    for ((kind, decision, policy), gateways) in rows {
        let at = |gateway: usize| gateways.iter().filter(|g| **g == gateway).count();
        let policy = if policy.is_empty() { "-" } else { policy.as_str() };
        println!(
            "  {kind:<8} {decision:<12} {policy:<12} {:>6}   {} / {} / {}",
            gateways.len(),
            at(0),
            at(1),
            at(2)
        );
    }
    if let Some((id, spans)) = evidence.kept.iter().find(|(_, spans)| spans.len() == 3) {
        println!("  one of them: {id}, {} spans, in gateway-{}.jsonl", spans.len(), spans[0].gateway);
    }
}
