use std::{sync::Arc, time::Duration};

use spanwarden::{
    config::extensions::{Api, ApiClient, Kubelet},
    origin::{Pod, PodSource as _, pods::RemotePods},
};
use spanwarden_tests::kubernetes::api::{ApiServer, wait_until};

pub(crate) const NODE: &str = "node-a";

pub(crate) fn client(server: &ApiServer) -> ApiClient {
    ApiClient {
        endpoint: Some(server.url()),
        ca_file: Some(server.ca_file()),
        token_file: Some(server.token_file()),
        insecure_skip_verify: false,
    }
}

/// Pods of [`NODE`], watched.
pub(crate) fn watched(server: &ApiServer) -> RemotePods {
    let pods = RemotePods::api(&Api { node: Some(NODE.to_owned()), client: client(server) }).unwrap();
    pods.start().unwrap();
    pods
}

/// Pods of the kubelet, asked for so often.
pub(crate) fn asked(server: &ApiServer, interval: Duration) -> RemotePods {
    let config = Kubelet { endpoint: server.url(), interval, client: client(server) };
    let pods = RemotePods::kubelet(&config).unwrap();
    pods.start().unwrap();
    pods
}

/// Waits until a pod is known.
pub(crate) fn known(pods: &RemotePods, uid: &str) -> Arc<Pod> {
    wait_until(&format!("pod {uid}"), || pods.by_uid(uid)).unwrap()
}

/// Waits until a pod has this label.
pub(crate) fn labelled(pods: &RemotePods, uid: &str, key: &str, value: &str) -> Arc<Pod> {
    let label = (key.to_owned(), value.to_owned());
    wait_until(&format!("{label:?} on {uid}"), || pods.by_uid(uid).filter(|pod| pod.labels.contains(&label)))
        .unwrap()
}
