//! The gate in front of a listener: credentials and evidence in, an identity or a refusal out, before a byte of the
//! request's body is read.

#![forbid(unsafe_code)]

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use http::HeaderMap;
use tokio::sync::Semaphore;

use super::{
    Authenticator, Identity, Judgement, Principal, Refused,
    bind::{Binder, Sender},
};
use crate::{config::ComponentId, origin::Origin, telemetry::events::Reason};

/// How long what the binder said holds on a connection. What it looked at can change: a pod's labels arrive late.
const REMEMBERED_FOR: Duration = Duration::from_secs(5);
/// Longest that keys may be fetched, or somebody be asked, while a request waits.
const PATIENCE: Duration = Duration::from_secs(10);
/// When to come back after that.
const RETRY: Duration = Duration::from_secs(5);

/// Decides who a sender is, of all that is known of it.
pub trait Bind: fmt::Debug + Send + Sync {
    /// The identity, or why the pieces do not go together. Must not block: what has to be looked up is known before.
    fn bind(&self, sender: &Sender<'_>) -> Result<Arc<Identity>, Refused>;

    /// Whether the outcome depends on the headers of this one request, so that it must not be remembered for the
    /// next of the same principals.
    fn depends_on_headers(&self, _: &Identity) -> bool {
        false
    }
}

/// Where no `identity` extension says more: the token's principal, else the certificate's; no tenants.
#[derive(Clone, Copy, Debug, Default)]
pub struct Direct;

impl Bind for Direct {
    fn bind(&self, sender: &Sender<'_>) -> Result<Arc<Identity>, Refused> {
        let principal = sender.token.or(sender.certificate).cloned();
        Ok(Arc::new(Identity { principal, ..Identity::default() }))
    }
}

impl Bind for Binder {
    fn bind(&self, sender: &Sender<'_>) -> Result<Arc<Identity>, Refused> {
        self.bind(sender).map(Arc::new)
    }

    /// An agent says with each request whose tenant's spans they are.
    fn depends_on_headers(&self, identity: &Identity) -> bool {
        identity.is_agent
    }
}

/// What stands in front of one protocol of a receiver; shared by all its connections.
#[derive(Clone, Debug)]
pub struct Gate {
    /// The receiver's id.
    pub receiver: ComponentId,
    /// `auth.authenticator`
    pub authenticator: Option<Arc<dyn Authenticator>>,
    /// Who makes an identity of what is proven.
    pub binder: Arc<dyn Bind>,
}

impl Default for Gate {
    /// Asks for no token.
    fn default() -> Self {
        let receiver = ComponentId { kind: "otlp".to_owned(), name: None };
        Self { receiver, authenticator: None, binder: Arc::new(Direct) }
    }
}

/// What a gate remembers of a connection: who spoke last, so that the next request of the same sender costs no
/// allocation.
#[derive(Debug, Default)]
pub struct Remembered(Mutex<Option<Last>>);

#[derive(Debug)]
struct Last {
    token: Option<Arc<Principal>>,
    identity: Arc<Identity>,
    until: Instant,
}

/// The connection that a request comes by.
#[derive(Clone, Copy, Debug)]
pub struct Seat<'a> {
    /// Who opened it.
    pub origin: &'a Arc<Origin>,
    /// What its client certificate proves.
    pub certificate: Option<&'a Arc<Principal>>,
    /// What was remembered of it.
    pub remembered: &'a Remembered,
    /// Requests of this sender that may wait at a time for keys or for somebody's word.
    pub lookups: &'a Semaphore,
}

impl Gate {
    /// Says who sends the request with these headers, or why that is not believed.
    pub async fn admit(&self, seat: Seat<'_>, headers: &HeaderMap) -> Result<Arc<Identity>, Refused> {
        let Seat { origin, certificate, .. } = seat;
        if certificate.and_then(|it| it.not_after).is_some_and(|end| end <= SystemTime::now()) {
            return Err(expired());
        }
        let token = match &self.authenticator {
            None => None,
            Some(authenticator) => Some(match authenticator.authenticate(headers) {
                Judgement::Known(proof) => proof?,
                Judgement::Later(proof) => {
                    let _one = seat.lookups.try_acquire().map_err(|_| too_many())?;
                    tokio::time::timeout(PATIENCE, proof).await.unwrap_or_else(|_| Err(too_slow()))?
                }
            }),
        };
        if let Some(identity) = seat.remembered.recall(token.as_ref()) {
            return Ok(identity);
        }
        let sender = Sender { receiver: &self.receiver, origin, certificate, token: token.as_ref(), headers };
        let identity = self.binder.bind(&sender)?;
        if !self.binder.depends_on_headers(&identity) {
            seat.remembered.remember(token, &identity);
        }
        Ok(identity)
    }
}

impl Remembered {
    fn recall(&self, token: Option<&Arc<Principal>>) -> Option<Arc<Identity>> {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = last.as_ref()?;
        let same = match (&last.token, token) {
            (None, None) => true,
            (Some(then), Some(now)) => Arc::ptr_eq(then, now),
            _ => false,
        };
        (same && Instant::now() < last.until).then(|| Arc::clone(&last.identity))
    }

    fn remember(&self, token: Option<Arc<Principal>>, identity: &Arc<Identity>) {
        let last = Last { token, identity: Arc::clone(identity), until: Instant::now() + REMEMBERED_FOR };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(last);
    }
}

/// The connection is closed at that time as well; this is for the request that comes just then.
fn expired() -> Refused {
    let message =
        "the client certificate has expired since this connection was opened; renew it and connect again";
    Refused::unauthenticated("certificate_expired", message).with_event(Reason::CertificateExpired)
}

/// Who waits for slow keys with many requests waits on its own side.
fn too_many() -> Refused {
    let message = "too many requests of this sender wait for their credentials to be checked; send again after the delay";
    Refused::unavailable("auth_pending", RETRY, message)
}

fn too_slow() -> Refused {
    let message = "the credentials could not be checked in time; send again after the delay";
    Refused::unavailable("auth_timeout", RETRY, message)
}

#[cfg(test)]
mod tests;
