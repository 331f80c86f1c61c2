//! The command line: what it prints, and the exit codes 0 (well), 1 (failed), 2 (bad arguments).

use std::{fs, net::TcpListener};

use anyhow::Result;
use spanwarden_tests::{
    agent::{Directory, Start},
    process::Place,
};

use super::common::*;

fn here(arguments: &[&str]) -> Result<(i32, String)> {
    run(program(&Place::default(), arguments)?)
}

/// Receives over HTTP and writes a file; `{extra}` is more of `service:` and `extensions:`.
fn config(extensions: &str, service: &str) -> String {
    format!(
        "extensions:
  health_check: {{{extensions}}}
receivers:
  otlp: {{protocols: {{http: {{endpoint: '{HTTP}'}}}}}}
exporters:
  file: {{path: spans.jsonl}}
service:
{service}  pipelines:
    traces: {{receivers: [otlp], exporters: [file]}}
"
    )
}

#[test]
fn the_printed_default_is_a_configuration_that_would_start() -> Result<()> {
    let (code, printed) = here(&["run", "--print-config"])?;
    assert_eq!(code, 0, "{printed}");
    let directory = Directory::new()?;
    let file = directory.path().join("config.yaml");
    fs::write(&file, &printed)?;
    let (code, said) = here(&["validate", "--config", &file.display().to_string()])?;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("would start") && said.contains("traces"), "{said}");
    Ok(())
}

#[test]
fn help_teaches() -> Result<()> {
    for (arguments, taught) in [
        (&["--help"][..], &["run", "validate", "OpenTelemetry", "--print-config"][..]),
        (&["run", "--help"], &["--config", "--print-config", "SIGTERM", "4317", "spanwarden-traces.jsonl"]),
        (&["validate", "--help"], &["--config", "Exit code 0", "every mistake"]),
        (&["--version"], &[env!("CARGO_PKG_VERSION")]),
    ] {
        let (code, said) = here(arguments)?;
        assert_eq!(code, 0, "{said}");
        for word in taught {
            assert!(said.contains(word), "{arguments:?} does not say {word}:\n{said}");
        }
    }
    Ok(())
}

#[test]
fn bad_arguments_are_2_and_what_fails_is_1() -> Result<()> {
    let missing = "/nonexistent/config.yaml";
    for (arguments, code, named) in [
        (&[][..], 2, "Usage"),
        (&["walk"], 2, "walk"),
        (&["run", "--confg", "x"], 2, "--config"),
        (&["validate"], 2, "--config"),
        (&["run", "--print-config", "--config", "x"], 2, "cannot be used with"),
        (&["validate", "--config", missing], 1, missing),
        (&["run", "--config", missing], 1, missing),
    ] {
        let (found, said) = here(arguments)?;
        assert_eq!(found, code, "{arguments:?}: {said}");
        assert!(said.contains(named), "{arguments:?} does not name {named}: {said}");
    }
    Ok(())
}

#[test]
fn every_mistake_of_a_file_is_listed_with_its_place() -> Result<()> {
    let directory = Directory::new()?;
    let file = directory.path().join("config.yaml");
    fs::write(
        &file,
        "receivers:
  otlp:
    protocols:
      grcp: {endpoint: 'localhost:4317'}
processors:
  batch: {timeout: soon}
exporters:
  file: {}
service:
  pipelines:
    traces: {receivers: [otlp], processors: [batch, nosuch], exporters: [file]}
",
    )?;
    let path = file.display().to_string();
    for command in ["validate", "run"] {
        let (code, said) = here(&[command, "--config", &path])?;
        assert_eq!(code, 1, "{said}");
        for (place, key) in [
            ("4:7", "receivers::otlp::protocols::grcp"),
            ("6:20", "processors::batch::timeout"),
            ("8:", "exporters::file"),
            ("11:", "nosuch"),
        ] {
            let found =
                said.lines().any(|line| line.contains(&format!("{path}:{place}")) && line.contains(key));
            assert!(found, "{command} does not say {path}:{place} … {key}:\n{said}");
        }
        assert!(said.contains("`grpc`"), "the nearest known name is not there:\n{said}");
    }
    Ok(())
}

/// What only shows when patterns and statements are compiled: the first mistake of every component.
#[test]
fn what_does_not_compile_is_listed_with_its_place() -> Result<()> {
    let directory = Directory::new()?;
    let file = directory.path().join("config.yaml");
    fs::write(
        &file,
        "receivers:
  otlp: {protocols: {http: {endpoint: 'localhost:4318'}}}
processors:
  redaction: {allow_all_keys: true, blocked_values: ['(']}
  transform:
    trace_statements:
      - context: span
        statements: ['frobnicate(attributes[\"a\"])']
  tail_sampling:
    policies:
      - name: a
        type: string_attribute
        string_attribute: {key: k, values: ['['], enabled_regex_matching: true}
exporters:
  file: {path: spans.jsonl}
service:
  pipelines:
    traces: {receivers: [otlp], processors: [redaction, transform, tail_sampling], exporters: [file]}
",
    )?;
    let path = file.display().to_string();
    for command in ["validate", "run"] {
        let (code, said) = here(&[command, "--config", &path])?;
        assert_eq!(code, 1, "{said}");
        for (place, key) in [
            ("4:", "processors::redaction::blocked_values[0]"),
            ("8:", "processors::transform::trace_statements[0]"),
            ("13:", "processors::tail_sampling::policies[0]::string_attribute::values[0]"),
        ] {
            let found =
                said.lines().any(|line| line.contains(&format!("{path}:{place}")) && line.contains(key));
            assert!(found, "{command} does not say {path}:{place} … {key}:\n{said}");
        }
    }
    Ok(())
}

#[test]
fn a_port_in_use_is_an_error_that_names_the_endpoint() -> Result<()> {
    let cases = [
        (HTTP, config("", "")),
        (local(13999), config("endpoint: '127.0.0.1:13999'", "  extensions: [health_check]\n")),
        (
            local(8999),
            config(
                "",
                "  telemetry: {metrics: {readers: [{pull: {exporter: {prometheus: {host: 127.0.0.1, port: 8999}}}}]}}\n",
            ),
        ),
    ];
    for (taken, config) in cases {
        let place = place()?;
        let _holder = place.netns.as_ref().unwrap().within(|| TcpListener::bind(taken))??;
        let directory = Directory::new()?;
        let file = directory.path().join("config.yaml");
        fs::write(&file, config)?;
        let mut command = program(&place, &["run", "--config", &file.display().to_string()])?;
        command.current_dir(directory.path());
        let (code, said) = run(command)?;
        assert_eq!(code, 1, "{said}");
        assert!(said.contains(&taken.to_string()), "{taken} is not named:\n{said}");
    }
    Ok(())
}

#[test]
fn a_default_telemetry_port_in_use_is_a_warning() -> Result<()> {
    let place = place()?;
    let netns = place.netns.as_ref().unwrap();
    let _holders = [HEALTH, METRICS].map(|taken| netns.within(|| TcpListener::bind(taken)).unwrap().unwrap());
    let mut agent = Start::new(config("", "")).place(&place).start()?;
    agent.process().wait_until("the line `ready`", PATIENCE, |process| {
        Ok(process.output().contains(": ready ").then_some(()))
    })?;
    let (status, log) = agent.stop()?;
    assert!(status.success(), "{log}");
    for port in ["13133", "8888"] {
        assert!(log.lines().any(|line| line.contains("WARN") && line.contains(port)), "{port}:\n{log}");
    }
    Ok(())
}
