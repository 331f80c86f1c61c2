//! Kubernetes Events on pods that misbehave. A stage reports; whoever has the API at hand writes them.

#![forbid(unsafe_code)]

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

/// Why a pod gets an Event: `reason` of `events.k8s.io/v1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// It sends telemetry in plaintext.
    PlaintextTelemetry,
    /// Its spans claim to be somebody else's, or its credentials contradict what the kernel saw.
    ForgedIdentity,
    /// It used a token that is bound to another pod or node.
    TokenReplay,
    /// Its client certificate is expired.
    CertificateExpired,
}

impl Reason {
    /// As written in the Event, and the value of metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PlaintextTelemetry => "PlaintextTelemetry",
            Self::ForgedIdentity => "ForgedIdentity",
            Self::TokenReplay => "TokenReplay",
            Self::CertificateExpired => "CertificateExpired",
        }
    }
}

/// What is to be said about a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Why.
    pub reason: Reason,
    /// `metadata.uid` of the pod.
    pub pod_uid: String,
    /// `metadata.name`; without it no Event can be written.
    pub pod_name: String,
    /// `metadata.namespace`
    pub namespace: String,
    /// What happened and what to do about it, in our words: nothing that a sender controls.
    pub note: String,
}

/// Takes Events. Never blocks, and bounds what it holds.
pub trait Sink: fmt::Debug + Send + Sync {
    /// Takes one; it may be a repetition.
    fn report(&self, event: Event);
}

static SINK: OnceLock<Arc<dyn Sink>> = OnceLock::new();

/// Sets where Events go, once, at start. Whether it was the first time.
pub fn set(sink: Arc<dyn Sink>) -> bool {
    SINK.set(sink).is_ok()
}

/// Reports an Event. Without a sink it is in log and metrics only, which the caller writes.
pub fn report(event: Event) {
    if let Some(sink) = SINK.get() {
        sink.report(event);
    }
}
