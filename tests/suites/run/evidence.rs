//! `evidence: required`: without it nothing starts, and when it dies nothing is taken.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use spanwarden_tests::{
    agent::{Agent, Directory, Start},
    client::{Answer, Protocol, send_from},
    node::Node,
    process::Place,
};

use super::{common::*, links};

fn config(cgroup: &Path) -> String {
    format!(
        "
extensions:
  origin: {{cgroup: {}, evidence: required}}
  health_check: {{endpoint: '{HEALTH}'}}
receivers:
  otlp: {{protocols: {{grpc: {{endpoint: '{GRPC}'}}, http: {{endpoint: '{HTTP}'}}}}}}
exporters:
  file: {{path: spans.jsonl}}
service:
  extensions: [origin, health_check]
  pipelines:
    traces: {{receivers: [otlp], exporters: [file]}}
",
        cgroup.display()
    )
}

/// An agent in a watched cgroup of its own, ready.
fn start(node: &Node) -> Result<(Agent, Place, PathBuf)> {
    let watched = node.cgroups().make("watched")?;
    let cgroup = node.cgroups().make("watched/agent")?;
    let place = Place { netns: Some(node.netns().clone()), cgroup: Some(cgroup) };
    let agent = Start::new(config(&watched)).place(&place).ready_at(HEALTH).start()?;
    assert!(send_to(&place, GRPC, Protocol::Grpc)?.is_accepted());
    Ok((agent, place, watched))
}

fn send_to(place: &Place, to: std::net::SocketAddr, protocol: Protocol) -> Result<Answer> {
    let body = match protocol {
        Protocol::Json => json_request(&span(7, 0, true)),
        _ => request(Vec::new(), vec![span(7, 0, true)]),
    };
    send_from(place, to, protocol, body)
}

/// Waits for the death to be seen, and checks what senders and the operator are told.
fn is_closed(agent: &Agent, place: &Place) -> Result<()> {
    wait_for("the end of readiness", || Ok(status(place, "/readyz") == Some(503)))?;
    assert_eq!(status(place, "/livez"), Some(200), "a restart would not help");
    // The gate follows at the next tick.
    wait_for("refusal", || Ok(!send_to(place, HTTP, Protocol::Protobuf)?.is_accepted()))?;
    for protocol in [Protocol::Protobuf, Protocol::Json] {
        let answer = send_to(place, HTTP, protocol)?;
        assert_eq!(answer.http, 503, "{answer:?}");
        let delay: u64 = answer.header("retry-after").context("no Retry-After")?.parse()?;
        assert!(delay > 0);
    }
    let answer = send_to(place, GRPC, Protocol::Grpc)?;
    assert_eq!(answer.grpc, Some(14), "UNAVAILABLE: {answer:?}");
    assert!(answer.header("grpc-status-details-bin").is_some(), "RetryInfo: {answer:?}");
    let metrics = agent.get(METRICS, "/metrics")?;
    for transport in ["grpc", "http"] {
        let counted = metrics.lines().any(|line| {
            line.starts_with("spanwarden_receiver_refused_requests{")
                && line.contains("cause=\"evidence_dead\"")
                && line.contains(&format!("transport=\"{transport}\""))
        });
        assert!(counted, "{transport} is not counted:\n{metrics}");
    }
    assert!(agent.logs().contains("kernel evidence is dead"), "{}", agent.logs());
    Ok(())
}

#[test]
fn detached_programs_close_the_gate() -> Result<()> {
    let node = Node::new()?;
    let (agent, place, watched) = start(&node)?;
    assert_eq!(links::detach_all(&watched)?, 5, "ingress, egress, established, connect for IPv4 and IPv6");
    is_closed(&agent, &place)?;
    let (status, log) = agent.stop()?;
    assert!(status.success(), "{log}");
    Ok(())
}

#[test]
fn a_watched_cgroup_that_goes_closes_the_gate() -> Result<()> {
    let node = Node::new()?;
    let (agent, place, watched) = start(&node)?;
    let elsewhere = node.cgroups().make("elsewhere")?;
    fs::write(elsewhere.join("cgroup.procs"), agent.id().to_string())?;
    // Closed connections hold a cgroup for a moment.
    wait_for("removal of the watched cgroup", || {
        let _not_empty_yet = fs::remove_dir(watched.join("agent"));
        Ok(fs::remove_dir(&watched).is_ok())
    })?;
    let place = Place { cgroup: Some(elsewhere), ..place };
    is_closed(&agent, &place)
}

#[test]
fn what_cannot_be_had_at_the_start_is_an_error_that_says_what_to_do() -> Result<()> {
    let node = Node::new()?;
    let place = node.service_place("spanwarden")?;
    let directory = Directory::new()?;
    let file = directory.path().join("config.yaml");
    let path = file.display().to_string();
    let outside = node.cgroups().make("outside")?;
    let own = node.cgroups().path();
    let cases: [(&Path, bool, &[&str]); 4] = [
        (Path::new("/nonexistent/cgroup"), true, &["/nonexistent/cgroup", "extensions.origin.cgroup"]),
        (directory.path(), true, &["cgroup2", "extensions.origin.cgroup"]),
        (&outside, true, &["outside of the cgroup"]),
        (own, false, &["BPF and NET_ADMIN", "securityContext"]),
    ];
    for (cgroup, capable, named) in cases {
        fs::write(&file, config(cgroup))?;
        let arguments = ["run", "--config", &path];
        let mut command = if capable {
            program(&place, &arguments)?
        } else {
            program_without_capabilities(&place, &arguments)?
        };
        command.current_dir(directory.path());
        let (code, said) = run(command)?;
        assert_eq!(code, 1, "{said}");
        for name in named {
            assert!(said.contains(name), "{} does not name {name}:\n{said}", cgroup.display());
        }
    }
    Ok(())
}
