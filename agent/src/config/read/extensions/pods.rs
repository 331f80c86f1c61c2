//! `pods` and `events`: the kubelet and the API server.

use std::{path::PathBuf, time::Duration};

use super::super::endpoint;
use crate::config::{
    extensions::{Api, ApiClient, Kubelet, Pods},
    fields::Fields,
    yaml::Value,
};

/// The port of the kubelet that answers only those who may ask.
const KUBELET: &str = "https://127.0.0.1:10250";
/// Default of `interval`, and what it may be: below is a burden for the kubelet, above new pods stay nameless where
/// nobody asks for them by uid (a finding about an address).
const INTERVAL: Duration = Duration::from_secs(10);
const INTERVALS: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_mins(10);

/// Sources that can be named by a word alone.
#[derive(Clone, Copy)]
enum Word {
    Kubelet,
    Api,
}

/// `pods`
pub(super) fn read(fields: &mut Fields<'_>) -> Option<Pods> {
    if matches!(fields.get("pods")?.value, Value::Scalar(_)) {
        return Some(match fields.choice("pods", &[("kubelet", Word::Kubelet), ("api", Word::Api)])? {
            Word::Kubelet => Pods::Kubelet(Kubelet {
                endpoint: KUBELET.to_owned(),
                interval: INTERVAL,
                client: ApiClient::default(),
            }),
            Word::Api => Pods::Api(Api { node: None, client: ApiClient::default() }),
        });
    }
    let mut pods = fields.table("pods")?;
    let there = ["file", "kubelet", "api"].map(|key| pods.present(key).is_some());
    if there.iter().filter(|there| **there).count() != 1 {
        pods.error("names one source of pods: `file`, `kubelet` or `api`");
        // Read all the same, for what else is wrong in them.
    }
    let (file, kubelet, api) = (pods.located("file"), kubelet(&mut pods), api(&mut pods));
    match there {
        [true, _, _] => match file {
            Some(file) if !file.value.is_empty() => Some(Pods::File(PathBuf::from(file.value))),
            _ => {
                pods.error_at("file", "must not be empty");
                None
            }
        },
        [_, true, _] => Some(Pods::Kubelet(kubelet)),
        [_, _, true] => Some(Pods::Api(api)),
        _ => None,
    }
}

fn kubelet(pods: &mut Fields<'_>) -> Kubelet {
    let mut kubelet =
        Kubelet { endpoint: KUBELET.to_owned(), interval: INTERVAL, client: ApiClient::default() };
    let Some(mut fields) = pods.table("kubelet") else { return kubelet };
    kubelet.client = client(&mut fields);
    if let Some(endpoint) = kubelet.client.endpoint.take() {
        kubelet.endpoint = endpoint;
    }
    if let Some(interval) = fields.duration("interval") {
        if !INTERVALS.contains(&interval) {
            fields.error_at("interval", format!("must be between 1s and 10m, but this is {interval:?}"));
        }
        kubelet.interval = interval;
    }
    kubelet
}

fn api(pods: &mut Fields<'_>) -> Api {
    let Some(mut fields) = pods.table("api") else {
        return Api { node: None, client: ApiClient::default() };
    };
    let node = fields.located("node").filter(|node| !node.value.is_empty());
    if let Some(node) = &node
        && !node.value.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b))
    {
        let message = "is no node's name (RFC 1123: a-z, 0-9, `-` and `.`); `kubectl get nodes` prints them";
        fields.report().error(&node.at, message);
    }
    Api { node: node.map(|node| node.value), client: client(&mut fields) }
}

/// `events`: `true`, `false`, or how to reach the API server. `true` takes the way of `pods: {api: …}`, if there is one.
pub(super) fn events(fields: &mut Fields<'_>, pods: Option<&Pods>) -> Option<ApiClient> {
    let node = fields.get("events")?;
    let way = match node.value {
        Value::Scalar(_) => match (fields.boolean("events")?, pods) {
            (false, _) => return None,
            (true, Some(Pods::Api(api))) => api.client.clone(),
            (true, _) => ApiClient::default(),
        },
        _ => client(&mut fields.table("events")?),
    };
    if pods.is_none() {
        fields.error_at(
            "events",
            "an Event is written on a pod by its name, which only `pods` tells: add `pods: api` (or `kubelet`)",
        );
    }
    Some(way)
}

/// How an API server is reached: `endpoint`, `ca_file`, `token_file`, `insecure_skip_verify`.
pub(in crate::config::read) fn client(fields: &mut Fields<'_>) -> ApiClient {
    let url = fields.located("endpoint").filter(|endpoint| !endpoint.value.is_empty());
    if let Some(url) = &url {
        endpoint::url(fields, url);
        let path = url.value.split_once("://").and_then(|(_, rest)| rest.split_once('/'));
        if path.is_some_and(|(_, path)| !path.is_empty()) || url.value.contains(['?', '#']) {
            fields.report().error(&url.at, "must be `https://host:port`, without a path");
        }
    }
    let mut file = |key| fields.located(key).filter(|file| !file.value.is_empty());
    let (ca_file, token_file) = (file("ca_file"), file("token_file"));
    let insecure_skip_verify = fields.boolean("insecure_skip_verify").unwrap_or(false);
    if insecure_skip_verify {
        if ca_file.is_some() {
            fields.error_at("insecure_skip_verify", "`ca_file` means nothing beside it; remove one of them");
        }
        fields.warn_at(
            "insecure_skip_verify",
            "whoever is at this address gets the service account's token and says which pods there are",
        );
    }
    ApiClient {
        endpoint: url.map(|url| url.value.trim_end_matches('/').to_owned()),
        ca_file: ca_file.map(|file| PathBuf::from(file.value)),
        token_file: token_file.map(|file| PathBuf::from(file.value)),
        insecure_skip_verify,
    }
}
