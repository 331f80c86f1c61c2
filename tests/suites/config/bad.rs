//! What is refused, where, and what the message says.

use super::{complete, config, parse, path};

/// A refused configuration.
struct Refused<'t> {
    /// The line of the error.
    line: u32,
    /// How its key path ends.
    path: &'t str,
    /// A part of its message.
    message: &'t str,
    /// The sections that matter.
    snippet: &'t str,
}

/// Reads `fixtures/configs/refused.txt`; its head says how a block is written.
fn refused(table: &str) -> Vec<Refused<'_>> {
    let blocks = table.split("\n@@ ").skip(1);
    blocks
        .map(|block| {
            let (expected, snippet) = block.split_once('\n').unwrap();
            let (place, message) = expected.split_once(" | ").unwrap();
            let (line, path) = place.split_once(' ').unwrap();
            Refused { line: line.parse().unwrap(), path, message, snippet }
        })
        .collect()
}

#[test]
fn what_is_wrong_is_refused_with_place_and_advice() {
    let table = std::fs::read_to_string(path("refused.txt")).unwrap();
    let table = refused(&table);
    assert!(table.len() >= 100, "only {} blocks", table.len());
    let mut failures = Vec::new();
    for Refused { line, path, message, snippet } in table {
        let text = complete(snippet);
        let Err(errors) = parse(&text) else {
            failures.push(format!("loads:\n{text}"));
            continue;
        };
        // A mistyped key is also a missing one; nothing else may come with the expected error.
        let (found, rest): (Vec<_>, Vec<_>) = errors.0.iter().partition(|error| {
            error.at.line == line && error.at.path.ends_with(path) && error.message.contains(message)
        });
        if found.len() != 1 || !rest.iter().all(|error| error.message.contains("` is required")) {
            failures.push(format!("wanted line {line}, {path}, {message}:\n{text}{errors}\n"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn two_samplers_in_a_pipeline() {
    let text = "processors:\n  tail_sampling: &t {policies: [{name: a, type: always_sample}]}\n  tail_sampling/b: *t\nservice:\n  pipelines:\n    traces:\n      receivers: [otlp]\n      processors: [tail_sampling, tail_sampling/b]\n      exporters: [debug]\n";
    let errors = parse(&complete(text)).unwrap_err();
    assert_eq!(errors.0.len(), 1, "{errors}");
    assert_eq!(errors.0[0].at.path.as_ref(), "service::pipelines::traces::processors[1]");
}

/// One run shows everything that is wrong, in the file's order, and counts it.
#[test]
fn all_errors_at_once() {
    let text = "exporters:\n  otlp: {endpoint: a}\n  debug: {verbose: 1}\nprocessors:\n  batch: {timeout: x}\n  nope:\n";
    let errors = parse(&complete(text)).unwrap_err();
    let lines: Vec<u32> = errors.0.iter().map(|error| error.at.line).collect();
    assert_eq!(lines, [2, 3, 5, 6], "{errors}");
    let shown = errors.to_string();
    assert!(shown.starts_with("t.yaml:2:20: exporters::otlp::endpoint: `a` is not `host:port`"), "{shown}");
    assert!(shown.ends_with("\n4 errors"), "{shown}");
}

#[test]
fn a_file_that_is_not_there_or_is_empty() {
    let error = config::load(&path("nope.yaml")).unwrap_err().to_string();
    assert!(error.contains("nope.yaml: can't be read:") && error.ends_with("\n1 error"), "{error}");
    assert!(parse("").unwrap_err().to_string().contains("the configuration is empty"));
    assert!(parse("- a\n").unwrap_err().to_string().contains("must be a mapping, but this is a list"));
}
