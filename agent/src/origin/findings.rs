//! Plaintext telemetry that the kernel has found: one finding a connection.

#![forbid(unsafe_code)]

use super::{
    Origin,
    bpf::{Counters, abi},
    join::Resolver,
    loader::{ConsumerSide, own},
};
use crate::telemetry::metrics::{self, counter};
use nix::{
    poll::{PollFd, PollFlags, poll},
    time::{ClockId, clock_gettime},
};
use spanwarden_ebpf::abi as kernel;
use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr},
    os::fd::AsFd as _,
    sync::{
        Arc, LazyLock, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};
use tracing::warn;

static FINDINGS: LazyLock<metrics::Counters> = LazyLock::new(|| {
    counter(
        "spanwarden_plaintext_findings",
        "Connections that carry telemetry without TLS, by protocol and the sender's namespace.",
        &["protocol", "namespace"],
    )
});
static UNREADABLE: LazyLock<metrics::Counters> = LazyLock::new(|| {
    counter("spanwarden_bpf_events_refused", "Events of the kernel programs that were refused.", &["cause"])
});

/// Longest wait of the reading thread, and so the longest that stopping it and refreshing counters takes.
const TICK_MS: u16 = 200;
/// How often the addresses of the interfaces are read again.
const REFRESH: Duration = Duration::from_secs(5);

/// What a connection carries in the clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1 `POST …/v1/traces`.
    Http1,
    /// HTTP/2 without TLS.
    H2c,
}

impl Protocol {
    /// The value of the metric label `protocol`, and of the log field.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "http/1.1",
            Self::H2c => "h2c",
        }
    }
}

/// How a finding is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Proof {
    /// The request's path ends in `/v1/traces`: it is telemetry.
    Path,
    /// The HTTP/2 preface, and nothing of what is asked for: with one of OTLP's ports it is likely telemetry.
    Preface {
        /// Whether the destination's port is 4317 or 4318.
        otlp_port: bool,
    },
}

impl Proof {
    /// The value of the log field.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Preface { otlp_port: true } => "preface+port",
            Self::Preface { otlp_port: false } => "preface",
        }
    }
}

/// A connection that carries telemetry, or likely does, in the clear.
#[derive(Clone, Debug)]
pub struct Finding {
    /// When the telling packet was sent.
    pub time: SystemTime,
    /// Who opened the connection; its `peer` is [`Self::local`].
    pub origin: Arc<Origin>,
    /// The sender's address, as in the packet.
    pub local: SocketAddr,
    /// The receiver's address, as in the packet.
    pub remote: SocketAddr,
    /// The address that the sender wanted to connect to, before any NAT.
    pub destination: SocketAddr,
    /// What was seen.
    pub protocol: Protocol,
    /// How it is known.
    pub proof: Proof,
    /// Whether the receiver is this agent.
    pub agent: bool,
    /// The sender's socket cookie: names the connection.
    pub socket_cookie: u64,
}

/// What turns an event into a [`Finding`].
pub(super) struct Context {
    pub(super) resolver: Arc<Resolver>,
    pub(super) own: Arc<Mutex<BTreeSet<IpAddr>>>,
    pub(super) ports: Vec<u16>,
    pub(super) netns_cookie: u64,
}

impl Context {
    fn finding(&self, event: &kernel::Finding) -> Option<Finding> {
        let protocol = match event.protocol {
            kernel::PROTOCOL_HTTP1 => Protocol::Http1,
            kernel::PROTOCOL_H2C => Protocol::H2c,
            _ => return None,
        };
        let at = |address: [u8; 16], port: u32| SocketAddr::new(own::from_bytes(address), port as u16);
        let local = at(event.local, event.local_port);
        let remote = at(event.remote, event.remote_port);
        let destination = at(event.origin.destination, event.origin.destination_port);
        let otlp = |address: SocketAddr| matches!(address.port(), 4317 | 4318);
        let proof = match event.proof {
            kernel::PROOF_PATH => Proof::Path,
            kernel::PROOF_PORT => Proof::Preface { otlp_port: otlp(remote) || otlp(destination) },
            _ => return None,
        };
        Some(Finding {
            time: wall_clock(event.boot_ns),
            origin: Arc::new(self.resolver.kernel(&event.origin, local)),
            local,
            remote,
            destination,
            protocol,
            proof,
            agent: self.is_agent(destination, event.origin.netns_cookie),
            socket_cookie: event.origin.socket_cookie,
        })
    }

    /// As the kernel side decides it, and the port too where the ports are known.
    fn is_agent(&self, destination: SocketAddr, netns_cookie: u64) -> bool {
        let ip = destination.ip();
        let ours = if ip.is_loopback() || ip.is_unspecified() {
            self.netns_cookie != 0 && self.netns_cookie == netns_cookie
        } else {
            self.own.lock().unwrap_or_else(PoisonError::into_inner).contains(&ip)
        };
        ours && (self.ports.is_empty() || self.ports.contains(&destination.port()))
    }
}

