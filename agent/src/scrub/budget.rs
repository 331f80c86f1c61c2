//! What a request may cost.
//!
//! A walk looks at every byte once, and most texts are looked at no more than that. Whatever looks at bytes again counts
//! them here: searches, detectors, sanitizers, and statements that read what other messages say. What a sender can
//! drive up is *spent*, from an allowance that follows from the request's size. Where it is used up, what is not
//! looked at is dropped, never passed on.

#![forbid(unsafe_code)]

/// How often the bytes of a request may be looked at again; and a little more, for small requests.
const PASSES: u64 = 16;
const ALWAYS: u64 = 1 << 20;

/// What stands where a text was dropped because its request had cost too much.
pub(super) const DROPPED: &[u8] = b"[DROPPED]";

/// The budget of the request at hand.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    /// Bytes that may still be looked at.
    left: u64,
    /// Bytes that were looked at, allowed or not.
    looked: u64,
    /// Statements have used it up: nothing more is to be read.
    exhausted: bool,
    /// Values and texts that were dropped.
    dropped: u64,
}

impl Default for Budget {
    /// Of an empty request.
    fn default() -> Self {
        Self { left: ALWAYS, looked: 0, exhausted: false, dropped: 0 }
    }
}

impl Budget {
    /// Begins a request of so many bytes.
    pub(super) fn begin(&mut self, bytes: usize) {
        *self = Self { left: PASSES * bytes as u64 + ALWAYS, dropped: self.dropped, ..Self::default() };
    }

    /// Counts a look that every request of this size may have.
    #[inline]
    pub(super) fn look(&mut self, bytes: usize) {
        self.looked += bytes as u64;
    }

    /// Counts a look that is only allowed while something is left.
    #[inline]
    pub(super) fn spend(&mut self, bytes: usize) -> bool {
        self.looked += bytes as u64;
        let left = self.left.checked_sub(bytes as u64);
        self.left = left.unwrap_or(0);
        left.is_some()
    }

    /// The same for a look that has happened: if it was one too many, it was the last.
    #[inline]
    pub(super) fn spent(&mut self, bytes: usize) {
        self.exhausted |= !self.spend(bytes);
    }

    /// Whether nothing more is to be read, and what is not treated yet is to be dropped.
    #[inline]
    pub(super) fn is_exhausted(&self) -> bool {
        self.exhausted
    }

    /// What is left.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// So many values and texts were dropped.
    pub(super) fn dropped(&mut self, count: u64) {
        self.dropped += count;
    }

    /// How many were dropped since this was asked last.
    pub(super) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// How many bytes were looked at again.
    pub(super) fn looked(&self) -> u64 {
        self.looked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spent_is_gone_and_a_new_request_begins_anew() {
        let mut budget = Budget::default();
        budget.begin(1000);
        let all = PASSES as usize * 1000 + ALWAYS as usize;
        budget.look(usize::MAX >> 1);
        assert!(budget.spend(all) && !budget.spend(1) && !budget.is_exhausted());
        budget.spent(0);
        assert!(!budget.is_exhausted());
        budget.spent(1);
        budget.dropped(1);
        assert!(budget.is_exhausted() && budget.left() == 0);
        assert_eq!(budget.looked(), (usize::MAX >> 1) as u64 + all as u64 + 2);
        budget.begin(0);
        assert!(!budget.is_exhausted() && budget.looked() == 0 && budget.spend(ALWAYS as usize));
        assert_eq!((budget.take_dropped(), budget.take_dropped()), (1, 0));
    }
}
