//! What one try at delivering a batch can end in.

use std::time::Duration;

use crate::{
    otlp::{Refusal, RefusalKind},
    telemetry::Cause,
};

/// How long a sender is told to stay away when the backend did not say.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Why a try failed, and whether another may succeed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What may be done about it.
    pub kind: FailureKind,
    /// The counter label.
    pub cause: Cause,
    /// For the sender and the log: never anything that the backend wrote, since that may quote spans.
    pub message: String,
}

/// Whether to try again (<https://opentelemetry.io/docs/specs/otlp/#failures>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// Nobody there, or not for now; with what the backend said of when.
    Unavailable(Option<Duration>),
    /// The backend is there and has too much to do.
    Overloaded(Option<Duration>),
    /// Trying again would end the same way.
    Permanent,
}

impl Failure {
    /// A failure that may pass.
    pub fn unavailable(cause: Cause, message: impl Into<String>) -> Self {
        Self { kind: FailureKind::Unavailable(None), cause, message: message.into() }
    }

    /// A failure that will not pass.
    pub fn permanent(cause: Cause, message: impl Into<String>) -> Self {
        Self { kind: FailureKind::Permanent, cause, message: message.into() }
    }

    /// What the backend said of when to come back.
    pub fn retry_after(&self) -> Option<Duration> {
        match self.kind {
            FailureKind::Unavailable(after) | FailureKind::Overloaded(after) => after,
            FailureKind::Permanent => None,
        }
    }

    /// Whether trying again is of no use.
    pub fn is_permanent(&self) -> bool {
        self.kind == FailureKind::Permanent
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        let kind = match failure.kind {
            FailureKind::Unavailable(after) => {
                RefusalKind::Unavailable { retry_after: after.unwrap_or(RETRY_AFTER) }
            }
            FailureKind::Overloaded(after) => {
                RefusalKind::Overloaded { retry_after: after.unwrap_or(RETRY_AFTER) }
            }
            FailureKind::Permanent => RefusalKind::Permanent,
        };
        Self { kind, cause: failure.cause, message: failure.message }
    }
}
