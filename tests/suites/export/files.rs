use std::{os::unix::fs::PermissionsExt, path::PathBuf, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use serde_json::Value;
use spanwarden::{
    config::exporters::{DebugExporter, Exporter as Config, FileExporter},
    export,
    otlp::{Batch, Context, RefusalKind},
};
use tokio::time::Instant;

use super::{
    configs::{component, metric, started},
    load::{self, batch},
};

/// A directory that goes with the test.
struct Directory(PathBuf);

impl Directory {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("spanwarden-files-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("kept.jsonl")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn file(path: PathBuf, append: bool) -> Config {
    Config::File(FileExporter { path, append, flush_interval: Duration::from_millis(10) })
}

/// `(trace id, span id, name)` of every span of a line.
pub(crate) fn spans(line: &str) -> Vec<(String, String, String)> {
    let line: Value = serde_json::from_str(line).expect("a line is JSON");
    let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    let text = |span: &Value, key: &str| span[key].as_str().unwrap().to_lowercase();
    list(&line, "resourceSpans")
        .iter()
        .flat_map(|r| list(r, "scopeSpans"))
        .flat_map(|s| list(&s, "spans"))
        .map(|span| (text(&span, "traceId"), text(&span, "spanId"), text(&span, "name")))
        .collect()
}

pub(crate) fn expected(batch: &Batch) -> Vec<(String, String, String)> {
    let hex = |bytes: &[u8]| {
        let number = bytes.iter().fold(0_u128, |number, byte| number << 8 | u128::from(*byte));
        format!("{number:0width$x}", width = 2 * bytes.len())
    };
    let request: load::Request = prost::Message::decode(&batch.data[..]).unwrap();
    request
        .resource_spans
        .iter()
        .flat_map(|r| &r.scope_spans)
        .flat_map(|s| &s.spans)
        .map(|span| (hex(&span.trace_id), hex(&span.id), span.name.clone()))
        .collect()
}

#[tokio::test]
async fn every_batch_is_a_line_that_says_the_same() {
    let directory = Directory::new("lines");
    let exporter = started("file", "lines", file(directory.file(), false)).await;
    let mode = std::fs::metadata(directory.file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let batches: Vec<Batch> = (0..100).map(|n| batch(n, 5, 3)).collect();
    let results = join_all(batches.iter().map(|batch| exporter.consume(batch.clone()))).await;
    assert!(results.iter().all(Result::is_ok));
    // Acknowledged means written, before any shutdown.
    let text = std::fs::read_to_string(directory.file()).unwrap();
    let mut lines: Vec<_> = text.lines().map(spans).collect();
    let mut wanted: Vec<_> = batches.iter().map(expected).collect();
    lines.sort();
    wanted.sort();
    assert_eq!(lines, wanted);
    assert!(text.ends_with('\n'));
    assert_eq!(metric(r#"otelcol_exporter_sent_spans{exporter="file/lines"}"#), 1500);
    exporter.shutdown(Instant::now() + Duration::from_secs(30)).await;
    assert_eq!(exporter.consume(batch(1, 1, 1)).await.unwrap_err().cause, "shutdown");
}

#[tokio::test]
async fn append_keeps_what_was_there() {
    let directory = Directory::new("append");
    for (round, append) in [false, true, true, false].into_iter().enumerate() {
        let exporter = started("file", "append", file(directory.file(), append)).await;
        exporter.consume(batch(round as u64, 2, 2)).await.unwrap();
        exporter.shutdown(Instant::now() + Duration::from_secs(30)).await;
        let lines = std::fs::read_to_string(directory.file()).unwrap().lines().count();
        assert_eq!(lines, [1, 2, 3, 1][round]);
    }
}

#[tokio::test]
async fn building_touches_nothing() {
    let directory = Directory::new("build");
    std::fs::write(directory.file(), "old\n").unwrap();
    export::build(&component("file", "build", file(directory.file(), false))).unwrap();
    assert_eq!(std::fs::read_to_string(directory.file()).unwrap(), "old\n");
}

#[tokio::test]
async fn a_full_disk_is_unavailable() {
    let exporter = started("file", "full", file("/dev/full".into(), true)).await;
    let refusal = exporter.consume(batch(1, 3, 2)).await.unwrap_err();
    assert_eq!(refusal.cause, "disk_full");
    assert!(matches!(refusal.kind, RefusalKind::Unavailable { .. }));
    assert_eq!(metric(r#"spanwarden_export_refused{cause="disk_full",exporter="file/full"}"#), 1);
}

#[tokio::test]
async fn what_is_no_request_is_refused_and_leaves_no_piece() {
    let directory = Directory::new("bad");
    let exporter = started("file", "bad", file(directory.file(), false)).await;
    let good = batch(1, 3, 2);
    let cut = Batch { data: good.data.slice(..good.data.len() - 3), spans: 6, context: Context::default() };
    let (bad, good) = tokio::join!(exporter.consume(cut), exporter.consume(good));
    assert_eq!(bad.unwrap_err().kind, RefusalKind::Permanent);
    good.unwrap();
    let text = std::fs::read_to_string(directory.file()).unwrap();
    assert_eq!(text.lines().map(spans).map(|s| s.len()).collect::<Vec<_>>(), [6]);
}

#[tokio::test]
async fn no_directory_is_said_at_start() {
    let exporter =
        export::build(&component("file", "none", file("/nonexistent/spans.jsonl".into(), true))).unwrap();
    let error = exporter.start().await.unwrap_err().to_string();
    assert!(error.contains("file/none") && error.contains("directory must exist"), "{error}");
}

#[tokio::test]
async fn debug_counts() {
    let exporter = started("debug", "counts", Config::Debug(DebugExporter { normal: true })).await;
    let odd = Batch { data: Bytes::from_static(b"anything"), spans: 7, context: Context::default() };
    exporter.consume(odd).await.unwrap();
    assert_eq!(metric(r#"otelcol_exporter_sent_spans{exporter="debug/counts"}"#), 7);
}
