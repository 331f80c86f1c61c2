//! Kubernetes' own representation of pods to [`Pod`].

use std::collections::HashSet;

use serde_json::Value;

use crate::origin::Pod;

/// A pod with what decides how it is found.
pub(super) struct ListedPod {
    pub(super) pod: Pod,
    /// A static pod's cgroup bears this hash, not the uid of its mirror in the API.
    pub(super) config_hash: Option<String>,
    /// False for pods in the host's network and for pods that are over: their addresses are not theirs alone.
    pub(super) owns_addresses: bool,
}

/// The pods of a `List`/`PodList`, of a bare list, or one pod.
pub(super) fn pods(tree: &Value) -> Result<Vec<ListedPod>, String> {
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
    let mut pods = Vec::with_capacity(items.len());
    for (at, item) in items.iter().enumerate() {
        if let Some(kind) = text(item, &["kind"]).filter(|kind| *kind != "Pod") {
            return Err(format!("items[{at}] is a {kind}, not a Pod"));
        }
        let listed = pod(item).map_err(|missing| format!("items[{at}] has no {missing}"))?;
        if !uids.insert(listed.pod.uid.clone()) {
            return Err(format!("items[{at}]: uid {} is listed twice", listed.pod.uid));
        }
        pods.push(listed);
    }
    Ok(pods)
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
