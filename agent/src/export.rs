//! Sending batches on: OTLP by gRPC and HTTP, a file, the log; retries and queues around them.
//!
//! [`build`] makes an exporter of its configuration. It is then three layers: a leaf that tries once
//! (`otlp`, `otlphttp`, `file`, `debug`), the retries around it (or `loadbalancing`, which retries each part by
//! itself), and the front that the pipeline calls, which acknowledges on delivery or, with a `sending_queue`,
//! on enqueueing.
//!
//! Every thread that calls an exporter has connections of its own, driven by the runtime that it calls from.

#![forbid(unsafe_code)]

use std::{future::Future, pin::Pin, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue, header};
use tokio::time::Instant;

mod compress;
mod debug;
mod dial;
mod failure;
mod file;
mod front;
mod grpc;
mod loadbalancing;
mod meter;
mod otlp;
mod otlphttp;
mod queue;
mod reply;
mod retry;
mod stop;

use failure::Failure;
use front::{Front, Retrying};
use loadbalancing::LoadBalancing;

use crate::{
    auth::bearer::Bearer,
    config::{Component, ConfigError, auth::Auth, exporters},
    otlp::{Accepted, Batch, Consumer},
    route::resolver::{self, Resolve},
};

const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("spanwarden/", env!("CARGO_PKG_VERSION")));

/// Why an exporter can't begin its work.
#[derive(Debug, thiserror::Error)]
#[error("exporter {exporter}: {message}")]
pub struct StartError {
    /// Its name in the configuration.
    pub exporter: String,
    /// What is wrong, and what to do.
    pub message: String,
}

/// The future of [`Exporter::start`].
pub type Starting<'a> = Pin<Box<dyn Future<Output = Result<(), StartError>> + Send + 'a>>;
/// The future of [`Exporter::shutdown`].
pub type Stopping<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// The last stage of a pipeline.
pub trait Exporter: Consumer {
    /// Opens what has to be open before the first batch, and starts background work (resolver, queue) on the
    /// current runtime, which has to live until [`shutdown`](Self::shutdown) returns.
    fn start(&self) -> Starting<'_>;

    /// Ends: a queue is sent off, each batch tried once more, until the deadline; nobody waits for a retry any
    /// longer; files are synced. What is not delivered by then is counted. Call it after the last `consume`
    /// has returned, or those get `Unavailable` where they would have retried.
    fn shutdown(&self, deadline: Instant) -> Stopping<'_>;
}

/// Makes the exporter that a configuration asks for. Nothing is opened, written or sent yet, but files that its
/// TLS settings name are read.
pub fn build(component: &Component<exporters::Exporter>) -> Result<Arc<dyn Exporter>, ConfigError> {
    build_with(component, &|_| None)
}

/// Finds what an `auth` names.
pub type Credentials<'a> = &'a dyn Fn(&Auth) -> Option<Arc<Bearer>>;

/// [`build`] where exporters may have credentials.
pub fn build_with(
    component: &Component<exporters::Exporter>,
    credentials: Credentials<'_>,
) -> Result<Arc<dyn Exporter>, ConfigError> {
    use exporters::Exporter as Config;
    match &component.config {
        Config::Otlp(config) => {
            let leaf = otlp::Otlp::build(component, config, credentials)?;
            Ok(Front::build(component, config.queue.as_ref(), |meter, stop| {
                Retrying::new(leaf, config.retry.clone(), meter, stop)
            }))
        }
        Config::OtlpHttp(config) => {
            let leaf = otlphttp::OtlpHttp::build(component, config, credentials)?;
            Ok(Front::build(component, config.queue.as_ref(), |meter, stop| {
                Retrying::new(leaf, config.retry.clone(), meter, stop)
            }))
        }
        Config::File(config) => {
            let leaf = file::File::new(config);
            Ok(Front::build(component, None, |meter, stop| Retrying::once(leaf, meter, stop)))
        }
        Config::Debug(config) => {
            let leaf = debug::Debug::new(component, config);
            Ok(Front::build(component, None, |meter, stop| Retrying::once(leaf, meter, stop)))
        }
        Config::LoadBalancing(config) => {
            balanced(component, config, resolver::build(&config.resolver), credentials)
        }
    }
}