/// The thread that reads the ring buffer.
pub(super) struct Consumer {
    stop: Arc<AtomicBool>,
    counters: Arc<Mutex<Counters>>,
    thread: Option<JoinHandle<()>>,
}

impl Consumer {
    pub(super) fn start(
        side: ConsumerSide,
        context: Context,
        then: impl Fn(Finding) + Send + 'static,
    ) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let counters = Arc::new(Mutex::new(Counters::default()));
        let mut reader = Reader {
            side,
            context,
            stop: Arc::clone(&stop),
            counters: Arc::clone(&counters),
            read: 0,
            interfaces: own::of_interfaces().unwrap_or_default(),
        };
        let thread =
            thread::Builder::new().name("origin-findings".to_owned()).spawn(move || reader.run(&then))?;
        Ok(Self { stop, counters, thread: Some(thread) })
    }

    pub(super) fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    pub(super) fn counters(&self) -> Counters {
        *self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been seen as `is_running() == false`.
            let _ = thread.join();
        }
    }
}

struct Reader {
    side: ConsumerSide,
    context: Context,
    stop: Arc<AtomicBool>,
    counters: Arc<Mutex<Counters>>,
    read: u64,
    interfaces: BTreeSet<IpAddr>,
}

impl Reader {
    fn run(&mut self, then: &dyn Fn(Finding)) {
        let mut refreshed = Instant::now();
        while !self.stop.load(Ordering::Relaxed) {
            let ring = self.side.findings.as_fd();
            // An error is an interrupted wait; the ring is read either way.
            let _ = poll(&mut [PollFd::new(ring, PollFlags::POLLIN)], TICK_MS);
            self.drain(then);
            self.publish();
            if refreshed.elapsed() >= REFRESH {
                refreshed = Instant::now();
                self.refresh_addresses();
            }
        }
        self.drain(then);
        self.publish();
    }

    fn drain(&mut self, then: &dyn Fn(Finding)) {
        while let Some(item) = self.side.findings.next() {
            self.read += 1;
            let event = abi::finding(&item);
            drop(item);
            if let Some(finding) = event.and_then(|event| self.context.finding(&event)) {
                report(&finding);
                then(finding);
            } else {
                UNREADABLE.with_label_values(&["shape"]).inc();
            }
        }
    }

    fn publish(&self) {
        let Ok(now) = Counters::load(&self.side.counters, self.read) else {
            UNREADABLE.with_label_values(&["counters"]).inc();
            return;
        };
        let mut last = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        now.publish_since(&last);
        *last = now;
    }

    /// Interfaces come and go; addresses that were configured stay.
    fn refresh_addresses(&mut self) {
        let Ok(now) = own::of_interfaces() else { return };
        if now == self.interfaces {
            return;
        }
        let mut own = self.context.own.lock().unwrap_or_else(PoisonError::into_inner);
        let configured = own.difference(&self.interfaces).copied();
        let after: BTreeSet<IpAddr> = configured.chain(now.iter().copied()).collect();
        match self.side.own.update(&own, &after) {
            Ok(()) => {
                *own = after;
                self.interfaces = now;
            }
            Err(error) => warn!(%error, "new addresses of this node do not count as the agent's own"),
        }
    }
}

/// Counts and logs a finding.
fn report(finding: &Finding) {
    let Finding { origin, local, remote, destination, protocol, proof, agent, socket_cookie, .. } = finding;
    let pod = origin.pod.as_deref();
    let namespace = pod.map_or("", |pod| pod.namespace.as_str());
    FINDINGS.with_label_values(&[protocol.as_str(), namespace]).inc();
    let process = origin.process.as_ref();
    warn!(
        protocol = protocol.as_str(),
        evidence = proof.as_str(),
        %destination,
        %remote,
        %local,
        agent,
        connection = socket_cookie,
        k8s.namespace.name = namespace,
        k8s.pod.name = pod.map_or("", |pod| pod.name.as_str()),
        k8s.pod.uid = origin.pod_uid.as_deref().unwrap_or_default(),
        container.id = origin.container_id.as_deref().unwrap_or_default(),
        process.pid = process.map_or(0, |process| process.pid),
        process.comm = process.map_or("", |process| process.comm.as_str()),
        "telemetry leaves in plaintext"
    );
}

/// Nanoseconds since boot as a time of day.
fn wall_clock(boot_ns: u64) -> SystemTime {
    let now = SystemTime::now();
    let Ok(boot) = clock_gettime(ClockId::CLOCK_BOOTTIME) else { return now };
    let age = Duration::from(boot).saturating_sub(Duration::from_nanos(boot_ns));
    now.checked_sub(age).unwrap_or(now)
}
