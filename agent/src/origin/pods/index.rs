//! What every source of pods fills: pods by uid and by address, those that are gone for a while longer.

use std::{
    collections::{HashMap, HashSet, hash_map},
    hash::Hash,
    net::IpAddr,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;

use super::read::{Listed, ListedPod};
use crate::{
    origin::{Pod, PodSource, Service},
    telemetry::metrics::{Gauges, gauge},
};

/// How long a pod is found after it has gone: its last spans arrive after it.
pub const TOMBSTONE: Duration = Duration::from_mins(1);

/// Most pods that are remembered after they have gone: a node that replaces thousands a minute forgets some early.
const MAX_BURIED: usize = 4_000;

static LISTED: LazyLock<Gauges> =
    LazyLock::new(|| gauge("spanwarden_pods", "Pods known, tombstones included.", &["source"]));

/// The pods of one source. Readers never wait.
pub(super) struct Store {
    index: ArcSwap<Index>,
    source: &'static str,
}

impl Store {
    pub(super) fn new(source: &'static str) -> Self {
        Self { index: ArcSwap::from_pointee(Index::default()), source }
    }

    /// Replaces what is known by what is there now; what is no longer there is found until its tombstone is over.
    pub(super) fn publish(&self, listed: Listed) {
        let index = Index::new(listed, &self.index.load(), Instant::now());
        let count = i64::try_from(index.by_uid.len()).unwrap_or(i64::MAX);
        LISTED.with_label_values(&[self.source]).set(count);
        self.index.store(Arc::new(index));
    }
}

impl PodSource for Store {
    fn by_uid(&self, uid: &str) -> Option<Arc<Pod>> {
        self.index.load().by_uid.get(uid)?.alive(Instant::now())
    }

    fn by_ip(&self, ip: IpAddr) -> Option<Arc<Pod>> {
        self.index.load().by_ip.get(&ip.to_canonical())?.alive(Instant::now())
    }

    fn service_by_ip(&self, ip: IpAddr) -> Option<Arc<Service>> {
        self.index.load().services.get(&ip.to_canonical()).cloned()
    }
}

/// A pod, or what is left of it.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) pod: Arc<Pod>,
    /// When it was first missing.
    gone: Option<Instant>,
}

impl Entry {
    pub(super) fn alive(&self, now: Instant) -> Option<Arc<Pod>> {
        let dead = self.gone.is_some_and(|gone| now.saturating_duration_since(gone) > TOMBSTONE);
        (!dead).then(|| Arc::clone(&self.pod))
    }
}

#[derive(Default)]
pub(super) struct Index {
    /// By uid, and static pods also by the hash that the kubelet names their cgroup after.
    pub(super) by_uid: HashMap<String, Entry>,
    pub(super) by_ip: HashMap<IpAddr, Entry>,
    services: HashMap<IpAddr, Arc<Service>>,
}

impl Index {
    /// Indexes what there is, and keeps what there no longer is for a while.
    pub(super) fn new(listed: Listed, old: &Self, now: Instant) -> Self {
        let mut index = Self::default();
        let mut disputed = HashSet::new();
        for service in listed.services {
            let service = Arc::new(service);
            index.services.extend(service.ips.iter().map(|ip| (ip.to_canonical(), Arc::clone(&service))));
        }
        for ListedPod { pod, config_hash, owns_addresses } in listed.pods {
            let entry = Entry { pod: Arc::clone(&pod), gone: None };
            if owns_addresses {
                for ip in &pod.ips {
                    if index.by_ip.insert(ip.to_canonical(), entry.clone()).is_some() {
                        disputed.insert(ip.to_canonical());
                    }
                }
            }
            // Whoever may annotate pods could name another's uid as the hash: a uid is never taken over.
            if let Some(hash) = config_hash {
                index.by_uid.entry(hash).or_insert_with(|| entry.clone());
            }
            index.by_uid.insert(pod.uid.clone(), entry);
        }
        bury(&mut index.by_uid, &old.by_uid, now);
        bury(&mut index.by_ip, &old.by_ip, now);
        // Two running pods with one address: neither is known by it, and neither is guessed.
        for ip in disputed {
            tracing::warn!(%ip, "several running pods have this address; it identifies none of them");
            index.by_ip.remove(&ip);
        }
        index
    }
}

/// Adds what `old` has and `new` has not, unless its time is over.
fn bury<K: Clone + Eq + Hash>(new: &mut HashMap<K, Entry>, old: &HashMap<K, Entry>, now: Instant) {
    let mut places = MAX_BURIED;
    for (key, entry) in old {
        let Some(_) = entry.alive(now).filter(|_| places > 0) else { continue };
        if let hash_map::Entry::Vacant(place) = new.entry(key.clone()) {
            place.insert(Entry { pod: Arc::clone(&entry.pod), gone: entry.gone.or(Some(now)) });
            places -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::pods::{read, tree};

    fn listed(text: &str) -> Listed {
        read::listed(&tree::parse(text).unwrap()).unwrap()
    }

    fn json(uid: &str, address: &str) -> String {
        format!("{{metadata: {{uid: {uid}, name: n, namespace: d}}, status: {{podIP: {address}}}}}")
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_pod_that_is_gone_is_found_until_its_tombstone_is() {
        let start = Instant::now();
        let first = Index::new(listed(&format!("[{}]", json("a", "10.0.0.1"))), &Index::default(), start);
        let second = Index::new(listed(&format!("[{}]", json("b", "10.0.0.1"))), &first, start);
        let a = |index: &Index, at| index.by_uid.get("a").and_then(|entry| entry.alive(at));
        assert!(a(&second, start + TOMBSTONE).is_some());
        assert!(a(&second, start + TOMBSTONE + Duration::from_secs(1)).is_none());
        // The address has a new owner at once.
        assert_eq!(second.by_ip[&ip("10.0.0.1")].pod.uid, "b");
        let later = Index::new(listed("[]"), &second, start + TOMBSTONE * 2);
        assert!(!later.by_uid.contains_key("a") && later.by_uid.contains_key("b"));
    }

    #[test]
    fn nobody_takes_over_a_uid_by_an_annotation() {
        let thief =
            "{metadata: {uid: t, name: thief, namespace: d, annotations: {kubernetes.io/config.hash: v}}}";
        let victim = json("v", "10.0.0.1");
        for text in [format!("[{thief}, {victim}]"), format!("[{victim}, {thief}]")] {
            let index = Index::new(listed(&text), &Index::default(), Instant::now());
            assert_eq!(index.by_uid["v"].pod.name, "n", "{text}");
        }
    }

    #[test]
    fn what_is_remembered_of_the_gone_is_bounded() {
        let all = (0..MAX_BURIED + 10)
            .map(|n| format!("{{\"metadata\":{{\"uid\":\"u{n}\",\"name\":\"n\",\"namespace\":\"d\"}}}}"));
        let text = format!("[{}]", all.collect::<Vec<_>>().join(","));
        let full = Index::new(
            read::listed(&serde_json::from_str(&text).unwrap()).unwrap(),
            &Index::default(),
            Instant::now(),
        );
        assert_eq!(Index::new(listed("[]"), &full, Instant::now()).by_uid.len(), MAX_BURIED);
    }
}
