//! `loadbalancing`: every span of a trace to the one backend that owns the trace.
//!
//! A batch is split by owner, the parts are sent at the same time, and each part is retried by itself: what one
//! backend has acknowledged is never sent to it again by us. A part whose backend leaves is split again among
//! those that are there. Three ends are possible: all parts delivered (`Ok`); some refused for good (`Ok`, with
//! those spans as rejected, because a retry would duplicate the others); some not delivered in time
//! (`Unavailable`). Only in the last case, when the sender retries, do the parts that were delivered arrive
//! twice; as when the sender itself gives up waiting and sends again.

use std::{cell::RefCell, sync::Arc};

use arc_swap::ArcSwap;
use futures_util::future::{BoxFuture, join_all};
use tokio::time::Instant;

use super::{
    Credentials, Deliver,
    dial::Target,
    failure::Failure,
    grpc::{Client, Settings},
    meter::{BackendMeter, Meter},
    otlp,
    retry::Backoff,
    stop::Stop,
};
use crate::{
    config::{
        Component, ConfigError,
        exporters::{LoadBalancing as Config, Resolver, Retry},
        tls::ClientTls,
    },
    otlp::{Accepted, Batch, split::Splitter},
    route::{
        Router,
        resolver::{Membership, Resolve},
    },
};

thread_local! {
    /// Keeps its memory from one batch to the next.
    static SPLITTER: RefCell<Splitter> = RefCell::default();
}

/// What a backend's client is made of.
pub(super) struct Plan {
    /// TLS as configured; its address stands for nobody.
    target: Target,
    tls: ClientTls,
    settings: Arc<Settings>,
    rendezvous: bool,
}

impl Plan {
    /// Checks everything that can be wrong before a backend is known.
    pub(super) fn new<T>(
        component: &Component<T>,
        config: &Config,
        credentials: Credentials<'_>,
    ) -> Result<Self, ConfigError> {
        let error = |message: String| ConfigError { at: component.at.clone(), message };
        let tls = config.protocol.tls.clone();
        let target = Target::grpc("backend", &tls).map_err(|e| error(e.to_string()))?;
        match &config.resolver {
            Resolver::Static { hostnames } if hostnames.is_empty() => {
                return Err(error("resolver.static.hostnames is empty; name at least one backend".into()));
            }
            Resolver::Static { hostnames } => {
                for hostname in hostnames {
                    target.sibling(hostname, &tls).map_err(|e| error(format!("resolver.static: {e}")))?;
                }
            }
            Resolver::Dns { hostname, .. } if hostname.is_empty() => {
                return Err(error("resolver.dns.hostname is empty; name the gateways' Service".into()));
            }
            Resolver::Dns { port: Some(port), .. } if !port.is_empty() && port.parse::<u16>().is_err() => {
                return Err(error(format!("resolver.dns.port: `{port}` is no port number")));
            }
            Resolver::Dns { .. } => {}
        }
        let settings = otlp::settings(component, &config.protocol, credentials)?;
        Ok(Self { target, tls, settings, rendezvous: config.rendezvous })
    }

    fn backend(&self, member: &Arc<str>) -> Arc<Backend> {
        let client = self
            .target
            .sibling(member, &self.tls)
            .map(|target| Client::new(target, Arc::clone(&self.settings)))
            .map_err(|error| Failure::unavailable("endpoint", error.to_string()));
        Arc::new(Backend { member: Arc::clone(member), client, meter: BackendMeter::new(member) })
    }
}

/// One backend, for as long as it is a member; requests under way keep it a little longer.
struct Backend {
    member: Arc<str>,
    client: Result<Client, Failure>,
    meter: BackendMeter,
}

impl Backend {
    async fn send(&self, batch: &Batch) -> Result<Accepted, Failure> {
        let client = self.client.as_ref().map_err(Clone::clone)?;
        let started = Instant::now();
        let result = client.send(batch).await;
        self.meter.latency.observe(started.elapsed().as_secs_f64() * 1e3);
        if result.is_ok() { &self.meter.success } else { &self.meter.failure }.inc();
        result
    }
}

/// The members at one time. A batch is routed by one of these, however long that takes.
struct Epoch {
    router: Router,
    backends: Vec<Arc<Backend>>,
}

impl Epoch {
    fn new(plan: &Plan, members: &[Arc<str>], before: &[Arc<Backend>]) -> Self {
        let backends = members
            .iter()
            .map(|member| {
                let kept = before.iter().find(|backend| backend.member == *member);
                kept.map_or_else(|| plan.backend(member), Arc::clone)
            })
            .collect();
        Self { router: Router::new(members, plan.rendezvous), backends }
    }
}

/// The exporter.
pub(super) struct LoadBalancing {
    plan: Arc<Plan>,
    retry: Retry,
    membership: Membership,
    epoch: Arc<ArcSwap<Epoch>>,
    meter: Meter,
    stop: Stop,
}

/// What became of the spans of a batch or of a part of it.
#[derive(Default)]
struct Outcome {
    /// Delivered, without what the backend rejected.
    sent: u32,
    /// Rejected inside accepted requests, or refused for good.
    rejected: u32,
    /// The last refusal for good.
    permanent: Option<Failure>,
    /// What was not delivered in time, and may be later.
    undelivered: Option<Failure>,
}

impl Outcome {
    fn add(mut self, other: Self) -> Self {
        self.sent += other.sent;
        self.rejected += other.rejected;
        self.permanent = other.permanent.or(self.permanent);
        self.undelivered = match (self.undelivered, other.undelivered) {
            (Some(a), Some(b)) if a.retry_after() >= b.retry_after() => Some(a),
            (a, b) => b.or(a),
        };
        self
    }
}

