//! What comes of a TLS handshake: who it was, why it was refused, and when what it proved is no longer so.
//!
//! In TLS 1.3 a client takes the handshake for done before its certificate was looked at, and then sees a broken
//! connection. Only this side knows why, so it says so, with the pod, in log, metric and Event.

#![forbid(unsafe_code)]

use std::{
    sync::LazyLock,
    time::{Duration, SystemTime},
};

use rustls::CertificateError;
use rustls_pki_types::UnixTime;

use super::connection::Connection;
use crate::{
    auth::Refused,
    telemetry::{
        Cause,
        events::Reason,
        metrics::{Counters, counter},
    },
    transport::tls::{Facts, HandshakeError, Peer, span},
};

/// The clock is looked at this often while a certificate's end is waited for: it may be set meanwhile.
const CLOCK: Duration = Duration::from_mins(1);
/// Connections end up to so long before their certificates, so that those of one certificate do not all come back at
/// once; of a certificate with less time left, up to a tenth of that.
const SPREAD: Duration = Duration::from_secs(30);

/// The cause of an end that was known beforehand.
const EXPIRED: Cause = "certificate_expired";

static ENDED: LazyLock<Counters> = LazyLock::new(|| {
    counter(
        "spanwarden_receiver_ended_connections",
        "Connections that were ended because their client certificate is not accepted any more, by cause.",
        &["receiver", "transport", "cause"],
    )
});

/// Why a connection is refused or ended.
pub(super) struct Verdict {
    /// The counter label.
    pub(super) cause: Cause,
    /// For the log. What a sender wrote is escaped and shortened in it.
    pub(super) detail: String,
    /// What the pod is told.
    pub(super) event: Option<Reason>,
    /// What requests are answered that still come over an open connection.
    refused: Option<Refused>,
}

impl Verdict {
    fn new(cause: Cause, detail: String) -> Self {
        Self { cause, detail, event: None, refused: None }
    }
}

/// Why a handshake failed, as far as an operator can act on it.
pub(super) fn explain(failed: &HandshakeError) -> Verdict {
    use rustls::Error;
    let error = failed.error.get_ref().and_then(|e| e.downcast_ref::<Error>());
    let (cause, detail) = match error {
        Some(Error::NoCertificatesPresented) => (
            "tls_no_client_certificate",
            format!("it showed no client certificate; this port needs one of {}", names(&failed.authorities)),
        ),
        Some(Error::InvalidCertificate(why)) => {
            return certificate(why, failed.presented.as_ref(), &failed.authorities);
        }
        Some(Error::AlertReceived(alert)) => (
            "tls_rejected_by_client",
            format!(
                "it ended the handshake with {alert:?}: it may not trust our certificate's CA, or expect another name"
            ),
        ),
        Some(Error::PeerIncompatible(why)) => {
            ("tls_incompatible", format!("no common TLS version or cipher suite: {why:?}"))
        }
        Some(other) => ("tls_malformed", other.to_string()),
        None => ("tls_aborted", failed.error.to_string()),
    };
    Verdict::new(cause, detail)
}

/// Why a certificate is not accepted.
fn certificate(why: &CertificateError, presented: Option<&Facts>, authorities: &[String]) -> Verdict {
    let shown = presented.map_or_else(|| "unreadable".to_owned(), Facts::describe);
    let plain = |cause, why: &str| Verdict::new(cause, format!("{why} ({shown})"));
    match why {
        CertificateError::ExpiredContext { not_after, .. } => expired(ago(*not_after), &shown),
        CertificateError::Expired => {
            expired(presented.and_then(|p| SystemTime::now().duration_since(p.not_after).ok()), &shown)
        }
        CertificateError::NotValidYetContext { not_before, time } => {
            let ahead = Duration::from_secs(not_before.as_secs().saturating_sub(time.as_secs()));
            let why = format!("its certificate is not valid for {} yet; check both clocks", span(ahead));
            plain("tls_certificate_not_yet_valid", &why)
        }
        CertificateError::NotValidYet => {
            plain("tls_certificate_not_yet_valid", "its certificate is not valid yet; check both clocks")
        }
        CertificateError::UnknownIssuer => {
            let why = format!("its certificate is signed by none of {}", names(authorities));
            plain("tls_unknown_ca", &why)
        }
        CertificateError::BadSignature => {
            let why = format!(
                "its certificate is not signed by the key of its issuer, which has the name of one of {}; was that \
                 CA renewed, and is the new one in client_ca_file?",
                names(authorities)
            );
            plain("tls_unknown_ca", &why)
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            let why = "its certificate is not for clients: extended key usage clientAuth is needed";
            plain("tls_certificate_purpose", why)
        }
        CertificateError::Revoked => plain("tls_certificate_revoked", "its certificate is revoked"),
        CertificateError::UnknownRevocationStatus => plain(
            "tls_revocation_unknown",
            "no list in crl_files covers its certificate: one of each CA of the chain is needed",
        ),
        CertificateError::ExpiredRevocationList | CertificateError::ExpiredRevocationListContext { .. } => {
            plain("tls_crl_expired", "the revocation list of its CA is too old; renew the files of crl_files")
        }
        other => plain("tls_client_certificate", &format!("its certificate is not accepted: {other}")),
    }
}

