//! One Event, as the API server wants it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::StatusCode;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    config::extensions::ApiClient,
    origin::findings::rfc3339,
    telemetry::events::Event,
    transport::http::{Client, HttpError, api_server},
};

/// The longest name of an object, and of an instance (`events.k8s.io/v1`: `reportingInstance`, `note`).
const MAX_NAME: usize = 253;
const MAX_INSTANCE: usize = 128;
const MAX_NOTE: usize = 1024;
/// Tries of one Event.
const TRIES: u32 = 3;
/// Pause after the first try; the double after the second.
const PAUSE: Duration = Duration::from_millis(500);

pub(super) struct Poster {
    client: Client,
    endpoint: String,
    instance: String,
}

impl Poster {
    pub(super) fn new(configured: &ApiClient) -> Result<Self, HttpError> {
        let (endpoint, options) = api_server(configured)?;
        // The kubelet names the host after the pod.
        let name = ["HOSTNAME", "K8S_NODE_NAME"].iter().find_map(|key| std::env::var(key).ok());
        let mut instance = name.filter(|name| !name.is_empty()).unwrap_or_else(|| "spanwarden".to_owned());
        truncate(&mut instance, MAX_INSTANCE);
        Ok(Self { client: Client::new(options)?, endpoint, instance })
    }

    /// Writes it; the metric's word for what became of it. `said` is the last failure that the log tells of.
    pub(super) async fn write(&self, event: &Event, said: &mut Option<&'static str>) -> &'static str {
        let url = format!("{}/apis/events.k8s.io/v1/namespaces/{}/events", self.endpoint, event.namespace);
        let body = body(event, &self.instance, SystemTime::now()).to_string();
        let mut pause = PAUSE;
        for last in (1..=TRIES).map(|number| number == TRIES) {
            let answer = self.client.post_json(&url, body.clone().into_bytes()).await;
            let error = match answer {
                // An answer that was lost: the Event is there.
                Ok(answer) if answer.status.is_success() || answer.status == StatusCode::CONFLICT => {
                    *said = None;
                    return "written";
                }
                Ok(answer) => match answer.success() {
                    Ok(_) => return "written",
                    Err(error) => error,
                },
                Err(error) => error,
            };
            let result = match error.status() {
                Some(StatusCode::FORBIDDEN) => "forbidden",
                Some(StatusCode::NOT_FOUND) => "namespace_gone",
                Some(status) if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS => {
                    "failed"
                }
                _ if last => "failed",
                _ => {
                    sleep(pause).await;
                    pause *= 2;
                    continue;
                }
            };
            complain(result, &error, said);
            return result;
        }
        "failed"
    }
}

/// Once for each kind of failure, until one succeeds.
fn complain(result: &'static str, error: &HttpError, said: &mut Option<&'static str>) {
    if said.replace(result) == Some(result) || result == "namespace_gone" {
        return;
    }
    if result == "forbidden" {
        tracing::warn!(
            %error,
            "no Events on pods: the service account may not create them. It needs the verb `create` on `events` of the \
             API group `events.k8s.io` in all namespaces (said once)"
        );
    } else {
        tracing::warn!(%error, "an Event on a pod could not be written (said once)");
    }
}

/// Names that go into a URL. Pods come from the API, but also from a file.
pub(super) fn has_good_names(event: &Event) -> bool {
    let word = |text: &str, most: usize| {
        (1..=most).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b))
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.ends_with(|c: char| c.is_ascii_alphanumeric())
    };
    word(&event.namespace, 63)
        && !event.namespace.contains('.')
        && word(&event.pod_name, MAX_NAME)
        && (1..=128).contains(&event.pod_uid.len())
        && event.pod_uid.bytes().all(|b| b.is_ascii_graphic())
}

fn body(event: &Event, instance: &str, now: SystemTime) -> Value {
    let mut note = event.note.clone();
    truncate(&mut note, MAX_NOTE);
    // `MicroTime`: six digits, no more and no less.
    let mut time = rfc3339(now);
    time.replace_range(time.len() - 4.., "Z");
    json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": name(&event.pod_name, now), "namespace": event.namespace},
        "eventTime": time,
        "reportingController": "spanwarden",
        "reportingInstance": instance,
        "action": "Report",
        "reason": event.reason.as_str(),
        "regarding": {
            "apiVersion": "v1",
            "kind": "Pod",
            "name": event.pod_name,
            "namespace": event.namespace,
            "uid": event.pod_uid,
        },
        "note": note,
        "type": "Warning",
    })
}

/// `POD.HEX`, as client-go names Events.
fn name(pod: &str, now: SystemTime) -> String {
    let nanos = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
    let mut pod = pod.to_owned();
    truncate(&mut pod, MAX_NAME - 17);
    let end = pod.trim_end_matches(['-', '.']).len();
    format!("{}.{nanos:016x}", &pod[..end])
}

fn truncate(text: &mut String, most: usize) {
    text.truncate(text.floor_char_boundary(most));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::events::Reason;

    fn event(pod: &str, namespace: &str) -> Event {
        Event {
            reason: Reason::PlaintextTelemetry,
            pod_uid: "u-1".into(),
            pod_name: pod.into(),
            namespace: namespace.into(),
            note: "ü".repeat(1000),
        }
    }

    #[test]
    fn an_event_is_within_the_api_s_bounds() {
        let now = UNIX_EPOCH + Duration::from_nanos(1_795_278_896_123_456_789);
        let body = body(&event("web-0", "shop"), "agent-x", now);
        assert_eq!(body["eventTime"], "2026-11-21T16:34:56.123456Z");
        assert_eq!(body["metadata"]["name"], "web-0.18ea1ca4ec31ad15");
        assert_eq!(body["note"].as_str().unwrap().len(), 1024);
        let long = format!("{}-{}", "a".repeat(235), "b".repeat(17));
        let name = name(&long, now);
        assert!(name.len() <= 253 && name.starts_with(&format!("{}.", "a".repeat(235))), "{name}");
    }

    #[test]
    fn names_that_are_none_go_into_no_url() {
        assert!(has_good_names(&event("web-0.x", "shop")));
        for (pod, namespace) in [
            ("web", ""),
            ("", "shop"),
            ("web", "sh/op"),
            ("web", "../x"),
            ("web", "a.b"),
            ("web.", "shop"),
            ("Web", "shop"),
            ("web", "shop?x"),
        ] {
            assert!(!has_good_names(&event(pod, namespace)), "{pod} {namespace}");
        }
    }
}
