//! Driving a connection to its end: drain, age, idleness.

#![forbid(unsafe_code)]

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    task::{Context, Poll},
    time::Duration,
};

use hyper::server::conn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, sleep_until},
};

use super::{
    Shutdown,
    connection::{Connection, Handler},
};

/// How long a connection that was told to end for idleness, or for want of evidence, may take.
const GRACE: Duration = Duration::from_secs(10);

/// How busy a connection is.
#[derive(Debug)]
pub(super) struct Activity {
    since: Instant,
    in_flight: AtomicU32,
    /// When the last request ended, in milliseconds after `since`.
    last: AtomicU64,
}

impl Default for Activity {
    fn default() -> Self {
        Self { since: Instant::now(), in_flight: AtomicU32::new(0), last: AtomicU64::new(0) }
    }
}

impl Activity {
    /// A request begins; it ends when the guard is dropped.
    pub(super) fn enter(&self) -> Busy<'_> {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Busy(self)
    }

    /// Since when nothing has been in flight, or `None` while something is.
    fn idle_since(&self) -> Option<Instant> {
        let idle = self.in_flight.load(Ordering::Relaxed) == 0;
        idle.then(|| self.since + Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }

    fn served_any(&self) -> bool {
        self.last.load(Ordering::Relaxed) > 0
    }
}

/// A request in flight.
#[derive(Debug)]
pub(super) struct Busy<'a>(&'a Activity);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        let now = self.0.since.elapsed().as_millis() as u64;
        self.0.last.store(now.max(1), Ordering::Relaxed);
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What hyper's two kinds of connection have in common.
pub(super) trait Http {
    /// For the cause of a malformed connection.
    const MALFORMED: &'static str;
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>>;
    fn end_gracefully(&mut self);
}

impl<S> Http for conn::http1::Connection<TokioIo<S>, Handler>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    const MALFORMED: &'static str = "malformed_http1";

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.poll_without_shutdown(cx)
    }

    fn end_gracefully(&mut self) {
        Pin::new(self).graceful_shutdown();
    }
}

impl<S> Http for Pin<Box<conn::http2::Connection<TokioIo<S>, Handler, TokioExecutor>>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    const MALFORMED: &'static str = "malformed_http2";

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.as_mut().poll(cx)
    }

    fn end_gracefully(&mut self) {
        self.as_mut().graceful_shutdown();
    }
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// By itself: served, or gone.
    Done,
    /// The client broke its protocol, and may still be sending.
    Malformed,
    /// Its time was over.
    Cut,
}

/// Runs a connection to its end.
pub(super) async fn drive<C: Http>(conn: &mut C, connection: &Connection, mut shutdown: Shutdown) -> End {
    let keepalive = &connection.keepalive;
    let age =
        keepalive.max_connection_age.map(|age| Instant::now() + spread(age, connection.origin.peer.port()));
    let mut drained = pin!(shutdown.requested());
    let (mut ending, mut draining, mut cut) = (false, false, None::<Instant>);
    loop {
        let now = Instant::now();
        let idle = keepalive.max_connection_idle.map(|d| connection.activity.idle_since().unwrap_or(now) + d);
        let wake = if ending { cut } else { age.into_iter().chain(idle).min() };
        tokio::select! {
            biased;
            end = poll_fn(|cx| conn.poll_end(cx)) => {
                let Err(error) = end else { return End::Done };
                report::<C>(connection, &error);
                return if error.is_parse() { End::Malformed } else { End::Done };
            }
            deadline = &mut drained, if !draining => {
                draining = true;
                cut = Some(cut.map_or(deadline, |cut| cut.min(deadline)));
            }
            () = connection.close.notified(), if !ending => cut = Some(now + GRACE),
            () = sleep_until(wake.unwrap_or(now)), if wake.is_some() => {
                let now = Instant::now();
                if ending {
                    connection.meters.refuse_connection(if draining { "drain_deadline" } else { "grace" });
                    return End::Cut;
                }
                if age.is_some_and(|age| age <= now) {
                    cut = keepalive.max_connection_age_grace.map(|grace| now + grace);
                } else if connection.activity.idle_since().zip(keepalive.max_connection_idle).is_some_and(|(t, d)| t + d <= now) {
                    cut = Some(now + GRACE);
                } else {
                    continue;
                }
            }
        }
        if !ending {
            ending = true;
            conn.end_gracefully();
        }
    }
}

/// gRPC spreads the ages of connections by a tenth, so that they do not all come back at once; the client's port
/// is as good as random.
fn spread(age: Duration, port: u16) -> Duration {
    age.mul_f64(0.9 + 0.2 * f64::from(port % 1000) / 1000.0)
}

/// Counts what the peer did wrong; going away is not wrong.
fn report<C: Http>(connection: &Connection, error: &hyper::Error) {
    let (cause, detail) = if error.is_timeout() {
        // Also how an idle HTTP/1 connection ends.
        if connection.activity.served_any() {
            return;
        }
        ("header_timeout", "it did not send a request in time".to_owned())
    } else if error.is_parse_too_large() {
        ("header_too_large", "a request's headers are larger than 16 KiB".to_owned())
    } else if super::connection::is_disconnect(error) {
        return;
    } else {
        (C::MALFORMED, format!("it broke its protocol: {error}"))
    };
    connection.refuse_connection(&connection.origin, cause, &detail);
}
