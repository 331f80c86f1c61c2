//! What the receiver counts.

#![forbid(unsafe_code)]

use std::sync::LazyLock;

use prometheus::{IntCounter, IntGauge};

use super::Transport;
use crate::{
    auth::Method,
    origin::Evidence,
    telemetry::{
        Cause,
        metrics::{Counters, Gauges, counter, gauge},
    },
};

static ACCEPTED: LazyLock<Counters> = LazyLock::new(|| {
    counter("otelcol_receiver_accepted_spans", "Spans taken into the pipeline.", &["receiver", "transport"])
});
static REFUSED: LazyLock<Counters> = LazyLock::new(|| {
    counter(
        "otelcol_receiver_refused_spans",
        "Spans that could not be taken, where the request could be read far enough to count them.",
        &["receiver", "transport"],
    )
});
static REQUESTS: LazyLock<Counters> = LazyLock::new(|| {
    counter(
        "otelcol_receiver_requests",
        "Requests by outcome: success, refused (bad data, or come back later), failure (what comes after refused for good).",
        &["receiver", "transport", "outcome"],
    )
});
static REFUSED_REQUESTS: LazyLock<Counters> = LazyLock::new(|| {
    counter(
        "spanwarden_receiver_refused_requests",
        "Requests that were not accepted, by cause.",
        &["receiver", "transport", "cause"],
    )
});
static REFUSED_CONNECTIONS: LazyLock<Counters> = LazyLock::new(|| {
    counter(
        "spanwarden_receiver_refused_connections",
        "Connections that ended before a request could be read from them, or that broke their protocol, by cause.",
        &["receiver", "transport", "cause"],
    )
});
static CONNECTIONS: LazyLock<Counters> = LazyLock::new(|| {
    counter(
        "spanwarden_receiver_connections",
        "Accepted connections by the evidence of who opened them.",
        &["receiver", "transport", "evidence"],
    )
});
static ADMITTED: LazyLock<Counters> = LazyLock::new(|| {
    counter(
        "spanwarden_receiver_admitted_requests",
        "Requests whose sender was let in, by how it was proven: mtls, oidc, bearer, or none.",
        &["receiver", "transport", "auth"],
    )
});
static SLOWED: LazyLock<Counters> = LazyLock::new(|| {
    counter(
        "spanwarden_receiver_slowed_connections",
        "Connections that had to wait because their sender opens too many of them.",
        &["receiver", "transport"],
    )
});
static OPEN: LazyLock<Gauges> = LazyLock::new(|| {
    gauge(
        "spanwarden_receiver_open_connections",
        "Connections that are open now.",
        &["receiver", "transport"],
    )
});
static UNKNOWN_JSON_FIELDS: LazyLock<Counters> = LazyLock::new(|| {
    counter(
        "spanwarden_receiver_unknown_json_fields",
        "Fields of OTLP/JSON requests that the trace protos do not have; they are not passed on.",
        &["receiver"],
    )
});

/// The value of the label `auth`.
fn name(method: Option<Method>) -> &'static str {
    method.map_or("none", Method::as_str)
}

/// The metrics of one receiver's one protocol; the hot ones are looked up once.
#[derive(Debug)]
pub(super) struct Meters {
    receiver: String,
    transport: Transport,
    pub(super) accepted: IntCounter,
    pub(super) refused: IntCounter,
    pub(super) success: IntCounter,
    pub(super) open: IntGauge,
    /// By [`Method`], anonymous last.
    admitted: [IntCounter; 4],
}

impl Meters {
    pub(super) fn new(receiver: &str, transport: Transport) -> Self {
        let labels = [receiver, transport.as_str()];
        Self {
            receiver: receiver.to_owned(),
            transport,
            accepted: ACCEPTED.with_label_values(&labels),
            refused: REFUSED.with_label_values(&labels),
            success: REQUESTS.with_label_values(&[labels[0], labels[1], "success"]),
            open: OPEN.with_label_values(&labels),
            admitted: [Some(Method::Certificate), Some(Method::Oidc), Some(Method::BearerToken), None]
                .map(|method| ADMITTED.with_label_values(&[labels[0], labels[1], name(method)])),
        }
    }

    /// A request whose sender was let in.
    pub(super) fn admitted(&self, method: Option<Method>) {
        let index = match method {
            Some(Method::Certificate) => 0,
            Some(Method::Oidc) => 1,
            Some(Method::BearerToken) => 2,
            None => 3,
        };
        self.admitted[index].inc();
    }

    /// A request that was not accepted. `failure`: what comes after us refused it for good.
    pub(super) fn refuse_request(&self, cause: Cause, spans: u32, failure: bool) {
        let (receiver, transport) = (self.receiver.as_str(), self.transport.as_str());
        REFUSED_REQUESTS.with_label_values(&[receiver, transport, cause]).inc();
        let outcome = if failure { "failure" } else { "refused" };
        REQUESTS.with_label_values(&[receiver, transport, outcome]).inc();
        self.refused.inc_by(u64::from(spans));
    }

    /// A connection that never got as far as a request, or that broke its protocol.
    pub(super) fn refuse_connection(&self, cause: Cause) {
        REFUSED_CONNECTIONS
            .with_label_values(&[self.receiver.as_str(), self.transport.as_str(), cause])
            .inc();
    }

    /// A connection that waits because of its sender's others.
    pub(super) fn slowed(&self) {
        SLOWED.with_label_values(&[self.receiver.as_str(), self.transport.as_str()]).inc();
    }

    /// Fields of a JSON request that nobody knows.
    pub(super) fn unknown_json_fields(&self, count: u32) {
        UNKNOWN_JSON_FIELDS.with_label_values(&[self.receiver.as_str()]).inc_by(u64::from(count));
    }

    /// An accepted connection.
    pub(super) fn connection(&self, evidence: Evidence) {
        CONNECTIONS
            .with_label_values(&[self.receiver.as_str(), self.transport.as_str(), evidence.as_str()])
            .inc();
    }
}
