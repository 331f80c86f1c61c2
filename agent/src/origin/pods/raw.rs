//! What is read of Kubernetes' objects. Everything else in them is skipped while it is parsed, and what is kept is
//! bounded: who may create a pod decides what is in it.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

/// Most pods that a list may have. The kubelet's own default is 110, and no cluster is known to be run with more than a
/// few hundred a node.
pub(super) const MAX_PODS: usize = 2_000;
/// Most entries of a list inside of a pod that are kept; the others are left out.
const MAX_ITEMS: usize = 64;
/// The longest label or annotation that is kept. A label's value has 63 bytes at most; long annotations are whole
/// objects (`kubectl.kubernetes.io/last-applied-configuration`), which nobody wants on a span.
const MAX_VALUE: usize = 4 << 10;
/// How much text of labels, and how much of annotations, is kept of a pod.
const MAX_TEXT: usize = 16 << 10;
/// The annotation of static pods that is the name of their cgroup; always kept.
pub(super) const CONFIG_HASH: &str = "kubernetes.io/config.hash";

/// `v1.Pod`
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawPod {
    #[serde(deserialize_with = "or_default")]
    pub(super) metadata: RawMeta,
    #[serde(deserialize_with = "or_default")]
    pub(super) spec: RawSpec,
    #[serde(deserialize_with = "or_default")]
    pub(super) status: RawStatus,
}

/// `meta.v1.ObjectMeta`
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct RawMeta {
    pub(super) uid: Option<String>,
    pub(super) name: Option<String>,
    pub(super) namespace: Option<String>,
    pub(super) resource_version: Option<String>,
    pub(super) creation_timestamp: Option<String>,
    pub(super) labels: Pairs,
    pub(super) annotations: Pairs,
    pub(super) owner_references: Few<RawOwner>,
}

/// `meta.v1.OwnerReference`
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct RawOwner {
    pub(super) api_version: Option<String>,
    pub(super) kind: Option<String>,
    pub(super) name: Option<String>,
    pub(super) uid: Option<String>,
    pub(super) controller: Truth,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct RawSpec {
    pub(super) node_name: Option<String>,
    pub(super) service_account_name: Option<String>,
    pub(super) hostname: Option<String>,
    pub(super) host_network: Truth,
    pub(super) containers: Few<RawContainer>,
    pub(super) init_containers: Few<RawContainer>,
    pub(super) ephemeral_containers: Few<RawContainer>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawContainer {
    pub(super) name: Option<String>,
    pub(super) image: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct RawStatus {
    pub(super) phase: Option<String>,
    #[serde(rename = "podIP")]
    pub(super) pod_ip: Option<String>,
    #[serde(rename = "podIPs")]
    pub(super) pod_ips: Few<RawAddress>,
    pub(super) container_statuses: Few<RawContainerStatus>,
    pub(super) init_container_statuses: Few<RawContainerStatus>,
    pub(super) ephemeral_container_statuses: Few<RawContainerStatus>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawAddress {
    pub(super) ip: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawContainerStatus {
    pub(super) name: Option<String>,
    #[serde(rename = "containerID")]
    pub(super) container_id: Option<String>,
}

/// `v1.PodList`. More than [`MAX_PODS`] are an error.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawList {
    pub(super) kind: Option<String>,
    #[serde(deserialize_with = "or_default")]
    pub(super) metadata: RawMeta,
    #[serde(deserialize_with = "pods")]
    pub(super) items: Vec<RawPod>,
}

/// `meta.v1.Status`: why the API server refuses.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawRefusal {
    pub(super) code: Option<u16>,
    pub(super) reason: Option<String>,
    pub(super) message: Option<String>,
}

fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Option::deserialize(from).map(Option::unwrap_or_default)
}

fn pods<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<RawPod>, D::Error> {
    struct Pods;
    impl<'de> Visitor<'de> for Pods {
        type Value = Vec<RawPod>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of pods")
        }

        fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
            Ok(Vec::new())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
            let mut pods = Vec::new();
            while let Some(pod) = items.next_element()? {
                if pods.len() == MAX_PODS {
                    return Err(de::Error::custom(format_args!("more than {MAX_PODS} pods")));
                }
                pods.push(pod);
            }
            Ok(pods)
        }
    }
    from.deserialize_any(Pods)
}

/// A boolean; text too, because a file of YAML has nothing else.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Truth(pub(super) bool);

impl<'de> Deserialize<'de> for Truth {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Word;
        impl Visitor<'_> for Word {
            type Value = Truth;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true or false")
            }

            fn visit_unit<E: de::Error>(self) -> Result<Truth, E> {
                Ok(Truth(false))
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Truth, E> {
                Ok(Truth(value))
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<Truth, E> {
                Ok(Truth(word == "true"))
            }
        }
        from.deserialize_any(Word)
    }
}

/// The first [`MAX_ITEMS`] of a list; null is an empty one.
#[derive(Debug)]
pub(super) struct Few<T>(pub(super) Vec<T>);

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Few<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Items<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Items<T> {
            type Value = Few<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_unit<E: de::Error>(self) -> Result<Few<T>, E> {
                Ok(Few::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Few<T>, A::Error> {
                let mut few = Vec::new();
                while few.len() < MAX_ITEMS {
                    let Some(item) = items.next_element()? else { return Ok(Few(few)) };
                    few.push(item);
                }
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Few(few))
            }
        }
        from.deserialize_any(Items(PhantomData))
    }
}

/// Labels or annotations, sorted by key, within [`MAX_VALUE`] and [`MAX_TEXT`].
#[derive(Debug, Default)]
pub(super) struct Pairs(pub(super) Vec<(String, String)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping of texts")
            }

            fn visit_unit<E: de::Error>(self) -> Result<Pairs, E> {
                Ok(Pairs::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let (mut pairs, mut text) = (Vec::new(), 0);
                while let Some((key, value)) = map.next_entry::<String, Option<String>>()? {
                    let value = value.unwrap_or_default();
                    let more = key.len() + value.len();
                    if key == CONFIG_HASH || value.len() <= MAX_VALUE && text + more <= MAX_TEXT {
                        text += more;
                        pairs.push((key, value));
                    }
                }
                pairs.sort();
                Ok(Pairs(pairs))
            }
        }
        from.deserialize_any(Entries)
    }
}
