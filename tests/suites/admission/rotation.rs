//! Keys that change while requests run, and a flood of keys that do not exist.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use spanwarden_tests::{
    agent::{Agent, Directory, Start},
    kubernetes::api::ApiServer,
    node::Node,
    process::Place,
};

use super::{
    pki::Pki,
    spans::{request, text},
    tokens::{Signer, with},
    world::{self, HEALTH, KEYS, METRICS, Sender, Shown, Workload, order, sum},
};

/// Rotations, and the time from one to the next.
const ROTATIONS: usize = 50;
const EVERY: Duration = Duration::from_millis(500);
/// Keys that are published before they sign: for longer than the agent's pause between two requests to an issuer (10 s).
const AHEAD: usize = 26;
/// Of one sender; four of them are honest.
const PER_SECOND: u64 = 50;

fn start(node: &Node, api: &ApiServer) -> Result<Agent> {
    let config = format!(
        "
extensions:
  {origin}
  health_check: {{endpoint: '{HEALTH}'}}
  {oidc}
  identity: {{evidence: kernel}}
receivers:
  otlp:
    protocols:
      grpc: {{endpoint: '0.0.0.0:4317', auth: {{authenticator: oidc}}}}
      http: {{endpoint: '0.0.0.0:4318', auth: {{authenticator: oidc}}}}
exporters:
  debug: {{}}
service:
  extensions: [origin, health_check, oidc, identity]
  pipelines:
    traces: {{receivers: [otlp], exporters: [debug]}}
",
        origin = world::origin(node, api),
        oidc = world::oidc(api),
    );
    let agent = world::start(node, "spanwarden", Start::new(config), HEALTH)?;
    world::knows_pods(&agent)?;
    Ok(agent)
}

/// Replaced at once, as the kubelet does it.
fn replace(file: &Path, content: &str) -> Result<()> {
    let next = file.with_extension("next");
    fs::write(&next, content)?;
    Ok(fs::rename(next, file)?)
}

/// How often keys were asked for.
fn fetches(api: &ApiServer) -> usize {
    api.asked().iter().filter(|asked| asked.path == KEYS).count()
}

/// A sender with what `more` orders, from a thread.
fn sending(place: &Place, to: SocketAddr, grpc: bool, more: &Value) -> Result<JoinHandle<Result<Value>>> {
    let mut sender = Sender::start(place, "sender")?;
    let body = request(&[vec![text("service.name", "cart")]], 1);
    let pki = Pki::new(&[])?;
    let mut order = order(to, grpc, &Shown::nothing(), &pki, &body);
    for (key, value) in more.as_object().context("an object")? {
        order[key] = value.clone();
    }
    Ok(thread::spawn(move || sender.order(&order)))
}

fn joined(thread: JoinHandle<Result<Value>>) -> Result<Value> {
    thread.join().expect("the sender does not panic")
}

#[test]
fn keys_rotate_while_requests_run() -> Result<()> {
    let node = Node::new()?;
    let cart = Workload::new(node.pod("shop", "cart-0")?, "cart");
    let thief = Workload::new(node.pod("batch", "report-0")?, "report");
    let keys: Vec<Signer> =
        (0..=ROTATIONS + AHEAD).map(|number| Signer::ec(&format!("key-{number}"))).collect();
    // Of the same names, and none of them published.
    let forged: Vec<Signer> = keys.iter().map(|key| Signer::ec(&key.kid)).collect();
    let published = |rotation: usize| -> Vec<&Signer> {
        keys[rotation.saturating_sub(2)..=rotation + AHEAD].iter().collect()
    };
    let api = world::api_server(&node, &[&cart, &thief], &published(0))?;
    let agent = start(&node, &api)?;
    let files = Directory::new()?;
    let file = |name: &str| -> PathBuf { files.path().join(name) };
    let write = |rotation: usize| -> Result<()> {
        let claims = cart.claims(&api.url());
        let (key, liar) = (&keys[rotation], &forged[rotation]);
        replace(&file("good"), &key.sign(&claims))?;
        replace(&file("forged"), &liar.sign(&claims))?;
        replace(&file("expired"), &key.sign(&with(&claims, "/exp", json!(super::tokens::now() - 60))))
    };
    write(0)?;
    let seconds = (EVERY * ROTATIONS as u32).as_secs() + 1;
    let run = |place: &Place, grpc: bool, name: &str, per_second: u64| {
        let to = (node.ipv4(), if grpc { 4317 } else { 4318 }).into();
        let more =
            json!({"repeat": per_second * seconds, "per_second": per_second, "token_file": file(name)});
        sending(place, to, grpc, &more)
    };
    let (mut honest, mut others) = (Vec::new(), Vec::new());
    for grpc in [true, true, false, false] {
        honest.push(run(cart.pod.place(), grpc, "good", PER_SECOND)?);
    }
    for (place, name) in
        [(cart.pod.place(), "forged"), (cart.pod.place(), "expired"), (thief.pod.place(), "good")]
    {
        others.push((name, run(place, name == "forged", name, PER_SECOND / 5)?));
    }
    for rotation in 1..=ROTATIONS {
        thread::sleep(EVERY);
        api.answer(KEYS, super::tokens::key_set(&published(rotation)));
        write(rotation)?;
    }
    let mut passed = 0;
    for sender in honest {
        let said = joined(sender)?;
        let counts = said["counts"].as_object().context("counts")?;
        ensure!(
            counts.keys().all(|status| status == "0" || status == "200"),
            "an honest request failed: {said}"
        );
        passed += counts.values().filter_map(Value::as_u64).sum::<u64>();
    }
    ensure!(passed == 4 * PER_SECOND * seconds, "{passed}");
    let mut refused = 0;
    for (name, sender) in others {
        let said = joined(sender)?;
        let counts = said["counts"].as_object().context("counts")?;
        ensure!(!counts.contains_key("0") && !counts.contains_key("200"), "{name} passed: {said}");
        refused += counts.values().filter_map(Value::as_u64).sum::<u64>();
    }
    // The first key is withdrawn, and the agent has heard of it.
    let mut sender = Sender::start(cart.pod.place(), "late")?;
    let shown = Shown::token(keys[0].sign(&cart.claims(&api.url())));
    let body = request(&[vec![text("service.name", "cart")]], 1);
    let reply = sender.send((node.ipv4(), 4317).into(), true, &shown, &Pki::new(&[])?, &body)?;
    ensure!(reply.status == Some(16) && reply.text.contains("`key-0`"), "{reply:?}");
    let metrics = agent.get(METRICS, "/metrics")?;
    let accepted = sum(&metrics, "otelcol_receiver_accepted_spans", &[]);
    ensure!(accepted == passed, "{accepted} spans of {passed} requests");
    println!("{ROTATIONS} rotations: {passed} passed, {refused} refused, {} fetches", fetches(&api));
    Ok(())
}

