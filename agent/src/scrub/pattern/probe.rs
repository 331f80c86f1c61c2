//! Where a match may be, by a rare byte that it must contain: `@` in an e-mail address, `'` in an SQL literal.
//!
//! Most texts that a statement's pattern is asked about have no match, and finding that out by a byte costs a tenth
//! of asking the pattern's automaton.

#![forbid(unsafe_code)]

use super::window::{ByteSet, Window};

/// A byte as frequent as this is not rare.
const RARE: f64 = 0.02;

/// What to look for.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    /// One to three bytes; the last is repeated.
    bytes: [u8; 3],
    count: usize,
    /// Windows, with the place of the rare byte in each.
    windows: Vec<(usize, Window)>,
    /// The farthest such place.
    farthest: usize,
    /// A match begins where its window does.
    prefix: bool,
}

impl Probe {
    /// For a pattern of which every match contains one of these windows, at its beginning if `prefix` says so. `None`
    /// where no rare byte tells.
    pub(super) fn new(windows: &[Window], prefix: bool) -> Option<Self> {
        let mut probe = Self { bytes: [0; 3], count: 0, windows: Vec::new(), farthest: 0, prefix };
        for window in windows {
            let few = |set: &ByteSet| set.bytes().count() <= 2;
            let (place, set) = window
                .iter()
                .enumerate()
                .filter(|(_, set)| few(set))
                .min_by(|(_, a), (_, b)| a.share().total_cmp(&b.share()))?;
            for byte in set.bytes() {
                if !probe.bytes[..probe.count].contains(&byte) {
                    *probe.bytes.get_mut(probe.count)? = byte;
                    probe.count += 1;
                }
            }
            probe.farthest = probe.farthest.max(place);
            probe.windows.push((place, window.clone()));
        }
        let rare = probe.bytes[..probe.count].iter().map(|byte| super::window::share(*byte)).sum::<f64>();
        (probe.count > 0 && rare <= RARE).then_some(probe)
    }

    /// Where to begin a search from `from` on; `None` where nothing can match.
    #[inline]
    pub(super) fn find(&self, text: &[u8], from: usize) -> Option<usize> {
        let mut at = from;
        loop {
            at += self.next(text.get(at..)?)?;
            if self.windows.iter().any(|(place, window)| fits(text, from, at, *place, window)) {
                return Some(if self.prefix { from.max(at.saturating_sub(self.farthest)) } else { from });
            }
            at += 1;
        }
    }

    #[inline]
    fn next(&self, text: &[u8]) -> Option<usize> {
        let [a, b, c] = self.bytes;
        match self.count {
            1 => memchr::memchr(a, text),
            2 => memchr::memchr2(a, b, text),
            _ => memchr::memchr3(a, b, c, text),
        }
    }
}

/// Whether the window stands around its rare byte, and not before `from`.
#[inline]
fn fits(text: &[u8], from: usize, at: usize, place: usize, window: &[ByteSet]) -> bool {
    let Some(start) = at.checked_sub(place).filter(|start| *start >= from) else { return false };
    text.get(start..start + window.len())
        .is_some_and(|text| text.iter().zip(window).all(|(byte, set)| set.has(*byte)))
}
