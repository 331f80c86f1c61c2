//! Which gateways there are, kept up to date.
//!
//! A [`Resolve`] answers once; a [`Membership`] asks it again and again, keeps the last good answer when it
//! fails, and tells whoever listens that the answer has changed.

use std::{
    fmt::Write as _,
    future::Future,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, task::AbortHandle};

use crate::{
    config::exporters::Resolver as ResolverConfig,
    telemetry::metrics::{Counters, Gauges, counter, gauge},
};

static RESOLUTIONS: LazyLock<Counters> = LazyLock::new(|| {
    counter(
        "otelcol_loadbalancer_num_resolutions",
        "Number of times the resolver was asked for the backends.",
        &["resolver", "success"],
    )
});
static UPDATES: LazyLock<Counters> = LazyLock::new(|| {
    counter(
        "otelcol_loadbalancer_num_backend_updates",
        "Number of times the list of backends was updated.",
        &["resolver"],
    )
});
static BACKENDS: LazyLock<Gauges> = LazyLock::new(|| {
    gauge("otelcol_loadbalancer_num_backends", "Current number of backends in use.", &["resolver"])
});

/// Why there is no new answer. The last good one stays in use.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The name service says no.
    #[error("looking up {hostname} failed: {error}; check the name and the cluster's DNS")]
    Lookup {
        /// What was asked for.
        hostname: String,
        /// Its answer.
        error: std::io::Error,
    },
    /// It says nothing in time.
    #[error(
        "looking up {hostname} took longer than {timeout:?}; check the cluster's DNS or raise resolver.dns.timeout"
    )]
    Timeout {
        /// What was asked for.
        hostname: String,
        /// The limit.
        timeout: Duration,
    },
    /// It says that there is nobody.
    #[error("{hostname} has no addresses; check that the gateways behind it are ready")]
    Empty {
        /// What was asked for.
        hostname: String,
    },
}

/// The future of [`Resolve::resolve`].
pub type Resolving<'a> = Pin<Box<dyn Future<Output = Result<Vec<Arc<str>>, ResolveError>> + Send + 'a>>;

/// Something that knows the gateways.
pub trait Resolve: Send + Sync {
    /// The label `resolver` of the metrics.
    fn kind(&self) -> &'static str;
    /// How long an answer stands; `None`: for ever.
    fn interval(&self) -> Option<Duration>;
    /// The members as the ring hashes them, sorted bytewise, at least one.
    fn resolve(&self) -> Resolving<'_>;
}

/// Makes the resolver that a configuration asks for.
pub fn build(config: &ResolverConfig) -> Box<dyn Resolve> {
    match config {
        ResolverConfig::Static { hostnames } => Box::new(Static::new(hostnames)),
        ResolverConfig::Dns { hostname, port, interval, timeout } => Box::new(Dns {
            hostname: hostname.clone(),
            port: port.clone(),
            interval: *interval,
            timeout: *timeout,
        }),
    }
}

/// `resolver.static`
#[derive(Debug)]
pub struct Static {
    members: Vec<Arc<str>>,
}

impl Static {
    /// As written, sorted.
    pub fn new(hostnames: &[String]) -> Self {
        let mut members: Vec<Arc<str>> = hostnames.iter().map(|h| Arc::from(h.as_str())).collect();
        members.sort_unstable();
        Self { members }
    }
}

impl Resolve for Static {
    fn kind(&self) -> &'static str {
        "static"
    }

    fn interval(&self) -> Option<Duration> {
        None
    }

    fn resolve(&self) -> Resolving<'_> {
        Box::pin(std::future::ready(Ok(self.members.clone())))
    }
}

/// `resolver.dns`
#[derive(Debug)]
pub struct Dns {
    hostname: String,
    port: Option<String>,
    interval: Duration,
    timeout: Duration,
}

