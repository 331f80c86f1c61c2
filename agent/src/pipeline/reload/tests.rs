//! What can be swapped and what can't; and that nothing is lost or half scrubbed while it is.

use std::{
    collections::BTreeSet,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::runtime;

use super::*;
use crate::{
    config,
    origin::NoPods,
    otlp::{
        Accepted, Batch, Consumer, Consuming, Context,
        encode::{self, Value},
        view::{self, ValueView},
    },
    pipeline::{admission::Authenticators, graph::Graph},
};

pub(super) const BASE: &str = "
receivers: {otlp: {protocols: {grpc: }}}
processors:
  memory_limiter: {check_interval: 1s, limit_mib: 512}
  redaction: {allow_all_keys: true, blocked_keys: [a]}
  redaction/late: {allow_all_keys: true, blocked_keys: [b]}
  attributes: {actions: [{key: k, action: delete}]}
  batch: {timeout: 1s}
exporters: {debug: {}, debug/2: {}}
service:
  pipelines:
    traces: {receivers: [otlp], processors: [memory_limiter, redaction, batch, redaction/late], exporters: [debug]}
    traces/2: {receivers: [otlp], processors: [redaction], exporters: [debug]}
";

fn load(text: &str) -> (Config, Shape) {
    // As `load_shaped` reads a file.
    let file = std::env::temp_dir().join(format!(
        "spanwarden-reload-{}-{:?}.yaml",
        std::process::id(),
        thread::current().id()
    ));
    std::fs::write(&file, text).expect("a temporary file");
    let loaded = config::load_shaped(&file);
    std::fs::remove_file(&file).expect("it is there");
    loaded.unwrap_or_else(|errors| panic!("{errors}\n{text}"))
}

/// Runs `test` with what runs `BASE`, inside a runtime.
fn with_running(test: impl FnOnce(&mut Running)) {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _inside = runtime.enter();
    test(&mut running(&runtime));
}

/// What runs `BASE`; `runtime` has been entered.
pub(super) fn running(runtime: &runtime::Runtime) -> Running {
    let (config, shape) = load(BASE);
    let authenticators = Authenticators::build(&config, Arc::new(NoPods)).expect("there are none");
    let workers = [runtime.handle().clone()];
    let graph = Graph::build(&config, None, &authenticators, &workers).expect("it is good");
    Running::new(&config, shape, &graph, None)
}

fn apply(running: &mut Running, from: &str, to: &str, all: bool) -> String {
    assert!(BASE.contains(from), "{from}");
    apply_text(running, &BASE.replace(from, to), all)
}

fn apply_text(running: &mut Running, text: &str, all: bool) -> String {
    let (config, shape) = load(text);
    match running.apply(config, shape, all) {
        Outcome::Unchanged => "unchanged".to_owned(),
        Outcome::Swapped(plans) => format!("{plans} swapped"),
        Outcome::RestartNeeded(why) => format!("restart: {why}"),
        Outcome::Failed(error) => format!("failed: {error}"),
    }
}

#[test]
fn what_changes_spans_is_swapped_and_nothing_else() {
    for (from, to, outcome) in [
        ("exporters: {debug", "# a comment\nexporters: {debug", "unchanged"),
        // In two pipelines.
        ("[a]", "[a, c]", "2 swapped"),
        ("[b]", "[b, c]", "1 swapped"),
        ("[redaction]", "[redaction, attributes]", "1 swapped"),
        ("[redaction]", "[]", "1 swapped"),
        ("key: k", "key: l", "0 swapped"),
        ("timeout: 1s", "timeout: 2s", "restart: processors of the pipeline traces that"),
        ("batch, redaction/late", "batch", "restart: processors of the pipeline traces that"),
        ("batch, redaction/late", "redaction/late", "restart: processors of the pipeline traces that"),
        (
            "redaction, batch, redaction/late",
            "redaction/late, batch, redaction",
            "restart: rules before and after",
        ),
        (
            "exporters: [debug]}\n    traces/2",
            "exporters: [debug/2]}\n    traces/2",
            "restart: service::pipelines::traces::exporters",
        ),
        ("grpc: ", "http: ", "restart: receivers::otlp::protocols"),
        ("[b]", "[b], blocked_values: [\"(\"]", "failed: "),
    ] {
        with_running(|running| {
            let told = apply(running, from, to, false);
            assert!(told.starts_with(outcome), "{from} -> {to}: {told}");
            let again = apply(running, from, to, false);
            let taken = told.ends_with("swapped") || told == "unchanged";
            assert_eq!(again, if taken { "unchanged" } else { &told }, "{from} -> {to}, again");
        });
    }
}

#[test]
fn everything_is_compiled_again_where_it_is_asked_for() {
    with_running(|running| assert_eq!(apply(running, "[a]", "[a]", true), "3 swapped"));
}

#[test]
fn one_bad_plan_keeps_all_of_them() {
    with_running(|running| {
        let before: Vec<_> = running.plans.iter().flatten().map(|stage| stage.plan_id()).collect();
        // The first pipeline's plan is good, the second one's is not.
        let text = BASE.replace("[b]", "[c]").replace("[redaction]", "[redaction/bad]").replace(
            "  batch:",
            "  redaction/bad: {allow_all_keys: true, blocked_values: [\"(\"]}\n  batch:",
        );
        let told = apply_text(running, &text, false);
        assert!(told.starts_with("failed: "), "{told}");
        let after: Vec<_> = running.plans.iter().flatten().map(|stage| stage.plan_id()).collect();
        assert_eq!(before, after);
    });
}

/// Holds what came out against what must be true of it.
#[derive(Default)]
struct Sink {
    spans: AtomicU64,
    generations: Mutex<BTreeSet<String>>,
}

impl Consumer for Sink {
    fn consume(&self, batch: Batch) -> Consuming<'_> {
        let generation = |value: ValueView<'_>| match value {
            ValueView::String(text) => text.to_owned(),
            other => panic!("{other:?}"),
        };
        let mut seen = BTreeSet::new();
        let mut marks = 0;
        for (_, _, span) in view::spans(&batch.data) {
            self.spans.fetch_add(1, Ordering::Relaxed);
            let events = span.events().flat_map(|event| event.attributes().collect::<Vec<_>>());
            for attribute in span.attributes().chain(events).filter(|attribute| attribute.key == "g") {
                seen.insert(generation(attribute.value));
                marks += 1;
            }
        }
        for resource in view::resource_spans(&batch.data) {
            for attribute in resource.attributes().filter(|attribute| attribute.key == "g") {
                seen.insert(generation(attribute.value));
                marks += 1;
            }
        }
        assert_eq!((seen.len(), marks), (1, 2 * SPANS + 1), "a request is scrubbed by one plan: {seen:?}");
        self.generations.lock().expect("no panic").extend(seen);
        Box::pin(async { Ok(Accepted::default()) })
    }
}

