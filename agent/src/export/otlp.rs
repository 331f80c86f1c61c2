//! `otlp`: OTLP/gRPC to one backend.

use std::sync::Arc;

use super::{
    Credentials, Leaf, bearer,
    dial::Target,
    failure::Failure,
    grpc::{Client, Settings},
    headers,
};
use crate::{
    config::{Component, ConfigError, exporters::OtlpExporter as Config},
    otlp::{Accepted, Batch},
};

/// One backend by gRPC; retries and queue are around it.
pub(crate) struct Otlp {
    client: Client,
}

impl Otlp {
    pub(crate) fn build<T>(
        component: &Component<T>,
        config: &Config,
        credentials: Credentials<'_>,
    ) -> Result<Self, ConfigError> {
        let target = Target::grpc(&config.endpoint.value, &config.tls)
            .map_err(|e| ConfigError { at: config.endpoint.at.clone(), message: e.to_string() })?;
        let settings = settings(component, config, credentials)?;
        Ok(Self { client: Client::new(target, settings) })
    }
}

/// The part of the settings that does not depend on the endpoint.
pub(crate) fn settings<T>(
    component: &Component<T>,
    config: &Config,
    credentials: Credentials<'_>,
) -> Result<Arc<Settings>, ConfigError> {
    let bearer = bearer(config.auth.as_ref(), credentials)?;
    let headers = headers(component, &config.headers)?;
    if config.tls.insecure_skip_verify && !config.tls.insecure {
        tracing::warn!(exporter = %component.id, "tls.insecure_skip_verify: any certificate is accepted");
    }
    Ok(Arc::new(Settings::new(headers, bearer, config.compression, config.timeout)))
}

impl Leaf for Otlp {
    async fn send(&self, batch: &Batch) -> Result<Accepted, Failure> {
        self.client.send(batch).await
    }

    async fn close(&self) {
        self.client.close();
    }
}