fn expired(ago: Option<Duration>, shown: &str) -> Verdict {
    let when = ago.map_or_else(|| "is expired".to_owned(), |ago| format!("expired {} ago", span(ago)));
    let mut verdict = Verdict::new(
        "tls_certificate_expired",
        format!("its certificate {when}; renew it, and see why its rotation stopped ({shown})"),
    );
    verdict.event = Some(Reason::CertificateExpired);
    verdict
}

fn ago(time: UnixTime) -> Option<Duration> {
    let end = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(time.as_secs()))?;
    SystemTime::now().duration_since(end).ok()
}

/// The first CAs, for a message.
fn names(authorities: &[String]) -> String {
    const MOST: usize = 4;
    let shown: Vec<String> = authorities.iter().take(MOST).map(|name| format!("`{name}`")).collect();
    let more = authorities.len().saturating_sub(MOST);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("our CAs ({}{more})", shown.join(", "))
}

/// Waits for the end of what a connection's certificate proves: its last day, or CAs and revocation lists that changed.
/// Then the connection is ended gracefully, and what still comes over it is refused. Never resolves.
pub(super) async fn guard(connection: &Connection, mut peer: Peer) {
    let early =
        SPREAD.min(peer.left() / 10).mul_f64(f64::from(connection.origin.peer.port() % 1000) / 1000.0);
    let end = peer.facts.not_after.checked_sub(early).unwrap_or(peer.facts.not_after);
    let facts = peer.facts.clone();
    let mut earlier = peer.earlier_ends().into_iter();
    let verdict = loop {
        // Valid to the end of that second (RFC 5280, 4.1.2.5).
        let next = earlier.next().and_then(|end| end.checked_add(Duration::from_secs(1)));
        tokio::select! {
            () = until(next.unwrap_or(end)) => match peer.verify() {
                Ok(()) if next.is_some() => {} // of a certificate that the chain does not need
                Ok(()) => break ended_by_time(&facts),
                Err(error) => break ended_by_change(&error, &facts),
            },
            error = peer.distrusted() => break ended_by_change(&error, &facts),
        }
    };
    ENDED.with_label_values(&[&*connection.receiver, connection.transport.as_str(), verdict.cause]).inc();
    connection.warn(&connection.origin, verdict.cause, format_args!("connection ended: {}", verdict.detail));
    connection.close.notify_one();
    if verdict.cause == EXPIRED && peer.verify().is_ok() {
        until(facts.not_after).await;
    }
    if let Some(refused) = verdict.refused {
        let _ = connection.distrusted.set(refused);
    }
    std::future::pending::<()>().await;
}

/// Waits for a time of the clock, which may be set meanwhile.
async fn until(end: SystemTime) {
    while let Ok(left) = end.duration_since(SystemTime::now())
        && !left.is_zero()
    {
        tokio::time::sleep(left.min(CLOCK)).await;
    }
}

fn ended_by_time(facts: &Facts) -> Verdict {
    let detail = format!("its certificate ends; a new one is needed to come back ({})", facts.describe());
    let message = "the client certificate of this connection has expired; connect again with a new one";
    Verdict { refused: Some(again(EXPIRED, message)), ..Verdict::new(EXPIRED, detail) }
}

fn ended_by_change(error: &rustls::Error, facts: &Facts) -> Verdict {
    let (cause, refused) = match error {
        rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => return ended_by_time(facts),
        rustls::Error::InvalidCertificate(CertificateError::Revoked) => {
            let message = "the client certificate of this connection is revoked; get a new one";
            ("certificate_revoked", Refused::denied("certificate_revoked", message))
        }
        rustls::Error::InvalidCertificate(
            CertificateError::UnknownRevocationStatus
            | CertificateError::ExpiredRevocationList
            | CertificateError::ExpiredRevocationListContext { .. },
        ) => {
            let message =
                "whether the client certificate of this connection is revoked can't be told any more";
            ("certificate_revocation_unknown", again("certificate_revocation_unknown", message))
        }
        _ => {
            let message = "the CA of this connection's client certificate is not trusted any more; connect again with \
                           a certificate of a current one";
            ("certificate_ca_removed", again("certificate_ca_removed", message))
        }
    };
    let detail = format!("its certificate is not accepted any more: {error} ({})", facts.describe());
    Verdict { refused: Some(refused), ..Verdict::new(cause, detail) }
}

/// A client that has a new certificate already succeeds with its next connection.
fn again(cause: Cause, message: &str) -> Refused {
    Refused::unavailable(cause, Duration::from_secs(1), message)
}
