//! `extensions:`

use super::{
    FilePath,
    auth::{BearerTokenExtension, IdentityExtension, OidcExtension},
};
use std::{net::IpAddr, time::Duration};

/// An extension.
#[derive(Clone, Debug)]
pub enum Extension {
    /// `origin`, ours: kernel evidence
    Origin(Box<OriginExtension>),
    /// `health_check`
    HealthCheck {
        /// Default `localhost:13133`.
        endpoint: String,
    },
    /// `oidc`
    Oidc(Box<OidcExtension>),
    /// `bearertokenauth`
    BearerToken(Box<BearerTokenExtension>),
    /// `identity`, ours: who may speak for whom
    Identity(Box<IdentityExtension>),
}

/// `origin`
#[derive(Clone, Debug)]
pub struct OriginExtension {
    /// The cgroup2 directory where the programs attach; children are watched. Default `/sys/fs/cgroup`.
    pub cgroup: FilePath,
    /// `evidence: required` (default): not ready and not accepting while it is dead. `preferred`: go on without.
    pub required: bool,
    /// `plaintext`: what is done about plaintext telemetry.
    pub plaintext: PlaintextPolicy,
    /// `findings`
    pub findings: FindingsOutput,
    /// `cluster_cidrs`: networks of pods and Services, as `(address, prefix length)`. Empty: the private ranges
    /// (RFC 1918, RFC 4193, RFC 6598, link-local) count as the cluster's.
    pub cluster_cidrs: Vec<(IpAddr, u8)>,
    /// `pin_path`: a directory on a bpffs where links and maps are pinned, so that they outlive this process
    /// (`/sys/fs/bpf/spanwarden`). Absent: they end with it.
    pub pin_path: Option<FilePath>,
    /// `pods`
    pub pods: Option<Pods>,
    /// `events`: `true`, or how to reach the API server: a Kubernetes Event on each pod that sends plaintext (mode
    /// `warn` or `block`), forges its identity, replays a token or comes with an expired certificate. Default off.
    pub events: Option<ApiClient>,
}

/// What is done about plaintext telemetry: the ladder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum PlaintextMode {
    /// Report: metrics, log (info), file, table.
    #[default]
    Observe,
    /// Report as a warning, and as an Event on the pod where `events` is on.
    Warn,
    /// Drop in the kernel, end the connection with an error, deny the next ones for [`PlaintextPolicy::deny`].
    Block,
}

impl PlaintextMode {
    /// As written in the configuration and in findings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Warn => "warn",
            Self::Block => "block",
        }
    }
}

/// `plaintext`: a word (`observe`, `warn`, `block`: the mode for all pods) or a mapping with these keys.
#[derive(Clone, Debug)]
pub struct PlaintextPolicy {
    /// `mode`: for pods that no rule selects. Default `observe`.
    pub mode: PlaintextMode,
    /// `where`: destinations that `warn` and `block` are for; elsewhere it is `observe`. Default `[node, cluster,
    /// outside]`: what stays in the pod or goes to this agent is reported and no more.
    pub places: Vec<Place>,
    /// `rules`: the first that selects a pod decides.
    pub rules: Vec<PlaintextRule>,
    /// `exclude`: pods that are only ever observed, whatever the rules say.
    pub exclude: Vec<PodSelector>,
    /// `fallback_window`: how long after a failed TLS connection plaintext is a `fallback`. Default 60 s.
    pub fallback_window: Duration,
    /// `deny_for`: how long a blocked destination is refused (EPERM) to the pod. Default 30 s; 0 for not at all.
    pub deny_for: Duration,
    /// `kill_switch`: while this file exists nothing is blocked.
    pub kill_switch: Option<FilePath>,
}

impl Default for PlaintextPolicy {
    fn default() -> Self {
        Self {
            mode: PlaintextMode::Observe,
            places: vec![Place::Node, Place::Cluster, Place::Outside],
            rules: Vec::new(),
            exclude: Vec::new(),
            fallback_window: Duration::from_mins(1),
            deny_for: Duration::from_secs(30),
            kill_switch: None,
        }
    }
}

