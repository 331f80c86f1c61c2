//! A pod's token in another pod's hands, on the same node and on another.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use spanwarden_tests::{
    agent::{Agent, Start},
    kubernetes::api::{ApiServer, wait_until},
    node::Node,
};

use super::{
    pki::Pki,
    spans::{only, request, text, written},
    tokens::{Signer, with},
    world::{self, HEALTH, METRICS, NODE, Sender, Shown, Workload, sum},
};

fn start(node: &Node, name: &str, api: &ApiServer) -> Result<Agent> {
    let config = format!(
        "
extensions:
  {origin}
  health_check: {{endpoint: '{HEALTH}'}}
  {oidc}
  identity: {{evidence: kernel, pod_bound: true}}
receivers:
  otlp:
    protocols:
      grpc: {{endpoint: '0.0.0.0:4317', auth: {{authenticator: oidc}}}}
      http: {{endpoint: '0.0.0.0:4318', auth: {{authenticator: oidc}}}}
exporters:
  file: {{path: spans.jsonl}}
service:
  extensions: [origin, health_check, oidc, identity]
  pipelines:
    traces: {{receivers: [otlp], exporters: [file]}}
",
        origin = world::origin_of(node, name, api),
        oidc = world::oidc(api),
    );
    let agent = world::start(node, "spanwarden", Start::new(config), HEALTH)?;
    world::knows_pods(&agent)?;
    Ok(agent)
}

/// Who is named in the line about a theft.
fn named(log: &str) -> Vec<&str> {
    log.lines().filter(|line| line.contains("a token is used by another pod")).collect()
}

#[test]
fn a_token_is_worth_nothing_to_another_pod_of_the_node() -> Result<()> {
    let node = Node::new()?;
    let victim = Workload::new(node.pod("shop", "cart-0")?, "cart");
    let thief = Workload::new(node.pod("batch", "report-0")?, "report");
    let key = Signer::ec("key-1");
    let api = world::api_server(&node, &[&victim, &thief], &[&key])?;
    let agent = start(&node, NODE, &api)?;
    let pki = Pki::new(&[])?;
    let token = key.sign(&victim.claims(&api.url()));
    let mut senders =
        [Sender::start(victim.pod.place(), "victim")?, Sender::start(thief.pod.place(), "thief")?];
    // In turns: what is remembered of the token must not help the thief, nor what is remembered of him hurt its owner.
    for round in 0..5u64 {
        for (who, sender) in (0u64..).zip(&mut senders) {
            for (grpc, port, taken, refused) in [(true, 4317, 0, 7), (false, 4318, 200, 403)] {
                let number = 1 + round * 4 + who * 2 + u64::from(grpc);
                let body = request(&[vec![text("service.name", "cart")]], number);
                let to = (node.ipv4(), port).into();
                let reply = sender.send(to, grpc, &Shown::token(&token), &pki, &body)?;
                let expected = if who == 0 { taken } else { refused };
                ensure!(reply.status == Some(expected), "{who} in round {round}: {reply:?}");
                ensure!(who == 0 || reply.text.contains("another pod"), "{reply:?}");
            }
        }
    }
    let event = wait_until("the Event", || api.events().first().cloned())?;
    ensure!(
        event["reason"] == "TokenReplay" && event["regarding"]["uid"] == thief.pod.uid.as_str(),
        "{event}"
    );
    ensure!(event["regarding"]["name"] == "report-0" && event["type"] == "Warning", "{event}");
    let metrics = agent.get(METRICS, "/metrics")?;
    let cause = [("cause", "token_of_another_pod")];
    ensure!(sum(&metrics, "spanwarden_receiver_refused_requests", &cause) == 10, "{metrics}");
    let file = agent.directory().join("spans.jsonl");
    let (status, log, found) = agent.stop_and(|| written(&file))?;
    ensure!(status.success(), "{log}");
    let lines = named(&log);
    let line = lines.first().context("no line about the theft")?;
    for part in ["report-0", "batch", thief.pod.uid.as_str(), "cart-0", "shop", "cart"] {
        ensure!(line.contains(part), "`{part}` is not named: {line}");
    }
    let parts = token.split('.').chain([token.as_str()]);
    ensure!(parts.into_iter().all(|part| !log.contains(part)), "the token is in the log");
    ensure!(api.events().len() == 1, "one an hour: {:?}", api.events());
    let found = found?;
    ensure!(found.len() == 10, "{} spans", found.len());
    for (_, attributes) in found {
        ensure!(only(&attributes, "k8s.pod.uid") == Some(&victim.pod.uid), "{attributes:?}");
        ensure!(only(&attributes, "otlp.origin.principal") == Some(&victim.name()), "{attributes:?}");
    }
    Ok(())
}

#[test]
fn a_token_is_worth_nothing_on_another_node() -> Result<()> {
    let here = Node::new()?;
    let victim = Workload::new(here.pod("shop", "cart-0")?, "cart");
    let key = Signer::ec("key-1");
    let cluster = world::api_server(&here, &[&victim], &[&key])?;
    // The same API server as the other node sees it: same issuer, same keys, other pods.
    let there = Node::new()?;
    let thief = Workload::new(there.pod("batch", "report-0")?, "report");
    let address = cluster.url().trim_start_matches("https://").parse()?;
    let api = there.netns().within(|| ApiServer::start_at(address))??;
    world::publish(&api, &[&key]);
    let mut manifest = thief.manifest();
    manifest["spec"]["nodeName"] = "node-2".into();
    api.put(manifest);
    let agent = start(&there, "node-2", &api)?;
    let pki = Pki::new(&[])?;
    let claims = victim.claims(&cluster.url());
    let mut own = thief.claims(&api.url());
    own["kubernetes.io"]["node"]["name"] = "node-2".into();
    let mut sender = Sender::start(thief.pod.place(), "thief")?;
    let rows: [(&str, &Value, u16, &str); 3] = [
        ("the victim's", &claims, 7, "another node"),
        // Before Kubernetes 1.29 tokens name no node.
        ("the same without a node", &with(&claims, "/kubernetes.io/node", Value::Null), 7, "another pod"),
        ("its own", &own, 0, ""),
    ];
    for (number, (what, claims, status, words)) in (1..).zip(rows) {
        let body = request(&[vec![text("service.name", "cart")]], number);
        let shown = Shown::token(key.sign(claims));
        let reply = sender.send((there.ipv4(), 4317).into(), true, &shown, &pki, &body)?;
        ensure!(reply.status == Some(status) && reply.text.contains(words), "{what}: {reply:?}");
    }
    let event = wait_until("the Event", || api.events().first().cloned())?;
    ensure!(event["reason"] == "TokenReplay" && event["regarding"]["name"] == "report-0", "{event}");
    let file = agent.directory().join("spans.jsonl");
    let (status, log, found) = agent.stop_and(|| written(&file))?;
    ensure!(status.success(), "{log}");
    let numbers: Vec<u64> = found?.into_iter().map(|(number, _)| number).collect();
    ensure!(numbers == [3], "{numbers:?}");
    Ok(())
}