const SPANS: usize = 40;
const SWAPS: usize = 50;

fn generation(number: usize) -> Plan {
    let text = format!(
        "receivers: {{otlp: {{protocols: {{grpc: }}}}}}\nexporters: {{debug: {{}}}}\nprocessors:\n  transform:\n    \
         trace_statements:\n      - set(resource.attributes[\"g\"], \"{number}\")\n      - set(spanevent.attributes[\"g\"], \
         \"{number}\")\n      - set(span.attributes[\"g\"], \"{number}\")\nservice: {{pipelines: {{traces: {{receivers: \
         [otlp], processors: [transform], exporters: [debug]}}}}}}\n"
    );
    let config = config::parse(&text, "generation.yaml").unwrap_or_else(|errors| panic!("{errors}"));
    Plan::compile(&[&config.processors[0]], None).unwrap_or_else(|error| panic!("{error}"))
}

fn request() -> Vec<u8> {
    let mut data = Vec::new();
    encode::field_with(&mut data, 1, |out| {
        encode::field_with(out, 1, |out| encode::key_value(out, 1, "service.name", Value::String("s")));
        encode::field_with(out, 2, |out| {
            for number in 0..SPANS {
                encode::field_with(out, 2, |out| {
                    encode::field(out, 1, &[1; 16]);
                    encode::field(out, 2, &[number as u8 + 1; 8]);
                    encode::key_value(out, 9, "g", Value::String("unscrubbed"));
                    encode::field_with(out, 11, |out| encode::key_value(out, 3, "k", Value::String("v")));
                });
            }
        });
    });
    data
}

#[test]
fn fifty_swaps_under_load_lose_nothing_and_mix_nothing() {
    let sink = Arc::new(Sink::default());
    let next: Arc<dyn Consumer> = Arc::clone(&sink) as _;
    let stage = Arc::new(ScrubStage::new(generation(0), next));
    let (done, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let runtime = runtime::Builder::new_current_thread().build().expect("a runtime");
                let data: bytes::Bytes = request().into();
                while !done.load(Ordering::Relaxed) {
                    let batch = Batch { data: data.clone(), spans: 0, context: Context::default() };
                    runtime.block_on(stage.consume(batch)).expect("it is good");
                    sent.fetch_add(SPANS as u64, Ordering::Relaxed);
                }
            });
        }
        for number in 1..=SWAPS {
            stage.swap(generation(number));
            // Until something went through the new plan, so that each one is seen at work.
            let wanted = number.to_string();
            for _ in 0..10_000 {
                if sink.generations.lock().expect("no panic").contains(&wanted) {
                    break;
                }
                thread::sleep(Duration::from_millis(1));
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(sink.spans.load(Ordering::Relaxed), sent.load(Ordering::Relaxed));
    let seen = sink.generations.lock().expect("no panic").len();
    assert!(seen >= SWAPS, "every plan was used: {seen}");
}
