//! A finding for the tests of this module's parts.

use super::{Finding, Kind, Place, PlaintextMode, Proof, Protocol, Signal};
use crate::origin::{Evidence, Origin, Pod, Process};
use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

/// Traces over HTTP/1 from a pod to the cluster, by configuration.
pub(super) fn finding() -> Finding {
    let local = "10.244.1.7:41000".parse().unwrap();
    let destination = "10.244.2.9:4318".parse().unwrap();
    let pod = Pod {
        uid: "8dbc05c8-e6f9-4c36-8d3d-2d35b6e5a0ac".into(),
        name: "web-6d4cf56db6-x2x7q".into(),
        namespace: "shop".into(),
        deployment: Some("web".into()),
        ..Pod::default()
    };
    let origin = Origin {
        evidence: Evidence::Kernel,
        process: Some(Process {
            pid: 4711,
            uid: 1000,
            comm: "python3".into(),
            cgroup_id: 9,
            cgroup_path: Some("/kubepods.slice/x".into()),
            netns_cookie: 3,
        }),
        container_id: Some("0123456789abcdef".repeat(4)),
        pod_uid: Some(pod.uid.clone()),
        pod: Some(Arc::new(pod)),
        peer: local,
    };
    Finding {
        time: UNIX_EPOCH + Duration::from_nanos(1_795_278_896_123_456_789),
        kind: Kind::Plaintext,
        origin: Arc::new(origin),
        local,
        remote: destination,
        destination,
        protocol: Protocol::Http1,
        signal: Signal::Traces,
        proof: Proof::Path,
        pre_existing: false,
        revised: false,
        tunnel: false,
        blocked: false,
        not_enforced: false,
        place: Place::Cluster,
        behind: None,
        mode: PlaintextMode::Observe,
        netns_cookie: 3,
        socket_cookie: 77,
    }
}
