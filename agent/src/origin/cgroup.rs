//! From a cgroup path to the container and the pod that it belongs to.
//!
//! The path is the evidence, so where a segment stands matters as much as what it is called. A process may
//! own the cgroup that its runtime put it in, and make sub-cgroups of any name there; it can never make one
//! above or beside it. Two rules follow:
//!
//! - the walk goes from the root to the leaf and the **outermost** match decides; what is below it is only
//!   counted ([`ContainerPath::nested_depth`]);
//! - a pod uid is read only where a kubelet puts its pods: below `kubepods` at the hierarchy's root, below
//!   slices nested as systemd nests them (systemd delegates services and scopes, never slices), or beside a
//!   container runtime's own service. A `kubepods` anywhere else is [`NotAContainer::OutsideKubelet`].
//!
//! Paths are relative to the root of the hierarchy, as the host sees it.

#![forbid(unsafe_code)]

mod level;
mod names;

pub(super) use level::{Level, level};

use std::fmt;

use names::is_conmon;

/// A container's place in the hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerPath {
    /// `container.id`: 64 hex digits for the container runtimes, a name for LXC, the task for ECS.
    ///
    /// Without a pod uid beside it this is no proof: a rootless user names scopes of his own session as he likes.
    pub container_id: String,
    /// `k8s.pod.uid` with dashes; the configuration's hash for a static pod. `None` outside of Kubernetes.
    pub pod_uid: Option<String>,
    /// Which runtime named the cgroup.
    pub runtime: Runtime,
    /// The pod's quality of service, `None` outside of Kubernetes.
    pub qos: Option<Qos>,
    /// How many cgroups lie between the container's own and the one asked for (0: the container's own).
    pub nested_depth: usize,
}

/// The container runtime that a cgroup's name tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Runtime {
    /// containerd through CRI (`cri-containerd-…`).
    Containerd,
    /// CRI-O (`crio-…`).
    CriO,
    /// Docker, with or without a kubelet.
    Docker,
    /// Podman (`libpod-…`).
    Podman,
    /// nerdctl on containerd.
    Nerdctl,
    /// LXC and LXD.
    Lxc,
    /// Amazon ECS.
    Ecs,
    /// The name is the bare container id, as every runtime writes it with the cgroupfs driver.
    Unknown,
}

impl Runtime {
    /// The name as it is used in labels and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::CriO => "cri-o",
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Nerdctl => "nerdctl",
            Self::Lxc => "lxc",
            Self::Ecs => "ecs",
            Self::Unknown => "unknown",
        }
    }
}

/// A pod's quality-of-service class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Qos {
    /// Pods directly below `kubepods`.
    Guaranteed,
    /// Pods below `burstable`.
    Burstable,
    /// Pods below `besteffort`.
    BestEffort,
}

impl Qos {
    /// The name as Kubernetes writes it in `status.qosClass`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

/// Why a path names no container.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAContainer {
    /// A pod's own cgroup, or something in it that is no container (Kata's sandbox, for one): the pod is known.
    #[error("the cgroup of pod {pod_uid}, not of one of its containers")]
    PodLevel {
        /// As [`ContainerPath::pod_uid`].
        pod_uid: String,
        /// The pod's quality of service.
        qos: Qos,
    },
    /// A runtime's per-container monitor, which runs outside of the container.
    #[error("a container monitor (conmon, lxc.monitor), not a container")]
    Monitor {
        /// The pod, when the monitor is accounted to one.
        pod_uid: Option<String>,
    },
    /// `kubepods` or a quality-of-service cgroup; no pod's processes live there.
    #[error("a cgroup that the kubelet keeps for all pods of a class")]
    KubeletLevel,
    /// A `kubepods` where no kubelet puts it.
    #[error(
        "`{0}` is not in a kubelet's place, so its name proves nothing: some process made it in its own cgroup"
    )]
    OutsideKubelet(String),
    /// A path that leaves the reader's cgroup namespace (`/../…`).
    #[error("the path lies outside of this cgroup namespace: give the agent the host's /sys/fs/cgroup")]
    OutsideNamespace,
    /// A host's own process: a service, a session, the root.
    #[error("no container")]
    Host,
}

