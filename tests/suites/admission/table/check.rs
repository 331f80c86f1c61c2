//! Whether what came of a row is what the table says. Faults are collected: one run shows all of them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use serde_json::Value;
use spanwarden_tests::kubernetes::api::wait_until;

use super::{
    super::{
        spans::{Attributes, only, request, written},
        world::{METRICS, Reply, sum},
    },
    Row, Then,
    scene::Scene,
};

const REQUESTS: &str = "spanwarden_receiver_refused_requests";
const CONNECTIONS: &str = "spanwarden_receiver_refused_connections";
const OVERWRITTEN: &str = "spanwarden_origin_claims_overwritten";
const FORGED: &str = "spanwarden_identity_forged_claims";
const EVENTS: &str = "spanwarden_events";

/// What should have been counted: family, labels, how often; everything else of these families must stay as it was.
type Counts = Vec<(&'static str, Vec<(&'static str, String)>, u64)>;

fn expected(row: &Row, grpc: bool) -> Counts {
    let listener = |cause: &str| {
        let transport = if grpc { "grpc" } else { "http" };
        vec![("receiver", row.to.name()), ("transport", transport.to_owned()), ("cause", cause.to_owned())]
    };
    let (mut counts, event) = match &row.then {
        Then::Refused { cause, event, .. } => {
            let mut counts = vec![(REQUESTS, listener(cause), 1)];
            if *cause == "forged_claim" {
                counts.push((FORGED, vec![("mode", "reject".to_owned())], 1));
            }
            (counts, event)
        }
        Then::Broken { cause, event } => (vec![(CONNECTIONS, listener(cause), 1)], event),
        Then::Accepted { overwritten, forged, event, .. } => {
            let claims = overwritten
                .iter()
                .map(|(name, count)| (OVERWRITTEN, vec![("attribute", (*name).to_owned())], *count));
            let forged =
                forged.iter().map(|(mode, count)| (FORGED, vec![("mode", (*mode).to_owned())], *count));
            (claims.chain(forged).collect(), event)
        }
    };
    if let Some(reason) = event {
        counts.push((EVENTS, vec![("reason", (*reason).to_owned())], 1));
    }
    counts
}

/// Sends the row's request and looks at the answer and the counters.
pub(super) fn answer(scene: &mut Scene, row: &Row, grpc: bool, first: u64) -> Result<Vec<String>> {
    let to = scene.address(row, grpc);
    let before = scene.agent.get(METRICS, "/metrics")?;
    let (sender, pki) = scene.sender(row.who)?;
    let reply = sender.send(to, grpc, &row.shown, pki, &request(&row.resources, first))?;
    let mut faults = told(scene, row, grpc, &reply);
    let counts = expected(row, grpc);
    // A connection's end is counted after the client has seen it.
    let grown = |after: &str, family: &str, labels: &[(&str, &str)]| {
        sum(after, family, labels).saturating_sub(sum(&before, family, labels))
    };
    let enough = |after: &str| {
        counts.iter().all(|(family, labels, count)| {
            let labels: Vec<_> = labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
            grown(after, family, &labels) >= *count
        })
    };
    let mut after = scene.agent.get(METRICS, "/metrics")?;
    for _ in 0..100 {
        if enough(&after) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
        after = scene.agent.get(METRICS, "/metrics")?;
    }
    for family in [REQUESTS, CONNECTIONS, OVERWRITTEN, FORGED, EVENTS] {
        let due: u64 = counts.iter().filter(|(of, _, _)| *of == family).map(|(_, _, count)| count).sum();
        let all = grown(&after, family, &[]);
        if all != due || !enough(&after) {
            let changes = changes(&before, &after, family);
            faults.push(format!(
                "{}: {family}: {all} counted, {due} expected of {counts:?}; {changes:?}",
                say(row, grpc)
            ));
        }
    }
    Ok(faults)
}

fn say(row: &Row, grpc: bool) -> String {
    format!("{} ({:?} to {:?}, {})", row.name, row.who, row.to, if grpc { "gRPC" } else { "HTTP" })
}

/// The series of a family that have changed.
fn changes(before: &str, after: &str, family: &str) -> Vec<String> {
    let of = |text: &str| -> BTreeSet<String> {
        text.lines().filter(|line| line.starts_with(family)).map(str::to_owned).collect()
    };
    of(after).difference(&of(before)).cloned().collect()
}

/// The status and the words of the answer.
fn told(scene: &Scene, row: &Row, grpc: bool, reply: &Reply) -> Vec<String> {
    let mut faults = Vec::new();
    let mut fault = |what: String| faults.push(format!("{}: {what}: {reply:?}", say(row, grpc)));
    let taken = if grpc { 0 } else { 200 };
    match &row.then {
        Then::Accepted { .. } if reply.status != Some(taken) => fault("not accepted".to_owned()),
        Then::Broken { .. } if reply.status == Some(taken) => fault("accepted".to_owned()),
        Then::Accepted { .. } | Then::Broken { .. } => {}
        Then::Refused { grpc: code, http, words, .. } => {
            let status = if grpc { *code } else { *http };
            if reply.status != Some(status) {
                fault(format!("expected {status}"));
            }
            for word in *words {
                if !reply.text.contains(word) {
                    fault(format!("the message does not say `{word}`"));
                }
            }
        }
    }
    for secret in secrets(scene, row) {
        if reply.text.contains(&secret) {
            fault(format!("the message holds `{secret}`"));
        }
    }
    faults
}

