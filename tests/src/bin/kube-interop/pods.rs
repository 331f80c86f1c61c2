//! The watch of one node's pods, and Events on them, with the agent's own account.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use http::Method;
use spanwarden::{
    config::extensions::Api,
    origin::{PodSource as _, events::Writer, pods::RemotePods},
    telemetry::{
        events::{Event, Reason, Sink as _},
        metrics,
    },
    transport::http::{Client, ClientOptions},
};

use crate::cluster::{Cluster, PATIENCE};

fn until<T>(what: &str, mut found: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = found()? {
            return Ok(found);
        }
        ensure!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn watch(cluster: &Cluster) -> Result<()> {
    let first = cluster.pod("first", "node-a", "10.1.0.1")?;
    let foreign = cluster.pod("foreign", "node-b", "10.2.0.1")?;
    let pods = RemotePods::api(&Api { node: Some("node-a".to_owned()), client: cluster.as_agent()? })?;
    pods.start()?;
    let known = until("the pod that was there", || Ok(pods.by_uid(&first)))?;
    ensure!(known.name == "first" && known.namespace == "shop", "{known:?}");
    ensure!(known.service_account.as_deref() == Some("web"), "{known:?}");
    ensure!(known.node.as_deref() == Some("node-a"), "{known:?}");
    ensure!(pods.lists_all() && pods.answered());
    let second = cluster.pod("second", "node-a", "10.1.0.2")?;
    let other = cluster.pod("other", "node-b", "10.2.0.2")?;
    let known = until("the new pod with its status", || {
        Ok(pods.by_uid(&second).filter(|pod| pod.container("c-second").is_some()))
    })?;
    ensure!(
        known.container("c-second").is_some_and(|container| container.image == "shop/web:1.2"),
        "{known:?}"
    );
    ensure!(pods.by_ip("10.1.0.2".parse()?).is_some_and(|pod| Arc::ptr_eq(&pod, &known)));
    cluster.delete_pod("second")?;
    // The address goes to another pod, which shows that the deletion was told.
    let third = cluster.pod("third", "node-a", "10.1.0.2")?;
    until("the pod that has its address now", || {
        Ok(pods.by_ip("10.1.0.2".parse()?).filter(|pod| pod.uid == third))
    })?;
    ensure!(pods.by_uid(&second).is_some(), "its last spans come after it");
    for uid in [foreign, other] {
        ensure!(pods.by_uid(&uid).is_none(), "a pod of another node is known");
    }
    // Nobody had to fall back to a list: one answer, which is the watch's.
    let text = metrics::render();
    let refused = text.lines().find(|line| {
        line.starts_with("spanwarden_pods_answers{")
            && !line.contains("result=\"ok\"")
            && !line.ends_with(" 0")
    });
    ensure!(refused.is_none(), "{refused:?}");
    for name in ["first", "foreign", "other", "third"] {
        cluster.delete_pod(name)?;
    }
    Ok(())
}

/// What the fake server of the suites says about places is what the real one says: initial events end with an
/// annotated bookmark, and a version of long ago is 410.
pub(crate) fn place(cluster: &Cluster) -> Result<()> {
    let uid = cluster.pod("place", "node-a", "10.1.0.3")?;
    let reached = cluster.as_agent()?;
    let client = Client::new(ClientOptions {
        ca_file: reached.ca_file,
        token_file: reached.token_file,
        ..ClientOptions::default()
    })?;
    let url = format!(
        "{}/api/v1/pods?fieldSelector=spec.nodeName%3Dnode-a&watch=true&allowWatchBookmarks=true&timeoutSeconds=2",
        cluster.url()
    );
    let all = |place: &str| -> Result<String> {
        cluster.wait(async {
            let mut stream = client.stream(&format!("{url}{place}")).await?;
            let mut said = Vec::new();
            while let Some(piece) = stream.chunk().await? {
                said.extend_from_slice(&piece);
            }
            Ok(String::from_utf8(said)?)
        })
    };
    let said = all("&sendInitialEvents=true&resourceVersionMatch=NotOlderThan")?;
    let lines: Vec<&str> = said.lines().collect();
    ensure!(lines.len() >= 2 && lines[0].contains(&uid), "{said}");
    ensure!(lines[1].contains("\"k8s.io/initial-events-end\":\"true\""), "{said}");
    let refused = all("&sendInitialEvents=true").err().context("sendInitialEvents alone was taken")?;
    ensure!(refused.to_string().contains("422"), "{refused:#}");
    let old = all("&resourceVersion=1");
    let expired = match &old {
        Ok(said) => said.contains("\"code\":410"),
        Err(error) => error.to_string().contains("410"),
    };
    // A young server may still know its first version; then it tells from there.
    ensure!(expired || old.as_ref().is_ok_and(|said| said.contains(&uid)), "{old:?}");
    cluster.delete_pod("place")
}

pub(crate) fn events(cluster: &Cluster) -> Result<()> {
    let uid = cluster.pod("plain.0", "node-a", "10.1.0.4")?;
    let writer = Writer::start(&cluster.as_agent()?)?;
    let event = Event {
        reason: Reason::PlaintextTelemetry,
        pod_uid: uid.clone(),
        pod_name: "plain.0".to_owned(),
        namespace: "shop".to_owned(),
        note: "an Event of the interop checks: ü and 1,024 bytes ".repeat(40),
    };
    for _ in 0..10 {
        writer.report(event.clone());
    }
    let path = "/apis/events.k8s.io/v1/namespaces/shop/events";
    let written = until("the Event", || {
        let (_, list) = cluster.ask(Method::GET, path, None)?;
        Ok(list["items"].as_array().filter(|items| !items.is_empty()).cloned())
    })?;
    ensure!(written.len() == 1, "{written:?}");
    let event = &written[0];
    ensure!(event["regarding"]["uid"] == uid.as_str() && event["type"] == "Warning", "{event}");
    ensure!(
        event["reason"] == "PlaintextTelemetry" && event["reportingController"] == "spanwarden",
        "{event}"
    );
    cluster.delete_pod("plain.0")
}
