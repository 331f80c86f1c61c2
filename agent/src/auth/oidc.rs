//! JSON Web Tokens of configured issuers: the Collector's `oidc` extension, and the API server's bound tokens.
//!
//! A token that was seen before costs a digest. A new one is read, its issuer chosen among the configured ones, its
//! signature checked with that issuer's keys, and only then its claims. What decides is the key, and nothing that the token
//! says of itself. Signatures are checked by aws-lc-rs directly: with the rules that are needed here (required claims,
//! one audience, bounded lifetime, no key twice) little of a library for tokens would be left.

#![forbid(unsafe_code)]

mod cache;
pub mod claims;
mod clock;
mod fault;
mod json;
mod key;
mod key_set;
mod kubernetes;
mod review;
mod source;
mod store;
pub mod token;

use std::{
    sync::{Arc, LazyLock},
    time::{Duration, SystemTime},
};

use http::{HeaderMap, HeaderName};

use super::{Authenticator, Judgement, Principal, Proof};
use crate::{
    config::auth::{OidcExtension, OidcProvider},
    telemetry::metrics::{Counters, counter},
    transport::http::HttpError,
};
use cache::{Cache, Entry, Id};
use clock::Clock;
pub use fault::Fault;
pub use key::Algorithm;
use key::Key;
pub use key_set::KeysError;
use review::Review;
use source::Source;
pub use source::SourceError;
use store::{Snapshot, Store};
use token::Token;

/// How long a verdict holds without another look at the token and the keys.
const RECHECK: Duration = Duration::from_mins(1);
/// How long a refusal holds: a flood of one bad token costs a digest each.
const REFUSED_FOR: Duration = Duration::from_secs(10);
/// The same for a key that was not there: the next moment it may be.
const UNKNOWN_FOR: Duration = Duration::from_secs(1);

static REFUSED: LazyLock<Counters> = LazyLock::new(|| {
    counter("spanwarden_oidc_refused", "Requests whose token was not believed, by cause.", &["cause"])
});
static VERIFIED: LazyLock<Counters> = LazyLock::new(|| {
    counter(
        "spanwarden_oidc_verified",
        "Tokens whose signature and claims were found good; again a minute later.",
        &["issuer"],
    )
});

/// Why the extension can't start.
#[derive(Debug, thiserror::Error)]
pub enum OidcError {
    /// `attribute` is none.
    #[error(
        "`{0}` is no header name; set `attribute` to the header that carries the token, such as `authorization`"
    )]
    Attribute(String),
    /// The key file, or the CAs, of a provider.
    #[error("issuer {issuer}: {source}")]
    Provider {
        /// Which.
        issuer: String,
        /// What is wrong.
        source: SourceError,
    },
    /// `token_review` has no API server.
    #[error("token_review: {0}")]
    Review(#[from] HttpError),
}

#[derive(Debug)]
struct Provider {
    config: OidcProvider,
    store: Arc<Store>,
}

/// See the module's description. One for all threads.
#[derive(Debug)]
pub struct Oidc {
    attribute: HeaderName,
    providers: Vec<Provider>,
    review: Option<Review>,
    cache: Cache,
    clock: Clock,
}

/// A token that was found good.
struct Verified {
    principal: Principal,
    expires: SystemTime,
    reviewed: Duration,
}

impl Oidc {
    /// Reads what is local (key files, CAs); issuers need not be there.
    pub fn new(config: &OidcExtension) -> Result<Self, OidcError> {
        Self::with_clock(config, Clock::new())
    }

    fn with_clock(config: &OidcExtension, clock: Clock) -> Result<Self, OidcError> {
        let attribute = HeaderName::from_bytes(config.attribute.as_bytes())
            .map_err(|_| OidcError::Attribute(fault::shown(&config.attribute)))?;
        let provider = |config: &OidcProvider| {
            let store = Source::new(config)
                .and_then(|source| Store::new(&config.issuer_url, source, clock.clone()))
                .map_err(|source| OidcError::Provider { issuer: fault::shown(&config.issuer_url), source })?;
            Ok(Provider { config: config.clone(), store })
        };
        Ok(Self {
            attribute,
            providers: config.providers.iter().map(provider).collect::<Result<_, OidcError>>()?,
            review: config.token_review.as_ref().map(Review::new).transpose()?,
            cache: Cache::new(),
            clock,
        })
    }

    /// Asks all issuers for their keys, so that the first sender need not wait. Nothing depends on it.
    pub async fn prefetch(&self) {
        futures_util::future::join_all(self.providers.iter().map(|provider| provider.store.prefetch())).await;
    }

