//! Starting, running and stopping a configuration.
//!
//! One current-thread runtime a core, each with its own listeners (SO_REUSEPORT), and one more on the main thread for
//! signals, `/metrics`, health and the stages' own timers. Workers share nothing on the span path but what the
//! stages share on purpose.
#![forbid(unsafe_code)]

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use futures_util::future::join_all;
use tokio::{
    runtime::{Builder, Handle, Runtime},
    signal::unix::{Signal, SignalKind, signal},
    sync::{oneshot, watch},
    task::JoinSet,
};

use super::{
    admission::Authenticators,
    graph::Graph,
    origins::{self, Origins},
    reload,
};
use crate::{
    auth::claims::Claims,
    config::{Config, extensions::Extension, receivers::Receiver, shape::Shape},
    origin::NoPods,
    receiver::{Admission, Server, Shutdown, Upstream, Worker, shutdown},
    telemetry::{
        health::{Health, Heartbeat},
        server::{self, Page},
    },
};

/// Longest that requests in flight may take once the drain has begun.
const GRACE: Duration = Duration::from_secs(5);
/// Longest that the drain as a whole may take: Kubernetes' default grace period is 30 s.
const DRAIN: Duration = Duration::from_secs(25);
/// Bytes of requests held before they are parsed, where no `memory_limiter` says otherwise.
const DEFAULT_IN_FLIGHT: u64 = 256 << 20;
/// Where health is served when no `health_check` extension says otherwise.
const HEALTH: &str = "localhost:13133";
/// How often workers beat and evidence is looked at.
const TICK: Duration = Duration::from_secs(1);

/// Compiles everything that a configuration asks for, without binding, attaching or connecting.
pub fn check(config: &Config) -> Result<()> {
    let runtime = runtime()?;
    let _inside = runtime.enter();
    let authenticators = Authenticators::build(config, Arc::new(NoPods))?;
    Graph::build(config, Some(&Claims::default()), &authenticators, &[runtime.handle().clone()])?;
    for component in &config.receivers {
        let Receiver::Otlp(otlp) = &component.config;
        Server::check(otlp).with_context(|| format!("{}", component.at))?;
    }
    Ok(())
}

/// A configuration to run, and where its changes come from.
#[derive(Clone, Debug)]
pub struct Source {
    /// What it says, for telling what a change changes.
    pub shape: Shape,
    /// The file, which is read again when it changes and at SIGHUP; `None` for the embedded default.
    pub file: Option<PathBuf>,
}

/// Runs a configuration until SIGTERM or SIGINT, then drains. Scrubbing rules that change in its file meanwhile are taken over.
pub fn run(config: &Config, source: Source) -> Result<()> {
    let origins = origins::start(config)?;
    let health = Arc::new(Health::default());
    // Owned outside of the runtime: a runtime must not be dropped inside another one.
    let mut crew = Crew::new(&health)?;
    let outcome = runtime()?.block_on(supervise(config, source, &origins, &health, &mut crew));
    crew.end()?;
    outcome
}

fn runtime() -> Result<Runtime> {
    Builder::new_current_thread().enable_all().build().context("cannot start a runtime")
}

async fn supervise(
    config: &Config,
    source: Source,
    origins: &Origins,
    health: &Arc<Health>,
    crew: &mut Crew,
) -> Result<()> {
    let mut pages = telemetry(config, health).await?;
    let authenticators = Authenticators::build(config, Arc::clone(&origins.pods))?;
    let claims = claims(&authenticators, origins);
    let graph = Graph::build(config, claims.as_ref(), &authenticators, &crew.handles())?;
    graph.start().await?;
    authenticators.watch();
    let accepting = Arc::new(AtomicBool::new(true));
    if origins.required {
        let source = Arc::clone(&origins.source);
        health.require("kernel evidence is required and dead", move || source.alive());
    }
    origins.watch(health)?;
    let mut signals = Signals::new()?;
    let (trigger, shutdown) = shutdown::channel();
    let hangup = signal(SignalKind::hangup()).context("cannot catch signals")?;
    let running = reload::Running::new(config, source.shape, &graph, claims.as_ref());
    pages.spawn(reload::watch(running, source.file, hangup));
    crew.listen(config, &graph, origins, &authenticators, &accepting, &shutdown)?;
    health.accepting();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), workers = crew.members.len(), "ready");

    let name = watch_over(origins, &accepting, &mut signals).await;
    tracing::info!(signal = name, "draining");
    health.draining();
    let deadline = Instant::now() + DRAIN;
    trigger.drain(GRACE);
    crew.served().await;
    graph.drain(deadline).await;
    pages.abort_all();
    tracing::info!("ended");
    Ok(())
}

/// What resources may claim, where they are stamped at all: with kernel evidence, or where identities are asked for.
fn claims(authenticators: &Authenticators, origins: &Origins) -> Option<Claims> {
    authenticators.claims().or_else(|| origins.stamp.then(Claims::default))
}

/// Starts the `/metrics` and health servers. A port in use is an error where the configuration names it, and a
/// warning where it is only the default.
async fn telemetry(config: &Config, health: &Arc<Health>) -> Result<JoinSet<()>> {
    let configured = config.enabled_extensions().find_map(|component| match &component.config {
        Extension::HealthCheck { endpoint } => Some(endpoint.as_str()),
        _ => None,
    });
    let metrics = &config.service.telemetry;
    let wanted = [
        (Some(configured.unwrap_or(HEALTH)), configured.is_some(), Page::Health(Arc::clone(health))),
        (metrics.metrics.as_deref(), metrics.metrics_explicit, Page::Metrics),
    ];
    let mut pages = JoinSet::new();
    for (endpoint, explicit, page) in wanted {
        let Some(endpoint) = endpoint else { continue };
        match server::bind(endpoint).await {
            Ok((listener, _)) => drop(pages.spawn(server::serve(listener, page))),
            Err(error) if explicit => {
                return Err(error).with_context(|| format!("cannot listen on {endpoint}"));
            }
            Err(error) => tracing::warn!(%endpoint, %error, "not served; the endpoint can be configured"),
        }
    }
    Ok(pages)
}