/// What no answer may hold: parts of credentials, and whose they are.
fn secrets(scene: &Scene, row: &Row) -> Vec<String> {
    let mut secrets = Vec::new();
    for (_, value) in &row.shown.headers {
        let words = value.split([' ', '.']).filter(|word| word.len() > 15);
        secrets.extend(words.map(str::to_owned));
    }
    for workload in [&scene.cart, &scene.web, &scene.thief] {
        let pod = &workload.pod;
        secrets.extend([pod.uid.clone(), pod.name.clone(), pod.container_id.clone(), pod.ipv4.to_string()]);
    }
    secrets.push(scene.agent.directory().display().to_string());
    secrets
}

/// The Events at the API server: those of the table, one a pod and reason, and no other.
pub(super) fn events(scene: &Scene, rows: &[Row]) -> Vec<String> {
    let mut due = BTreeSet::new();
    for row in rows {
        let (Then::Accepted { event, .. } | Then::Refused { event, .. } | Then::Broken { event, .. }) =
            &row.then;
        if let (Some(reason), Some(workload)) = (event, scene.workload(row.who)) {
            due.insert((workload.pod.uid.clone(), (*reason).to_owned()));
        }
    }
    let text = |event: &Value, pointer: &str| {
        event.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let _ = wait_until("the Events", || (scene.api.events().len() >= due.len()).then_some(()));
    let mut faults = Vec::new();
    let mut seen = BTreeMap::<_, u32>::new();
    for event in scene.api.events() {
        let key = (text(&event, "/regarding/uid"), text(&event, "/reason"));
        *seen.entry(key).or_default() += 1;
        for row in rows {
            let credentials = row.shown.headers.iter().flat_map(|(_, value)| value.split([' ', '.']));
            for secret in credentials.filter(|word| word.len() > 15) {
                if event.to_string().contains(secret) {
                    faults.push(format!("{}: an Event holds what was sent: {event}", row.name));
                }
            }
        }
    }
    for key in &due {
        if seen.remove(key) != Some(1) {
            faults.push(format!("the Event {key:?} is not there once"));
        }
    }
    faults.extend(seen.keys().map(|key| format!("an Event that nobody expects: {key:?}")));
    faults
}

/// Stops the agent; what it wrote are the spans that the table lets in, as it lets them in, and no other.
pub(super) fn exported(scene: Scene, rows: &[Row]) -> Result<Vec<String>> {
    let uid = |row: &Row| scene.workload(row.who).map(|workload| workload.pod.uid.clone());
    let uids: Vec<_> = rows.iter().map(uid).collect();
    let file = scene.agent.directory().join("spans.jsonl");
    let Scene { agent, .. } = scene;
    let (status, log, found) = agent.stop_and(|| written(&file))?;
    let mut faults = Vec::new();
    if !status.success() {
        faults.push(format!("the agent ended with {status}:\n{log}"));
    }
    let mut spans = BTreeMap::<u64, Vec<Attributes>>::new();
    for (number, attributes) in found? {
        spans.entry(number).or_default().push(attributes);
    }
    for ((number, row), uid) in (1..).zip(rows).zip(uids) {
        for (grpc, half) in [(true, 0), (false, 32)] {
            for resource in 0..row.resources.len() as u64 {
                let found = spans.remove(&(number * 64 + half + resource)).unwrap_or_default();
                let wrong = match (&row.then, found.as_slice()) {
                    (Then::Accepted { .. }, [one]) => stamped(row, uid.as_deref(), one),
                    (Then::Accepted { .. }, other) => Some(format!("written {} times", other.len())),
                    (_, []) => None,
                    (_, other) => Some(format!("A FORGERY WAS ACCEPTED: {other:?}")),
                };
                faults.extend(wrong.map(|why| format!("{}: {why}", say(row, grpc))));
            }
        }
    }
    faults.extend(spans.keys().map(|number| format!("a span that nobody sent: {number:x}")));
    Ok(faults)
}

/// Whether a resource says who sent it.
fn stamped(row: &Row, uid: Option<&str>, found: &Attributes) -> Option<String> {
    let Then::Accepted { principal, has, .. } = &row.then else { return None };
    let evidence = if matches!(row.who, super::Who::Unseen) { "address" } else { "kernel" };
    let mut due: Vec<(&str, Option<&str>)> = vec![
        ("k8s.pod.uid", uid),
        ("otlp.origin.evidence", Some(evidence)),
        ("otlp.origin.principal", principal.as_deref()),
        ("k8s.deployment.name", None),
    ];
    due.extend(has.iter().map(|(key, value)| (*key, value.as_deref())));
    for (key, value) in due {
        let there = found.contains_key(key);
        let right = match value {
            None => !there,
            Some("true") => {
                found.get(key).is_some_and(|all| matches!(all.as_slice(), [one] if one["boolValue"] == true))
            }
            Some(value) => only(found, key) == Some(value),
        };
        if !right {
            return Some(format!("`{key}` should be {value:?}: {found:?}"));
        }
    }
    None
}
