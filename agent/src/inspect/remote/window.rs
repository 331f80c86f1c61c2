//! A span of time, and the search through it in pieces: backends give the newest so many of what they find and have no
//! second page, so a piece that comes back full is searched again in halves.

#![forbid(unsafe_code)]

/// From one second to another, both included, since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Seconds.
    pub start: u64,
    /// Seconds.
    pub end: u64,
}

impl Window {
    /// The two halves, the later one first; `None` where it is a single second.
    pub(super) fn halves(self) -> Option<[Self; 2]> {
        if self.start >= self.end {
            return None;
        }
        let middle = self.start + (self.end - self.start) / 2;
        Some([Self { start: middle + 1, end: self.end }, Self { start: self.start, end: middle }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_cover_the_whole_once() {
        let mut stack = vec![Window { start: 3, end: 17 }];
        let mut seconds = Vec::new();
        while let Some(window) = stack.pop() {
            match window.halves() {
                Some(halves) => stack.extend(halves),
                None => seconds.push(window.start),
            }
        }
        assert_eq!(seconds, (3..=17).collect::<Vec<_>>());
    }
}
