//! An agent and three gateways: every span arrives, every trace at one gateway.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use anyhow::{Result, ensure};
use bytes::Bytes;
use spanwarden_tests::{
    agent::{Agent, Directory, Start},
    client::{Protocol, from, send},
    process::Place,
};

use super::common::*;

const GATEWAYS: u16 = 3;
const AGENT: &str = "
extensions:
  health_check: {endpoint: '127.0.0.1:13133'}
receivers:
  otlp: {protocols: {grpc: {endpoint: '127.0.0.1:4317'}}}
exporters:
  loadbalancing:
    protocol:
      otlp:
        tls: {insecure: true}
        retry_on_failure: {enabled: false}
        sending_queue: {enabled: false}
    resolver:
      static: {hostnames: ['127.0.0.1:14000', '127.0.0.1:14001', '127.0.0.1:14002']}
service:
  extensions: [health_check]
  pipelines:
    traces: {receivers: [otlp], exporters: [loadbalancing]}
";

fn gateway(place: &Place, number: u16, files: &Path) -> Result<Agent> {
    let config = format!(
        "
extensions:
  health_check: {{endpoint: '{}'}}
receivers:
  otlp: {{protocols: {{grpc: {{endpoint: '{}'}}}}}}
exporters:
  file: {{path: '{}', append: true}}
service:
  extensions: [health_check]
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    traces: {{receivers: [otlp], exporters: [file]}}
",
        local(14100 + number),
        local(14000 + number),
        file(files, number)
    );
    Start::new(config).place(place).ready_at(local(14100 + number)).start()
}

fn file(files: &Path, number: u16) -> String {
    files.join(format!("gateway-{number}.jsonl")).display().to_string()
}

/// Sends until it is taken, as an SDK does, and counts how often it was refused before.
async fn send_until_taken(body: Bytes, refused: &AtomicU32) -> Result<()> {
    for _ in 0..600 {
        let answer = send(GRPC, Protocol::Grpc, body.clone()).await?;
        if answer.is_accepted() {
            return Ok(());
        }
        // Retryable ones only (OTLP specification, "Failures").
        ensure!(matches!(answer.grpc, Some(1 | 4 | 8 | 10 | 11 | 14 | 15)), "{answer:?}");
        refused.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    anyhow::bail!("refused for a minute")
}

/// The gateway of each trace; a trace at two is an error. With the ids of all spans.
fn collect(files: &Path) -> Result<(BTreeMap<String, u16>, Vec<String>)> {
    let (mut traces, mut all) = (BTreeMap::new(), Vec::new());
    for number in 0..GATEWAYS {
        let spans = written(Path::new(&file(files, number)))?;
        for span in &spans {
            let gateway = *traces.entry(span.trace.clone()).or_insert(number);
            ensure!(gateway == number, "trace {} is at gateways {gateway} and {number}", span.trace);
        }
        all.extend(spans);
    }
    Ok((traces, ids(&all)))
}

fn stop(agents: impl IntoIterator<Item = Agent>) -> Result<()> {
    for agent in agents {
        let (status, log) = agent.stop()?;
        ensure!(status.success(), "{status}\n{log}");
    }
    Ok(())
}

#[test]
fn every_span_arrives_once_and_every_trace_at_one_gateway() -> Result<()> {
    const TRACES: u64 = 300;
    const SPANS: u64 = 8;
    let (place, files) = (place()?, Directory::new()?);
    let gateways =
        (0..GATEWAYS).map(|number| gateway(&place, number, files.path())).collect::<Result<Vec<_>>>()?;
    let agent = Start::new(AGENT).place(&place).ready_at(HEALTH).start()?;
    from(&place, || async {
        // Each request has one span of each of fifty traces.
        for number in 0..SPANS {
            for first in (0..TRACES).step_by(50) {
                let spans = (first..first + 50).map(|trace| span(trace, number, false)).collect();
                let answer = send(GRPC, Protocol::Grpc, request(Vec::new(), spans)).await?;
                ensure!(answer.is_accepted(), "{answer:?}");
            }
        }
        Ok(())
    })??;
    stop([agent].into_iter().chain(gateways))?;
    let (traces, found) = collect(files.path())?;
    assert_eq!(traces.len() as u64, TRACES);
    for number in 0..GATEWAYS {
        let share = traces.values().filter(|gateway| **gateway == number).count();
        assert!(share > TRACES as usize / 10, "gateway {number} has {share} of {TRACES} traces");
    }
    let mut expected: Vec<String> =
        (0..TRACES).flat_map(|trace| (0..SPANS).map(move |number| span_id(trace, number))).collect();
    expected.sort_unstable();
    assert_eq!(found, expected);
    Ok(())
}

/// What a sender and the test tell each other.
#[derive(Default)]
struct Progress {
    taken: AtomicU32,
    refused: AtomicU32,
    restarted: AtomicBool,
}

/// Sends traces of one span, one after the other, until a hundred after the restart; how many those were.
async fn send_throughout(progress: &Progress) -> Result<u64> {
    let mut after = 0;
    for trace in 0.. {
        let body = request(Vec::new(), vec![span(trace, 0, false)]);
        send_until_taken(body, &progress.refused).await?;
        progress.taken.fetch_add(1, Ordering::Relaxed);
        after += u64::from(progress.restarted.load(Ordering::Relaxed));
        if after == 100 {
            return Ok(trace + 1);
        }
    }
    anyhow::bail!("the numbers are used up")
}

/// Without `batch` an acknowledgement comes from the gateway, so a restart loses nothing that was acknowledged.
#[test]
fn a_gateway_s_restart_loses_nothing() -> Result<()> {
    let (place, files) = (place()?, Directory::new()?);
    let mut gateways =
        (0..GATEWAYS).map(|number| gateway(&place, number, files.path())).collect::<Result<Vec<_>>>()?;
    let agent = Start::new(AGENT).place(&place).ready_at(HEALTH).start()?;
    let progress = Arc::new(Progress::default());
    let sender = std::thread::spawn({
        let (place, progress) = (place.clone(), Arc::clone(&progress));
        move || from(&place, || async move { send_throughout(&progress).await })?
    });
    wait_for("traces before the restart", || Ok(progress.taken.load(Ordering::Relaxed) >= 100))?;
    stop([gateways.remove(1)])?;
    wait_for("a refusal while it is away", || Ok(progress.refused.load(Ordering::Relaxed) > 0))?;
    gateways.insert(1, gateway(&place, 1, files.path())?);
    progress.restarted.store(true, Ordering::Relaxed);
    let sent = sender.join().expect("the sender does not panic")?;
    let metrics = agent.get(METRICS, "/metrics")?;
    let failures = metrics.lines().find(|line| {
        line.starts_with("otelcol_loadbalancer_backend_outcome{")
            && line.contains("14001")
            && line.contains("success=\"false\"")
    });
    assert!(failures.is_some_and(|line| !line.ends_with(" 0")), "{metrics}");
    stop([agent].into_iter().chain(gateways))?;
    let (_, found) = collect(files.path())?;
    let mut expected: Vec<String> = (0..sent).map(|trace| span_id(trace, 0)).collect();
    expected.sort_unstable();
    assert_eq!(found, expected, "and nothing twice: a gateway answers what it took before it ends");
    Ok(())
}
