//! From the kernel's event to a [`Finding`].

use super::{
    Behind, Finding, Kind, Place, PlaintextMode, Proof, Protocol, Signal, TlsFailure, TlsFailureKind,
};
use crate::{
    config::extensions::PlaintextPolicy,
    origin::{Origin, join::Resolver, loader::own},
};
use nix::time::{ClockId, clock_gettime};
use spanwarden_ebpf::abi as kernel;
use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, atomic::AtomicU64},
    time::{Duration, SystemTime},
};

/// What turns an event into a [`Finding`].
pub(in crate::origin) struct Context {
    pub(in crate::origin) resolver: Arc<Resolver>,
    pub(in crate::origin) own: Arc<Mutex<BTreeSet<IpAddr>>>,
    pub(in crate::origin) cluster_cidrs: Vec<(IpAddr, u8)>,
    pub(in crate::origin) plaintext: PlaintextPolicy,
    pub(in crate::origin) ports: Vec<u16>,
    pub(in crate::origin) netns_cookie: u64,
    /// Goes up with every look at the ring: a reader that hangs is no reader.
    pub(in crate::origin) beat: Arc<AtomicU64>,
}

impl Context {
    /// `None` for an event that says what no program of ours says.
    pub(super) fn finding(&self, event: &kernel::Finding) -> Option<Finding> {
        let local = at(event.local, event.local_port)?;
        let destination = at(event.origin.destination, event.origin.destination_port)?;
        let remote = at(event.remote, event.remote_port)?;
        let flag = |bit: u32| event.flags & bit != 0;
        let origin = self.resolver.kernel(&event.origin, local);
        let told = place(event.place)?;
        let place = self.refined(told, remote.port(), event.origin.netns_cookie, &origin);
        let mode = if place == told { mode(event.mode)? } else { self.mode(place, &origin) };
        Some(Finding {
            time: wall_clock(event.boot_ns),
            kind: kind(event)?,
            place,
            behind: self.behind(place, destination, remote),
            mode,
            origin: Arc::new(origin),
            local,
            remote,
            destination,
            protocol: protocol(event.protocol)?,
            signal: signal(event.signal)?,
            proof: proof(event.proof)?,
            pre_existing: flag(kernel::FLAG_PRE_EXISTING),
            revised: flag(kernel::FLAG_REVISED),
            tunnel: flag(kernel::FLAG_TUNNEL),
            blocked: flag(kernel::FLAG_BLOCKED),
            not_enforced: flag(kernel::FLAG_NOT_ENFORCED),
            netns_cookie: event.origin.netns_cookie,
            socket_cookie: event.origin.socket_cookie,
        })
    }

    /// What the kernel says, but for loopback: there it does not know whose namespace that is.
    fn refined(&self, told: Place, port: u16, netns_cookie: u64, origin: &Origin) -> Place {
        if told != Place::Pod {
            return told;
        }
        let our_namespace = self.netns_cookie != 0 && self.netns_cookie == netns_cookie;
        if our_namespace && (self.ports.is_empty() || self.ports.contains(&port)) {
            return Place::Agent;
        }
        let on_host = match &origin.pod {
            Some(pod) => pod.host_network,
            None => origin.pod_uid.is_none() && origin.container_id.is_none(),
        };
        if on_host { Place::Node } else { told }
    }

    /// The Service that was asked for, or else the pod that answers.
    fn behind(&self, place: Place, destination: SocketAddr, remote: SocketAddr) -> Option<Behind> {
        if place == Place::Pod || destination.ip().is_loopback() {
            return None;
        }
        self.resolver.behind(destination.ip()).or_else(|| self.resolver.behind(remote.ip()))
    }

    /// The mode where the kernel could not tell the place. It did not block, so the policy's `block` is a warning.
    fn mode(&self, place: Place, origin: &Origin) -> PlaintextMode {
        let mode = match &origin.pod {
            Some(pod) if self.plaintext.places.contains(&place) => self.plaintext.mode_of(pod),
            _ => PlaintextMode::Observe,
        };
        mode.min(PlaintextMode::Warn)
    }
}

