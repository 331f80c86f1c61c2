//! OTLP as bytes: the batch that travels, the wire walker, the edit list, grouping by trace, JSON.
//!
//! Nothing on the hot path is decoded into structs. A [`Batch`] is one serialised
//! `ExportTraceServiceRequest`; two batches are joined by joining their bytes, because the message is a single
//! repeated field (`opentelemetry/proto/collector/trace/v1/trace_service.proto`).

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;

use crate::telemetry::Cause;

pub mod edit;
pub mod encode;
pub mod json;
pub mod split;
pub mod view;
pub mod walk;
pub(crate) mod wire;

/// What is known of a batch beside its bytes. It never comes from what the sender wrote.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// The sender, where one connection sent the whole batch. `None` after batches were merged, and on a
    /// gateway, where the agent has already stamped the resources.
    pub origin: Option<Arc<crate::origin::Origin>>,
    /// Who sent it, as far as it was proven. Batches of different principals may be merged, which makes this `None`.
    pub identity: Option<Arc<crate::auth::Identity>>,
    /// The tenant. Batches of different tenants are never merged.
    pub tenant: Option<Arc<crate::auth::Tenant>>,
}

/// A serialised `ExportTraceServiceRequest` on its way through the pipeline.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The message, checked by the walker (`otlp::walk`) before a batch is made of it.
    pub data: Bytes,
    /// How many spans it holds.
    pub spans: u32,
    /// What is known of its sender.
    pub context: Context,
}

/// Why a batch was not taken. The receiver turns it into the OTLP answer of its protocol.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What the sender can do about it.
    pub kind: RefusalKind,
    /// The counter label; see [`Cause`].
    pub cause: Cause,
    /// For the sender: names the cause and the next step, and nothing that the sender wrote.
    pub message: String,
}

/// The classes of OTLP failure (<https://opentelemetry.io/docs/specs/otlp/#failures>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// The data is bad: `INVALID_ARGUMENT` / 400. Never retried.
    Malformed,
    /// Too large: `RESOURCE_EXHAUSTED` without retry information / 413. Never retried.
    TooLarge,
    /// Overload: `RESOURCE_EXHAUSTED` with `RetryInfo` / 429 with `Retry-After`.
    Overloaded {
        /// When to come back.
        retry_after: Duration,
    },
    /// What comes after us is away: `UNAVAILABLE` with `RetryInfo` / 503 with `Retry-After`.
    Unavailable {
        /// When to come back.
        retry_after: Duration,
    },
    /// The sender may not do this: `PERMISSION_DENIED` / 403. Never retried.
    Denied,
    /// What comes after us refused for good: `INTERNAL` / 500. Never retried.
    Permanent,
}

/// What became of an accepted batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// Spans that were refused inside an otherwise accepted request: OTLP's partial success.
    pub rejected_spans: u32,
    /// Why, for the sender.
    pub message: String,
}

/// The future of [`Consumer::consume`].
pub type Consuming<'a> = Pin<Box<dyn Future<Output = Result<Accepted, Refusal>> + Send + 'a>>;

/// A stage that takes batches: what a receiver sends to, and what each processor sends to in turn.
pub trait Consumer: Send + Sync {
    /// Takes a batch. When this resolves to `Ok` the batch may be acknowledged to its sender.
    fn consume(&self, batch: Batch) -> Consuming<'_>;
}
