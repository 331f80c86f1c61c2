//! Kernel evidence as the configuration asks for it.
#![forbid(unsafe_code)]

use std::sync::Arc;

use anyhow::{Context, Result};

use crate::{
    config::{
        Config,
        extensions::{ApiClient, OriginExtension, Pods},
        receivers::Receiver,
    },
    origin::{
        NoPods, OriginSource, PodSource,
        bpf::{KernelOrigins, Options},
        capabilities,
        enforce::Enforcer,
        events::Writer,
        findings::FindingsFile,
        join::AddressOrigins,
        loader::own,
        pods::{FilePods, RemotePods},
    },
    telemetry::{events, health::Health},
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
    /// Pods that are asked for over the network.
    remote: Option<Arc<RemotePods>>,
    /// Where Events are written.
    events: Option<ApiClient>,
}

impl Origins {
    /// Starts to ask for pods, to read the kernel's findings, and to act on them. After capabilities were dropped.
    pub(super) fn watch(&self, health: &Health) -> Result<()> {
        if let Some(pods) = &self.remote {
            pods.start().context("cannot start the thread that asks for pods")?;
            let pods = Arc::clone(pods);
            health.remark("no answer about pods yet: they are known by their uid only", move || {
                pods.answered()
            });
        }
        if let Some(way) = &self.events {
            let writer = Writer::start(way).context("extensions::origin::events")?;
            if !events::set(Arc::new(writer)) {
                tracing::debug!("Events go where they went before");
            }
        }
        if let Some(kernel) = &self.kernel {
            let enforcer = self.enforcer.clone();
            kernel.watch_findings(move |finding| {
                if let Some(enforcer) = &enforcer {
                    enforcer.finding(&finding);
                }
                if let Some(event) = finding.event() {
                    events::report(event);
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
        return Ok(Origins {
            source,
            stamp: false,
            required: false,
            pods,
            kernel: None,
            enforcer: None,
            remote: None,
            events: None,
        });
    };
    let (pods, remote) = pods(extension)?;
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
    Ok(Origins {
        source,
        stamp: true,
        required: extension.required,
        pods,
        kernel,
        enforcer,
        remote,
        events: extension.events.clone(),
    })
}

/// The source of pods; once more, where it is one that has to be started.
#[allow(clippy::type_complexity, reason = "the same thing twice")]
fn pods(extension: &OriginExtension) -> Result<(Arc<dyn PodSource>, Option<Arc<RemotePods>>)> {
    let remote = match &extension.pods {
        None => return Ok((Arc::new(NoPods), None)),
        Some(Pods::File(path)) => {
            let pods = FilePods::open(path)
                .with_context(|| format!("extensions::origin::pods: {}", path.display()))?;
            return Ok((Arc::new(pods), None));
        }
        Some(Pods::Kubelet(kubelet)) => RemotePods::kubelet(kubelet),
        Some(Pods::Api(api)) => RemotePods::api(api),
    };
    let remote = Arc::new(remote.context("extensions::origin::pods")?);
    Ok((Arc::clone(&remote) as Arc<dyn PodSource>, Some(remote)))
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
