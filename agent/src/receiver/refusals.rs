//! Senders that are not believed: said to them, counted, logged, and written onto their pod.

#![forbid(unsafe_code)]

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use super::{connection::Connection, status::Failure};
use crate::{
    auth::{Refused, RefusedKind},
    origin::Origin,
    telemetry::events::{self, Event, Reason},
};

/// After so many refused requests a connection is closed: guessing then costs a handshake each time.
const MOST_REFUSALS: u32 = 100;
/// When to come back, at least, for who is not looked at any more.
const RETRY: Duration = Duration::from_secs(1);

/// Refuses without a look at it what comes from a sender of whose requests too many were refused.
pub(super) fn check_standing(connection: &Connection) -> Result<(), Failure> {
    let ignored = connection.standing.ignored_for(Instant::now());
    if ignored.is_zero() {
        return Ok(());
    }
    let message = "too many requests of this sender were refused for their credentials; correct them, and send again after the delay";
    Err(Failure::overloaded("sender_refusals", ignored.max(RETRY), message))
}

/// What a sender is answered that is not believed. The request itself is counted where all refused ones are.
pub(super) fn disbelieved(connection: &Connection, refused: Refused) -> Failure {
    let origin = &*connection.origin;
    connection.warn(origin, refused.cause, format_args!("request refused: {}", refused.message));
    if let Some(reason) = refused.event {
        report(origin, reason);
    }
    // What can't be told now is no fault of the sender's.
    if matches!(refused.kind, RefusedKind::Unavailable { .. }) {
        return refused.into();
    }
    connection.standing.refused(Instant::now());
    if connection.disbelieved.fetch_add(1, Ordering::Relaxed) + 1 == MOST_REFUSALS {
        let detail = "100 of its requests were refused for their credentials";
        connection.refuse_connection(origin, "refused_requests", detail);
        connection.close.notify_one();
    }
    refused.into()
}

/// An Event on the pod of the sender, where that is known.
pub(super) fn report(origin: &Origin, reason: Reason) {
    let Some(pod) = &origin.pod else { return };
    events::report(Event {
        reason,
        pod_uid: pod.uid.clone(),
        pod_name: pod.name.clone(),
        namespace: pod.namespace.clone(),
        note: note(reason).to_owned(),
    });
}

/// In our words: the messages to senders may name what a sender wrote.
fn note(reason: Reason) -> &'static str {
    match reason {
        Reason::PlaintextTelemetry => {
            "This pod sends telemetry in plaintext to a port that takes TLS. Use https:// in \
             OTEL_EXPORTER_OTLP_ENDPOINT and trust the receiver's CA."
        }
        Reason::ForgedIdentity => {
            "This pod sent telemetry whose credentials or resource attributes contradict what the kernel saw. \
             It was refused or corrected. See the agent's log for the cause."
        }
        Reason::TokenReplay => {
            "This pod sent telemetry with a token that is bound to another pod or node. It was refused. Find out how \
             the token got here, and revoke it by deleting the pod that it belongs to."
        }
        Reason::CertificateExpired => {
            "This pod's client certificate for telemetry has expired. Its telemetry is refused until the \
             certificate is renewed."
        }
    }
}
