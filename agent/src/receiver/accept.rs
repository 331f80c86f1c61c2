//! Accepting: origin first, then a task for the connection.

#![forbid(unsafe_code)]

use std::{
    fmt, io,
    os::fd::AsFd as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::try_join_all;
use prometheus::IntGauge;
use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinError, JoinSet},
    time::{Instant, timeout_at},
};

use super::{
    Endpoint, Limits, Protocol, ReceiverError, Shutdown, Transport, Upstream, Worker, connection,
    metrics::Meters,
    places::{Place, Places},
};
use crate::{
    auth::gate::Gate, config::receivers::Keepalive, origin::Origin, telemetry::Cause,
    transport::tls::ServerSource,
};

/// How long to wait after the system refuses to accept, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What a connection may take after the drain's deadline to say goodbye.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// At most one warning a listener in this time; the counters have them all.
const WARN_EVERY_MILLIS: u64 = 10_000;

/// What all connections of one protocol on one worker share.
pub(super) struct Service {
    pub(super) receiver: Arc<str>,
    pub(super) transport: Transport,
    pub(super) protocol: Protocol,
    pub(super) keepalive: Keepalive,
    pub(super) tls: Option<Arc<ServerSource>>,
    pub(super) limits: Arc<Limits>,
    pub(super) upstream: Upstream,
    pub(super) gate: Arc<Gate>,
    pub(super) meters: Meters,
    started: Instant,
    /// Milliseconds after `started`, plus one; 0: never.
    warned: AtomicU64,
}

impl Service {
    /// Counts a connection that never got as far as a request, or broke its protocol, and says so now and then.
    pub(super) fn refuse_connection(&self, origin: &Origin, cause: Cause, detail: &str) {
        self.meters.refuse_connection(cause);
        self.warn(origin, cause, format_args!("connection refused: {detail}"));
    }

    /// Says what a sender did wrong, now and then; the counters have all of it.
    pub(super) fn warn(&self, origin: &Origin, cause: Cause, what: fmt::Arguments<'_>) {
        let now = self.started.elapsed().as_millis() as u64 + 1;
        let last = self.warned.load(Ordering::Relaxed);
        if last != 0 && now - last < WARN_EVERY_MILLIS {
            return;
        }
        self.warned.store(now, Ordering::Relaxed);
        let pod = origin.pod.as_deref();
        tracing::warn!(
            receiver = &*self.receiver,
            transport = self.transport.as_str(),
            peer = %origin.peer,
            evidence = origin.evidence.as_str(),
            pod = pod.map(|p| p.name.as_str()),
            namespace = pod.map(|p| p.namespace.as_str()),
            cause,
            "{what}"
        );
    }
}

impl Worker {
    /// Serves until `shutdown`, then drains: it stops accepting, tells clients to go elsewhere, finishes what is
    /// in flight, and cuts at the deadline what is still open. Runs on a current-thread runtime with I/O and time
    /// enabled.
    pub async fn serve(self, upstream: Upstream, shutdown: Shutdown) -> Result<(), ReceiverError> {
        let mut loops = Vec::new();
        for (endpoint, listener) in self.listeners {
            let listener = TcpListener::from_std(listener).map_err(ReceiverError::Runtime)?;
            let Endpoint { transport, protocol, tls, keepalive } = endpoint;
            if let Some(tls) = &tls {
                tls.watch();
            }
            let service = Service {
                receiver: Arc::clone(&self.id),
                transport,
                protocol,
                keepalive,
                tls,
                limits: Arc::clone(&self.limits),
                upstream: upstream.clone(),
                gate: Arc::clone(upstream.gates.of(transport)),
                meters: Meters::new(&self.id, transport),
                started: Instant::now(),
                warned: AtomicU64::new(0),
            };
            let places = Arc::clone(&self.places);
            loops.push(accept_loop(Arc::new(service), listener, places, shutdown.clone()));
        }
        try_join_all(loops).await.map(drop)
    }
}

async fn accept_loop(
    service: Arc<Service>,
    listener: TcpListener,
    places: Arc<Places>,
    mut shutdown: Shutdown,
) -> Result<(), ReceiverError> {
    let mut tasks = JoinSet::new();
    let deadline = loop {
        tokio::select! {
            deadline = shutdown.requested() => break deadline,
            Some(ended) = tasks.join_next() => report_panic(&service, ended),
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let origin = service.upstream.origins.origin(stream.as_fd(), peer);
                    service.meters.connection(origin.evidence);
                    match places.take(&origin) {
                        Ok(place) => {
                            let service = Arc::clone(&service);
                            tasks.spawn(serve(service, stream, origin, place, shutdown.clone()));
                        }
                        Err(cause) => {
                            let detail = match cause {
                                "sender_connection_rate" => "it opens connections too fast; keep them open",
                                _ => "too many connections are open; use fewer and keep them open",
                            };
                            service.refuse_connection(&origin, cause, detail);
                        }
                    }
                }
                Err(error) => accept_failed(&service, &error).await,
            },
        }
    };
    drop(listener);
    // Connections end by themselves; what is stuck in a handshake or a last word is cut here.
    let all = async {
        while let Some(ended) = tasks.join_next().await {
            report_panic(&service, ended);
        }
    };
    let _ = timeout_at(deadline + LAST_WORDS, all).await;
    tasks.shutdown().await;
    Ok(())
}

async fn serve(
    service: Arc<Service>,
    stream: TcpStream,
    origin: Arc<Origin>,
    place: Place,
    shutdown: Shutdown,
) {
    service.meters.open.inc();
    let (wait, standing) = (place.wait, Arc::clone(&place.standing));
    let _open = Open(service.meters.open.clone(), place);
    if !wait.is_zero() {
        service.meters.slowed();
        let mut drain = shutdown.clone();
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            _ = drain.requested() => return,
        }
    }
    connection::serve(service, stream, origin, standing, shutdown).await;
}

/// Counts an open connection down and frees its place, also when its task is cut.
struct Open(IntGauge, #[expect(dead_code, reason = "held for its drop")] Place);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn report_panic(service: &Service, ended: Result<(), JoinError>) {
    if ended.is_err_and(|e| e.is_panic()) {
        service.meters.refuse_connection("panic");
        tracing::error!(receiver = &*service.receiver, "a connection's task panicked; this is a bug of ours");
    }
}

async fn accept_failed(service: &Service, error: &io::Error) {
    // The peer was gone before we got to it.
    if error.kind() == io::ErrorKind::ConnectionAborted {
        return;
    }
    service.meters.refuse_connection("accept");
    tracing::error!(receiver = &*service.receiver, %error, "cannot accept; raise the limit of open files?");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}
