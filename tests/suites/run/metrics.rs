//! `/metrics` after known traffic: the Collector's names with the right values, in valid syntax.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use spanwarden_tests::{
    agent::Start,
    client::{Protocol, send_from},
};

use super::common::*;

const CONFIG: &str = "
extensions:
  health_check: {endpoint: '127.0.0.1:13133'}
receivers:
  otlp: {protocols: {grpc: {endpoint: '127.0.0.1:4317'}, http: {endpoint: '127.0.0.1:4318'}}}
processors:
  tail_sampling:
    decision_wait: 1s
    policies:
      - {name: errors, type: status_code, status_code: {status_codes: [ERROR]}}
  batch: {timeout: 100ms}
exporters:
  file: {path: spans.jsonl}
service:
  extensions: [health_check]
  pipelines:
    traces: {receivers: [otlp], processors: [tail_sampling, batch], exporters: [file]}
";

/// A scrape: types of families, values of series by name and sorted labels.
struct Scrape {
    types: BTreeMap<String, String>,
    series: BTreeMap<(String, BTreeMap<String, String>), f64>,
}

impl Scrape {
    /// Reads the Prometheus text format strictly: families in one piece, each with a help and a type that come
    /// first, no series twice, histograms complete.
    fn parse(text: &str) -> Result<Self> {
        let mut scrape = Self { types: BTreeMap::new(), series: BTreeMap::new() };
        let (mut helped, mut family) = (BTreeSet::new(), String::new());
        ensure!(text.ends_with('\n'), "the last line has no end");
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, words) = help.split_once(' ').with_context(|| line.to_owned())?;
                ensure!(is_name(name) && !words.is_empty(), "{line}");
                ensure!(helped.insert(name.to_owned()), "a second family {name}");
            } else if let Some(declared) = line.strip_prefix("# TYPE ") {
                let (name, kind) = declared.split_once(' ').with_context(|| line.to_owned())?;
                ensure!(helped.contains(name), "a type before its help: {line}");
                ensure!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                name.clone_into(&mut family);
                ensure!(scrape.types.insert(family.clone(), kind.to_owned()).is_none(), "{line}");
            } else {
                let (name, labels, value) = sample(line).with_context(|| line.to_owned())?;
                let histogram = scrape.types.get(&family).is_some_and(|kind| kind == "histogram");
                let suffixes = ["_bucket", "_sum", "_count"];
                let own = suffixes.iter().any(|suffix| name.strip_suffix(suffix) == Some(family.as_str()));
                ensure!(if histogram { own } else { name == family }, "{line} stands under {family}");
                ensure!(scrape.series.insert((name, labels), value).is_none(), "twice: {line}");
            }
        }
        scrape.histograms_are_complete()?;
        Ok(scrape)
    }

    /// The bucket of infinity has what `_count` says, and buckets never go down.
    fn histograms_are_complete(&self) -> Result<()> {
        for ((name, labels), count) in &self.series {
            let Some(family) = name.strip_suffix("_count") else { continue };
            if self.types.get(family).is_none_or(|kind| kind != "histogram") {
                continue;
            }
            let mut buckets = Vec::new();
            for ((name, others), value) in &self.series {
                let mut others = others.clone();
                if name.strip_suffix("_bucket") == Some(family)
                    && let Some(bound) = others.remove("le")
                    && others == *labels
                {
                    buckets.push((bound.parse::<f64>()?, *value));
                }
            }
            buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            ensure!(buckets.is_sorted_by_key(|bucket| bucket.1), "{family}{labels:?} goes down: {buckets:?}");
            ensure!(buckets.last() == Some(&(f64::INFINITY, *count)), "{family}{labels:?}: {buckets:?}");
        }
        Ok(())
    }

    /// The sum of all series of this name with these labels; an error when there is none.
    fn value(&self, name: &str, labels: &[(&str, &str)]) -> Result<f64> {
        let has = |found: &BTreeMap<String, String>| {
            labels.iter().all(|(key, value)| found.get(*key).is_some_and(|found| found == value))
        };
        let values: Vec<f64> = (self.series.iter())
            .filter(|((found, labels), _)| found == name && has(labels))
            .map(|(_, value)| *value)
            .collect();
        ensure!(!values.is_empty(), "no series {name} with {labels:?}");
        Ok(values.iter().sum())
    }
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// `name{label="value",…} number`
fn sample(line: &str) -> Result<(String, BTreeMap<String, String>, f64)> {
    let (series, value) = line.rsplit_once(' ').context("no value")?;
    let (name, labels) = match series.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix('}').context("no end of the labels")?),
        None => (series, ""),
    };
    ensure!(is_name(name), "no name");
    let mut found = BTreeMap::new();
    let mut rest = labels;
    while !rest.is_empty() {
        let (label, after) = rest.split_once("=\"").context("no label")?;
        ensure!(is_name(label), "no label name: {label}");
        let Some(end) = after.find('"') else { bail!("no end of a value") };
        ensure!(!after[..end].contains('\\'), "this suite's values need no escape");
        ensure!(found.insert(label.to_owned(), after[..end].to_owned()).is_none(), "a label twice");
        rest = after[end + 1..].strip_prefix(',').unwrap_or(&after[end + 1..]);
    }
    Ok((name.to_owned(), found, value.parse()?))
}

