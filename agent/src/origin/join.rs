//! From a kernel record to an [`Origin`]: the cgroup's path, the container and the pod in it, the pod's names.

#![forbid(unsafe_code)]

mod address;
mod tree;

pub use address::AddressOrigins;

use super::{
    Evidence, Origin, Pod, PodSource, Process,
    bpf::abi,
    cgroup::{self, NotAContainer},
    findings::Behind,
};
use crate::telemetry::metrics::{self, counter};
use spanwarden_ebpf::abi::OriginRecord;
use std::{
    net::{IpAddr, SocketAddr},
    os::unix::ffi::OsStrExt as _,
    path::Path,
    sync::{Arc, LazyLock},
};
use tree::Tree;

static CONNECTIONS: LazyLock<metrics::Counters> = LazyLock::new(|| {
    counter(
        "spanwarden_origin_connections",
        "Accepted connections by the evidence of their origin.",
        &["evidence"],
    )
});

/// Counts an accepted connection.
pub(super) fn count_evidence(evidence: Evidence) {
    CONNECTIONS.with_label_values(&[evidence.as_str()]).inc();
}

/// What a cgroup tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    path: Option<String>,
    container_id: Option<String>,
    pod_uid: Option<String>,
}

/// Resolves records against the watched cgroup tree and the pod source.
pub(super) struct Resolver {
    tree: Tree<Place>,
    /// Path of the watched directory below the hierarchy's root, with a slash in front; empty for the root.
    below_mount: String,
    pods: Arc<dyn PodSource>,
}

impl Resolver {
    pub(super) fn new(root: &super::loader::Root, pods: Arc<dyn PodSource>) -> Self {
        Self { tree: Tree::new(&root.path, root.id), below_mount: root.below_mount(), pods }
    }

    /// Where names come from.
    pub(super) fn pods(&self) -> Arc<dyn PodSource> {
        Arc::clone(&self.pods)
    }

    /// The origin that a joined record tells.
    pub(super) fn kernel(&self, record: &OriginRecord, peer: SocketAddr) -> Origin {
        let place = self
            .tree
            .find(record.cgroup_id, &record.ancestors, |path| place(path, &self.below_mount))
            .unwrap_or_default();
        let pod = place.pod_uid.as_deref().and_then(|uid| self.pods.by_uid(uid));
        Origin {
            evidence: Evidence::Kernel,
            process: Some(Process {
                pid: record.tgid,
                uid: record.uid,
                comm: abi::comm(&record.comm),
                cgroup_id: record.cgroup_id,
                cgroup_path: place.path,
                netns_cookie: record.netns_cookie,
            }),
            container_id: place.container_id,
            pod_uid: place.pod_uid,
            pod,
            peer,
        }
    }

    /// An origin whose pod was not known, or not its container, with what is known by now.
    pub(super) fn renewed(&self, origin: &Origin) -> Option<Arc<Origin>> {
        let uid = origin.pod_uid.as_deref()?;
        let complete =
            |pod: &Pod| origin.container_id.as_deref().is_none_or(|id| pod.container(id).is_some());
        if origin.pod.as_deref().is_some_and(complete) {
            return None;
        }
        let pod = self.pods.by_uid(uid)?;
        if origin.pod.as_ref().is_some_and(|known| Arc::ptr_eq(known, &pod)) {
            return None;
        }
        Some(Arc::new(Origin { pod: Some(pod), ..origin.clone() }))
    }

    /// The path of the opener's cgroup below the watched root.
    pub(super) fn cgroup_path(&self, record: &OriginRecord) -> Option<String> {
        let place =
            self.tree.find(record.cgroup_id, &record.ancestors, |path| place(path, &self.below_mount));
        place.and_then(|place| place.path)
    }

    /// What is known to be at an address: a Service, or a pod.
    pub(super) fn behind(&self, address: IpAddr) -> Option<Behind> {
        if let Some(service) = self.pods.service_by_ip(address) {
            return Some(Behind::Service(service));
        }
        self.pods.by_ip(address).map(Behind::Pod)
    }

    /// The origin that the peer's address suggests.
    pub(super) fn address(&self, peer: SocketAddr) -> Origin {
        address::origin(self.pods.as_ref(), peer)
    }
}

/// Reads a path below the watched directory. That directory stands for the hierarchy's root; when it gives no
/// pod, the full path is tried, for an operator who watches only a part of the tree (`kubepods.slice`).
fn place(path: &Path, below_mount: &str) -> Place {
    let below = format!("/{}", path.to_string_lossy());
    let mut told = told_by(&below);
    if told.pod_uid.is_none() && !below_mount.is_empty() {
        let whole = told_by(&format!("{below_mount}{below}"));
        if whole.pod_uid.is_some() || told.container_id.is_none() {
            told = whole;
        }
    }
    // The sender names what is below its container.
    Place { path: Some(format!("/{}", abi::printable(path.as_os_str().as_bytes()))), ..told }
}

fn told_by(path: &str) -> Place {
    match cgroup::parse(path) {
        Ok(found) => Place { path: None, container_id: Some(found.container_id), pod_uid: found.pod_uid },
        Err(other) => Place { path: None, container_id: None, pod_uid: pod_of(&other) },
    }
}

fn pod_of(other: &NotAContainer) -> Option<String> {
    other.pod_uid().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "8dbc05c8-e6f9-4c36-8d3d-2d35b6e5a0ac";
    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn a_watched_part_of_the_tree_is_read_from_the_root() {
        let pod = format!("kubepods/pod{UID}/{ID}");
        let whole = place(Path::new(&pod), "");
        assert_eq!(whole.pod_uid.as_deref(), Some(UID));
        assert_eq!(whole.container_id.as_deref(), Some(ID));
        let part = place(Path::new(&format!("pod{UID}/{ID}")), "/kubepods");
        assert_eq!((part.pod_uid.as_deref(), part.container_id.as_deref()), (Some(UID), Some(ID)));
        // A test's or a nested cluster's directory stands for the root.
        let nested = place(Path::new(&pod), "/somewhere");
        assert_eq!(nested.pod_uid.as_deref(), Some(UID));
        assert_eq!(place(Path::new("system.slice/sshd.service"), "").pod_uid, None);
    }
}
