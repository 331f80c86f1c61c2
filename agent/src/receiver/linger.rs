//! The end of a connection whose client may still be sending.

#![forbid(unsafe_code)]

use std::{future::pending, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};

use super::Limits;

/// What one read throws away; the only memory that a lingering connection holds.
const SINK: usize = 16 << 10;
/// The longest pause of a client that is still sending. One that has read the answer closes at once.
const PAUSE: Duration = Duration::from_secs(2);

/// Closes our half, then reads and forgets until the client closes too, as RFC 9112 section 9.6 asks: closing with
/// unread bytes would reset the connection, and a reset discards the answer that the client has not read yet.
///
/// Bounded by [`Limits::linger`], and by `body` (what a request may have) and [`Limits::linger_bytes`] together. A
/// client that sends more is not reset at that point: nothing is taken from it any more, its window closes, and it has
/// the time that is left to look for the answer.
pub(super) async fn linger<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, limits: &Limits, body: usize) {
    let to_the_end = async {
        if stream.shutdown().await.is_err() {
            return;
        }
        let mut sink = vec![0; SINK];
        let mut left = limits.linger_bytes.saturating_add(body);
        while left > 0 {
            match timeout(PAUSE, stream.read(&mut sink)).await {
                Ok(Ok(n @ 1..)) => left = left.saturating_sub(n),
                // It has closed, was reset, or says nothing any more.
                _ => return,
            }
        }
        pending::<()>().await;
    };
    let _ = timeout(limits.linger, to_the_end).await;
}
