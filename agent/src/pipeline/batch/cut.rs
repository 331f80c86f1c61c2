//! Cuts a request that has too many spans.

use bytes::Bytes;

use crate::sampling::regroup::{Seen, regroup};

/// Requests of at most `most` spans each, with how many they have, in the order of the spans.
pub(super) fn by_spans(request: &[u8], most: u32) -> Vec<(Bytes, u32)> {
    let mut spans = 0;
    let parts = regroup(request, |seen| {
        spans += u32::from(matches!(seen, Seen::Span(_)));
        (spans.saturating_sub(1) / most) as usize
    });
    let last = parts.len().saturating_sub(1);
    let count = |index: usize| if index == last { spans - last as u32 * most } else { most };
    parts.into_iter().enumerate().map(|(index, part)| (Bytes::from(part), count(index))).collect()
}
