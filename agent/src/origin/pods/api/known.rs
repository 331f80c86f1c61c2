//! What a watch has told so far.

use std::collections::HashMap;

use serde::Deserialize;

use super::super::{
    raw::{MAX_PODS, RawMeta, RawPod, RawRefusal},
    read::{self, Listed, ListedPod},
    remote::{Failed, Shared},
};

/// The annotation of the bookmark after the initial events (KEP-3157).
const INITIAL_END: &str = "k8s.io/initial-events-end";
/// A resource version is opaque; etcd's are numbers of up to 20 digits.
const MAX_VERSION: usize = 128;

/// What a line said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// Nothing that is of use.
    Nothing,
    /// A pod is new, different or gone.
    Change,
    /// All that was there has been told.
    InitialEnd,
    /// 410: the place where the watch began is no longer known.
    Gone,
    /// Another error, in the server's words, escaped.
    Error(String),
}

/// The pods as the watch tells them, and the place up to which it did.
pub(super) struct Known {
    node: String,
    /// Where the next watch may go on; none before all is known.
    pub(super) version: Option<String>,
    /// How often something was told.
    pub(super) told: u64,
    pods: HashMap<String, ListedPod>,
    /// Between [`Self::begin`] and the end of the initial events.
    initial: bool,
}

/// A line without its object.
#[derive(Deserialize)]
struct Head {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct OfPod {
    object: RawPod,
}

#[derive(Deserialize)]
struct OfMeta {
    object: WithMeta,
}

#[derive(Deserialize)]
struct WithMeta {
    metadata: RawMeta,
}

#[derive(Deserialize)]
struct OfStatus {
    object: RawRefusal,
}

impl Known {
    pub(super) fn new(node: String) -> Self {
        Self { node, version: None, told: 0, pods: HashMap::new(), initial: false }
    }

    /// Initial events are about to come: what they do not tell is gone.
    pub(super) fn begin(&mut self) {
        self.pods.clear();
        self.version = None;
        self.initial = true;
    }

    /// A list instead of initial events.
    pub(super) fn listed(
        &mut self,
        listed: Listed,
        version: Option<&str>,
        shared: &Shared,
    ) -> Result<(), Failed> {
        self.pods.clear();
        self.initial = false;
        for pod in listed.pods {
            self.add(pod, shared);
        }
        self.told += 1;
        let version = version.filter(|version| is_version(version));
        self.version =
            Some(version.ok_or_else(|| Failed::Watch("the list has no version".into()))?.to_owned());
        Ok(())
    }

    /// Makes it known, unless it is only a part.
    pub(super) fn publish(&self, shared: &Shared) {
        if !self.initial {
            shared.publish(Listed { pods: self.pods.values().cloned().collect(), services: Vec::new() });
        }
    }

    /// Takes a line in. An error says why it can't be read.
    pub(super) fn take(&mut self, line: &[u8], shared: &Shared) -> Result<Told, String> {
        let head: Head = parse(line)?;
        self.told += 1;
        match head.kind.as_str() {
            "ADDED" | "MODIFIED" => {
                let raw = parse::<OfPod>(line)?.object;
                self.at(raw.metadata.resource_version.as_deref())?;
                match read::pod(raw) {
                    Ok(pod) => self.add(pod, shared),
                    Err(_) => shared.ignore("incomplete"),
                }
                Ok(Told::Change)
            }
            "DELETED" => {
                let metadata = parse::<OfMeta>(line)?.object.metadata;
                self.at(metadata.resource_version.as_deref())?;
                self.pods.remove(metadata.uid.as_deref().unwrap_or_default());
                Ok(Told::Change)
            }
            "BOOKMARK" => {
                let metadata = parse::<OfMeta>(line)?.object.metadata;
                let ends = self.initial
                    && metadata
                        .annotations
                        .0
                        .iter()
                        .any(|(key, value)| key == INITIAL_END && value == "true");
                self.initial &= !ends;
                self.at(metadata.resource_version.as_deref())?;
                Ok(if ends { Told::InitialEnd } else { Told::Nothing })
            }
            "ERROR" => {
                let refusal = parse::<OfStatus>(line)?.object;
                if refusal.code == Some(410) {
                    return Ok(Told::Gone);
                }
                let words =
                    [refusal.reason, refusal.message].into_iter().flatten().collect::<Vec<_>>().join(": ");
                Ok(Told::Error(words.chars().take(200).flat_map(char::escape_debug).collect()))
            }
            _ => Ok(Told::Nothing),
        }
    }

    /// The field selector is the server's to apply; a server or a proxy that does not is not believed.
    fn add(&mut self, pod: ListedPod, shared: &Shared) {
        if pod.pod.node.as_deref() != Some(self.node.as_str()) {
            return shared.ignore("other_node");
        }
        if self.pods.len() >= MAX_PODS && !self.pods.contains_key(&pod.pod.uid) {
            return shared.ignore("too_many");
        }
        self.pods.insert(pod.pod.uid.clone(), pod);
    }

    /// Notes the place. Those of initial events are the objects' own, and nothing to go on from.
    fn at(&mut self, version: Option<&str>) -> Result<(), String> {
        let version = version.unwrap_or_default();
        if !is_version(version) {
            return Err("an object has no resourceVersion".to_owned());
        }
        if !self.initial {
            self.version = Some(version.to_owned());
        }
        Ok(())
    }
}

/// Goes into a URL.
fn is_version(version: &str) -> bool {
    (1..=MAX_VERSION).contains(&version.len())
        && version.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
}

fn parse<'a, T: Deserialize<'a>>(line: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(line).map_err(|error| error.to_string())
}
