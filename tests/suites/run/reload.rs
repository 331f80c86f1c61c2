//! A configuration that changes while spans flow: new rules are taken over and no span is lost or scrubbed by two of them;
//! anything else is told and changes nothing.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use spanwarden_tests::{
    agent::{Agent, Start},
    client::{Protocol, from, send},
    process::Place,
};

use super::common::*;

const CHANGES: usize = 50;
const SPANS: u64 = 20;

fn config(generation: &str, extra: &str) -> String {
    format!(
        "
extensions:
  health_check: {{endpoint: '127.0.0.1:13133'}}
receivers:
  otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:4317'}}, http: {{endpoint: '127.0.0.1:4318'}}}}}}
processors:
  transform:
    trace_statements:
      - set(resource.attributes[\"g\"], \"{generation}\")
      - set(span.attributes[\"g\"], \"{generation}\")
exporters:
  file: {{path: spans.jsonl}}
  {extra}
service:
  extensions: [health_check]
  pipelines:
    traces: {{receivers: [otlp], processors: [transform], exporters: [file]}}
"
    )
}

/// Replaces the file as editors and mounted volumes do: by another one, at once.
fn replace(agent: &Agent, text: &str) -> Result<()> {
    let new = agent.directory().join("config.new");
    fs::write(&new, text)?;
    fs::rename(new, agent.directory().join("config.yaml"))?;
    Ok(())
}

/// The counters of `spanwarden_config_reloads` by outcome, and whether the file is not what runs.
fn reloads(agent: &Agent) -> Result<(BTreeMap<String, u64>, u64)> {
    let text = agent.get(METRICS, "/metrics")?;
    let mut outcomes = BTreeMap::new();
    let mut stale = None;
    for line in text.lines() {
        if let Some((outcome, count)) =
            line.strip_prefix("spanwarden_config_reloads{outcome=\"").and_then(|rest| rest.split_once("\"} "))
        {
            outcomes.insert(outcome.to_owned(), count.parse()?);
        } else if let Some(value) = line.strip_prefix("spanwarden_config_stale ") {
            stale = Some(value.parse()?);
        }
    }
    Ok((outcomes, stale.context("spanwarden_config_stale")?))
}

fn wait_for_count(agent: &Agent, outcome: &str, count: u64) -> Result<()> {
    wait_for(outcome, || Ok(reloads(agent)?.0.get(outcome) == Some(&count)))
}

/// What a request was scrubbed by: all marks in it.
fn marks(request: &Value) -> Vec<String> {
    fn collect(value: &Value, marks: &mut Vec<String>) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| collect(item, marks)),
            Value::Object(object) if object.get("key").is_some_and(|key| key == "g") => {
                marks.push(value["value"]["stringValue"].as_str().unwrap_or("?").to_owned());
            }
            Value::Object(object) => object.values().for_each(|value| collect(value, marks)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    collect(request, &mut found);
    found
}

fn check(file: &Path, sent: u64) -> Result<usize> {
    let mut generations = std::collections::BTreeSet::new();
    for line in fs::read_to_string(file)?.lines() {
        let mut marks = marks(&serde_json::from_str(line)?);
        ensure!(marks.len() as u64 == SPANS + 1, "{} marks in {line}", marks.len());
        marks.dedup();
        ensure!(marks.len() == 1, "a request is scrubbed by one plan, and this by {marks:?}");
        generations.extend(marks);
    }
    let mut ids = ids(&written(file)?);
    ensure!(ids.len() as u64 == sent, "{} spans of {sent}", ids.len());
    ids.dedup();
    ensure!(ids.len() as u64 == sent, "some are there twice");
    Ok(generations.len())
}

#[test]
fn fifty_changes_under_load_lose_no_span_and_split_no_request() -> Result<()> {
    let place = place()?;
    let mut agent = Start::new(config("0", "")).place(&place).ready_at(HEALTH).start()?;
    let done = AtomicBool::new(false);
    let sent = thread::scope(|scope| -> Result<u64> {
        let load = scope.spawn(|| load(&place, &done));
        let changed = (1..=CHANGES).try_for_each(|number| {
            replace(&agent, &config(&number.to_string(), ""))?;
            agent.process().signal(Signal::SIGHUP)?;
            wait_for_count(&agent, "success", number as u64)
        });
        done.store(true, Ordering::Relaxed);
        let sent = load.join().expect("the load does not panic");
        changed.and(sent)
    })?;
    assert_eq!(reloads(&agent)?.1, 0);
    let file = agent.directory().join("spans.jsonl");
    let (status, log, generations) = agent.stop_and(|| check(&file, sent))?;
    assert!(status.success(), "{status}\n{log}");
    let generations = generations.with_context(|| log.clone())?;
    assert!(generations > 1, "{sent} spans met {generations} generations\n{log}");
    Ok(())
}

/// Sends requests until it is told to stop; all must be taken.
fn load(place: &Place, done: &AtomicBool) -> Result<u64> {
    from(place, || async move {
        let mut trace = 0;
        while !done.load(Ordering::Relaxed) {
            let spans = (0..SPANS).map(|number| span(trace, number, false)).collect();
            let (to, protocol) =
                if trace.is_multiple_of(2) { (GRPC, Protocol::Grpc) } else { (HTTP, Protocol::Protobuf) };
            let answer = send(to, protocol, request(vec![text("service.name", "shop")], spans)).await?;
            ensure!(answer.is_accepted(), "{answer:?}");
            trace += 1;
        }
        Ok(trace * SPANS)
    })?
}

#[test]
fn what_can_not_be_changed_is_told_and_changes_nothing() -> Result<()> {
    let place = place()?;
    let mut agent = Start::new(config("first", "")).place(&place).ready_at(HEALTH).start()?;
    let outcome = |agent: &Agent| {
        reloads(agent).map(|(outcomes, stale)| (outcomes["failed"], outcomes["restart_needed"], stale))
    };
    assert_eq!(outcome(&agent)?, (0, 0, 0), "all are there from the start");

    // A mistake, found without a signal.
    replace(&agent, &config("second", "").replace("set(span", "sett(span"))?;
    wait_for_count(&agent, "failed", 1)?;
    assert_eq!(outcome(&agent)?, (1, 0, 1));
    // Something else than rules, and rules with it: none of it is used.
    replace(&agent, &config("third", "debug: {}"))?;
    agent.process().signal(Signal::SIGHUP)?;
    wait_for_count(&agent, "restart_needed", 1)?;
    assert_eq!(outcome(&agent)?.2, 1);
    let sent: Result<()> = from(&place, || async {
        let answer = send(GRPC, Protocol::Grpc, request(Vec::new(), vec![span(1, 0, false)])).await?;
        ensure!(answer.is_accepted(), "{answer:?}");
        Ok(())
    })?;
    sent?;
    // A good one, found without a signal.
    replace(&agent, &config("fourth", "# a comment"))?;
    wait_for_count(&agent, "success", 1)?;
    assert_eq!(outcome(&agent)?, (1, 1, 0));
    let sent: Result<()> = from(&place, || async {
        let answer = send(GRPC, Protocol::Grpc, request(Vec::new(), vec![span(2, 0, false)])).await?;
        ensure!(answer.is_accepted(), "{answer:?}");
        Ok(())
    })?;
    sent?;

    let file = agent.directory().join("spans.jsonl");
    let (status, log, text) = agent.stop_and(|| fs::read_to_string(&file))?;
    assert!(status.success(), "{status}\n{log}");
    let seen: Vec<Vec<String>> =
        text?.lines().map(|line| Ok(marks(&serde_json::from_str(line)?))).collect::<Result<_>>()?;
    assert_eq!(seen, [["first", "first"], ["fourth", "fourth"]]);
    for told in ["sett", "exporters::debug", "needs a restart", "configuration reloaded"] {
        assert!(log.contains(told), "{told} is not in:\n{log}");
    }
    Ok(())
}
