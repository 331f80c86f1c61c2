//! SIGTERM: what was acknowledged arrives, whatever timers say.

use std::{collections::BTreeSet, fs};

use anyhow::{Context, Result};
use spanwarden_tests::{
    agent::Start,
    client::{Protocol, from, send},
};

use super::common::*;

const TRACES: u64 = 500;
const SPANS: u64 = 10;

const CONFIG: &str = "
extensions:
  health_check: {endpoint: '127.0.0.1:13133'}
receivers:
  otlp: {protocols: {grpc: {endpoint: '127.0.0.1:4317'}, http: {endpoint: '127.0.0.1:4318'}}}
processors:
  tail_sampling:
    decision_wait: 30s
    policies:
      - {name: errors, type: status_code, status_code: {status_codes: [ERROR]}}
  batch: {timeout: 60s, send_batch_size: 100000}
exporters:
  file: {path: spans.jsonl}
service:
  extensions: [health_check]
  pipelines:
    traces: {receivers: [otlp], processors: [tail_sampling, batch], exporters: [file]}
";

/// 5,000 spans of 500 traces, half of which have failed; a trace's spans come in ten requests.
#[test]
fn what_was_acknowledged_and_is_kept_is_in_the_file_exactly_once() -> Result<()> {
    let place = place()?;
    let agent = Start::new(CONFIG).place(&place).ready_at(HEALTH).start()?;
    let failed = |trace: u64| trace.is_multiple_of(2);
    let sent: Result<u64> = from(&place, || async move {
        let mut acknowledged = 0;
        for number in 0..SPANS {
            for first in (0..TRACES).step_by(50) {
                // Only a trace's last span says that it failed.
                let spans = (first..first + 50)
                    .map(|trace| span(trace, number, failed(trace) && number == SPANS - 1))
                    .collect();
                let (to, protocol) = if number.is_multiple_of(2) {
                    (GRPC, Protocol::Grpc)
                } else {
                    (HTTP, Protocol::Protobuf)
                };
                let answer = send(to, protocol, request(vec![text("service.name", "shop")], spans)).await?;
                assert!(answer.is_accepted(), "{answer:?}");
                acknowledged += 50;
            }
        }
        Ok(acknowledged)
    })?;
    assert_eq!(sent?, TRACES * SPANS);
    let file = agent.directory().join("spans.jsonl");
    assert_eq!(fs::read_to_string(&file)?, "", "both timers are far away");
    // `stop` waits for 30 s: Kubernetes' grace.
    let (status, log, found) = agent.stop_and(|| written(&file))?;
    assert!(status.success(), "{status}\n{log}");
    let found = found.with_context(|| log.clone())?;
    let expected: BTreeSet<String> = (0..TRACES)
        .filter(|&trace| failed(trace))
        .flat_map(|trace| (0..SPANS).map(move |number| span_id(trace, number)))
        .collect();
    assert_eq!(ids(&found), expected.into_iter().collect::<Vec<_>>(), "exactly once each\n{log}");
    Ok(())
}
