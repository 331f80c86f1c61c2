//! `spanwarden scan`
#![forbid(unsafe_code)]

use std::{
    fmt::Write as _,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{
    findings::{self, OutputFormat},
    scrub::{choose, open},
};
use crate::{
    config::{self, fields::duration},
    inspect::{
        Inspector, Question,
        input::{Form, Requests},
        remote::{self, Backend, Query, Read, Window},
    },
    pipeline,
    transport::http::ClientOptions,
};

/// Looks for what should have been scrubbed in spans that are stored already: in files, in Tempo, in Jaeger.
///
/// It applies the rules of a configuration to what is stored and reports what they would still mask or remove: in spans
/// that went through those rules there is nothing left. Without --config it looks with the built-in detectors of secrets
/// and personal data, as `processors: scrub: {}` has them. Values are never shown: each finding says the rule, the key or
/// field, how often, and a few spans where it is.
///
/// What a rule only sets or adds is no finding, and neither is a value that already has the form of a hash where a rule
/// hashes. A rule that matches its own result (`replace_pattern` with a hash in place of the match) can't tell a scrubbed
/// value from one that was not; such hits are counted as undecided.
///
/// Spans are read from files as `spanwarden scrub` reads them, and from backends trace by trace: Tempo's /api/search and
/// /api/traces, Jaeger's /api/v3/traces or, where that is missing, /api/traces (which has no links' attributes).
/// The newest traces come first, --limit of them at most.
///
/// Exit code, for the nightly check: 0: nothing found; 1: something; 2: an error, or nothing was there to look at (a check
/// that reads nothing checks nothing; --allow-empty takes it for 0).
///
/// Examples:
///   spanwarden scan --config config.yaml spans.jsonl
///   spanwarden scan --config config.yaml --tempo <http://tempo:3200> --tenant team-a --since 24h --limit 5000
///   spanwarden scan --jaeger <https://jaeger.example:16686> --token-file token --ca-file ca.pem --service cart
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Scan {
    /// The configuration whose rules must have been applied; the built-in detectors without it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Its pipeline (`traces/x`); needed where there are several.
    #[arg(long, value_name = "ID", requires = "config")]
    pipeline: Option<String>,
    /// Reads from Tempo: the address of its HTTP API, with a prefix if it has one.
    #[arg(long, value_name = "URL", conflicts_with = "jaeger")]
    tempo: Option<String>,
    /// Reads from Jaeger: the address of its query service, with its base path if it has one.
    #[arg(long, value_name = "URL")]
    jaeger: Option<String>,
    /// How far back to look, from --end: 24h, 90m.
    #[arg(long, value_name = "DURATION", default_value = "24h", conflicts_with = "start")]
    since: String,
    /// The first second to look at: 2026-11-21T00:00:00Z, or seconds since 1970.
    #[arg(long, value_name = "TIME")]
    start: Option<String>,
    /// The last second to look at; now without it.
    #[arg(long, value_name = "TIME")]
    end: Option<String>,
    /// How many traces to read at most; 0 reads all of them.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    limit: usize,
    /// Only traces of this service.
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Only traces that this `TraceQL` query selects (Tempo).
    #[arg(long, value_name = "QUERY", requires = "tempo", conflicts_with = "service")]
    traceql: Option<String>,
    /// The tenant: sent as `X-Scope-OrgID`.
    #[arg(long, value_name = "ID")]
    tenant: Option<String>,
    /// Sent with each request, `name=value`; may be given several times. What is secret belongs into --token-file, because
    /// everybody on the machine can read a command line.
    #[arg(long = "header", value_name = "HEADER")]
    headers: Vec<String>,
    /// A file with a token to send as `authorization: Bearer …`; never in plaintext but to this machine.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// CAs to trust in place of the system's.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Accepts any certificate: for a look, not for a check.
    #[arg(long)]
    insecure_skip_verify: bool,
    /// How files are stored; without it the content says it.
    #[arg(long, value_name = "FORM", value_enum)]
    input_format: Option<Form>,
    /// How to print what was found.
    #[arg(long, value_name = "FORM", value_enum, default_value_t = OutputFormat::Text)]
    output_format: OutputFormat,
    /// How many places to keep of each finding.
    #[arg(long, value_name = "N", default_value_t = 3)]
    examples: usize,
    /// Nothing to look at is well.
    #[arg(long)]
    allow_empty: bool,
    /// Files with spans; `-` is standard input.
    #[arg(value_name = "SPANS", required_unless_present_any = ["tempo", "jaeger"])]
    files: Vec<PathBuf>,
}

/// What is looked for where no configuration says it.
const DETECTORS: &str = "
receivers: {otlp: {protocols: {grpc: }}}
processors: {scrub: {}}
exporters: {debug: {}}
service: {pipelines: {traces: {receivers: [otlp], processors: [scrub], exporters: [debug]}}}
";

/// Refusals that are told one by one.
const TOLD: usize = 5;

/// What is being found.
struct Findings {
    inspector: Inspector,
    /// Requests that the walker refused.
    refused: u64,
    /// The first of them.
    messages: Vec<String>,
}

impl Findings {
    fn take(&mut self, source: &str, what: &str, data: &Bytes) {
        if let Err(refusal) = self.inspector.request(source, data) {
            self.refused += 1;
            if self.messages.len() < TOLD {
                self.messages.push(format!("{source}: {what}: {refusal}"));
            }
        }
    }
}

impl Scan {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let config = match &self.config {
            Some(file) => config::load(file)?,
            None => config::parse(DETECTORS, "<built in>")?,
        };
        let plan = pipeline::plan_of(&config, choose(&config, self.pipeline.as_deref())?)?;
        if plan.rules().is_empty() {
            bail!(
                "the pipeline has no rule that could find something; add `redaction` or another processor that scrubs"
            );
        }
        let inspector = Inspector::new(plan, Question::Leak, false, self.examples);
        let mut findings = Findings { inspector, refused: 0, messages: Vec::new() };
        for file in &self.files {
            let name = file.display().to_string();
            let mut requests =
                Requests::new(open(file)?, file, self.input_format).with_context(|| name.clone())?;
            while let Some(request) = requests.next_request().with_context(|| name.clone())? {
                findings.take(&name, &format!("request {}", request.number), &request.data.into());
            }
        }
        let read = match self.query()? {
            Some(query) => Some(self.read(&query, &mut findings)?),
            None => None,
        };
        self.print(&findings, read)?;
        let report = &findings.inspector.report;
        for message in &findings.messages {
            eprintln!("{message}");
        }
        if report.spans == 0 && findings.refused == 0 && !self.allow_empty {
            eprintln!("there was not one span to look at; --allow-empty takes that for a good answer");
            return Ok(ExitCode::from(2));
        }
        Ok(match (findings.refused, report.changes()) {
            (0, 0) => ExitCode::SUCCESS,
            (0, _) => ExitCode::FAILURE,
            _ => ExitCode::from(2),
        })
    }

    fn read(&self, query: &Query, findings: &mut Findings) -> anyhow::Result<Read> {
        let options = ClientOptions {
            ca_file: self.ca_file.clone(),
            token_file: self.token_file.clone(),
            insecure_skip_verify: self.insecure_skip_verify,
            headers: self.headers()?,
            ..ClientOptions::default()
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let source = query.url.clone();
        runtime.block_on(remote::read(query, options, &mut |trace| {
            findings.take(&source, "a trace", &trace);
            Ok(())
        }))
    }

    fn query(&self) -> anyhow::Result<Option<Query>> {
        let (backend, url) = match (&self.tempo, &self.jaeger) {
            (Some(url), _) => (Backend::Tempo, url.clone()),
            (None, Some(url)) => (Backend::Jaeger, url.clone()),
            (None, None) => return Ok(None),
        };
        let end = match &self.end {
            Some(text) => time(text).context("--end")?,
            None => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        };
        let start = if let Some(text) = &self.start {
            time(text).context("--start")?
        } else {
            let since: Duration =
                duration::parse(&self.since).map_err(|error| anyhow::anyhow!("--since: {error}"))?;
            end.saturating_sub(since.as_secs())
        };
        if start > end {
            bail!("--start is after --end");
        }
        Ok(Some(Query {
            backend,
            url,
            window: Window { start, end },
            limit: self.limit,
            service: self.service.clone(),
            traceql: self.traceql.clone(),
        }))
    }

    fn headers(&self) -> anyhow::Result<HeaderMap> {
        let mut headers = HeaderMap::new();
        let tenant = self.tenant.as_ref().map(|tenant| ("x-scope-orgid", tenant.as_str()));
        let mut named = Vec::from_iter(tenant);
        for header in &self.headers {
            named.push(
                header
                    .split_once('=')
                    .with_context(|| format!("--header {header}: `name=value` is expected"))?,
            );
        }
        for (name, value) in named {
            let name = HeaderName::from_bytes(name.trim().as_bytes())
                .with_context(|| format!("`{name}` is no name of a header"))?;
            let value = HeaderValue::from_str(value.trim()).with_context(|| {
                format!("the value of the header {name} has characters that headers can't have")
            })?;
            headers.insert(name, value);
        }
        Ok(headers)
    }

    fn print(&self, findings: &Findings, read: Option<Read>) -> anyhow::Result<()> {
        let report = &findings.inspector.report;
        if self.output_format == OutputFormat::Json {
            let mut object = findings::json(report);
            object.remove("idle_rules"); // there, a rule that finds nothing is as it should be
            object.insert("found".into(), report.changes().into());
            object.insert("undecided".into(), report.undecided.into());
            object.insert("refused".into(), findings.refused.into());
            if let Some(read) = read {
                object.insert("traces".into(), read.traces.into());
                object.insert("more".into(), read.more.into());
            }
            println!("{}", serde_json::to_string_pretty(&object)?);
            return Ok(());
        }
        let mut text = String::new();
        let found = report.findings();
        if !found.is_empty() {
            let _ = writeln!(text, "{}", findings::table(&found));
        }
        if report.undecided > 0 {
            let _ = writeln!(
                text,
                "{} hits of rules that match their own result say nothing either way.",
                report.undecided
            );
        }
        if findings.refused > 0 {
            let _ = writeln!(text, "{} requests could not be read; see below.", findings.refused);
        }
        if let Some(read) = read {
            let _ = write!(text, "{} traces, ", read.traces);
            if read.lossy {
                text.push_str("by Jaeger's older API, which does not tell everything, ");
            }
        }
        let _ = writeln!(
            text,
            "{} spans: {}",
            report.spans,
            match report.changes() {
                0 => "nothing found".to_owned(),
                count => format!("{count} places should have been scrubbed"),
            }
        );
        if read.is_some_and(|read| read.more) {
            text.push_str("There are more traces than were looked at; --limit and --since say how many.\n");
        }
        print!("{text}");
        Ok(())
    }
}

/// Seconds since 1970: written so, or as a date and time in UTC.
fn time(text: &str) -> anyhow::Result<u64> {
    if let Ok(seconds) = text.parse() {
        return Ok(seconds);
    }
    let parsed = (|| {
        let (date, clock) = text.strip_suffix('Z')?.split_once('T')?;
        let numbers = |text: &str, separator| -> Option<Vec<i64>> {
            text.split(separator).map(|part| part.parse().ok().filter(|number| *number >= 0)).collect()
        };
        let [year, month, day] = numbers(date, '-')?[..] else { return None };
        let [hour, minute, second] = numbers(clock, ':')?[..] else { return None };
        let sound = (1970..10_000).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
        if !sound || hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        // Howard Hinnant's days_from_civil.
        let shifted_year = year - i64::from(month <= 2);
        let (era, year_of_era) = (shifted_year.div_euclid(400), shifted_year.rem_euclid(400));
        let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let days = era * 146_097 + day_of_era - 719_468;
        u64::try_from(days * 86_400 + hour * 3600 + minute * 60 + second).ok()
    })();
    parsed.with_context(|| format!("`{text}` is no time; write 2026-11-21T00:00:00Z, or seconds since 1970"))
}

#[cfg(test)]
mod tests {
    use super::time;

    #[test]
    fn times_are_read() {
        for (text, seconds) in [
            ("0", 0),
            ("1700000000", 1_700_000_000),
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T00:00:00Z", 951_782_400),
            ("2023-11-14T22:13:20Z", 1_700_000_000),
        ] {
            assert_eq!(time(text).expect(text), seconds);
        }
        for text in ["", "yesterday", "2023-11-14", "2023-13-01T00:00:00Z", "2023-11-14T22:13:20", "-5"] {
            assert!(time(text).is_err(), "{text}");
        }
    }
}
