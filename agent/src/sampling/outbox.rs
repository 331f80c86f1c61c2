//! What is kept, joined to batches of a useful size.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;

use super::stamp;
use crate::{
    auth::Tenant,
    otlp::{Batch, Context},
};

/// A batch is closed at this many spans (the `batch` processor's default size) …
const MAX_SPANS: u32 = 8192;
/// … or before it would grow beyond this many bytes: half of what a gRPC server takes by default (4 MiB).
const MAX_BYTES: usize = 2 << 20;

/// Kept spans, in the order of the decisions, those of each tenant by themselves.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    open: HashMap<u32, Open>,
    closed: VecDeque<Batch>,
}

/// A batch in the making.
#[derive(Debug, Default)]
struct Open {
    tenant: Option<Arc<Tenant>>,
    data: Vec<u8>,
    spans: u32,
}

impl Open {
    fn close(&mut self) -> Option<Batch> {
        let spans = std::mem::take(&mut self.spans);
        let data = Bytes::from(std::mem::take(&mut self.data));
        let context = Context { tenant: self.tenant.clone(), ..Context::default() };
        (spans > 0).then_some(Batch { data, spans, context })
    }
}

impl Outbox {
    /// Adds a trace's request with the reason on its scopes; returns how many attributes a sender had put under
    /// our names. A large trace goes out in several batches. `number` is the tenant's in the shard.
    pub(super) fn push(
        &mut self,
        number: u32,
        tenant: Option<&Arc<Tenant>>,
        request: &[u8],
        reason: &[u8],
    ) -> u64 {
        let mut claims = 0;
        let open = self.open.entry(number).or_default();
        open.tenant = tenant.cloned();
        for resource_spans in stamp::resource_spans(request) {
            if open.data.len() + resource_spans.len() > MAX_BYTES {
                self.closed.extend(open.close());
            }
            let appended = stamp::append(&mut open.data, resource_spans, reason);
            open.spans += appended.spans;
            claims += appended.claims;
            if open.spans >= MAX_SPANS || open.data.len() >= MAX_BYTES {
                self.closed.extend(open.close());
            }
        }
        claims
    }

    /// Closes the batches that are open and hold anything.
    pub(super) fn close(&mut self) {
        for (_, mut open) in self.open.drain() {
            self.closed.extend(open.close());
        }
    }

    /// The next closed batch.
    pub(super) fn next(&mut self) -> Option<Batch> {
        self.closed.pop_front()
    }
}
