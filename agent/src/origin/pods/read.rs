//! Kubernetes' own representation of pods and Services to [`Pod`] and [`Service`].

use std::{collections::HashSet, net::IpAddr, sync::Arc};

use serde::Deserialize as _;
use serde_json::Value;

use super::raw::{CONFIG_HASH, RawContainerStatus, RawOwner, RawPod, RawSpec, RawStatus};
use crate::origin::{Container, Owner, Pod, Service};

/// A pod with what decides how it is found.
#[derive(Clone, Debug)]
pub(super) struct ListedPod {
    pub(super) pod: Arc<Pod>,
    /// A static pod's cgroup bears this hash, not the uid of its mirror in the API.
    pub(super) config_hash: Option<String>,
    /// False for pods in the host's network and for pods that are over: their addresses are not theirs alone.
    pub(super) owns_addresses: bool,
}

/// What a file lists.
#[derive(Default)]
pub(super) struct Listed {
    pub(super) pods: Vec<ListedPod>,
    pub(super) services: Vec<Service>,
}

/// The pods and Services of a `List`/`PodList`, of a bare list, or one pod.
pub(super) fn listed(tree: &Value) -> Result<Listed, String> {
    let items = match tree {
        Value::Array(items) => items.as_slice(),
        Value::Object(map) if map.contains_key("items") => match &map["items"] {
            Value::Array(items) => items.as_slice(),
            Value::Null => &[],
            _ => return Err("`items` is no list".to_owned()),
        },
        Value::Object(_) if text(tree, &["kind"]) == Some("Pod") => std::slice::from_ref(tree),
        _ => return Err("neither a list of pods nor an object with `items`".to_owned()),
    };
    let mut uids = HashSet::new();
    let mut found = Listed::default();
    for (at, item) in items.iter().enumerate() {
        let missing = |missing| format!("items[{at}] has no {missing}");
        match text(item, &["kind"]) {
            None | Some("Pod") => {}
            Some("Service") => {
                found.services.push(service(item).map_err(missing)?);
                continue;
            }
            Some(kind) => return Err(format!("items[{at}] is a {kind}, neither a Pod nor a Service")),
        }
        let raw = RawPod::deserialize(item).map_err(|error| format!("items[{at}] is no pod: {error}"))?;
        let listed = pod(raw).map_err(missing)?;
        if !uids.insert(listed.pod.uid.clone()) {
            return Err(format!("items[{at}]: uid {} is listed twice", listed.pod.uid));
        }
        found.pods.push(listed);
    }
    Ok(found)
}

/// Headless Services (`None`) have no address of their own, and external names none at all.
fn service(item: &Value) -> Result<Service, &'static str> {
    let needed = |key, name| text(item, &["metadata", key]).map(str::to_owned).ok_or(name);
    let strings = |path: &[&str]| list(item, path).filter_map(Value::as_str).collect::<Vec<_>>();
    let mut texts = strings(&["spec", "clusterIPs"]);
    texts.extend(text(item, &["spec", "clusterIP"]));
    texts.extend(strings(&["spec", "externalIPs"]));
    texts.extend(
        list(item, &["status", "loadBalancer", "ingress"]).filter_map(|ingress| text(ingress, &["ip"])),
    );
    let mut ips: Vec<IpAddr> = texts.iter().filter_map(|text| text.parse().ok()).collect();
    ips.sort_unstable();
    ips.dedup();
    Ok(Service {
        name: needed("name", "metadata.name")?,
        namespace: needed("namespace", "metadata.namespace")?,
        ips,
    })
}

/// A pod; an error names the field that it lacks.
pub(super) fn pod(raw: RawPod) -> Result<ListedPod, &'static str> {
    let RawPod { metadata, spec, status } = raw;
    let needed = |value: Option<String>, name| value.filter(|value| !value.is_empty()).ok_or(name);
    let owners = metadata.owner_references.0;
    let job = controller(&owners).filter(|owner| owner.kind.as_deref() == Some("Job"));
    let cron_job = job.and_then(|job| cron_job(job.name.as_deref()?));
    let pod = Pod {
        uid: needed(metadata.uid, "metadata.uid")?,
        name: needed(metadata.name, "metadata.name")?,
        namespace: needed(metadata.namespace, "metadata.namespace")?,
        deployment: deployment(&owners, &metadata.labels.0),
        owner: cron_job.clone().or_else(|| owner(&owners)),
        cron_job,
        owners: owners.into_iter().filter_map(named).collect(),
        host_network: spec.host_network.0,
        ips: addresses(&status),
        containers: containers(&spec, &status),
        node: known(spec.node_name),
        service_account: known(spec.service_account_name),
        hostname: known(spec.hostname),
        created: known(metadata.creation_timestamp),
        labels: metadata.labels.0,
        annotations: metadata.annotations.0,
    };
    let config_hash = pod.annotations.iter().find(|(key, _)| key == CONFIG_HASH);
    Ok(ListedPod {
        config_hash: config_hash.map(|(_, hash)| hash.clone()),
        owns_addresses: !pod.host_network && !matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")),
        pod: Arc::new(pod),
    })
}

