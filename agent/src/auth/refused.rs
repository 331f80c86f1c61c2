//! Why a sender was not believed.

use std::time::Duration;

use crate::telemetry::{Cause, events::Reason};

/// The cause where a request carries no credentials at all: the answer then asks for some, as RFC 6750 (3.1) wants it.
pub const NO_CREDENTIALS: Cause = "no_credentials";

/// A sender that was refused. The receiver turns it into the answer of its protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// What the sender can do about it.
    pub kind: RefusedKind,
    /// The counter label; see [`Cause`].
    pub cause: Cause,
    /// For the sender: names the cause and the next step. Of what the sender sent it holds at most names that were
    /// checked and shortened, never a credential.
    pub message: String,
    /// The Event that the sender's pod gets, if any.
    pub event: Option<Reason>,
}

/// The classes of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedKind {
    /// Not proven: `UNAUTHENTICATED` / 401.
    Unauthenticated,
    /// Proven, and not allowed, or in contradiction to other evidence: `PERMISSION_DENIED` / 403.
    PermissionDenied,
    /// It can't be told now (keys can't be fetched): `UNAVAILABLE` with `RetryInfo` / 503 with `Retry-After`.
    Unavailable {
        /// When to come back.
        retry_after: Duration,
    },
}

impl Refused {
    /// Not proven.
    pub fn unauthenticated(cause: Cause, message: impl Into<String>) -> Self {
        Self { kind: RefusedKind::Unauthenticated, cause, message: message.into(), event: None }
    }

    /// Proven, and not allowed.
    pub fn denied(cause: Cause, message: impl Into<String>) -> Self {
        Self { kind: RefusedKind::PermissionDenied, cause, message: message.into(), event: None }
    }

    /// Not to be told now.
    pub fn unavailable(cause: Cause, retry_after: Duration, message: impl Into<String>) -> Self {
        let kind = RefusedKind::Unavailable { retry_after };
        Self { kind, cause, message: message.into(), event: None }
    }

    /// The same, with an Event on the sender's pod.
    #[must_use]
    pub fn with_event(self, reason: Reason) -> Self {
        Self { event: Some(reason), ..self }
    }
}