    /// The token of a request.
    fn token<'h>(&self, headers: &'h HeaderMap) -> Result<&'h [u8], Fault> {
        let header = || self.attribute.to_string();
        let mut values = headers.get_all(&self.attribute).iter();
        let Some(value) = values.next() else { return Err(Fault::Missing { header: header() }) };
        if values.next().is_some() {
            return Err(Fault::Several { header: header() });
        }
        let value = value.as_bytes();
        // RFC 9110 11.1: the scheme in any case, then spaces.
        match value.split_at_checked(7) {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer ") => Ok(token.trim_ascii()),
            _ if value.trim_ascii().is_empty() => Err(Fault::Missing { header: header() }),
            _ => Err(Fault::Scheme { header: header() }),
        }
    }

    /// Looks at a token that is not known (any more), and keeps what was found.
    async fn check(&self, text: &[u8], id: Id) -> Proof {
        let mut keys = None;
        let verdict = self.verify(text, &id, &mut keys).await;
        let now = self.clock.elapsed();
        let (proof, holds, reviewed) = match verdict {
            Ok(verified) => {
                let left = verified.expires.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                let holds = RECHECK.min(left.saturating_sub(self.clock.unix()));
                (Ok(Arc::new(verified.principal)), holds, verified.reviewed)
            }
            Err(fault) => {
                let holds = match fault {
                    Fault::KeysUnavailable { .. } | Fault::ReviewUnavailable { .. } => Duration::ZERO,
                    Fault::UnknownKey { .. } => UNKNOWN_FOR,
                    Fault::NotYetValid { by } | Fault::FromTheFuture { by } => REFUSED_FOR.min(by),
                    _ => REFUSED_FOR,
                };
                (Err(counted(&fault)), holds, Duration::ZERO)
            }
        };
        if !holds.is_zero() {
            let entry = Entry { proof: proof.clone(), until: now + holds, keys, reviewed, used: now };
            self.cache.put(id, entry);
        }
        proof
    }

    /// Everything there is to check, in the order of what it costs and what it may tell.
    async fn verify(&self, text: &[u8], id: &Id, keys: &mut Option<(usize, u64)>) -> Result<Verified, Fault> {
        let token = token::parse(text)?;
        let (index, provider) = self.provider(&token)?;
        let snapshot = provider.store.keys_for(token.kid.as_deref()).await?;
        *keys = Some((index, snapshot.epoch));
        signed(&token, &snapshot, &provider.config.issuer_url)?;
        let principal = claims::check(&token.claims, &provider.config, self.clock.unix())?;
        let reviewed = self.reviewed(text, id, provider, &principal).await?;
        VERIFIED.with_label_values(&[&provider.config.issuer_url]).inc();
        let expires = principal.not_after.unwrap_or(SystemTime::UNIX_EPOCH);
        Ok(Verified { principal, expires, reviewed })
    }

    /// The configured issuer that the token names; keys are never looked for elsewhere.
    fn provider(&self, token: &Token<'_>) -> Result<(usize, &Provider), Fault> {
        let issuer = claims::required(&token.claims, "iss")?;
        let found =
            self.providers.iter().enumerate().find(|(_, provider)| provider.config.issuer_url == issuer);
        found.ok_or_else(|| {
            let known = self.providers.iter().map(|p| format!("`{}`", fault::shown(&p.config.issuer_url)));
            let configured = known.take(8).collect::<Vec<_>>().join(", ");
            Fault::UnknownIssuer { issuer: fault::shown(issuer), configured }
        })
    }

    /// Asks the API server about a service account's token that it has not been asked about lately. Tokens of other
    /// issuers are none of its business.
    async fn reviewed(
        &self,
        text: &[u8],
        id: &Id,
        provider: &Provider,
        principal: &Principal,
    ) -> Result<Duration, Fault> {
        let (Some(review), Some(_)) = (&self.review, &principal.service_account) else {
            return Ok(Duration::ZERO);
        };
        let needed = || self.clock.elapsed() >= self.cache.reviewed(id);
        if needed() {
            review.ask(text, &provider.config.audience, principal, needed).await?;
            return Ok(self.clock.elapsed() + review::HOLDS);
        }
        Ok(self.cache.reviewed(id))
    }
}

/// Whether one of the issuer's keys has signed it.
fn signed(token: &Token<'_>, snapshot: &Snapshot, issuer: &str) -> Result<(), Fault> {
    let candidates = snapshot.keys.candidates(token.kid.as_deref());
    let fitting: Vec<&Key> = candidates.filter(|key| key.fits(token.algorithm)).collect();
    if fitting.is_empty() {
        return Err(Fault::KeyAlgorithm);
    }
    let verifies = fitting.iter().any(|key| key.verify(token.algorithm, token.signed, &token.signature));
    if verifies { Ok(()) } else { Err(Fault::Signature { issuer: fault::shown(issuer) }) }
}

/// A refusal that is counted; one from the cache is counted where it is found.
fn counted(fault: &Fault) -> super::Refused {
    REFUSED.with_label_values(&[fault.cause()]).inc();
    fault.refused()
}

impl Authenticator for Oidc {
    fn authenticate<'a>(&'a self, headers: &'a HeaderMap) -> Judgement<'a> {
        let token = match self.token(headers) {
            Ok(token) => token,
            Err(fault) => return Judgement::Known(Err(counted(&fault))),
        };
        // Too long is too long: not even the digest is worth it.
        if token.len() > token::MAX_TOKEN {
            return Judgement::Known(Err(counted(&Fault::TooLarge { bytes: token.len() })));
        }
        let id = self.cache.id(token);
        let epoch = |provider: usize| self.providers[provider].store.epoch();
        match self.cache.get(&id, self.clock.elapsed(), epoch) {
            Some(proof) => {
                if let Err(refused) = &proof {
                    REFUSED.with_label_values(&[refused.cause]).inc();
                }
                Judgement::Known(proof)
            }
            None => Judgement::Later(Box::pin(self.check(token, id))),
        }
    }
}

#[cfg(test)]
mod tests;