fn known(value: Option<String>) -> Option<String> {
    value.filter(|value| !value.is_empty())
}

fn named(owner: RawOwner) -> Option<Owner> {
    Some(Owner { kind: known(owner.kind)?, name: known(owner.name)?, uid: owner.uid.unwrap_or_default() })
}

/// The deployment's name is the replica set's without the hash that the deployment's controller appended;
/// a replica set that somebody made by hand has no such label and no deployment.
fn deployment(owners: &[RawOwner], labels: &[(String, String)]) -> Option<String> {
    let owner = owners.iter().find(|owner| {
        owner.kind.as_deref() == Some("ReplicaSet")
            && owner.api_version.as_deref().is_none_or(|version| version.starts_with("apps/"))
    })?;
    let (_, hash) = labels.iter().find(|(key, _)| key == "pod-template-hash")?;
    let name = owner.name.as_deref()?.strip_suffix(hash.as_str())?.strip_suffix('-')?;
    (!name.is_empty()).then(|| name.to_owned())
}

fn controller(owners: &[RawOwner]) -> Option<&RawOwner> {
    owners.iter().find(|owner| owner.controller.0)
}

/// The controller's name, except of a static pod: every one of a node would have the node's name.
fn owner(owners: &[RawOwner]) -> Option<String> {
    let owner = controller(owners).filter(|owner| owner.kind.as_deref() != Some("Node"))?;
    known(owner.name.clone())
}

/// The `CronJob` behind a job, which is named after it and the minute it was due, counted from 1970.
fn cron_job(job: &str) -> Option<String> {
    let (name, minute) = job.rsplit_once('-')?;
    let due = minute.len() >= 8 && minute.bytes().all(|b| b.is_ascii_digit());
    (due && !name.is_empty()).then(|| name.to_owned())
}

fn addresses(status: &RawStatus) -> Vec<IpAddr> {
    let listed = status.pod_ips.0.iter().filter_map(|address| address.ip.as_deref());
    let mut ips: Vec<_> = listed.filter_map(|ip| ip.parse().ok()).collect();
    if let Some(first) = status.pod_ip.as_deref().and_then(|ip| ip.parse().ok())
        && !ips.contains(&first)
    {
        ips.push(first);
    }
    ips
}

/// All containers that have started; the id without the runtime's scheme.
fn containers(spec: &RawSpec, status: &RawStatus) -> Vec<Container> {
    let image_of = |name: &str| {
        let all = [&spec.containers, &spec.init_containers, &spec.ephemeral_containers];
        let mut all = all.into_iter().flat_map(|list| &list.0);
        all.find(|container| container.name.as_deref() == Some(name))
            .and_then(|container| container.image.clone())
            .unwrap_or_default()
    };
    let started = |status: &RawContainerStatus| {
        let id = status.container_id.as_deref()?;
        let id = id.split_once("://").map_or(id, |(_, id)| id);
        let name = status.name.clone().unwrap_or_default();
        (!id.is_empty()).then(|| Container { id: id.to_owned(), image: image_of(&name), name })
    };
    let all =
        [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses];
    all.into_iter().flat_map(|list| &list.0).filter_map(started).collect()
}

fn at<'a>(value: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, key| value.get(key))
}

fn text<'a>(value: &'a Value, path: &[&str]) -> Option<&'a str> {
    at(value, path)?.as_str().filter(|text| !text.is_empty())
}

fn list<'a>(value: &'a Value, path: &[&str]) -> impl Iterator<Item = &'a Value> + use<'a> {
    at(value, path).and_then(Value::as_array).into_iter().flatten()
}
