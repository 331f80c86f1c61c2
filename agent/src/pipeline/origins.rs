//! Kernel evidence as the configuration asks for it.
#![forbid(unsafe_code)]

use std::sync::Arc;

use anyhow::{Context, Result};

use crate::{
    config::{
        Config,
        extensions::{OriginExtension, Pods},
        receivers::Receiver,
    },
    origin::{
        NoPods, OriginSource, PodSource,
        bpf::{KernelOrigins, Options},
        capabilities,
        enforce::Enforcer,
        findings::FindingsFile,
        join::AddressOrigins,
        loader::own,
        pods::FilePods,
    },
};

/// Where origins come from, and whether the agent may go on without.
pub(super) struct Origins {
    pub(super) source: Arc<dyn OriginSource>,
    /// Whether `extensions.origin` is on: only then are resources stamped.
    pub(super) stamp: bool,
    /// `evidence: required`
    pub(super) required: bool,
    /// What is known of pods.
    pub(super) pods: Arc<dyn PodSource>,
    kernel: Option<Arc<KernelOrigins>>,
    enforcer: Option<Arc<Enforcer>>,
}

impl Origins {
    /// Starts to read the kernel's findings, and to act on them. After capabilities were dropped.
    pub(super) fn watch(&self) -> Result<()> {
        if let Some(kernel) = &self.kernel {
            let enforcer = self.enforcer.clone();
            kernel.watch_findings(move |finding| {
                if let Some(enforcer) = &enforcer {
                    enforcer.finding(&finding);
                }
            })?;
        }
        if let Some(enforcer) = &self.enforcer {
            enforcer.start().context("cannot start the threads of enforcement")?;
        }
        Ok(())
    }
}

/// Attaches the kernel programs when the configuration wants them, and drops every capability then.
///
/// Must run before any other thread is there: capabilities are a thread's own (`capabilities(7)`).
pub(super) fn start(config: &Config) -> Result<Origins> {
    let Some(extension) = config.origin() else {
        let pods: Arc<dyn PodSource> = Arc::new(NoPods);
        let source = Arc::new(AddressOrigins::new(Arc::clone(&pods)));
        return Ok(Origins { source, stamp: false, required: false, pods, kernel: None, enforcer: None });
    };
    let pods = pods(extension)?;
    let variables =
        std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
    let file = extension.findings.file.as_deref().map(FindingsFile::open).transpose();
    let options = Options {
        file: file.context("extensions::origin::findings::file")?,
        own_addresses: own::from_env(variables)?,
        ports: ports(config),
        plaintext: extension.plaintext.clone(),
        findings: extension.findings.clone(),
        cluster_cidrs: extension.cluster_cidrs.clone(),
        pin: extension.pin_path.clone(),
        ..Options::new(extension.cgroup.clone(), Arc::clone(&pods))
    };
    let kernel = match KernelOrigins::attach(options) {
        Ok(kernel) => Some(Arc::new(kernel)),
        Err(error) if extension.required => {
            return Err(error).context("extensions::origin: evidence is `required` and cannot be had");
        }
        Err(error) => {
            tracing::warn!(%error, "no kernel evidence; going on with addresses (evidence: preferred)");
            None
        }
    };
    let enforcer = match &kernel {
        Some(kernel) => {
            let enforcer = Enforcer::prepare(kernel, &extension.plaintext, extension.required)
                .context("extensions::origin::plaintext")?;
            Some(Arc::new(enforcer))
        }
        None => None,
    };
    capabilities::drop_all().context("cannot drop capabilities after attaching")?;
    let source: Arc<dyn OriginSource> = match &kernel {
        Some(kernel) => Arc::clone(kernel) as Arc<dyn OriginSource>,
        None => Arc::new(AddressOrigins::new(Arc::clone(&pods))),
    };
    Ok(Origins { source, stamp: true, required: extension.required, pods, kernel, enforcer })
}

fn pods(extension: &OriginExtension) -> Result<Arc<dyn PodSource>> {
    match &extension.pods {
        Some(Pods::File(path)) => {
            let pods = FilePods::open(path)
                .with_context(|| format!("extensions::origin::pods: {}", path.display()))?;
            Ok(Arc::new(pods))
        }
        Some(Pods::Kubelet(_) | Pods::Api(_)) => {
            anyhow::bail!("extensions::origin::pods: `kubelet` and `api` are known but not built yet")
        }
        None => Ok(Arc::new(NoPods)),
    }
}

/// The ports on which this program receives: a finding towards one of them is telemetry for us.
fn ports(config: &Config) -> Vec<u16> {
    let endpoints = config.receivers.iter().flat_map(|component| {
        let Receiver::Otlp(otlp) = &component.config;
        let grpc = otlp.grpc.as_ref().map(|grpc| grpc.endpoint.as_str());
        grpc.into_iter().chain(otlp.http.as_ref().map(|http| http.endpoint.as_str()))
    });
    endpoints.filter_map(|endpoint| endpoint.rsplit_once(':')?.1.parse().ok()).collect()
}
