//! The stages of the span path alone: one thread, in memory, CPU time of that thread.

use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use nix::time::{ClockId, clock_gettime};
use spanwarden::{
    config,
    otlp::{Batch, Context, split::Splitter},
    scrub::{Plan, PlanScratch},
};

/// More requests than the caches hold, so that the bytes come from memory as they do from a socket.
const REQUESTS: usize = 64;
const ROUNDS: usize = 20;

/// Measures the stages whose names contain `which`.
pub(crate) fn run(which: &str) -> Result<()> {
    let requests = spanwarden_tests::load::requests(REQUESTS, super::SPANS, 7);
    let pipeline = "exporters: {debug: }\nreceivers: {otlp: {protocols: {grpc: }}}\nservice: {pipelines: {traces: \
                    {receivers: [otlp], exporters: [debug]}}}\n";
    let config = config::parse(&format!("{}\n{}{pipeline}", super::RULES, super::DETECTORS), "rules.yaml")?;
    let all: Vec<_> = config.processors.iter().collect();
    let check = Plan::compile(&[], None)?;
    let mut scratch = PlanScratch::default();
    println!("| stage | ns CPU/span |");
    println!("|---|---|");
    report(which, "check (walk every field)", &requests, |data| apply(&check, data, &mut scratch))?;
    for component in &all {
        let plan = Plan::compile(&[component], None)?;
        let stage = format!("check and `{}`", component.id);
        report(which, &stage, &requests, |data| apply(&plan, data, &mut scratch))?;
    }
    let rules: Vec<_> = all.iter().copied().filter(|component| component.id.kind != "scrub").collect();
    let scrub = Plan::compile(&rules, None)?;
    report(which, "check and scrub (all reference rules)", &requests, |data| {
        apply(&scrub, data, &mut scratch)
    })?;
    around_messages(which, &requests)?;
    let mut splitter = Splitter::default();
    report(which, "split by trace to three", &requests, |data| {
        let parts = splitter.route(data, |trace| usize::from(trace[0]) % 3).unwrap_or_default();
        parts.iter().map(|part| part.data.len()).sum::<usize>()
    })
}

/// Processors that look at more than one message, or drop some: none matches, or every sixteenth span does.
const CHOOSING: [(&str, &str); 7] = [
    (
        "filter that matches nothing",
        "filter: {traces: {span: ['attributes[\"http.route\"] == \"/healthz\"']}}",
    ),
    ("filter of some spans", "filter: {traces: {span: ['IsMatch(span_id.string, \"0$\")']}}"),
    ("filter of events", "filter: {traces: {spanevent: ['name == \"exception\"']}}"),
    (
        "attributes of spans that nothing matches",
        "attributes: {include: {match_type: strict, services: [none]}, actions: [{key: a, action: delete}]}",
    ),
    (
        "attributes of all spans by service",
        "attributes: {include: {match_type: regexp, services: ['.']}, actions: [{key: http.route, action: delete}]}",
    ),
    ("span that names nothing", "span: {name: {from_attributes: [not.there]}}"),
    ("redaction but where a condition holds", "redaction: {allow_all_keys: true, blocked_keys: [a], SKIP}"),
];

fn around_messages(which: &str, requests: &[Bytes]) -> Result<()> {
    let mut scratch = PlanScratch::default();
    for (name, processor) in CHOOSING {
        let skip = "skip_conditions: ['resource.attributes[\"service.name\"] == \"none\"']";
        let (id, fields) = processor.split_once(':').unwrap_or((processor, ""));
        let config = config::parse(
            &format!(
                "processors:\n  {id}: {}\nexporters: {{debug: }}\nreceivers: {{otlp: {{protocols: {{grpc: }}}}}}\nservice: \
                 {{pipelines: {{traces: {{receivers: [otlp], processors: [{id}], exporters: [debug]}}}}}}\n",
                fields.replace("SKIP", skip)
            ),
            "choosing.yaml",
        )?;
        let plan = Plan::compile(&config.processors.iter().collect::<Vec<_>>(), None)?;
        report(which, &format!("check and {name}"), requests, |data| apply(&plan, data, &mut scratch))?;
    }
    Ok(())
}

fn apply(plan: &Plan, data: &Bytes, scratch: &mut PlanScratch) -> usize {
    let batch = Batch { data: data.clone(), spans: 0, context: Context::default() };
    plan.apply(batch, scratch).map_or(0, |batch| batch.data.len())
}

/// Prints the best of several rounds: the one that the rest of the machine disturbed least.
fn report(which: &str, stage: &str, requests: &[Bytes], mut work: impl FnMut(&Bytes) -> usize) -> Result<()> {
    if !stage.contains(which) {
        return Ok(());
    }
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let start = Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?);
        let bytes: usize = requests.iter().map(&mut work).sum();
        let end = Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?);
        ensure!(bytes > 0, "{stage}: nothing came out");
        best = best.min(end.saturating_sub(start));
    }
    println!("| {stage} | {:.0} |", best.as_secs_f64() * 1e9 / (REQUESTS * super::SPANS) as f64);
    Ok(())
}
