//! `scrub` and `scan` over stored spans: files of every form, and answers of Tempo's and Jaeger's APIs from a server that
//! gives what the real ones gave.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use prost::Message as _;
use serde_json::{Value, json};
use spanwarden_tests::{
    agent::Directory, backend::Backend, process::Place, proto::v1::ExportTraceServiceRequest,
};

use super::common::*;

const CONFIG: &str = r#"
receivers: {otlp: {protocols: {grpc: }}}
processors:
  redaction/pii:
    allow_all_keys: true
    blocked_keys: [secret]
    blocked_values: ["never-seen-anywhere", "[0-9]{3}-[0-9]{2}-[0-9]{4}"]
  transform:
    trace_statements:
      - set(span.attributes["user.id"], SHA256(span.attributes["user.id"])) where span.attributes["user.id"] != nil
  tail_sampling: {policies: [{name: none, type: probabilistic, probabilistic: {sampling_percentage: 0}}]}
  attributes: {actions: [{key: late, action: delete}]}
exporters: {debug: {}}
service:
  pipelines:
    traces: {receivers: [otlp], processors: [redaction/pii, transform, tail_sampling, attributes], exporters: [debug]}
"#;

const SECRETS: [&str; 4] = ["hunter2", "123-45-6789", "4711-user", "late-value"];

/// A request with one of each, and one span with nothing.
fn dirty() -> ExportTraceServiceRequest {
    let mut span = span(1, 0, false);
    span.attributes = vec![
        text("secret", "hunter2"),
        text("note", "ssn 123-45-6789"),
        text("user.id", "4711-user"),
        text("late", "late-value"),
    ];
    let data = request(vec![text("service.name", "cart")], vec![span, self::span(1, 1, false)]);
    ExportTraceServiceRequest::decode(data).expect("it was just encoded")
}

struct Files {
    directory: Directory,
}

