//! `extensions:`

use super::FilePath;

/// An extension.
#[derive(Clone, Debug)]
pub enum Extension {
    /// `origin`, ours: kernel evidence
    Origin(OriginExtension),
    /// `health_check`
    HealthCheck {
        /// Default `localhost:13133`.
        endpoint: String,
    },
}

/// `origin`
#[derive(Clone, Debug)]
pub struct OriginExtension {
    /// The cgroup2 directory where the programs attach; children are watched. Default `/sys/fs/cgroup`.
    pub cgroup: FilePath,
    /// `evidence: required` (default): not ready and not accepting while it is dead. `preferred`: go on without.
    pub required: bool,
    /// `plaintext`; only `observe` is built.
    pub plaintext: PlaintextMode,
    /// `pods`
    pub pods: Option<Pods>,
}

/// `plaintext`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlaintextMode {
    /// Report only.
    #[default]
    Observe,
}

/// `pods`: where names and labels of pods come from. `kubelet` and `api` are not built yet.
#[derive(Clone, Debug)]
pub enum Pods {
    /// `{file: pods.yaml}`, read again when it changes
    File(FilePath),
}