fn at(address: [u8; 16], port: u32) -> Option<SocketAddr> {
    Some(SocketAddr::new(own::from_bytes(address), port.try_into().ok()?))
}

fn place(code: u32) -> Option<Place> {
    match code {
        kernel::PLACE_POD => Some(Place::Pod),
        kernel::PLACE_AGENT => Some(Place::Agent),
        kernel::PLACE_NODE => Some(Place::Node),
        kernel::PLACE_CLUSTER => Some(Place::Cluster),
        kernel::PLACE_OUTSIDE => Some(Place::Outside),
        _ => None,
    }
}

fn kind(event: &kernel::Finding) -> Option<Kind> {
    match event.kind {
        kernel::KIND_PLAINTEXT => Some(Kind::Plaintext),
        kernel::KIND_FALLBACK => Some(Kind::Fallback(tls_failure(event)?)),
        _ => None,
    }
}

fn tls_failure(event: &kernel::Finding) -> Option<TlsFailure> {
    let tls = &event.tls;
    let alert = u8::try_from(tls.detail).ok();
    let kind = match tls.kind {
        kernel::TLS_ALERT_RECEIVED => TlsFailureKind::AlertReceived(alert?),
        kernel::TLS_ALERT_SENT => TlsFailureKind::AlertSent(alert?),
        kernel::TLS_PLAINTEXT_ANSWER => TlsFailureKind::PlaintextAnswer,
        kernel::TLS_CLOSED => TlsFailureKind::Closed,
        kernel::TLS_RESET => TlsFailureKind::Reset,
        kernel::TLS_REFUSED => TlsFailureKind::Refused,
        kernel::TLS_NO_ANSWER => TlsFailureKind::NoAnswer,
        kernel::TLS_UNANSWERED => TlsFailureKind::Unanswered,
        _ => return None,
    };
    Some(TlsFailure {
        time: wall_clock(tls.boot_ns),
        before: Duration::from_nanos(event.boot_ns.saturating_sub(tls.boot_ns)),
        kind,
        local: at(tls.local, tls.local_port)?,
        destination: at(tls.destination, tls.destination_port)?,
        pid: tls.tgid,
        socket_cookie: tls.socket_cookie,
        weak: tls.weak != 0,
    })
}

fn protocol(code: u32) -> Option<Protocol> {
    match code {
        kernel::PROTOCOL_HTTP1 => Some(Protocol::Http1),
        kernel::PROTOCOL_H2C => Some(Protocol::H2c),
        _ => None,
    }
}

fn signal(code: u32) -> Option<Signal> {
    match code {
        kernel::SIGNAL_UNKNOWN => Some(Signal::Unknown),
        kernel::SIGNAL_TRACES => Some(Signal::Traces),
        kernel::SIGNAL_METRICS => Some(Signal::Metrics),
        kernel::SIGNAL_LOGS => Some(Signal::Logs),
        kernel::SIGNAL_PROFILES => Some(Signal::Profiles),
        _ => None,
    }
}

fn proof(code: u32) -> Option<Proof> {
    match code {
        kernel::PROOF_PATH => Some(Proof::Path),
        kernel::PROOF_GRPC => Some(Proof::Grpc),
        kernel::PROOF_PORT => Some(Proof::Port),
        _ => None,
    }
}

fn mode(code: u32) -> Option<PlaintextMode> {
    match code {
        kernel::MODE_OBSERVE => Some(PlaintextMode::Observe),
        kernel::MODE_WARN => Some(PlaintextMode::Warn),
        kernel::MODE_BLOCK => Some(PlaintextMode::Block),
        _ => None,
    }
}

/// Nanoseconds since boot as a time of day.
fn wall_clock(boot_ns: u64) -> SystemTime {
    let now = SystemTime::now();
    let Ok(boot) = clock_gettime(ClockId::CLOCK_BOOTTIME) else { return now };
    let age = Duration::from(boot).saturating_sub(Duration::from_nanos(boot_ns));
    now.checked_sub(age).unwrap_or(now)
}
