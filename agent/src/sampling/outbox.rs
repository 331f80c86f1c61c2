//! What is kept, joined to batches of a useful size.

use std::collections::VecDeque;

use bytes::Bytes;

use super::stamp;
use crate::otlp::{Batch, Context};

/// A batch is closed at this many spans (the `batch` processor's default size) …
const MAX_SPANS: u32 = 8192;
/// … or before it would grow beyond this many bytes: half of what a gRPC server takes by default (4 MiB).
const MAX_BYTES: usize = 2 << 20;

/// Kept spans, in the order of the decisions.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    open: Vec<u8>,
    spans: u32,
    closed: VecDeque<Batch>,
}

impl Outbox {
    /// Adds a trace's request with the reason on its scopes; returns how many attributes a sender had put under
    /// our names. A large trace goes out in several batches.
    pub(super) fn push(&mut self, request: &[u8], reason: &[u8]) -> u64 {
        let mut claims = 0;
        for resource_spans in stamp::resource_spans(request) {
            if self.open.len() + resource_spans.len() > MAX_BYTES {
                self.close();
            }
            let appended = stamp::append(&mut self.open, resource_spans, reason);
            self.spans += appended.spans;
            claims += appended.claims;
            if self.spans >= MAX_SPANS || self.open.len() >= MAX_BYTES {
                self.close();
            }
        }
        claims
    }

    /// Closes the batch that is open, if it holds anything.
    pub(super) fn close(&mut self) {
        if self.spans > 0 {
            let data = Bytes::from(std::mem::take(&mut self.open));
            self.closed.push_back(Batch { data, spans: self.spans, context: Context::default() });
            self.spans = 0;
        }
    }

    /// The next closed batch.
    pub(super) fn next(&mut self) -> Option<Batch> {
        self.closed.pop_front()
    }
}