/// `loadbalancing` with a resolver of the caller's instead of the configuration's.
pub fn load_balancing<T>(
    component: &Component<T>,
    config: &exporters::LoadBalancing,
    resolver: Box<dyn Resolve>,
) -> Result<Arc<dyn Exporter>, ConfigError> {
    balanced(component, config, resolver, &|_| None)
}

fn balanced<T>(
    component: &Component<T>,
    config: &exporters::LoadBalancing,
    resolver: Box<dyn Resolve>,
    credentials: Credentials<'_>,
) -> Result<Arc<dyn Exporter>, ConfigError> {
    let plan = loadbalancing::Plan::new(component, config, credentials)?;
    Ok(Front::build(component, config.protocol.queue.as_ref(), |meter, stop| {
        LoadBalancing::new(plan, config, resolver, meter, stop)
    }))
}

/// One way of delivering, tried once.
trait Leaf: Send + Sync + 'static {
    /// Before the first batch.
    fn start(&self) -> impl Future<Output = Result<(), String>> + Send {
        std::future::ready(Ok(()))
    }

    /// One try.
    fn send(&self, batch: &Batch) -> impl Future<Output = Result<Accepted, Failure>> + Send;

    /// After the last batch.
    fn close(&self) -> impl Future<Output = ()> + Send;
}

/// Delivering with retries, counting what became of the spans.
trait Deliver: Send + Sync + 'static {
    /// Before the first batch.
    fn start(&self) -> impl Future<Output = Result<(), String>> + Send;

    /// Until it is delivered or given up.
    fn deliver(&self, batch: &Batch) -> impl Future<Output = Result<Accepted, Failure>> + Send;

    /// After the last batch.
    fn close(&self) -> impl Future<Output = ()> + Send;
}

/// The token that an exporter sends, where its `auth` names one.
fn bearer(auth: Option<&Auth>, credentials: Credentials<'_>) -> Result<Option<Arc<Bearer>>, ConfigError> {
    let Some(Auth { authenticator }) = auth else { return Ok(None) };
    match credentials(&Auth { authenticator: authenticator.clone() }) {
        Some(bearer) => Ok(Some(bearer)),
        None => Err(ConfigError {
            at: authenticator.at.clone(),
            message: format!("no `bearertokenauth` extension `{}` is enabled", authenticator.value),
        }),
    }
}

/// The header with the token of now, where one is sent.
fn authorization(bearer: Option<&Arc<Bearer>>) -> Result<Option<(HeaderName, HeaderValue)>, Failure> {
    let Some(bearer) = bearer else { return Ok(None) };
    bearer.credentials().map(Some).ok_or_else(|| {
        let message = "there is no token to send; put one into the file of the exporter's authenticator";
        Failure::unavailable("no_token", message)
    })
}

/// The configured headers. Their values may be credentials, so that they are marked sensitive: HPACK never
/// indexes them and nothing prints them.
fn headers<T>(component: &Component<T>, configured: &[(String, String)]) -> Result<HeaderMap, ConfigError> {
    let error = |message: String| ConfigError { at: component.at.clone(), message };
    let mut headers = HeaderMap::with_capacity(configured.len());
    for (name, value) in configured {
        let parsed: HeaderName = name.parse().map_err(|_| {
            error(format!("headers: `{name}` is no header name; use letters, digits and dashes"))
        })?;
        if parsed == header::CONTENT_TYPE || parsed == header::TE || parsed.as_str().starts_with("grpc-") {
            return Err(error(format!("headers: `{name}` is the protocol's own; remove it")));
        }
        let mut value: HeaderValue = value.parse().map_err(|_| {
            error(format!(
                "headers.{name}: the value has characters that a header can't carry, a line end for one"
            ))
        })?;
        value.set_sensitive(true);
        headers.append(parsed, value);
    }
    Ok(headers)
}
