//! Answers that come bit by bit.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use http::Response;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{
    Fault, Shared, State,
    serve::{Body, refusal},
};

/// Whether the field selector of a query selects a pod; without one all are.
pub(super) fn selects(state: &State, query: &str, pod: &Value) -> bool {
    if state.fault == Fault::NoSelector {
        return true;
    }
    let wanted = value(query, "fieldSelector").map(|selector| selector.replace("%3D", "="));
    let node = wanted.as_deref().and_then(|selector| selector.strip_prefix("spec.nodeName="));
    node.is_none_or(|node| pod["spec"]["nodeName"] == node)
}

fn value<'a>(query: &'a str, key: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='))
}

pub(super) fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
           "message": message, "reason": reason, "code": code})
}

/// A watch, by the rules of the real one.
pub(super) fn open(shared: &Arc<Shared>, query: &str) -> Response<Body> {
    let initial = value(query, "sendInitialEvents") == Some("true");
    let place = value(query, "resourceVersion").and_then(|version| version.parse::<u64>().ok());
    if initial && shared.state().fault == Fault::NoInitialEvents {
        let message = "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled";
        return refusal(422, "Invalid", message);
    }
    let matched = value(query, "resourceVersionMatch");
    if initial && matched != Some("NotOlderThan") {
        return refusal(422, "Invalid", "sendInitialEvents requires resourceVersionMatch NotOlderThan");
    }
    if !initial && matched.is_some() {
        return refusal(422, "Invalid", "resourceVersionMatch is forbidden for watch");
    }
    let (send, body) = channel();
    tokio::spawn(follow(Arc::clone(shared), query.to_owned(), initial, place, send));
    body
}

type Sender = mpsc::Sender<Bytes>;

fn channel() -> (Sender, Response<Body>) {
    let (send, receive) = mpsc::channel::<Bytes>(4);
    let pieces = stream::unfold(receive, |mut receive| async move {
        let piece = receive.recv().await?;
        Some((Ok::<_, Infallible>(Frame::data(piece)), receive))
    });
    (send, Response::new(BodyExt::boxed(StreamBody::new(pieces))))
}

fn line(kind: &str, object: &Value) -> Bytes {
    format!("{}\n", json!({"type": kind, "object": object})).into()
}

async fn follow(shared: Arc<Shared>, query: String, initial: bool, place: Option<u64>, send: Sender) {
    let (mut changed, mut cut) = (shared.changed.subscribe(), shared.cut.subscribe());
    let (first, told) = beginning(&shared, &query, initial, place);
    for line in first {
        if send.send(line).await.is_err() {
            return;
        }
    }
    let Some(mut at) = told else { return };
    loop {
        let (lines, over) = since(&shared, &query, &mut at);
        for line in lines {
            if send.send(line).await.is_err() {
                return;
            }
        }
        if over {
            return;
        }
        tokio::select! {
            _ = changed.changed() => {}
            _ = cut.changed() => return,
            () = send.closed() => return,
        }
    }
}

/// What has happened since, and whether the watch is over.
fn since(shared: &Shared, query: &str, at: &mut u64) -> (Vec<Bytes>, bool) {
    let state = shared.state();
    if state.compacted > *at {
        return (vec![line("ERROR", &status(410, "Expired", "too old resource version"))], true);
    }
    let new = state.log.iter().filter(|logged| logged.version > *at);
    let of_query = new.filter(|logged| logged.kind == "BOOKMARK" || selects(&state, query, &logged.object));
    let lines = of_query.map(|logged| line(logged.kind, &logged.object)).collect();
    *at = state.version;
    (lines, false)
}

/// What a watch begins with, and where it goes on from; it ends where there is nothing to go on from.
fn beginning(shared: &Shared, query: &str, initial: bool, place: Option<u64>) -> (Vec<Bytes>, Option<u64>) {
    let state = shared.state();
    if !initial {
        let at = place.unwrap_or(state.version);
        if at < state.compacted {
            let message = format!("too old resource version: {at} ({})", state.compacted);
            return (vec![line("ERROR", &status(410, "Expired", &message))], None);
        }
        return (Vec::new(), Some(at));
    }
    if state.fault == Fault::NoProgress {
        let message = "a watch stream was requested by the client but the required storage feature RequestWatchProgress is disabled";
        return (vec![line("ERROR", &status(500, "InternalError", message))], None);
    }
    let mut lines = Vec::new();
    if state.fault == Fault::HugeEvent {
        let metadata = json!({"uid": "huge", "annotations": {"a": "x".repeat(4 << 20)}});
        lines.push(line("ADDED", &json!({"kind": "Pod", "metadata": metadata})));
    }
    lines.extend(state.pods.values().filter(|pod| selects(&state, query, pod)).map(|pod| line("ADDED", pod)));
    if state.fault == Fault::HalfInitial {
        return (lines, None);
    }
    let end = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {
        "resourceVersion": state.version.to_string(), "creationTimestamp": null,
        "annotations": {"k8s.io/initial-events-end": "true"}}});
    lines.push(line("BOOKMARK", &end));
    (lines, Some(state.version))
}

/// A body without an end and without a line end.
pub(super) fn endless() -> Response<Body> {
    let (send, body) = channel();
    tokio::spawn(async move {
        let piece = Bytes::from(vec![b' '; 64 << 10]);
        while send.send(piece.clone()).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    body
}
