//! What follows when a resource claims what its sender may not.

#![forbid(unsafe_code)]

use std::sync::LazyLock;

use super::stamp::Forged;
use crate::{
    config::auth::ClaimMode,
    otlp::{Context, Refusal, RefusalKind},
    telemetry::{
        events::{self, Event, Reason},
        metrics::{Counters, counter},
    },
};

static FORGED: LazyLock<Counters> = LazyLock::new(|| {
    counter(
        "spanwarden_identity_forged_claims",
        "Resource attributes that claim what the sender's rule does not allow, by what was done.",
        &["mode"],
    )
});

/// Counts, and tells the pod.
pub(super) fn report(context: &Context, forged: Forged) {
    let Some(mode) = forged.mode else { return };
    FORGED.with_label_values(&[word(mode)]).inc_by(forged.claims);
    let learned = context.identity.as_ref().and_then(|identity| identity.pod.as_ref());
    let Some(pod) = context.origin.as_ref().and_then(|origin| origin.pod.as_ref()).or(learned) else {
        return;
    };
    events::report(Event {
        reason: Reason::ForgedIdentity,
        pod_uid: pod.uid.clone(),
        pod_name: pod.name.clone(),
        namespace: pod.namespace.clone(),
        note: format!(
            "its spans claim resource attributes that `identity.rules` does not allow this pod ({}); \
             correct the SDK's resource, or the rule",
            word(mode)
        ),
    });
}

/// The answer under `mode: reject`.
pub(super) fn refusal() -> Refusal {
    Refusal {
        kind: RefusalKind::Denied,
        cause: "forged_claim",
        message:
            "a resource claims to be another service than this sender may be; correct service.name and the \
                  other resource attributes, or ask the operator for a rule under identity.rules"
                .into(),
    }
}

fn word(mode: ClaimMode) -> &'static str {
    match mode {
        ClaimMode::Annotate => "annotate",
        ClaimMode::Quarantine => "quarantine",
        ClaimMode::Reject => "reject",
    }
}
