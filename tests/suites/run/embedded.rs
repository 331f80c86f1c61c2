//! `spanwarden run` without a file: the embedded default, with the kernel's evidence and without.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use anyhow::Result;
use bytes::Bytes;
use spanwarden_tests::{
    agent::Directory,
    client::{Protocol, send_from},
    node::Node,
    process::{Place, Process},
    proto::v1::Span,
};

use super::common::*;

/// What must not be in the file, and where it is put.
const SECRETS: [(&str, &str); 5] = [
    ("http.request.header.authorization", "Basic c2VjcmV0OnNlY3JldA=="),
    ("message", "Bearer abcdefghijklmnop"),
    ("http.target", "/orders?mail=jane.doe@example.org"),
    ("db.statement", "SELECT * FROM users WHERE ssn = '078-05-1120'"),
    ("user.id", "user-4711-of-the-shop"),
];
const MUST_GO: [&str; 5] =
    ["c2VjcmV0OnNlY3JldA", "abcdefghijklmnop", "jane.doe", "078-05-1120", "user-4711-of-the-shop"];

fn failed_span(trace: u64) -> Span {
    let mut span = span(trace, 0, true);
    span.attributes = SECRETS.iter().map(|(key, value)| text(key, value)).collect();
    span
}

/// Starts it, sends one failed trace each way, and gives back what it logged and the file's content.
fn drive(place: &Place, mut command: Command, directory: &Path) -> Result<(String, String)> {
    command.current_dir(directory);
    let mut process = Process::spawn("spanwarden", command)?;
    process
        .wait_until("readiness", PATIENCE, |_| Ok((status(place, "/readyz") == Some(200)).then_some(())))?;
    let protobuf = |trace| request(vec![text("service.name", "shop")], vec![failed_span(trace)]);
    let ways: [(Protocol, _, Bytes); 3] = [
        (Protocol::Json, HTTP, json_request(&failed_span(1))),
        (Protocol::Protobuf, HTTP, protobuf(2)),
        (Protocol::Grpc, GRPC, protobuf(3)),
    ];
    for (protocol, to, body) in ways {
        let answer = send_from(place, to, protocol, body)?;
        assert!(answer.is_accepted(), "{protocol:?}: {answer:?}");
    }
    let exit = process.stop(PATIENCE)?;
    assert!(exit.success(), "{exit}: {}", process.output());
    let file = directory.join("spanwarden-traces.jsonl");
    assert_eq!(fs::metadata(&file)?.permissions().mode() & 0o777, 0o600, "only its owner reads it");
    assert_eq!(ids(&written(&file)?), [span_id(1, 0), span_id(2, 0), span_id(3, 0)]);
    let content = fs::read_to_string(&file)?;
    for secret in MUST_GO {
        assert!(!content.contains(secret), "{secret} is in the file:\n{content}");
        assert!(!process.output().contains(secret), "{secret} is in the log:\n{}", process.output());
    }
    Ok((process.output(), content))
}

#[test]
fn the_default_runs_with_kernel_evidence() -> Result<()> {
    let (node, directory) = (Node::new()?, Directory::new()?);
    let place = node.service_place("spanwarden")?;
    let mut command = program(&place, &["run"])?;
    command.env("SPANWARDEN_CGROUP", node.cgroups().path());
    let (log, content) = drive(&place, command, directory.path())?;
    assert!(log.contains("kernel programs are attached"), "{log}");
    assert!(content.contains("otlp.origin.evidence"), "{content}");
    Ok(())
}

#[test]
fn the_default_runs_where_the_cgroup_cannot_be_watched() -> Result<()> {
    let (place, directory) = (place()?, Directory::new()?);
    let mut command = program(&place, &["run"])?;
    command.env("SPANWARDEN_CGROUP", directory.path());
    let (log, content) = drive(&place, command, directory.path())?;
    assert!(log.contains("no kernel evidence") && log.contains("cgroup2"), "{log}");
    assert!(content.contains("otlp.origin.evidence"), "{content}");
    Ok(())
}

#[test]
fn the_default_runs_without_capabilities() -> Result<()> {
    let (node, directory) = (Node::new()?, Directory::new()?);
    let place = node.service_place("spanwarden")?;
    let mut command = program_without_capabilities(&place, &["run"])?;
    command.env("SPANWARDEN_CGROUP", node.cgroups().path());
    let (log, _) = drive(&place, command, directory.path())?;
    assert!(log.contains("no kernel evidence") && log.contains("NET_ADMIN"), "{log}");
    Ok(())
}