/// A name, labels, and the value of all series that have them.
type Expected = (&'static str, &'static [(&'static str, &'static str)], f64);

#[test]
fn metrics_have_the_collector_s_names_and_the_right_values() -> Result<()> {
    let place = place()?;
    let agent = Start::new(CONFIG).place(&place).ready_at(HEALTH).start()?;
    let spans = |traces: std::ops::Range<u64>, failed| {
        request(Vec::new(), traces.map(|trace| span(trace, 0, failed)).collect())
    };
    let sent = [
        (GRPC, Protocol::Grpc, spans(0..7, true)),
        (HTTP, Protocol::Protobuf, spans(10..15, false)),
        (HTTP, Protocol::Json, json_request(&span(20, 0, true))),
    ];
    for (to, protocol, body) in sent {
        let answer = send_from(&place, to, protocol, body)?;
        assert!(answer.is_accepted(), "{answer:?}");
    }
    let refused = send_from(&place, HTTP, Protocol::Protobuf, vec![0x0a, 0xff].into())?;
    assert_eq!(refused.http, 400, "{refused:?}");

    let mut scrape = Scrape::parse(&agent.get(METRICS, "/metrics")?)?;
    let decided = "otelcol_processor_tail_sampling_global_count_traces_sampled";
    wait_for("all decisions, and the kept traces in the file", || {
        scrape = Scrape::parse(&agent.get(METRICS, "/metrics")?)?;
        let is = |name, labels: &[_], most| scrape.value(name, labels).is_ok_and(|value| value >= most);
        Ok(is(decided, &[], 13.0) && is("otelcol_exporter_sent_spans", &[("exporter", "file")], 8.0))
    })?;
    let expected: &[Expected] = &[
        ("otelcol_receiver_accepted_spans", &[("receiver", "otlp"), ("transport", "grpc")], 7.0),
        ("otelcol_receiver_accepted_spans", &[("receiver", "otlp"), ("transport", "http")], 6.0),
        ("otelcol_receiver_refused_spans", &[("transport", "http")], 0.0),
        ("otelcol_receiver_requests", &[("transport", "http"), ("outcome", "success")], 2.0),
        ("otelcol_receiver_requests", &[("transport", "http"), ("outcome", "refused")], 1.0),
        ("spanwarden_receiver_refused_requests", &[("transport", "http")], 1.0),
        ("spanwarden_receiver_connections", &[("receiver", "otlp")], 4.0),
        ("otelcol_processor_tail_sampling_new_trace_id_received", &[], 13.0),
        (decided, &[("sampled", "true")], 8.0),
        (decided, &[("sampled", "false")], 5.0),
        (
            "otelcol_processor_tail_sampling_count_traces_sampled",
            &[("policy", "errors"), ("sampled", "true")],
            8.0,
        ),
        ("otelcol_processor_tail_sampling_sampling_traces_on_memory", &[], 0.0),
        ("otelcol_processor_batch_batch_send_size_sum", &[("processor", "batch")], 8.0),
        ("otelcol_exporter_sent_spans", &[("exporter", "file")], 8.0),
        ("otelcol_exporter_send_failed_spans", &[("exporter", "file")], 0.0),
        ("spanwarden_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1.0),
    ];
    for (name, labels, value) in expected {
        let found = scrape.value(name, labels)?;
        assert!((found - value).abs() < f64::EPSILON, "{name} {labels:?}: {found}, not {value}");
    }
    assert!(scrape.value("otelcol_processor_batch_timeout_trigger_send", &[("processor", "batch")])? >= 1.0);
    assert!(scrape.value("otelcol_process_memory_rss", &[])? > 1e6);
    for name in ["otelcol_process_uptime", "otelcol_process_cpu_seconds"] {
        assert!(scrape.value(name, &[])? >= 0.0);
    }
    for name in scrape.types.keys() {
        assert!(name.starts_with("otelcol_") || name.starts_with("spanwarden_"), "{name}");
    }
    let (status, log) = agent.stop()?;
    assert!(status.success(), "{log}");
    Ok(())
}