impl Files {
    fn new() -> Result<Self> {
        let files = Self { directory: Directory::new()? };
        fs::write(files.path("config.yaml"), CONFIG)?;
        Ok(files)
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    fn command(&self, command: &str, arguments: &[&str]) -> Result<(i32, String)> {
        let config = self.path("config.yaml");
        let mut all = vec![command, "--config", &config];
        all.extend(arguments);
        run(program(&Place::default(), &all)?)
    }
}

fn no_secrets(said: &str) {
    for secret in SECRETS {
        assert!(!said.contains(secret), "{secret} is in:\n{said}");
    }
}

/// OTLP JSON by the program's own reader would prove nothing: by prost's model.
fn as_json(request: &ExportTraceServiceRequest) -> Value {
    spanwarden_tests::oracle::model::to_json(request)
}

#[test]
fn a_dry_run_says_what_would_change_and_writes_it_where_told() -> Result<()> {
    let files = Files::new()?;
    let protobuf = dirty().encode_to_vec();
    let framed = [&(protobuf.len() as u32).to_be_bytes()[..], &protobuf].concat().repeat(2);
    let line = as_json(&dirty()).to_string();
    for (name, content) in [
        ("spans.pb", protobuf),
        ("framed.pb", framed),
        ("spans.json", serde_json::to_vec_pretty(&as_json(&dirty()))?),
        ("spans.jsonl", format!("{line}\n{line}\n{line}\n").into_bytes()),
    ] {
        let (from, to) = (files.path(name), files.path(&format!("clean-{name}")));
        fs::write(&from, &content)?;
        let (code, said) = files.command("scrub", &["-o", &to, &from])?;
        assert_eq!(code, 1, "{name}: {said}");
        no_secrets(&said);
        for told in [
            "redaction/pii blocked_keys",
            "redaction/pii blocked_values[1]",
            "transform trace_statements[0]",
            "attributes actions[0]",
            "config.yaml:",
            "These rules changed nothing:",
            "blocked_values[0]",
            "trace 7370616e7772646e0000000000000001 span 0000000000010001 of cart",
        ] {
            assert!(said.contains(told), "{name}: {told} is not in:\n{said}");
        }
        let written = fs::read(&to)?;
        no_secrets(&String::from_utf8_lossy(&written));
        assert_eq!(written.starts_with(b"{"), content.starts_with(b"{"), "{name}: the same form");
        // What was written is clean: nothing would change but what hashes again.
        let (code, said) = files.command("scan", &[&to])?;
        assert_eq!(code, 0, "{name}: {said}");
        assert!(!Path::new(&format!("{to}.new")).exists());
    }
    Ok(())
}

#[test]
fn the_report_for_machines_counts_everything_and_shows_values_only_when_asked() -> Result<()> {
    let files = Files::new()?;
    let spans = files.path("spans.pb");
    fs::write(&spans, dirty().encode_to_vec())?;
    let (code, said) = files.command("scrub", &["--output-format", "json", &spans])?;
    assert_eq!(code, 1);
    no_secrets(&said);
    let report: Value = serde_json::from_str(&said)?;
    assert_eq!(
        (&report["spans"], &report["changes"], &report["pipeline"]),
        (&json!(2), &json!(4), &json!("traces"))
    );
    let findings = report["findings"].as_array().context("findings")?;
    let found: Vec<Value> = findings
        .iter()
        .map(|finding| {
            json!([finding["rule"], finding["did"], finding["on"], finding["field"], finding["count"]])
        })
        .collect();
    for wanted in [
        json!(["blocked_keys", "removed", "span", "secret", 1]),
        json!(["blocked_values[1]", "masked", "span", "note", 1]),
        json!(["trace_statements[0]", "hashed", "span", "user.id", 1]),
        json!(["actions[0]", "removed", "span", "late", 1]),
    ] {
        assert!(found.contains(&wanted), "{wanted} is not in {found:?}");
    }
    assert_eq!(found.len(), 4);
    let (_, said) = files.command("scrub", &["--output-format", "json", "--show-values", &spans])?;
    for secret in SECRETS {
        assert!(said.contains(secret), "{secret} was asked for:\n{said}");
    }
    Ok(())
}

#[test]
fn exit_codes_are_those_of_diff() -> Result<()> {
    let files = Files::new()?;
    let spans = files.path("clean.pb");
    let clean = request(vec![text("service.name", "cart")], vec![span(1, 0, false)]);
    fs::write(&spans, &clean)?;
    let (code, said) = files.command("scrub", &[&spans])?;
    assert!(code == 0 && said.contains("nothing would change"), "{code}: {said}");
    let out = files.path("never.jsonl");
    let broken = files.path("broken.jsonl");
    fs::write(&broken, format!("{}\n{{\"resourceSpans\": 5}}\n", as_json(&dirty())))?;
    for (arguments, told) in [
        (&["-o", &out, &broken][..], "request 2"),
        (&["--pipeline", "traces/x", &spans], "there are traces"),
        (&["/nonexistent.json"], "/nonexistent.json"),
        (&["-o", &out, &spans, &spans], "--output"),
        (&[], "SPANS"),
    ] {
        let (code, said) = files.command("scrub", arguments)?;
        assert!(code == 2 && said.contains(told), "{arguments:?}: {code}: {said}");
    }
    let left: Vec<_> = fs::read_dir(files.directory.path())?
        .map(|entry| entry.map(|e| e.file_name()))
        .collect::<Result<_, _>>()?;
    assert!(
        !left.iter().any(|name| name.to_string_lossy().contains("never")),
        "half a file is left: {left:?}"
    );
    let empty = files.path("empty.jsonl");
    fs::write(&empty, "")?;
    assert_eq!(files.command("scan", &[&empty])?.0, 2, "a check that reads nothing checks nothing");
    assert_eq!(files.command("scan", &["--allow-empty", &empty])?.0, 0);
    Ok(())
}

/// Tempo 2.8: ids without leading zeros in a search, traces in protobuf or with base64 ids, a tenant by header.
#[test]
fn tempo_is_read_page_by_page_and_trace_by_trace() -> Result<()> {
    let backend = Backend::start(|request| {
        if request.header("x-scope-orgid") != Some("team-a") {
            return (401, "text/plain", b"no org id".to_vec());
        }
        let number = |name| request.parameter(name).and_then(|text| text.parse::<u64>().ok());
        if request.path == "/tempo/api/search" {
            let (Some(start), Some(end), Some(limit)) = (number("start"), number("end"), number("limit"))
            else {
                return (400, "text/plain", b"start, end, limit".to_vec());
            };
            // A trace each 10 seconds from 1000 on, 30 of them.
            let mut found: Vec<Value> = (0..30u64)
                .filter(|trace| (start..end).contains(&(1000 + trace * 10)))
                .map(|trace| json!({"traceID": format!("{:x}", trace + 1), "rootServiceName": "cart"}))
                .collect();
            found.truncate(limit as usize);
            return (
                200,
                "application/json",
                json!({"traces": found, "metrics": {}}).to_string().into_bytes(),
            );
        }
        let Some(id) = request.path.strip_prefix("/tempo/api/traces/") else {
            return (404, "text/plain", Vec::new());
        };
        let Ok(trace) = u128::from_str_radix(id, 16) else { return (400, "text/plain", Vec::new()) };
        let mut stored = dirty();
        for span in &mut stored.resource_spans[0].scope_spans[0].spans {
            span.trace_id = trace.to_be_bytes().to_vec();
        }
        if request.header("accept") == Some("application/protobuf") && trace % 2 == 0 {
            (200, "application/protobuf", stored.encode_to_vec())
        } else {
            let mut answer = as_json(&stored);
            base64_ids(&mut answer);
            let batches = answer["resourceSpans"].take();
            (200, "application/json", json!({"batches": batches}).to_string().into_bytes())
        }
    })?;
    let files = Files::new()?;
    let url = format!("http://{}/tempo", backend.address());
    let base = ["--tempo", &url, "--start", "1000", "--end", "2000", "--output-format", "json"];
    let scan = |more: &[&str]| files.command("scan", &[&base[..], more].concat());
    let (code, said) = scan(&["--tenant", "team-a"])?;
    assert_eq!(code, 1, "{said}");
    no_secrets(&said);
    let report: Value = serde_json::from_str(&said)?;
    assert_eq!(
        (&report["traces"], &report["spans"], &report["more"]),
        (&json!(30), &json!(60), &json!(false))
    );
    assert_eq!(report["found"], json!(30 * 4));
    let (code, said) = scan(&["--tenant", "team-a", "--limit", "7"])?;
    let report: Value = serde_json::from_str(&said)?;
    assert_eq!((code, &report["traces"], &report["more"]), (1, &json!(7), &json!(true)), "{said}");
    let (code, said) = scan(&[])?;
    assert!(code == 2 && said.contains("401"), "{code}: {said}");
    let (code, said) = files.command("scan", &["--tempo", &url, "--tenant", "team-a", "--end", "10"])?;
    assert!(code == 2 && said.contains("not one span"), "{code}: {said}");
    Ok(())
}

/// Jaeger 2.13 and one without the newer API: a trace of two services is found by both of them and looked at once.
#[test]
fn jaeger_is_read_by_either_api() -> Result<()> {
    for newer in [true, false] {
        let backend = Backend::start(move |request| match (request.path.as_str(), newer) {
            ("/api/v3/services", true) => {
                (200, "application/json", br#"{"services":["cart","shop"]}"#.to_vec())
            }
            ("/api/v3/traces", true) => {
                if request.parameter("query.service_name").is_none()
                    || !request.parameter("query.start_time_min").is_some_and(|time| time.ends_with('Z'))
                {
                    return (400, "application/json", b"{}".to_vec());
                }
                (200, "application/json", json!({"result": as_json(&dirty())}).to_string().into_bytes())
            }
            ("/api/services", false) => {
                (200, "application/json", br#"{"data":["cart","shop"],"total":2}"#.to_vec())
            }
            ("/api/traces", false) => (200, "application/json", old_model().to_string().into_bytes()),
            _ => (404, "text/plain", b"404 page not found".to_vec()),
        })?;
        let files = Files::new()?;
        let url = format!("http://{}", backend.address());
        let (code, said) = files.command("scan", &["--jaeger", &url, "--output-format", "json"])?;
        assert_eq!(code, 1, "{said}");
        no_secrets(&said);
        let report: Value = serde_json::from_str(&said)?;
        assert_eq!((&report["traces"], &report["found"]), (&json!(1), &json!(4)), "{said}");
        let (code, said) = files.command("scan", &["--jaeger", &url])?;
        assert_eq!((code, said.contains("older API")), (1, !newer), "{said}");
    }
    Ok(())
}

#[test]
fn an_address_of_something_else_is_told() -> Result<()> {
    let backend = Backend::start(|_| (200, "text/html", b"<html>".to_vec()))?;
    let files = Files::new()?;
    let url = format!("http://{}", backend.address());
    for arguments in [["--tempo", &url], ["--jaeger", &url]] {
        let (code, said) = files.command("scan", &arguments)?;
        assert!(code == 2 && said.contains("is this the right address"), "{code}: {said}");
    }
    let (code, said) = files.command("scan", &["--tempo", &url, "--header", "nonsense"])?;
    assert!(code == 2 && said.contains("name=value"), "{code}: {said}");
    Ok(())
}

/// [`dirty`] as Jaeger's older API tells it.
fn old_model() -> Value {
    let tag = |key: &str, value: &str| json!({"key": key, "type": "string", "value": value});
    json!({"data": [{
        "traceID": "7370616e7772646e0000000000000001",
        "spans": [{
            "traceID": "7370616e7772646e0000000000000001", "spanID": "0000000000010001", "operationName": "GET /orders",
            "startTime": 1_780_000_000_000_000_u64, "duration": 1000, "processID": "p1", "references": [], "logs": [],
            "tags": [
                tag("secret", "hunter2"), tag("note", "ssn 123-45-6789"), tag("user.id", "4711-user"), tag("late", "late-value")
            ],
        }],
        "processes": {"p1": {"serviceName": "cart", "tags": []}},
    }]})
}

/// Ids as protobuf's JSON mapping has bytes.
fn base64_ids(value: &mut Value) {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    match value {
        Value::Array(items) => items.iter_mut().for_each(base64_ids),
        Value::Object(object) => {
            for (key, value) in object {
                match value {
                    Value::String(text) if ["traceId", "spanId", "parentSpanId"].contains(&key.as_str()) => {
                        let bytes: Vec<u8> = (0..text.len() / 2)
                            .map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).expect("hex"))
                            .collect();
                        *text = STANDARD.encode(bytes);
                    }
                    value => base64_ids(value),
                }
            }
        }
        _ => {}
    }
}

/// Without a configuration the built-in detectors look.
#[test]
fn a_scan_without_rules_of_its_own_finds_what_detectors_find() -> Result<()> {
    let files = Files::new()?;
    let mut leaking = span(1, 0, false);
    leaking.attributes = vec![text("http.url", "https://x/?mail=alice@example.com")];
    for (name, spans, code) in [("leak.pb", vec![leaking], 1), ("clean.pb", vec![span(2, 0, false)], 0)] {
        let path = files.path(name);
        fs::write(&path, request(vec![text("service.name", "cart")], spans))?;
        let (found, said) = run(program(&Place::default(), &["scan", &path])?)?;
        assert_eq!(found, code, "{said}");
        assert_eq!(said.contains("http.url"), code == 1, "{said}");
        assert!(!said.contains("alice"), "{said}");
    }
    Ok(())
}

#[test]
fn help_teaches_both() -> Result<()> {
    for (command, taught) in [
        ("scrub", &["--show-values", "Exit code", "like diff", "spans.jsonl", "-o clean.jsonl"][..]),
        ("scan", &["--tempo", "--jaeger", "--tenant", "nightly check", "undecided"]),
    ] {
        let (code, said) = run(program(&Place::default(), &[command, "--help"])?)?;
        ensure!(code == 0, "{said}");
        for word in taught {
            ensure!(said.contains(word), "{command} does not say {word}:\n{said}");
        }
    }
    Ok(())
}
