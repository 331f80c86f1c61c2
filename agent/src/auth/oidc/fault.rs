//! What is wrong with a token, in words that say what to do next. No credential is ever part of them.

#![forbid(unsafe_code)]

use std::time::Duration;

use crate::{
    auth::{NO_CREDENTIALS, Refused},
    telemetry::{Cause, events::Reason},
};

/// Why a token is not believed, or can't be judged now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it; durations are as they are shown")]
pub enum Fault {
    #[error("no credentials: send the header `{header}: Bearer TOKEN`")]
    Missing { header: String },
    #[error("the header `{header}` has another scheme than `Bearer`: send `{header}: Bearer TOKEN`")]
    Scheme { header: String },
    #[error("the header `{header}` is there more than once: send it once, as `{header}: Bearer TOKEN`")]
    Several { header: String },
    #[error(
        "the token has {bytes} bytes, more than the {} that are read; ask the issuer for one with fewer claims",
        super::token::MAX_TOKEN
    )]
    TooLarge { bytes: usize },
    #[error("the token is malformed: {0}; send a signed JSON Web Token, as the issuer gave it")]
    Malformed(&'static str),
    #[error("the token is malformed: its {part} {why}; send a signed JSON Web Token, as the issuer gave it")]
    Part { part: &'static str, why: &'static str },
    #[error(
        "the token's algorithm `{0}` is not accepted; the issuer must sign with RS256, PS256, ES256, EdDSA or their longer forms"
    )]
    Algorithm(String),
    #[error(
        "the token says that it is signed with another algorithm than its key is for; ask the issuer for a new one"
    )]
    KeyAlgorithm,
    #[error("the token's issuer `{issuer}` is not known here; accepted: {configured}")]
    UnknownIssuer { issuer: String, configured: String },
    #[error(
        "the token is signed with a key{kid} that the issuer `{issuer}` does not have, or no longer; get a new token"
    )]
    UnknownKey { kid: String, issuer: String },
    #[error(
        "the token's signature is wrong: it was changed, or another issuer calls itself `{issuer}` (a rebuilt cluster?); get a new token"
    )]
    Signature { issuer: String },
    #[error("the token expired {} ago; get a new one (a projected token file is renewed by the kubelet: read it again)", span(*.by))]
    Expired { by: Duration },
    #[error("the token is not valid yet, for another {}; is the clock of this node or of the issuer wrong?", span(*.by))]
    NotYetValid { by: Duration },
    #[error("the token was issued {} in the future; is the clock of this node or of the issuer wrong?", span(*.by))]
    FromTheFuture { by: Duration },
    #[error(
        "the token is for the audience {have}, not for `{want}`; ask for a token with that audience (a projected volume: `serviceAccountToken: {{audience: {want}}}`)"
    )]
    Audience { have: String, want: String },
    #[error(
        "the token is for several audiences ({have}), so that each of them could use it as its own; ask for one with `{want}` alone"
    )]
    SeveralAudiences { have: String, want: String },
    #[error("the token is valid for {}, longer than the {} that are accepted; {advice}", span(*.is), span(*.max))]
    Lifetime { is: Duration, max: Duration, advice: String },
    #[error("the token should have been renewed {} ago (`warnafter`); read the token file again, and use a projected token with the audience `{audience}`", span(*.by))]
    WarnAfter { by: Duration, audience: String },
    #[error("the token has no claim `{0}`, which is required")]
    NoClaim(String),
    #[error("the token's claim `{0}` is not {1}")]
    BadClaim(String, &'static str),
    #[error("the token contradicts itself: {0}")]
    Contradiction(&'static str),
    #[error("the API server does not accept the token: {0}; get a new one")]
    Review(String),
    #[error("the keys of the issuer `{issuer}` can't be had now; try again in {}", span(*.retry_after))]
    KeysUnavailable { issuer: String, retry_after: Duration },
    #[error("the API server can't be asked about the token now; try again in {}", span(*.retry_after))]
    ReviewUnavailable { retry_after: Duration },
}

impl Fault {
    /// The label of metrics; stable.
    pub fn cause(&self) -> Cause {
        match self {
            Self::Missing { .. } => NO_CREDENTIALS,
            Self::Scheme { .. } => "token_scheme",
            Self::Several { .. } => "several_credentials",
            Self::TooLarge { .. } => "token_too_large",
            Self::Malformed(_) | Self::Part { .. } => "malformed_token",
            Self::Algorithm(_) | Self::KeyAlgorithm => "wrong_algorithm",
            Self::UnknownIssuer { .. } => "unknown_issuer",
            Self::UnknownKey { .. } => "unknown_key",
            Self::Signature { .. } => "bad_signature",
            Self::Expired { .. } => "expired",
            Self::NotYetValid { .. } => "not_yet_valid",
            Self::FromTheFuture { .. } => "issued_in_future",
            Self::Audience { .. } => "wrong_audience",
            Self::SeveralAudiences { .. } => "several_audiences",
            Self::Lifetime { .. } => "lifetime_too_long",
            Self::WarnAfter { .. } => "past_warnafter",
            Self::NoClaim(_) => "missing_claim",
            Self::BadClaim(..) => "wrong_claim",
            Self::Contradiction(_) => "contradictory_claims",
            Self::Review(_) => "not_authenticated",
            Self::KeysUnavailable { .. } => "keys_unavailable",
            Self::ReviewUnavailable { .. } => "review_unavailable",
        }
    }

    /// For the receiver. A token that was made up is the one thing that deserves an Event by itself: others happen to
    /// honest senders.
    pub(super) fn refused(&self) -> Refused {
        let (cause, message) = (self.cause(), self.to_string());
        match self {
            Self::KeysUnavailable { retry_after, .. } | Self::ReviewUnavailable { retry_after } => {
                Refused::unavailable(cause, *retry_after, message)
            }
            Self::Signature { .. } | Self::Algorithm(_) | Self::KeyAlgorithm => {
                Refused::unauthenticated(cause, message).with_event(Reason::ForgedIdentity)
            }
            _ => Refused::unauthenticated(cause, message),
        }
    }

    pub(super) fn algorithm(name: &str) -> Self {
        Self::Algorithm(shown(name))
    }
}

/// A name that a sender wrote, for an answer or a log: short and escaped.
pub(super) fn shown(name: &str) -> String {
    let mut short: String = name.chars().take(80).flat_map(char::escape_debug).collect();
    if name.chars().nth(80).is_some() {
        short.push('…');
    }
    short
}

/// `3 s`, `2 min 5 s`, `1 h 2 min`, `365 d 0 h`: what a person wants to know of a duration.
pub(super) fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => "less than a second".to_owned(),
        1..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..172_800 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}