impl PlaintextPolicy {
    /// Whether any mode is [`PlaintextMode::Block`]: without one nothing has to be enforced.
    pub fn blocks(&self) -> bool {
        self.mode == PlaintextMode::Block || self.rules.iter().any(|rule| rule.mode == PlaintextMode::Block)
    }

    /// Whether pods are told apart by what only a pod source knows.
    pub fn needs_pods(&self) -> bool {
        let all = PodSelector::default();
        self.rules.iter().map(|rule| &rule.pods).chain(&self.exclude).any(|pods| *pods != all)
    }
}

/// One of `plaintext.rules`.
#[derive(Clone, Debug)]
pub struct PlaintextRule {
    /// `mode`
    pub mode: PlaintextMode,
    /// `namespaces` and `match_labels`
    pub pods: PodSelector,
}

/// Pods by namespace and labels; an empty selector selects all pods, never processes of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodSelector {
    /// `namespaces`; empty for all.
    pub namespaces: Vec<String>,
    /// `match_labels`, all of which the pod must have.
    pub match_labels: Vec<(String, String)>,
}

/// Where a connection goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// Loopback, within the pod.
    Pod,
    /// This agent.
    Agent,
    /// Another address or port of this node.
    Node,
    /// The cluster's networks.
    Cluster,
    /// Everything else.
    Outside,
}

impl Place {
    /// As written in the configuration, in findings and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pod => "pod",
            Self::Agent => "agent",
            Self::Node => "node",
            Self::Cluster => "cluster",
            Self::Outside => "outside",
        }
    }
}

/// `findings`: where findings go besides log and metrics.
#[derive(Clone, Debug)]
pub struct FindingsOutput {
    /// `file`: JSON lines, one a connection.
    pub file: Option<FilePath>,
    /// `per_second`: findings a second that one pod gets on average. Default 10.
    pub per_second: u32,
    /// `burst`: findings that one pod gets at once after a time of silence. Default 100.
    pub burst: u32,
}

impl Default for FindingsOutput {
    fn default() -> Self {
        Self { file: None, per_second: 10, burst: 100 }
    }
}

/// `pods`: where names and labels of pods come from.
#[derive(Clone, Debug)]
pub enum Pods {
    /// `{file: pods.yaml}`, read again when it changes
    File(FilePath),
    /// `kubelet`: the node's own list, asked for again and again and when an unknown pod appears
    Kubelet(Kubelet),
    /// `api`: a watch of this node's pods
    Api(Api),
}

/// `pods: {kubelet: {}}`
#[derive(Clone, Debug)]
pub struct Kubelet {
    /// `endpoint`. Default `https://127.0.0.1:10250`.
    pub endpoint: String,
    /// `interval` between lists. Default 10 s.
    pub interval: Duration,
    /// How to reach it.
    pub client: ApiClient,
}

/// `pods: {api: {}}`
#[derive(Clone, Debug)]
pub struct Api {
    /// `node`: the node's name. Default: the environment variable `K8S_NODE_NAME`.
    pub node: Option<String>,
    /// How to reach the API server.
    pub client: ApiClient,
}

/// How the API server or a kubelet is reached. The defaults are those of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiClient {
    /// `endpoint`: absent: `KUBERNETES_SERVICE_HOST` and `_PORT`.
    pub endpoint: Option<String>,
    /// `ca_file`. Default `/var/run/secrets/kubernetes.io/serviceaccount/ca.crt`.
    pub ca_file: Option<FilePath>,
    /// `token_file`. Default `/var/run/secrets/kubernetes.io/serviceaccount/token`.
    pub token_file: Option<FilePath>,
    /// `insecure_skip_verify`: for kubelets with certificates of their own making.
    pub insecure_skip_verify: bool,
}