impl Resolve for Dns {
    fn kind(&self) -> &'static str {
        "dns"
    }

    fn interval(&self) -> Option<Duration> {
        Some(self.interval)
    }

    fn resolve(&self) -> Resolving<'_> {
        Box::pin(async {
            let hostname = self.hostname.clone();
            // The port is only there because the call wants one.
            let found = tokio::time::timeout(self.timeout, tokio::net::lookup_host((&*self.hostname, 0)))
                .await
                .map_err(|_| ResolveError::Timeout { hostname: hostname.clone(), timeout: self.timeout })?
                .map_err(|error| ResolveError::Lookup { hostname: hostname.clone(), error })?;
            let members = members(found.map(|address| address.ip()), self.port.as_deref());
            if members.is_empty() {
                return Err(ResolveError::Empty { hostname });
            }
            Ok(members)
        })
    }
}

/// The texts that the Collector's DNS resolver feeds its ring: `ip`, `[ip6]`, with `:port` where one is
/// configured, sorted bytewise.
fn members(addresses: impl Iterator<Item = IpAddr>, port: Option<&str>) -> Vec<Arc<str>> {
    let mut members: Vec<Arc<str>> = addresses
        .map(|address| {
            let mut text = match address.to_canonical() {
                IpAddr::V4(v4) => v4.to_string(),
                IpAddr::V6(v6) => format!("[{v6}]"),
            };
            if let Some(port) = port.filter(|port| !port.is_empty()) {
                let _ = write!(text, ":{port}");
            }
            Arc::from(text)
        })
        .collect();
    members.sort_unstable();
    members
}

/// A list of members that keeps itself up to date. Never empty once it was not.
pub struct Membership {
    shared: Arc<Shared>,
    task: Mutex<Option<AbortHandle>>,
}

struct Shared {
    resolver: Box<dyn Resolve>,
    list: watch::Sender<Arc<[Arc<str>]>>,
}

impl Membership {
    /// A membership of nobody yet; [`start`](Self::start) asks for the first time.
    pub fn new(resolver: Box<dyn Resolve>) -> Self {
        let list = watch::Sender::new(Arc::from([]));
        Self { shared: Arc::new(Shared { resolver, list }), task: Mutex::new(None) }
    }

    /// Resolves once, then keeps resolving on the current runtime, handing every change to `changed` before
    /// those who [`subscribe`](Self::subscribe) hear of it. An answer that fails at first is no error here:
    /// the gateways may come later, and until then there are no members.
    pub async fn start(&self, changed: impl Fn(&[Arc<str>]) + Send + Sync + 'static) {
        self.shared.refresh(&changed).await;
        let Some(interval) = self.shared.resolver.interval() else { return };
        let shared = Arc::clone(&self.shared);
        let task = tokio::spawn(async move {
            loop {
                // Zero would spin; the Collector takes its default for it.
                tokio::time::sleep(interval.max(Duration::from_millis(100))).await;
                shared.refresh(&changed).await;
            }
        });
        let old = lock(&self.task).replace(task.abort_handle());
        if let Some(old) = old {
            old.abort();
        }
    }

    /// Hears of changes.
    pub fn subscribe(&self) -> watch::Receiver<Arc<[Arc<str>]>> {
        self.shared.list.subscribe()
    }

    /// Stops asking. The last list stays.
    pub fn stop(&self) {
        if let Some(task) = lock(&self.task).take() {
            task.abort();
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let gone = self.list.borrow().len();
        BACKENDS.with_label_values(&[self.resolver.kind()]).sub(gone.cast_signed() as i64);
    }
}

impl Shared {
    async fn refresh(&self, changed: &(impl Fn(&[Arc<str>]) + Send + Sync)) {
        let kind = self.resolver.kind();
        let answer = self.resolver.resolve().await;
        let success = if answer.is_ok() { "true" } else { "false" };
        RESOLUTIONS.with_label_values(&[kind, success]).inc();
        let members = match answer {
            Ok(members) => members,
            Err(error) => {
                let kept = self.list.borrow().len();
                tracing::warn!(resolver = kind, %error, kept, "no new list of backends; the last one stays");
                return;
            }
        };
        let before = Arc::clone(&self.list.borrow());
        if members.is_empty() || *before == *members {
            return;
        }
        UPDATES.with_label_values(&[kind]).inc();
        BACKENDS
            .with_label_values(&[kind])
            .add((members.len().cast_signed() - before.len().cast_signed()) as i64);
        tracing::info!(
            resolver = kind,
            before = before.len(),
            now = members.len(),
            "list of backends changed"
        );
        changed(&members);
        self.list.send_replace(members.into());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
