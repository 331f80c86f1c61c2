//! A request's body: read within size, time and memory limits, then unpacked.

#![forbid(unsafe_code)]

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use http_body::Body;
use http_body_util::BodyExt as _;
use tokio::time::{Instant, timeout_at};

use super::{
    Limits,
    admission::{Full, Permit},
    status::{Code, Failure},
};

/// When to come back after memory ran out: about what a batch needs to get through.
const RETRY_SOON: Duration = Duration::from_secs(1);

/// The frames of a body in their order, joined only where there is more than one.
#[derive(Debug, Default)]
pub(super) struct Frames {
    first: Bytes,
    rest: Vec<Bytes>,
    len: usize,
}

impl Frames {
    /// Bytes in all frames.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    fn push(&mut self, frame: Bytes) {
        self.len += frame.len();
        if self.first.is_empty() {
            self.first = frame;
        } else if !frame.is_empty() {
            self.rest.push(frame);
        }
    }

    /// The first `N` bytes, once they are there.
    pub(super) fn prefix<const N: usize>(&self) -> Option<[u8; N]> {
        if let Some(prefix) = self.first.first_chunk() {
            return Some(*prefix);
        }
        if self.len < N {
            return None;
        }
        let mut prefix = [0; N];
        let bytes = self.first.iter().chain(self.rest.iter().flatten());
        for (to, from) in prefix.iter_mut().zip(bytes) {
            *to = *from;
        }
        Some(prefix)
    }

    /// Everything after the first `skip` bytes: a slice of the only frame, or one copy of several.
    pub(super) fn into_bytes(self, skip: usize) -> Bytes {
        if self.rest.is_empty() {
            return self.first.slice(skip..);
        }
        let mut all = BytesMut::with_capacity(self.len);
        all.extend_from_slice(&self.first);
        for frame in &self.rest {
            all.extend_from_slice(frame);
        }
        all.freeze().slice(skip..)
    }
}

/// Reads a body to its end. `check` sees it after each frame and refuses what is too long or wrong as soon as
/// that shows.
pub(super) async fn read<B>(
    body: &mut B,
    limits: &Limits,
    permit: &mut Permit,
    mut check: impl FnMut(&Frames, &Permit) -> Result<(), Failure>,
) -> Result<Frames, Failure>
where
    B: Body<Data = Bytes, Error = hyper::Error> + Unpin,
{
    let mut frames = Frames::default();
    let mut whole = None;
    loop {
        // Most frames are there already; a timer is set only where one must be waited for.
        let next = if let Some(next) = body.frame().now_or_never() {
            next
        } else {
            let now = Instant::now();
            let whole = *whole.get_or_insert(now + limits.body);
            timeout_at(whole.min(now + limits.body_idle), body.frame()).await.map_err(|_| slow())?
        };
        let Some(frame) = next else { return Ok(frames) };
        // Trailers mean nothing to OTLP.
        let Ok(data) = frame.map_err(|e| broken(&e))?.into_data() else { continue };
        permit.grow(data.len() as u64).map_err(admission_failure)?;
        frames.push(data);
        check(&frames, permit)?;
    }
}

fn slow() -> Failure {
    let message = "the request's body came too slowly; send it at once, or in smaller batches";
    Failure::new(Code::DeadlineExceeded, 408, "slow_body", message)
}

/// The sender went away in the middle, or its framing is wrong. The first never sees this answer.
fn broken(error: &hyper::Error) -> Failure {
    if super::connection::is_disconnect(error) {
        Failure::new(Code::Unavailable, 400, "aborted_body", "the request's body ended before its end")
    } else {
        Failure::malformed("malformed_body", "the request's body breaks the framing of its protocol")
    }
}

/// Memory ran out.
pub(super) fn admission_failure(full: Full) -> Failure {
    match full {
        Full::Total => {
            Failure::overloaded("memory", RETRY_SOON, "too many bytes in flight; send again after the delay")
        }
        Full::Sender => Failure::overloaded(
            "sender_memory",
            RETRY_SOON,
            "this sender has too many bytes in flight; send again after the delay, fewer at a time",
        ),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn frames_join_to_what_was_sent(parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..6), 0..8)) {
            let whole = parts.concat();
            let mut frames = Frames::default();
            for part in parts {
                frames.push(part.into());
            }
            prop_assert_eq!(frames.len(), whole.len());
            let prefix = frames.prefix::<5>();
            prop_assert_eq!(prefix.as_ref().map(|p| &p[..]), whole.get(..5));
            let skip = whole.len().min(5);
            prop_assert_eq!(frames.into_bytes(skip), &whole[skip..]);
        }
    }

    #[test]
    fn one_frame_is_not_copied() {
        let frame = Bytes::from(vec![1; 100]);
        let mut frames = Frames::default();
        frames.push(Bytes::new());
        frames.push(frame.clone());
        assert_eq!(frames.into_bytes(5).as_ptr(), frame[5..].as_ptr());
    }
}
