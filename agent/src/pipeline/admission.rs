//! The authenticators of the configuration, made once for the process, and the gates that they make of listeners.
#![forbid(unsafe_code)]

use std::{collections::HashMap, sync::Arc};

use anyhow::{Context as _, Result};

use crate::{
    auth::{
        Authenticator,
        bearer::Bearer,
        bind::Binder,
        claims::Claims,
        gate::{Bind, Direct, Gate},
        oidc::Oidc,
    },
    config::{
        ComponentId, Config, Located,
        auth::Auth,
        extensions::{Extension, Pods},
        receivers::OtlpReceiver,
    },
    origin::PodSource,
    receiver::Gates,
};

/// Who proves senders, by the extension's id, and who decides who they are.
pub(super) struct Authenticators {
    by_id: HashMap<ComponentId, Arc<dyn Authenticator>>,
    /// Those of them that exporters can use too.
    bearers: HashMap<ComponentId, Arc<Bearer>>,
    /// Those of them that have keys to ask for.
    oidc: Vec<Arc<Oidc>>,
    /// `identity`
    identity: Option<Arc<Binder>>,
    trust_domains: Arc<[String]>,
}

impl Authenticators {
    /// Makes all that the service enables. Reads their files; asks nobody.
    pub(super) fn build(config: &Config, pods: Arc<dyn PodSource>) -> Result<Self> {
        let identity = config.identity().map(|identity| Arc::new(Binder::new(identity, pods, node(config))));
        let trust_domains =
            config.identity().map(|identity| identity.trust_domains.as_slice().into()).unwrap_or_default();
        let mut built = Self {
            by_id: HashMap::new(),
            bearers: HashMap::new(),
            oidc: Vec::new(),
            identity,
            trust_domains,
        };
        for component in config.enabled_extensions() {
            let (id, at) = (&component.id, &component.at);
            match &component.config {
                Extension::BearerToken(config) => {
                    let bearer = Bearer::new(id.to_string(), config).with_context(|| at.to_string())?;
                    let bearer = Arc::new(bearer);
                    built.bearers.insert(id.clone(), Arc::clone(&bearer));
                    built.by_id.insert(id.clone(), bearer);
                }
                Extension::Oidc(config) => {
                    let oidc = Arc::new(Oidc::new(config).with_context(|| at.to_string())?);
                    built.oidc.push(Arc::clone(&oidc));
                    built.by_id.insert(id.clone(), oidc);
                }
                Extension::Identity(_) | Extension::Origin(_) | Extension::HealthCheck { .. } => {}
            }
        }
        Ok(built)
    }

    /// Keeps up with files that change, and asks for keys, on the current runtime.
    pub(super) fn watch(&self) {
        for bearer in self.bearers.values() {
            bearer.watch();
        }
        // So that the first sender need not wait; nothing else depends on it.
        for oidc in &self.oidc {
            let oidc = Arc::clone(oidc);
            tokio::spawn(async move { oidc.prefetch().await });
        }
    }

    /// What an exporter with this `auth` sends.
    pub(super) fn credentials(&self, auth: &Auth) -> Option<Arc<Bearer>> {
        self.bearers.get(&auth.authenticator.value).cloned()
    }

    /// What `identity` lets resources claim.
    pub(super) fn claims(&self) -> Option<Claims> {
        self.identity.as_ref().map(|binder| binder.claims())
    }

    /// The gates of a receiver. The reader has checked that the authenticators it names are there.
    pub(super) fn gates(&self, id: &ComponentId, receiver: &OtlpReceiver) -> Result<Gates> {
        let grpc = receiver.grpc.as_ref().and_then(|grpc| grpc.auth.as_ref());
        let http = receiver.http.as_ref().and_then(|http| http.auth.as_ref());
        Ok(Gates {
            grpc: self.gate(id, grpc)?,
            http: self.gate(id, http)?,
            trust_domains: Arc::clone(&self.trust_domains),
        })
    }

    fn gate(&self, receiver: &ComponentId, auth: Option<&Auth>) -> Result<Arc<Gate>> {
        let find = |auth: &Auth| {
            let Located { value: id, at } = &auth.authenticator;
            self.by_id.get(id).cloned().with_context(|| format!("{at}: no authenticator `{id}`"))
        };
        let authenticator = auth.map(find).transpose()?;
        let binder: Arc<dyn Bind> = match &self.identity {
            Some(binder) => Arc::clone(binder) as _,
            None => Arc::new(Direct),
        };
        Ok(Arc::new(Gate { receiver: receiver.clone(), authenticator, binder }))
    }
}

/// This node's name: as the pod source was told it, else what the deployment says.
fn node(config: &Config) -> Option<String> {
    let told = match &config.origin().and_then(|origin| origin.pods.as_ref()) {
        Some(Pods::Api(api)) => api.node.clone(),
        _ => None,
    };
    told.or_else(|| std::env::var("K8S_NODE_NAME").ok()).filter(|name| !name.is_empty())
}
