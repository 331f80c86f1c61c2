//! What a text calls for: which detectors and passes must look at it, by the windows that the gate finds in it.

#![forbid(unsafe_code)]

use crate::scrub::pattern::{
    gate::{Gate, Hits},
    window::Window,
};

/// Detectors and passes, a bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Calls(u128);

/// Bits for detectors; there is one for each that can be on.
const DETECTORS: usize = 120;

impl Calls {
    /// The text may read otherwise than it stands.
    pub(super) const ENCODED: Self = Self(1 << 127);
    /// It may hold base64.
    pub(super) const BASE64: Self = Self(1 << 126);
    /// As a key, it may name a secret.
    pub(super) const NAMED: Self = Self(1 << 125);

    /// The detector of this number.
    pub(super) fn detector(number: usize) -> Self {
        assert!(number < DETECTORS, "more detectors than bits");
        Self(1 << number)
    }

    /// Whether nothing is called for.
    #[inline]
    pub(super) fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Whether one of these is.
    #[inline]
    pub(super) fn any_of(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Adds those of `other`.
    #[inline]
    pub(super) fn join(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// The detectors that are called for, by number, ascending.
    pub(super) fn detectors(self) -> impl Iterator<Item = usize> {
        let mut left = self.0 & ((1 << DETECTORS) - 1);
        std::iter::from_fn(move || {
            let next = (left != 0).then_some(left.trailing_zeros() as usize);
            left &= left.wrapping_sub(1);
            next
        })
    }
}

/// What each window calls for.
#[derive(Debug, Default)]
pub(super) struct Callers {
    /// What has no window: every text calls for it.
    always: Calls,
    /// By the window's number.
    windows: Vec<Calls>,
    all: Hits,
}

impl Callers {
    /// Lets these windows call, alternatives of which a text must hold one.
    pub(super) fn add(&mut self, calls: Calls, windows: &[Window], gate: &mut Gate) {
        let Some(hits) = gate.add_windows(windows) else {
            self.always.join(calls);
            return;
        };
        self.all.join(&hits);
        for window in hits.windows() {
            let length = self.windows.len().max(window + 1);
            self.windows.resize(length, Calls::default());
            self.windows[window].join(calls);
        }
    }

    /// What every text calls for.
    #[inline]
    pub(super) fn always(&self) -> Calls {
        self.always
    }

    /// All windows that call.
    #[inline]
    pub(super) fn windows(&self) -> &Hits {
        &self.all
    }

    /// What a window calls for; another processor's calls for nothing.
    #[inline]
    pub(super) fn of_window(&self, window: u16) -> Calls {
        self.windows.get(usize::from(window)).copied().unwrap_or_default()
    }

    /// What a text calls for.
    pub(super) fn of(&self, gate: &Gate, text: &[u8]) -> Calls {
        let mut calls = self.always;
        gate.each(text, |window| calls.join(self.of_window(window)));
        calls
    }
}
