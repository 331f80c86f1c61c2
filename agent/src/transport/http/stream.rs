//! A body that comes piece by piece.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Response, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::timeout;

use super::{HttpError, connect::Connection};

/// An answer whose body is still coming. Dropped, its connection is closed.
pub struct Stream {
    /// The answer's status.
    pub status: StatusCode,
    /// The answer's header fields.
    pub headers: HeaderMap,
    pub(super) from: Arc<str>,
    body: Incoming,
    idle: Duration,
    _connection: Connection,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream")
            .field("from", &self.from)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

impl Stream {
    pub(super) fn new(
        response: Response<Incoming>,
        connection: Connection,
        idle: Duration,
        from: Arc<str>,
    ) -> Self {
        let (head, body) = response.into_parts();
        Self { status: head.status, headers: head.headers, from, body, idle, _connection: connection }
    }

    /// The next piece, as the server cut it; `None` at the end. A piece is at most what the connection buffers.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, HttpError> {
        loop {
            let Ok(frame) = timeout(self.idle, self.body.frame()).await else {
                return Err(HttpError::Idle { url: self.from.to_string(), after: self.idle });
            };
            match frame {
                None => return Ok(None),
                Some(Err(error)) => return Err(HttpError::exchange(&self.from, &error)),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if data.is_empty() => {}
                    Ok(data) => return Ok(Some(data)),
                    // Trailers say nothing here.
                    Err(_) => {}
                },
            }
        }
    }

    /// Everything that is left, if it is no more than `limit` bytes.
    pub(super) async fn rest(&mut self, limit: usize) -> Result<Bytes, HttpError> {
        let too_large = || HttpError::TooLarge { url: self.from.to_string(), limit };
        if self.body.size_hint().lower() > limit as u64 {
            return Err(too_large());
        }
        let mut all = BytesMut::new();
        while let Some(piece) = self.chunk().await? {
            if all.len() + piece.len() > limit {
                return Err(HttpError::TooLarge { url: self.from.to_string(), limit });
            }
            all.extend_from_slice(&piece);
        }
        Ok(all.freeze())
    }
}
