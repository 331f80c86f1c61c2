//! What the tests of the program share: made requests, and what the program left.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use prost::Message as _;
use serde_json::{Value, json};
use spanwarden_tests::{
    agent::{self, binary},
    netns::Namespace,
    process::{Place, Process},
    proto::v1::{
        AnyValue, ExportTraceServiceRequest, KeyValue, Resource, ResourceSpans, ScopeSpans, Span, Status,
        any_value,
    },
    requirements,
};

/// Longest wait for anything; none of it takes as long on an idle machine.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
pub(crate) const HEALTH: SocketAddr = local(13133);
pub(crate) const METRICS: SocketAddr = local(8888);
pub(crate) const GRPC: SocketAddr = local(4317);
pub(crate) const HTTP: SocketAddr = local(4318);

pub(crate) const fn local(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// A network of the test's own.
pub(crate) fn place() -> Result<Place> {
    requirements::check()?;
    Ok(Place { netns: Some(Namespace::new()?), cgroup: None })
}

/// The program with these arguments, not started yet.
pub(crate) fn program(place: &Place, arguments: &[&str]) -> Result<Command> {
    let mut command = place.command(binary()?)?;
    command.args(arguments);
    Ok(command)
}

/// The same without any capability, as a container without `securityContext.capabilities.add` has it.
pub(crate) fn program_without_capabilities(place: &Place, arguments: &[&str]) -> Result<Command> {
    let setpriv = requirements::find_program("setpriv").context("setpriv, of util-linux")?;
    let mut command = place.command(setpriv)?;
    command.args(["--bounding-set=-all", "--inh-caps=-all"]).arg(binary()?).args(arguments);
    Ok(command)
}

/// Runs to the end: exit code, and what it said on both outputs.
pub(crate) fn run(command: Command) -> Result<(i32, String)> {
    let mut process = Process::spawn("spanwarden", command)?;
    let status = process.wait(PATIENCE)?;
    Ok((status.code().context("ended by a signal")?, process.output()))
}

/// Waits until `holds`.
pub(crate) fn wait_for(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !holds()? {
        if Instant::now() > deadline {
            bail!("{what}: not within {PATIENCE:?}");
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// The status of a health page; none while nobody answers.
pub(crate) fn status(place: &Place, path: &str) -> Option<u16> {
    agent::get(place, HEALTH, path).ok().map(|(status, _)| status)
}

pub(crate) fn wait_ready(place: &Place) -> Result<()> {
    wait_for("readiness", || Ok(status(place, "/readyz") == Some(200)))
}

pub(crate) fn text(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

/// A span of a trace; those of failed ones have the status ERROR.
pub(crate) fn span(trace: u64, number: u64, failed: bool) -> Span {
    let mut trace_id = b"spanwrdn".to_vec();
    trace_id.extend(trace.to_be_bytes());
    Span {
        trace_id,
        span_id: ((trace << 16) | (number + 1)).to_be_bytes().to_vec(),
        name: "GET /orders".to_owned(),
        start_time_unix_nano: 1_780_000_000_000_000_000,
        end_time_unix_nano: 1_780_000_000_001_000_000,
        status: Some(Status { code: if failed { 2 } else { 0 }, ..Status::default() }),
        ..Span::default()
    }
}

/// A request of one service.
pub(crate) fn request(resource: Vec<KeyValue>, spans: Vec<Span>) -> Bytes {
    let request = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource { attributes: resource, ..Resource::default() }),
            scope_spans: vec![ScopeSpans { spans, ..ScopeSpans::default() }],
            ..ResourceSpans::default()
        }],
    };
    request.encode_to_vec().into()
}

/// OTLP/JSON of one span with string attributes.
pub(crate) fn json_request(span: &Span) -> Bytes {
    let hex = |id: &[u8]| id.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    let attributes: Vec<Value> = span.attributes.iter().map(json_attribute).collect();
    let request = json!({"resourceSpans": [{"resource": {}, "scopeSpans": [{"spans": [{
        "traceId": hex(&span.trace_id),
        "spanId": hex(&span.span_id),
        "name": span.name,
        "startTimeUnixNano": span.start_time_unix_nano.to_string(),
        "endTimeUnixNano": span.end_time_unix_nano.to_string(),
        "attributes": attributes,
        "status": {"code": span.status.as_ref().map_or(0, |status| status.code)},
    }]}]}]});
    request.to_string().into()
}

fn json_attribute(attribute: &KeyValue) -> Value {
    let value = match attribute.value.as_ref().and_then(|any| any.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.as_str(),
        _ => "",
    };
    json!({"key": attribute.key, "value": {"stringValue": value}})
}

/// A span that a file exporter wrote.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) trace: String,
    pub(crate) span: String,
    pub(crate) resource: BTreeMap<String, Value>,
}

/// All spans in a file of OTLP JSON lines.
pub(crate) fn written(path: &Path) -> Result<Vec<Written>> {
    let lines = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let mut found = Vec::new();
    for line in lines.lines() {
        let request: Value = serde_json::from_str(line)?;
        for resource_spans in list(&request["resourceSpans"]) {
            let mut resource = BTreeMap::new();
            for attribute in list(&resource_spans["resource"]["attributes"]) {
                let key = attribute["key"].as_str().context("a key")?.to_owned();
                let again = resource.insert(key, attribute["value"].clone());
                ensure!(again.is_none(), "a key is there twice: {resource_spans}");
            }
            for span in list(&resource_spans["scopeSpans"]).iter().flat_map(|scope| list(&scope["spans"])) {
                let id = |key: &str| span[key].as_str().map(str::to_owned).context("an id");
                let resource = resource.clone();
                found.push(Written { trace: id("traceId")?, span: id("spanId")?, resource });
            }
        }
    }
    Ok(found)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Span ids, sorted, every one as often as it is there.
pub(crate) fn ids(written: &[Written]) -> Vec<String> {
    let mut ids: Vec<String> = written.iter().map(|span| span.span.clone()).collect();
    ids.sort_unstable();
    ids
}

/// The id of [`span`] as the file has it.
pub(crate) fn span_id(trace: u64, number: u64) -> String {
    format!("{:016x}", (trace << 16) | (number + 1))
}
