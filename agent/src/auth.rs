//! Who is speaking, proven, and whether that agrees with what the kernel saw.
//!
//! An [`Authenticator`] turns what a request carries into a [`Principal`]; a client certificate gives one for the whole
//! connection. [`Identity`] is what comes of both and of the connection's [`Origin`](crate::origin::Origin): who may
//! speak for whom, and for which tenant. It travels beside every batch, never in it.

#![forbid(unsafe_code)]

pub mod bearer;
pub mod bind;
pub mod certificate;
pub mod claims;
pub mod gate;
mod names;
pub mod oidc;
mod principal;
mod refused;
mod tenant;

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use http::HeaderMap;

use crate::{origin::Pod, telemetry::Cause};

pub use principal::{Method, ObjectReference, Principal, ServiceAccount};
pub use refused::{NO_CREDENTIALS, Refused, RefusedKind};
pub use tenant::Tenant;

/// What came of a request's credentials.
pub type Proof = Result<Arc<Principal>, Refused>;

/// A [`Proof`], now or later.
pub enum Judgement<'a> {
    /// The credentials were seen before, or need no look elsewhere. The usual case, which allocates nothing.
    Known(Proof),
    /// Keys have to be fetched, or somebody asked.
    Later(Pin<Box<dyn Future<Output = Proof> + Send + 'a>>),
}

/// Proves who speaks by the headers of a request (gRPC metadata are headers too).
pub trait Authenticator: fmt::Debug + Send + Sync {
    /// Judges the credentials in `headers`. Called for every request, before its body is read.
    fn authenticate<'a>(&'a self, headers: &'a HeaderMap) -> Judgement<'a>;
}

/// Who speaks, as far as it is proven, and what follows from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Who counts as the sender: of the token, else of the client certificate. `None`: anonymous.
    pub principal: Option<Arc<Principal>>,
    /// The tenant that rules give it; `None` where tenancy is off.
    pub tenant: Option<Arc<Tenant>>,
    /// An agent in front of us: what it says of origins holds.
    pub is_agent: bool,
    /// The pod of the connection, which may have become known after its origin.
    pub pod: Option<Arc<Pod>>,
    /// Which of `identity.rules` says what its spans may claim.
    pub rule: Option<usize>,
    /// What its credentials contradict, where that does not refuse it.
    pub contradiction: Option<Cause>,
    /// Its spans are kept apart.
    pub quarantined: bool,
}