impl LoadBalancing {
    pub(super) fn new(
        plan: Plan,
        config: &Config,
        resolver: Box<dyn Resolve>,
        meter: Meter,
        stop: Stop,
    ) -> Self {
        let nobody = Epoch::new(&plan, &[], &[]);
        Self {
            plan: Arc::new(plan),
            retry: config.protocol.retry.clone(),
            membership: Membership::new(resolver),
            epoch: Arc::new(ArcSwap::from_pointee(nobody)),
            meter,
            stop,
        }
    }

    /// Splits a batch among the members of now and sends the parts.
    fn spread<'a>(&'a self, batch: &'a Batch, backoff: Backoff<'a>) -> BoxFuture<'a, Outcome> {
        Box::pin(self.spread_now(batch, backoff))
    }

    async fn spread_now(&self, batch: &Batch, backoff: Backoff<'_>) -> Outcome {
        let epoch = self.epoch.load_full();
        match &epoch.backends[..] {
            [] => {
                let message = "no backend is known yet; check the resolver and that gateways are ready";
                self.meter.failed(batch.spans);
                Outcome {
                    undelivered: Some(Failure::unavailable("no_backends", message)),
                    ..Outcome::default()
                }
            }
            [only] => self.part(batch.clone(), only, backoff).await,
            backends => {
                // Spans of one trace often stand together.
                let mut last = ([0; 16], epoch.router.owner(&[0; 16]));
                let owner = |id: &[u8; 16]| {
                    if last.0 != *id {
                        last = (*id, epoch.router.owner(id));
                    }
                    last.1
                };
                let parts = SPLITTER.with_borrow_mut(|splitter| splitter.route(&batch.data, owner));
                let parts = match parts {
                    Ok(parts) => parts,
                    Err(error) => {
                        let failure = Failure::permanent("malformed", error.to_string());
                        return self.given_up(batch, failure);
                    }
                };
                let sends = parts.into_iter().map(|part| {
                    let backend = &backends[part.target];
                    let part = Batch { data: part.data, spans: part.spans, context: batch.context.clone() };
                    self.part(part, backend, backoff.clone())
                });
                let outcomes = join_all(sends).await;
                outcomes.into_iter().fold(Outcome::default(), Outcome::add)
            }
        }
    }

    /// Sends one backend its part, until it is delivered, given up, or the backend's no longer.
    async fn part(&self, batch: Batch, backend: &Arc<Backend>, mut backoff: Backoff<'_>) -> Outcome {
        loop {
            let failure = match backend.send(&batch).await {
                Ok(accepted) => {
                    let rejected = accepted.rejected_spans;
                    self.meter.sent(batch.spans, rejected);
                    return Outcome { sent: batch.spans - rejected, rejected, ..Outcome::default() };
                }
                Err(failure) => failure,
            };
            let Some(wait) = backoff.next(&failure) else { return self.given_up(&batch, failure) };
            self.meter.retry(failure.cause);
            tokio::select! {
                biased;
                () = self.leaves(&backend.member) => {
                    tracing::info!(backend = %backend.member, spans = batch.spans, "backend left; its part is routed again");
                    return self.spread(&batch, backoff).await;
                }
                going_on = Backoff::wait(wait, &self.stop) => if !going_on {
                    return self.given_up(&batch, failure);
                },
            }
        }
    }

    fn given_up(&self, batch: &Batch, failure: Failure) -> Outcome {
        self.meter.failed(batch.spans);
        if failure.is_permanent() {
            Outcome { rejected: batch.spans, permanent: Some(failure), ..Outcome::default() }
        } else {
            Outcome { undelivered: Some(failure), ..Outcome::default() }
        }
    }

    /// Resolves when a member is none, at once if it is none already.
    async fn leaves(&self, member: &Arc<str>) {
        let mut list = self.membership.subscribe();
        let gone = list.wait_for(|members| !members.contains(member)).await.is_ok();
        if !gone {
            std::future::pending::<()>().await;
        }
    }
}

impl Deliver for LoadBalancing {
    async fn start(&self) -> Result<(), String> {
        let (plan, epoch) = (Arc::clone(&self.plan), Arc::clone(&self.epoch));
        let changed = move |members: &[Arc<str>]| {
            let next = Epoch::new(&plan, members, &epoch.load().backends);
            epoch.store(Arc::new(next));
        };
        self.membership.start(changed).await;
        Ok(())
    }

    async fn deliver(&self, batch: &Batch) -> Result<Accepted, Failure> {
        let outcome = self.spread(batch, Backoff::new(&self.retry)).await;
        let rejected_spans = outcome.rejected;
        match (outcome.undelivered, outcome.permanent) {
            (Some(mut failure), _) => {
                if outcome.sent > 0 {
                    use std::fmt::Write as _;
                    let _ = write!(
                        failure.message,
                        " ({} of {} spans were delivered)",
                        outcome.sent, batch.spans
                    );
                }
                Err(failure)
            }
            (None, Some(failure)) if outcome.sent == 0 => Err(failure),
            (None, Some(failure)) => Ok(Accepted { rejected_spans, message: failure.message }),
            (None, None) => Ok(super::reply::partial(i64::from(rejected_spans), batch.spans)),
        }
    }

    async fn close(&self) {
        self.membership.stop();
        for backend in &self.epoch.load().backends {
            if let Ok(client) = &backend.client {
                client.close();
            }
        }
    }
}
