//! The lines of a watch: one JSON object each.

use bytes::{Buf as _, Bytes, BytesMut};

/// The longest line that is read. etcd takes objects of 1.5 MiB, the API server bodies of 3 MiB; a pod of a tenth of that
/// would be a curiosity.
const MAX_LINE: usize = 3 << 20;

/// A line, or the place of one.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// Without its end; never empty.
    Line(Bytes),
    /// It was too long and is not kept.
    TooLong,
}

/// Cuts pieces into lines.
#[derive(Default)]
pub(super) struct Frames {
    /// What came after the last line.
    rest: BytesMut,
    /// How much of `rest` has no line end.
    looked: usize,
    /// The line that is coming is thrown away.
    skipping: bool,
}

impl Frames {
    pub(super) fn push(&mut self, piece: &[u8]) {
        self.rest.extend_from_slice(piece);
    }

    /// The next whole line.
    pub(super) fn next(&mut self) -> Option<Frame> {
        loop {
            let Some(end) = memchr::memchr(b'\n', &self.rest[self.looked..]).map(|at| at + self.looked)
            else {
                self.looked = self.rest.len();
                if self.skipping || self.looked > MAX_LINE {
                    // Not a byte of it is kept, and the memory goes back.
                    self.rest = BytesMut::new();
                    self.looked = 0;
                    self.skipping = true;
                } else if self.rest.is_empty() {
                    self.rest = BytesMut::new();
                }
                return None;
            };
            self.looked = 0;
            let line = self.rest.split_to(end).freeze();
            self.rest.advance(1);
            if std::mem::take(&mut self.skipping) || line.len() > MAX_LINE {
                return Some(Frame::TooLong);
            }
            if !line.trim_ascii().is_empty() {
                return Some(Frame::Line(line));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(pieces: &[&[u8]]) -> Vec<Frame> {
        let mut frames = Frames::default();
        let mut found = Vec::new();
        for piece in pieces {
            frames.push(piece);
            found.extend(std::iter::from_fn(|| frames.next()));
        }
        found
    }

    #[test]
    fn a_line_that_is_too_long_costs_no_memory_and_no_other_line() {
        let mut frames = Frames::default();
        frames.push(b"first\n");
        assert_eq!(frames.next(), Some(Frame::Line("first".into())));
        for _ in 0..100 {
            frames.push(&vec![b'x'; 64 << 10]);
            assert_eq!(frames.next(), None);
            assert!(frames.rest.capacity() <= 2 * MAX_LINE + (128 << 10), "{}", frames.rest.capacity());
        }
        frames.push(b"end\nlast\n\n");
        assert_eq!(frames.next(), Some(Frame::TooLong));
        assert_eq!(frames.next(), Some(Frame::Line("last".into())));
        assert_eq!(frames.next(), None);
    }

    proptest! {
        #[test]
        fn however_it_is_cut(lines in prop::collection::vec("[a-z{}]{0,9}", 0..20), cuts in prop::collection::vec(1_usize..7, 0..60)) {
            let text = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect::<String>();
            let mut pieces = Vec::new();
            let mut rest = text.as_bytes();
            for cut in cuts {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
                rest = after;
            }
            pieces.push(rest);
            let expected: Vec<_> =
                lines.iter().filter(|line| !line.is_empty()).map(|line| Frame::Line(line.clone().into())).collect();
            prop_assert_eq!(all(&pieces), expected);
        }
    }
}
