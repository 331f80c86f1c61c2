//! What the sampler knows of a trace without looking at its spans again.
//!
//! Policies are evaluated while spans arrive; the outcome is a few bits and two times. A decision reads this and
//! nothing else, so that the spans themselves may lie elsewhere.

/// What is known of the spans of one trace. Summaries of parts of a trace add up with [`Summary::merge`], in any
/// order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many spans.
    pub spans: u32,
    /// Status codes seen: bit 0 unset, bit 1 ok, bit 2 error.
    pub statuses: u8,
    /// Whether a span without a parent is among them.
    pub root: bool,
    /// The earliest start, in ns since the epoch; 0 while no span had one.
    pub start: u64,
    /// The latest end, in ns since the epoch.
    pub end: u64,
    /// One bit for each `string_attribute` policy that matched.
    pub matched: u128,
}

impl Summary {
    /// Adds what another part of the trace says.
    pub fn merge(&mut self, other: &Self) {
        self.spans = self.spans.saturating_add(other.spans);
        self.statuses |= other.statuses;
        self.root |= other.root;
        self.start = match (self.start, other.start) {
            (0, start) | (start, 0) => start,
            (a, b) => a.min(b),
        };
        self.end = self.end.max(other.end);
        self.matched |= other.matched;
    }

    /// From the earliest start to the latest end, in ns; 0 where one of them is missing or the end comes first.
    pub fn duration(&self) -> u64 {
        if self.start == 0 { 0 } else { self.end.saturating_sub(self.start) }
    }
}
