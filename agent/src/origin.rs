//! Who opened a connection, as the kernel saw it.
//!
//! [`Origin`] is what the rest of the program knows about a sender. It is produced once, straight after
//! `accept()`, by an [`OriginSource`], and travels beside every batch of that connection.

pub mod bpf;
pub mod capabilities;
pub mod cgroup;
pub mod doctor;
pub mod enforce;
pub mod events;
pub mod findings;
pub mod join;
pub mod loader;
pub mod pods;

use std::{fmt, net::SocketAddr, os::fd::BorrowedFd, sync::Arc};

/// How sure we are of an [`Origin`]. Missing evidence is [`Evidence::None`], never a guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Evidence {
    /// The kernel saw the `connect` of this very connection (the ISN-pair join).
    Kernel,
    /// Only the peer's IP address, looked up in the pod source: weaker, and wrong behind NAT.
    Address,
    /// Nothing is known.
    None,
    /// The kernel's pieces of evidence contradict each other (a relayed handshake, for one).
    Conflict,
}

impl Evidence {
    /// The value of the resource attribute `otlp.origin.evidence`, and of metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Address => "address",
            Self::None => "none",
            Self::Conflict => "conflict",
        }
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The opener of one accepted connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// How the rest of this record is known.
    pub evidence: Evidence,
    /// The process that called `connect`; absent unless the evidence is [`Evidence::Kernel`].
    pub process: Option<Process>,
    /// `container.id` from the cgroup path, 64 hex digits as a rule.
    pub container_id: Option<String>,
    /// `k8s.pod.uid`, dashes as Kubernetes writes it.
    pub pod_uid: Option<String>,
    /// What the pod source knows of the pod; late metadata is no reason to drop a span.
    pub pod: Option<Arc<Pod>>,
    /// The peer's address as the agent's socket shows it (after any NAT).
    pub peer: SocketAddr,
}

impl Origin {
    /// An origin of which nothing is known but the peer's address.
    pub fn unknown(peer: SocketAddr) -> Self {
        Self { evidence: Evidence::None, process: None, container_id: None, pod_uid: None, pod: None, peer }
    }
}

/// The process that opened a connection. The opener, not the user: a socket can be passed on afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Thread-group id in the initial pid namespace.
    pub pid: u32,
    /// User id in the initial user namespace.
    pub uid: u32,
    /// `comm`, at most 15 bytes, made printable.
    pub comm: String,
    /// Innermost cgroup id (inode number on cgroup2) at the time of `connect`.
    pub cgroup_id: u64,
    /// The cgroup's path below the watched root, when it was still there to be read.
    pub cgroup_path: Option<String>,
    /// `bpf_get_netns_cookie` of the opener.
    pub netns_cookie: u64,
}

/// What a pod source knows of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// `k8s.pod.uid`
    pub uid: String,
    /// `k8s.pod.name`
    pub name: String,
    /// `k8s.namespace.name`
    pub namespace: String,
    /// `k8s.node.name`
    pub node: Option<String>,
    /// `k8s.deployment.name`
    pub deployment: Option<String>,
    /// The controller that the pod belongs to, where that is no deployment: `StatefulSet`, `DaemonSet`, `CronJob`, ….
    pub owner: Option<String>,
    /// `k8s.cronjob.name`
    pub cron_job: Option<String>,
    /// `metadata.ownerReferences`: `ReplicaSet`, `StatefulSet`, `DaemonSet`, `Job`, ….
    pub owners: Vec<Owner>,
    /// `spec.serviceAccountName`
    pub service_account: Option<String>,
    /// `spec.hostname`
    pub hostname: Option<String>,
    /// `metadata.creationTimestamp`, RFC 3339: the Collector's `k8s.pod.start_time`.
    pub created: Option<String>,
    /// `spec.hostNetwork`: its addresses and its loopback are the node's.
    pub host_network: bool,
    /// Addresses of the pod (`status.podIPs`).
    pub ips: Vec<std::net::IpAddr>,
    /// Containers that have started, those of earlier restarts not among them.
    pub containers: Vec<Container>,
    /// Labels, sorted by key.
    pub labels: Vec<(String, String)>,
    /// Annotations, sorted by key.
    pub annotations: Vec<(String, String)>,
}

/// One of `metadata.ownerReferences`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// `kind`
    pub kind: String,
    /// `name`
    pub name: String,
    /// `uid`
    pub uid: String,
}

/// A container of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// `container.id`, without the runtime's scheme.
    pub id: String,
    /// `k8s.container.name`
    pub name: String,
    /// The image as the pod's specification names it; empty where that is not known.
    pub image: String,
}

impl Pod {
    /// The container with this id.
    pub fn container(&self, id: &str) -> Option<&Container> {
        self.containers.iter().find(|container| container.id == id)
    }

    /// What stays the same when the pod is replaced: its deployment's name, its controller's, or its own.
    pub fn workload(&self) -> &str {
        self.deployment.as_deref().or(self.owner.as_deref()).unwrap_or(&self.name)
    }
}

/// A Service, as far as it is known by addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// `metadata.name`
    pub name: String,
    /// `metadata.namespace`
    pub namespace: String,
    /// Its addresses: of the cluster, external, of load balancers.
    pub ips: Vec<std::net::IpAddr>,
}

/// Where pods come from: a file, the kubelet, or the API.
pub trait PodSource: Send + Sync {
    /// The pod with this uid (or, for a static pod, this config hash).
    fn by_uid(&self, uid: &str) -> Option<Arc<Pod>>;
    /// The pod with this address; `None` for host-network pods.
    fn by_ip(&self, ip: std::net::IpAddr) -> Option<Arc<Pod>>;
    /// Whether it knows every pod of this node by now, so that one which it does not know is not here.
    fn lists_all(&self) -> bool {
        false
    }
    /// The Service with this address. Sources that know no Services have none.
    fn service_by_ip(&self, _: std::net::IpAddr) -> Option<Arc<Service>> {
        None
    }
}

/// No pod source is configured: pods are known by their uid only.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPods;

impl PodSource for NoPods {
    fn by_uid(&self, _: &str) -> Option<Arc<Pod>> {
        None
    }

    fn by_ip(&self, _: std::net::IpAddr) -> Option<Arc<Pod>> {
        None
    }
}

/// Tells the origin of accepted connections.
pub trait OriginSource: Send + Sync {
    /// The origin of an accepted TCP socket. Called once a connection, before a byte is read from it.
    fn origin(&self, socket: BorrowedFd<'_>, peer: SocketAddr) -> Arc<Origin>;
    /// The same origin with what has become known of its pod since: metadata may come late. `None` where nothing has.
    fn renewed(&self, _: &Arc<Origin>) -> Option<Arc<Origin>> {
        None
    }
    /// Whether evidence can be had at all; readiness depends on it when the evidence is `required`.
    fn alive(&self) -> bool;
}
