//! The program against a real Tempo: `cargo xtask interop tempo`.
//!
//! `tempo-interop TEMPO`: its program. Spans with planted values go through `spanwarden run` into it, once as they are and once
//! scrubbed, and `spanwarden scan` reads both back through its API.
#![forbid(unsafe_code)]

mod spans;
mod tempo;

use std::{
    collections::BTreeMap,
    env, fs,
    net::SocketAddr,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use prost::Message as _;
use serde_json::Value;
use spanwarden_tests::{
    agent::{Agent, Directory, binary},
    client::{Protocol, send_from},
    process::{Place, Process},
};

use tempo::{Tempo, free_ports};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_mins(2);
const RULES: &str = include_str!("rules.yaml");

fn main() -> Result<()> {
    let outcome = run();
    spanwarden_tests::cleanup::wait_if_interrupted();
    outcome
}

fn run() -> Result<()> {
    let program = env::args_os().nth(1).map(PathBuf::from).context("TEMPO is missing")?;
    let mut checks = Checks { tempo: Tempo::start(&program)?, files: Directory::new()? };
    println!("Tempo runs at {}", checks.tempo.url());
    fs::write(checks.path("rules.yaml"), pipeline(RULES, "[redaction, transform]"))?;
    let all: [(&str, Check); 5] = [
        ("what a file shows, Tempo shows", Checks::finds_what_is_in_a_file),
        ("what was scrubbed is clean", Checks::scrubbed_is_clean),
        ("pages, limits and windows", Checks::reads_page_by_page),
        ("queries", Checks::asks_for_less),
        ("tenants", Checks::keeps_to_a_tenant),
    ];
    for (what, check) in all {
        check(&mut checks).with_context(|| format!("{what}\n{}", checks.tempo.said()))?;
        println!("ok: {what}");
    }
    Ok(())
}

type Check = fn(&mut Checks) -> Result<()>;

/// What all checks share.
struct Checks {
    tempo: Tempo,
    files: Directory,
}

/// How often each thing was found: rule, what it did, on which message, in which field.
type Findings = BTreeMap<[String; 4], u64>;

impl Checks {
    fn path(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// Sends requests through `spanwarden run` with these processors to a tenant.
    fn send(&self, tenant: &str, processors: &str, requests: &[spans::Request]) -> Result<()> {
        let [otlp, health] = free_ports()?;
        let exporter = format!(
            "\nreceivers: {{otlp: {{protocols: {{grpc: {{endpoint: 127.0.0.1:{otlp}}}}}}}}}\n\
             extensions: {{health_check: {{endpoint: 127.0.0.1:{health}}}}}\n\
             exporters: {{otlp: {{endpoint: {}, tls: {{insecure: true}}, headers: {{x-scope-orgid: {tenant}}}}}}}\n\
             service:\n  extensions: [health_check]\n  telemetry: {{metrics: {{level: none}}}}\n  \
             pipelines: {{traces: {{receivers: [otlp], processors: {processors}, exporters: [otlp]}}}}\n",
            self.tempo.otlp()
        );
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let agent = Agent::start(format!("{RULES}{exporter}"), local(health))?;
        for request in requests {
            let body = request.encode_to_vec().into();
            let answer = send_from(&Place::default(), local(otlp), Protocol::Grpc, body)?;
            ensure!(answer.is_accepted(), "{answer:?}\n{}", agent.logs());
        }
        let (status, logs) = agent.stop()?;
        ensure!(status.success(), "{status}\n{logs}");
        Ok(())
    }

    /// `spanwarden scan` with these arguments: exit code and report.
    fn scan(&self, arguments: &[&str]) -> Result<(i32, Value)> {
        let (code, said) = self.command(arguments)?;
        let report = serde_json::from_str(&said).with_context(|| format!("{arguments:?}: {said}"))?;
        Ok((code, report))
    }

    fn command(&self, arguments: &[&str]) -> Result<(i32, String)> {
        let mut command = Command::new(binary()?);
        command.args(["scan", "--output-format", "json", "--config"]).arg(self.path("rules.yaml"));
        command.args(arguments);
        let mut process = Process::spawn("spanwarden scan", command)?;
        let status = process.wait(PATIENCE)?;
        let said = process.output();
        ensure!(!said.contains(spans::SECRET), "a planted value is shown:\n{said}");
        Ok((status.code().context("ended by a signal")?, said))
    }

    /// The same of a tenant in Tempo, once all its traces can be found there.
    fn scan_tenant(&self, tenant: &str, traces: u64, more: &[&str]) -> Result<(i32, Value)> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let url = self.tempo.url();
            let base = ["--tempo", &url, "--tenant", tenant, "--since", "1h", "--allow-empty"];
            let (code, report) = self.scan(&[&base[..], more].concat())?;
            if report["traces"] == traces {
                return Ok((code, report));
            }
            if Instant::now() > deadline {
                bail!("not {traces} traces within {PATIENCE:?}, but {}", report["traces"]);
            }
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    fn finds_what_is_in_a_file(&mut self) -> Result<()> {
        let requests = spans::requests();
        let all = spans::Request {
            resource_spans: requests.iter().flat_map(|request| request.resource_spans.clone()).collect(),
        };
        let file = self.path("spans.pb");
        fs::write(&file, all.encode_to_vec())?;
        let (code, report) = self.scan(&[&file.display().to_string()])?;
        ensure!(code == 1, "{report}");
        let wanted = findings(&report)?;
        for on in ["resource", "scope", "span", "event", "link"] {
            ensure!(wanted.keys().any(|found| found[2] == on), "nothing is planted on a {on}: {wanted:?}");
        }
        self.send("dirty", "[]", &requests)?;
        let (code, report) = self.scan_tenant("dirty", spans::TRACES, &[])?;
        ensure!(code == 1, "{report}");
        let found = findings(&report)?;
        // Tempo may store one resource and one scope for both requests of a trace.
        let alike = |what: &[String; 4], wanted: u64, found: u64| match what[2].as_str() {
            "resource" | "scope" => (spans::TRACES..=wanted).contains(&found),
            _ => found == wanted,
        };
        let differing: Vec<_> = wanted
            .iter()
            .map(|(what, count)| (what, *count, found.get(what).copied().unwrap_or(0)))
            .filter(|(what, wanted, found)| !alike(what, *wanted, *found))
            .collect();
        ensure!(differing.is_empty() && found.len() == wanted.len(), "{differing:#?}\n{found:#?}");
        ensure!(report["spans"] == spans::SPANS, "{report}");
        Ok(())
    }

    fn scrubbed_is_clean(&mut self) -> Result<()> {
        self.send("clean", "[redaction, transform]", &spans::requests())?;
        let (code, report) = self.scan_tenant("clean", spans::TRACES, &[])?;
        ensure!(code == 0 && report["found"] == 0 && report["spans"] == spans::SPANS, "{report}");
        Ok(())
    }

    fn reads_page_by_page(&mut self) -> Result<()> {
        let (code, report) = self.scan_tenant("dirty", 7, &["--limit", "7"])?;
        ensure!(code == 1 && report["more"] == true, "{report}");
        let (_, report) = self.scan_tenant("dirty", spans::TRACES, &["--limit", "0"])?;
        ensure!(report["more"] == false, "{report}");
        let url = self.tempo.url();
        let (code, said) = self.command(&["--tempo", &url, "--tenant", "dirty", "--end", "1000"])?;
        ensure!(code == 2 && said.contains("not one span"), "{code}: {said}");
        Ok(())
    }

    fn asks_for_less(&mut self) -> Result<()> {
        let (_, report) = self.scan_tenant("dirty", spans::TRACES / 2, &["--service", "cart \"a\""])?;
        ensure!(report["more"] == false, "{report}");
        let query = "{ span:kind = server && resource.service.name != `shop` }";
        self.scan_tenant("dirty", spans::TRACES / 2, &["--traceql", query])?;
        Ok(())
    }

    fn keeps_to_a_tenant(&mut self) -> Result<()> {
        let url = self.tempo.url();
        let (code, said) = self.command(&["--tempo", &url])?;
        ensure!(code == 2 && said.contains("401"), "{code}: {said}");
        let (code, said) = self.command(&["--tempo", &url, "--tenant", "nobody"])?;
        ensure!(code == 2 && said.contains("not one span"), "{code}: {said}");
        Ok(())
    }
}

/// A configuration of one pipeline that is never run.
fn pipeline(processors: &str, used: &str) -> String {
    format!(
        "{processors}\nreceivers: {{otlp: {{protocols: {{grpc: }}}}}}\nexporters: {{debug: {{}}}}\nservice: {{pipelines: \
         {{traces: {{receivers: [otlp], processors: {used}, exporters: [debug]}}}}}}\n"
    )
}

fn findings(report: &Value) -> Result<Findings> {
    let list = report["findings"].as_array().context("findings")?;
    let all = list.iter().map(|finding| {
        let what = ["rule", "did", "on", "field"].map(|name| finding[name].as_str().unwrap_or("").to_owned());
        Ok((what, finding["count"].as_u64().context("a count")?))
    });
    all.collect()
}
