//! The authenticators of the configuration, made once for the process, and the gates that they make of listeners.
#![forbid(unsafe_code)]

use std::{collections::HashMap, sync::Arc};

use anyhow::{Context as _, Result, bail};

use crate::{
    auth::{
        Authenticator,
        gate::{Bind, Direct, Gate},
    },
    config::{ComponentId, Config, Located, auth::Auth, extensions::Extension, receivers::OtlpReceiver},
    receiver::Gates,
};

/// Who proves senders, by the extension's id, and who decides who they are.
pub(super) struct Authenticators {
    by_id: HashMap<ComponentId, Arc<dyn Authenticator>>,
    binder: Arc<dyn Bind>,
}

impl Authenticators {
    /// Makes all that the service enables. Reads their files; asks nobody.
    pub(super) fn build(config: &Config) -> Result<Self> {
        let by_id = HashMap::new();
        for component in config.enabled_extensions() {
            if matches!(component.config, Extension::Oidc(_) | Extension::BearerToken(_)) {
                bail!("{}: `{}` is known but not built yet", component.at, component.id);
            }
        }
        Ok(Self { by_id, binder: Arc::new(Direct) })
    }

    /// The gates of a receiver. The reader has checked that the authenticators it names are there.
    pub(super) fn gates(&self, id: &ComponentId, receiver: &OtlpReceiver) -> Result<Gates> {
        let grpc = receiver.grpc.as_ref().and_then(|grpc| grpc.auth.as_ref());
        let http = receiver.http.as_ref().and_then(|http| http.auth.as_ref());
        Ok(Gates { grpc: self.gate(id, grpc)?, http: self.gate(id, http)? })
    }

    fn gate(&self, receiver: &ComponentId, auth: Option<&Auth>) -> Result<Arc<Gate>> {
        let find = |auth: &Auth| {
            let Located { value: id, at } = &auth.authenticator;
            self.by_id.get(id).cloned().with_context(|| format!("{at}: no authenticator `{id}`"))
        };
        let authenticator = auth.map(find).transpose()?;
        Ok(Arc::new(Gate { receiver: receiver.clone(), authenticator, binder: Arc::clone(&self.binder) }))
    }
}
