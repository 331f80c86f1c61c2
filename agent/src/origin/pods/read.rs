//! Kubernetes' own representation of pods and Services to [`Pod`] and [`Service`].

use std::collections::HashSet;

use serde_json::Value;

use crate::origin::{Pod, Service};

/// A pod with what decides how it is found.
pub(super) struct ListedPod {
    pub(super) pod: Pod,
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
        let listed = pod(item).map_err(missing)?;
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
    let mut ips: Vec<std::net::IpAddr> = texts.iter().filter_map(|text| text.parse().ok()).collect();
    ips.sort_unstable();
    ips.dedup();
    Ok(Service {
        name: needed("name", "metadata.name")?,
        namespace: needed("namespace", "metadata.namespace")?,
        ips,
    })
}

fn pod(item: &Value) -> Result<ListedPod, &'static str> {
    let needed = |key, name| text(item, &["metadata", key]).map(str::to_owned).ok_or(name);
    let labels = pairs(item, "labels");
    let annotations = pairs(item, "annotations");
    let phase = text(item, &["status", "phase"]);
    let host_network = match at(item, &["spec", "hostNetwork"]) {
        Some(Value::Bool(yes)) => *yes,
        Some(Value::String(word)) => word == "true",
        _ => false,
    };
    let pod = Pod {
        uid: needed("uid", "metadata.uid")?,
        name: needed("name", "metadata.name")?,
        namespace: needed("namespace", "metadata.namespace")?,
        node: text(item, &["spec", "nodeName"]).map(str::to_owned),
        deployment: deployment(item, &labels),
        owner: owner(item),
        service_account: text(item, &["spec", "serviceAccountName"]).map(str::to_owned),
        host_network,
        ips: addresses(item),
        containers: containers(item),
        labels,
        annotations,
    };
    let config_hash = pod.annotations.iter().find(|(key, _)| key == "kubernetes.io/config.hash");
    Ok(ListedPod {
        config_hash: config_hash.map(|(_, hash)| hash.clone()),
        owns_addresses: !host_network && !matches!(phase, Some("Succeeded" | "Failed")),
        pod,
    })
}

/// The deployment's name is the replica set's without the hash that the deployment's controller appended;
/// a replica set that somebody made by hand has no such label and no deployment.
fn deployment(item: &Value, labels: &[(String, String)]) -> Option<String> {
    let owner = list(item, &["metadata", "ownerReferences"]).find(|owner| {
        text(owner, &["kind"]) == Some("ReplicaSet")
            && text(owner, &["apiVersion"]).is_none_or(|version| version.starts_with("apps/"))
    })?;
    let (_, hash) = labels.iter().find(|(key, _)| key == "pod-template-hash")?;
    let name = text(owner, &["name"])?.strip_suffix(hash.as_str())?.strip_suffix('-')?;
    (!name.is_empty()).then(|| name.to_owned())
}

/// The controller's name. A job that a `CronJob` made is named after it and the minute it was due, so that there are
/// ever more of them: here it is that name.
fn owner(item: &Value) -> Option<String> {
    let is_true = |value: Option<&Value>| match value {
        Some(Value::Bool(yes)) => *yes,
        Some(Value::String(word)) => word == "true",
        _ => false,
    };
    let owner =
        list(item, &["metadata", "ownerReferences"]).find(|owner| is_true(owner.get("controller")))?;
    let (kind, name) = (text(owner, &["kind"])?, text(owner, &["name"])?);
    let minute = name.rsplit_once('-').filter(|(_, minute)| {
        kind == "Job" && minute.len() >= 8 && minute.bytes().all(|b| b.is_ascii_digit())
    });
    match kind {
        // A static pod's: every one of a node would have the node's name.
        "Node" => None,
        _ => Some(minute.map_or(name, |(cron_job, _)| cron_job).to_owned()),
    }
}

fn addresses(item: &Value) -> Vec<std::net::IpAddr> {
    let listed = list(item, &["status", "podIPs"]).filter_map(|ip| text(ip, &["ip"]));
    let mut ips: Vec<_> = listed.filter_map(|ip| ip.parse().ok()).collect();
    if let Some(first) = text(item, &["status", "podIP"]).and_then(|ip| ip.parse().ok())
        && !ips.contains(&first)
    {
        ips.push(first);
    }
    ips
}

/// `(id, name)` of all containers that have started; the id without the runtime's scheme.
fn containers(item: &Value) -> Vec<(String, String)> {
    ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"]
        .iter()
        .flat_map(|kind| list(item, &["status", kind]))
        .filter_map(|status| {
            let id = text(status, &["containerID"])?;
            let id = id.split_once("://").map_or(id, |(_, id)| id);
            (!id.is_empty()).then(|| (id.to_owned(), text(status, &["name"]).unwrap_or_default().to_owned()))
        })
        .collect()
}

fn pairs(item: &Value, key: &str) -> Vec<(String, String)> {
    let Some(Value::Object(map)) = at(item, &["metadata", key]) else { return Vec::new() };
    let mut pairs: Vec<_> =
        map.iter().map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned())).collect();
    pairs.sort();
    pairs
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