/// SIGTERM and SIGINT, caught from the moment this is made.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        let catch = |kind| signal(kind).context("cannot catch signals");
        Ok(Self { terminate: catch(SignalKind::terminate())?, interrupt: catch(SignalKind::interrupt())? })
    }
}

/// Closes and opens the gate as evidence dies and comes back, until a signal ends it.
async fn watch_over(origins: &Origins, accepting: &AtomicBool, signals: &mut Signals) -> &'static str {
    let mut tick = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => return "SIGTERM",
            _ = signals.interrupt.recv() => return "SIGINT",
            _ = tick.tick() => {
                let open = !origins.required || origins.source.alive();
                if accepting.swap(open, Ordering::Relaxed) != open {
                    if open {
                        tracing::info!("kernel evidence is back: accepting again");
                    } else {
                        tracing::error!("kernel evidence is dead and required: not accepting");
                    }
                }
            }
        }
    }
}

/// The worker threads.
struct Crew {
    members: Vec<Member>,
    stop: watch::Sender<bool>,
}

/// A worker whose thread is started when it has something to listen on.
struct Member {
    name: String,
    handle: Handle,
    beat: Heartbeat,
    state: State,
}

enum State {
    Idle(Runtime),
    Serving { thread: JoinHandle<()>, served: Option<oneshot::Receiver<()>> },
    Ended,
}

impl Crew {
    fn new(health: &Health) -> Result<Self> {
        let count = thread::available_parallelism().map_or(1, usize::from);
        let member = |number: usize| {
            let (runtime, name) = (runtime()?, format!("worker-{number}"));
            let (handle, beat) = (runtime.handle().clone(), health.worker(name.clone()));
            Ok(Member { name, handle, beat, state: State::Idle(runtime) })
        };
        Ok(Self { members: (0..count).map(member).collect::<Result<_>>()?, stop: watch::channel(false).0 })
    }

    fn handles(&self) -> Vec<Handle> {
        self.members.iter().map(|member| member.handle.clone()).collect()
    }

    /// Opens every receiver's ports and starts the threads.
    fn listen(
        &mut self,
        config: &Config,
        graph: &Graph,
        origins: &Origins,
        authenticators: &Authenticators,
        accepting: &Arc<AtomicBool>,
        shutdown: &Shutdown,
    ) -> Result<()> {
        let admission = Admission::new(graph.memory_limit.map_or(DEFAULT_IN_FLIGHT, |limit| limit / 2));
        let mut shifts: Vec<Vec<(Worker, Upstream)>> = self.members.iter().map(|_| Vec::new()).collect();
        for component in &config.receivers {
            let Some(consumer) = graph.entries.get(&component.id) else { continue };
            let Receiver::Otlp(otlp) = &component.config;
            let server = Server::bind(otlp, &component.id, shifts.len())?;
            let gates = authenticators.gates(&component.id, otlp)?;
            for (transport, address) in server.local_addrs() {
                tracing::info!(receiver = %component.id, %transport, %address, "listening");
            }
            for (shift, worker) in shifts.iter_mut().zip(server.into_workers()) {
                let upstream = Upstream {
                    consumer: Arc::clone(consumer),
                    origins: Arc::clone(&origins.source),
                    accepting: Arc::clone(accepting),
                    admission: Arc::clone(&admission),
                    gates: gates.clone(),
                };
                shift.push((worker, upstream));
            }
        }
        for (member, shift) in self.members.iter_mut().zip(shifts) {
            member.start(shift, shutdown, self.stop.subscribe())?;
        }
        Ok(())
    }

    /// Resolves when every worker has answered its last request.
    async fn served(&mut self) {
        for member in &mut self.members {
            if let State::Serving { served, .. } = &mut member.state
                && let Some(served) = served.take()
            {
                let _ended_early = served.await;
            }
        }
    }

    /// Ends the threads.
    fn end(self) -> Result<()> {
        let _all_ended_already = self.stop.send(true);
        for member in self.members {
            if let State::Serving { thread, .. } = member.state
                && thread.join().is_err()
            {
                bail!("{} panicked; its last log line says where", member.name);
            }
        }
        Ok(())
    }
}

impl Member {
    fn start(
        &mut self,
        shift: Vec<(Worker, Upstream)>,
        shutdown: &Shutdown,
        mut stop: watch::Receiver<bool>,
    ) -> Result<()> {
        let State::Idle(runtime) = std::mem::replace(&mut self.state, State::Ended) else { return Ok(()) };
        let (done, served) = oneshot::channel();
        let (beat, shutdown) = (self.beat.clone(), shutdown.clone());
        let work = async move {
            tokio::spawn(async move {
                loop {
                    beat.beat();
                    tokio::time::sleep(TICK).await;
                }
            });
            let serving =
                shift.into_iter().map(|(worker, upstream)| worker.serve(upstream, shutdown.clone()));
            for outcome in join_all(serving).await {
                if let Err(error) = outcome {
                    tracing::error!(%error, "a listener ended");
                }
            }
            let _nobody_waits = done.send(());
            // Stages have tasks on this runtime that still drain.
            let _sender_is_gone = stop.wait_for(|stop| *stop).await;
        };
        let thread = thread::Builder::new()
            .name(self.name.clone())
            .spawn(move || runtime.block_on(work))
            .context("cannot start a worker thread")?;
        self.state = State::Serving { thread, served: Some(served) };
        Ok(())
    }
}
