//! Who is blocked, and who is not.

use std::fs;

use anyhow::{Result, ensure};
use prost::Message as _;
use spanwarden_tests::{
    node::{Node, Pod},
    proto::v1::{ExportTraceServiceRequest, ResourceSpans, ScopeSpans, Span},
};

use super::scene::{CANARY, EXPORTER, Export, PATIENCE, Scene, once};

const RULES: &str = "{rules: [{mode: observe, namespaces: [shop], match_labels: {app: legacy}}, \
                     {mode: warn, match_labels: {app: warned}}, {mode: block, namespaces: [shop]}, \
                     {mode: block, match_labels: {app: labelled}}], \
                     exclude: [{match_labels: {app: excluded}}], deny_for: 0s}";

/// Namespace, name, whether it is blocked.
const PODS: [(&str, &str, bool); 6] = [
    ("shop", "web", true),
    ("shop", "legacy", false),
    ("shop", "excluded", false),
    ("other", "labelled", true),
    ("other", "warned", false),
    ("other", "api", false),
];

#[test]
fn selected_pods_are_stopped_and_others_are_not() -> Result<()> {
    let make = |node: &Node| PODS.iter().map(|(space, name, _)| node.pod(space, name)).collect();
    let (scene, pods): (_, Vec<Pod>) = Scene::new(RULES, make, |pods: &Vec<Pod>| pods.iter().collect())?;
    for (pod, (_, name, blocked)) in pods.iter().zip(PODS) {
        for (protocol, port) in [("http1", 4318), ("http1", 4319), ("h2c", 4317), ("h2c", 4319)] {
            let outcome = once(pod.place(), protocol, &scene.at(port))?;
            if blocked {
                ensure!(outcome.is_ended(), "{name}, {protocol}: {outcome:?}\n{}", scene.agent.logs());
            } else {
                ensure!(outcome == Export::Accepted, "{name}, {protocol}: {outcome:?}");
            }
        }
        if blocked {
            // Preface and settings of HTTP/2 may arrive, and nothing else.
            let before =
                PODS.iter().take_while(|(_, other, _)| *other != name).filter(|(_, _, b)| !b).count();
            ensure!(scene.arrived()? == before * 4, "{name}: {} of {before} pods", scene.arrived()?);
        }
    }
    let host = scene.node.service_place("cron")?;
    ensure!(once(&host, "http1", &scene.at(4318))? == Export::Accepted, "a process of the host");
    scene.wait_metric("spanwarden_plaintext_destroyed{result=\"destroyed\"}", |count| count == Some(8))?;
    Ok(())
}

#[test]
fn nothing_of_a_span_arrives() -> Result<()> {
    let (scene, web) =
        Scene::new("{mode: block, deny_for: 0s}", |node| node.pod("shop", "web"), |web| vec![web])?;
    for (protocol, port) in [("http1", 4318), ("h2c", 4317), ("http1", 4319), ("h2c", 4319)] {
        for _ in 0..5 {
            let outcome = once(web.place(), protocol, &scene.at(port))?;
            ensure!(outcome.is_ended(), "{protocol} to {port}: {outcome:?}\n{}", scene.agent.logs());
        }
    }
    scene.nothing_arrived()?;
    for finding in scene.findings(20)? {
        let told = (&finding["blocked"], &finding["mode"], &finding["pod_uid"], &finding["where"]);
        ensure!(
            told == (&true.into(), &"block".into(), &web.uid.as_str().into(), &"cluster".into()),
            "{finding:#}"
        );
    }
    Ok(())
}

#[test]
fn what_stays_in_the_pod_or_goes_to_the_agent_passes_and_so_does_what_the_agent_sends() -> Result<()> {
    let (scene, web) = Scene::new("block", |node| node.pod("shop", "web"), |web| vec![web])?;
    // A sidecar.
    let mut command = web.command(EXPORTER)?;
    command.arg("sink").arg(scene.files.path().join("sidecar")).arg(scene.files.path()).arg("127.0.0.1:4318");
    let mut sidecar = spanwarden_tests::process::Process::spawn("sidecar", command)?;
    sidecar.wait_for_line("ready", PATIENCE)?;
    ensure!(once(web.place(), "http1", "127.0.0.1:4318")? == Export::Accepted, "within the pod");
    // To the agent, and from the agent on to the collector, in the clear both times.
    let span = Span {
        trace_id: vec![7; 16],
        span_id: vec![7; 8],
        name: CANARY.to_owned(),
        start_time_unix_nano: 1,
        end_time_unix_nano: 2,
        ..Span::default()
    };
    let scope_spans = vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }];
    let request = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }],
    };
    let body = scene.files.path().join("request");
    fs::write(&body, request.encode_to_vec())?;
    let target = format!("{}:4318", scene.agent_pod.ipv4);
    let body = body.display().to_string();
    let mut client = web.spawn(env!("CARGO_BIN_EXE_pod-client"), &["post", &target, &body])?;
    client.wait_success(PATIENCE)?;
    ensure!(scene.arrived()? == 1, "the agent's own export: {}\n{}", scene.arrived()?, scene.agent.logs());
    let outcome = once(web.place(), "http1", &scene.at(4318))?;
    ensure!(outcome.is_ended(), "and past the agent: {outcome:?}");
    ensure!(scene.arrived()? == 1, "{}", scene.arrived()?);
    Ok(())
}
