//! The body of a unary gRPC request: five bytes, then the message as it is, without copying it.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// Compressed flag and length in front of a message.
pub(crate) const PREFIX: usize = 5;

/// A request body of two frames.
pub(crate) struct Unary {
    prefix: Option<Bytes>,
    message: Option<Bytes>,
}

impl Unary {
    /// A message of less than 4 GiB.
    pub(crate) fn new(message: Bytes, compressed: bool) -> Self {
        let mut prefix = [0; PREFIX];
        prefix[0] = u8::from(compressed);
        prefix[1..].copy_from_slice(&(message.len() as u32).to_be_bytes());
        let message = (!message.is_empty()).then_some(message);
        Self { prefix: Some(Bytes::copy_from_slice(&prefix)), message }
    }
}

impl Body for Unary {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.prefix.take().or_else(|| self.message.take());
        Poll::Ready(next.map(|data| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.prefix.is_none() && self.message.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let left = |part: &Option<Bytes>| part.as_ref().map_or(0, Bytes::len) as u64;
        SizeHint::with_exact(left(&self.prefix) + left(&self.message))
    }
}