impl NotAContainer {
    /// The pod that the path proves all the same.
    pub fn pod_uid(&self) -> Option<&str> {
        match self {
            Self::PodLevel { pod_uid, .. } => Some(pod_uid),
            Self::Monitor { pod_uid } => pod_uid.as_deref(),
            _ => None,
        }
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Qos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Reads a path such as `/kubepods.slice/kubepods-pod….slice/cri-containerd-….scope`, relative to the
/// hierarchy's root.
///
/// Work is linear in the path's length; nothing is allocated but the result's strings.
pub fn parse(path: &str) -> Result<ContainerPath, NotAContainer> {
    // The kernel appends this in /proc when the cgroup is already gone.
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    let segments = || path.split('/').filter(|segment| !segment.is_empty());
    if segments().any(|segment| segment == "..") {
        return Err(NotAContainer::OutsideNamespace);
    }
    if let Some(root) = names::kubepods_root(segments()) {
        let stem = root.stem;
        return in_kubepods(segments().skip(root.depth), stem);
    }
    outside_kubepods(segments())
}

/// What follows `kubepods`: a quality of service or none, the pod, the container. `stem` is the name that
/// systemd repeats in every slice below, `None` for the cgroupfs driver.
fn in_kubepods<'a>(
    mut segments: impl Iterator<Item = &'a str>,
    stem: Option<&str>,
) -> Result<ContainerPath, NotAContainer> {
    let first = segments.next().ok_or(NotAContainer::KubeletLevel)?;
    let level = names::KubeletLevel::read(first, stem).ok_or(NotAContainer::KubeletLevel)?;
    let (qos, pod_uid) = match level {
        names::KubeletLevel::Pod(uid) => (Qos::Guaranteed, uid),
        names::KubeletLevel::Class(qos) => {
            let class_stem = stem.map(|_| first.strip_suffix(".slice").unwrap_or(first));
            match segments.next().and_then(|pod| names::KubeletLevel::read(pod, class_stem)) {
                Some(names::KubeletLevel::Pod(uid)) => (qos, uid),
                _ => return Err(NotAContainer::KubeletLevel),
            }
        }
    };
    let Some(container) = segments.next() else { return Err(NotAContainer::PodLevel { pod_uid, qos }) };
    if is_conmon(container) {
        return Err(NotAContainer::Monitor { pod_uid: Some(pod_uid) });
    }
    // Only the segment straight below the pod is the runtime's; deeper ones may be anybody's.
    match names::container(container) {
        Some((runtime, id)) => Ok(ContainerPath {
            container_id: id.to_owned(),
            pod_uid: Some(pod_uid),
            runtime,
            qos: Some(qos),
            nested_depth: segments.count(),
        }),
        None => Err(NotAContainer::PodLevel { pod_uid, qos }),
    }
}

/// The outermost container of a path that is in no kubelet's place.
fn outside_kubepods<'a>(
    segments: impl Iterator<Item = &'a str> + Clone,
) -> Result<ContainerPath, NotAContainer> {
    let mut parent: Option<&str> = None;
    let mut rest = segments;
    let mut depth = 0_usize;
    while let Some(segment) = rest.next() {
        if is_conmon(segment) {
            return Err(NotAContainer::Monitor { pod_uid: None });
        }
        if let Some(found) = names::containerd_without_systemd(segment) {
            // Beside the runtime's own process, or at the root when that runs there.
            let in_place = match parent {
                None => true,
                Some(service) => depth <= 2 && names::is_runtime_service(service),
            };
            if !in_place {
                return Err(NotAContainer::OutsideKubelet(names::printable(segment)));
            }
            return Ok(ContainerPath {
                container_id: found.container_id.to_owned(),
                pod_uid: Some(found.pod_uid),
                runtime: found.runtime,
                qos: Some(found.qos),
                nested_depth: rest.count(),
            });
        }
        if names::looks_like_kubepods(segment) {
            return Err(NotAContainer::OutsideKubelet(names::printable(segment)));
        }
        if let Some((runtime, id, taken)) = names::standalone(parent, segment, rest.clone()) {
            return Ok(ContainerPath {
                container_id: id.to_owned(),
                pod_uid: None,
                runtime,
                qos: None,
                nested_depth: rest.skip(taken).count(),
            });
        }
        parent = Some(segment);
        depth += 1;
    }
    Err(NotAContainer::Host)
}

#[cfg(test)]
mod tests;