#[test]
fn unknown_keys_cost_the_issuer_nothing() -> Result<()> {
    const PODS: usize = 10;
    const TOKENS: usize = 1_000;
    let node = Node::new()?;
    let cart = Workload::new(node.pod("shop", "cart-0")?, "cart");
    let mut pods = Vec::new();
    for number in 0..PODS {
        pods.push(Workload::new(node.pod("batch", &format!("report-{number}"))?, "report"));
    }
    let (key, forger) = (Signer::ec("key-1"), Signer::ec("key-2"));
    let known: Vec<&Workload> = pods.iter().chain([&cart]).collect();
    let api = world::api_server(&node, &known, &[&key])?;
    let agent = start(&node, &api)?;
    let files = Directory::new()?;
    let good = files.path().join("good");
    fs::write(&good, key.sign(&cart.claims(&api.url())))?;
    let mut senders = Vec::new();
    for (number, pod) in pods.iter().enumerate() {
        let claims = pod.claims(&api.url());
        let token = |at| forger.sign_as(&json!({"alg": "ES256", "kid": format!("{number}-{at}")}), &claims);
        let tokens: Vec<String> = (0..TOKENS).map(token).collect();
        let file = files.path().join(number.to_string());
        fs::write(&file, tokens.join("\n"))?;
        senders.push((pod, number % 2 == 0, file));
    }
    let (before, begun) = (fetches(&api), Instant::now());
    let honest = sending(
        cart.pod.place(),
        (node.ipv4(), 4317).into(),
        true,
        &json!({"repeat": 200, "per_second": 50, "token_file": good}),
    )?;
    let mut running = Vec::new();
    for (pod, grpc, file) in senders {
        let to = (node.ipv4(), if grpc { 4317 } else { 4318 }).into();
        running.push(sending(pod.pod.place(), to, grpc, &json!({"tokens_file": file}))?);
    }
    let (mut looked_at, mut all, mut told) = (0, 0, Vec::new());
    for sender in running {
        let said = joined(sender)?;
        for (status, count) in said["counts"].as_object().context("counts")? {
            ensure!(!matches!(status.as_str(), "0" | "200"), "a forgery passed: {said}");
            let count = count.as_u64().context("a number")?;
            all += count;
            looked_at += if matches!(status.as_str(), "16" | "401") { count } else { 0 };
        }
        told.push(said);
    }
    let said = joined(honest)?;
    ensure!(said["counts"] == json!({"0": 200}), "an honest sender suffered: {said}");
    let elapsed = begun.elapsed().as_secs();
    let asked = fetches(&api) - before;
    // One at the start of the flood, and one for each ten seconds that it lasts.
    ensure!(asked as u64 <= 1 + elapsed / 10, "{asked} fetches in {elapsed} s");
    ensure!(all == (PODS * TOKENS) as u64, "{all} answers");
    ensure!(looked_at * 10 >= all * 9, "only {looked_at} of {all} tokens were looked at: {told:?}");
    let metrics = agent.get(METRICS, "/metrics")?;
    let counted = sum(&metrics, "spanwarden_oidc_refused", &[("cause", "unknown_key")]);
    ensure!(counted == looked_at, "{counted} counted, {looked_at} told");
    println!("{all} unknown keys: {looked_at} looked at, {asked} fetches in {elapsed} s");
    Ok(())
}
