//! Findings: where a detector found something, and which parts of a text are masked in the end.

#![forbid(unsafe_code)]

use std::ops::Range;

/// One finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// First byte.
    pub(super) start: usize,
    /// After the last byte.
    pub(super) end: usize,
    /// The detector's place in the processor's list: lower ones are more specific.
    pub(super) detector: usize,
}

/// What was found in one text.
#[derive(Debug, Default)]
pub(super) struct Finds {
    list: Vec<Finding>,
    detector: usize,
}

impl Finds {
    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.list.clear();
    }

    /// From now on findings are this detector's.
    pub(super) fn by(&mut self, detector: usize) {
        self.detector = detector;
    }

    /// Adds a finding.
    pub(super) fn push(&mut self, range: Range<usize>) {
        if !range.is_empty() {
            self.list.push(Finding { start: range.start, end: range.end, detector: self.detector });
        }
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// Changes the places of all findings from number `from` on.
    pub(super) fn moved(&mut self, from: usize, to: impl Fn(Range<usize>) -> Range<usize>) {
        for finding in &mut self.list[from..] {
            let range = to(finding.start..finding.end);
            (finding.start, finding.end) = (range.start, range.end);
        }
    }

    /// The parts to mask, in order and apart from each other. Where findings overlap, all that they cover is one part,
    /// and it goes by the longest of them, of equally long ones by the most specific.
    pub(super) fn resolve(&mut self) -> &[Finding] {
        self.list.sort_unstable_by_key(|finding| (finding.start, finding.end, finding.detector));
        let mut done = 0;
        let mut longest = 0;
        for at in 0..self.list.len() {
            let next = self.list[at];
            let length = next.end - next.start;
            if done > 0 && next.start < self.list[done - 1].end {
                let part = &mut self.list[done - 1];
                part.end = part.end.max(next.end);
                if length > longest || length == longest && next.detector < part.detector {
                    part.detector = next.detector;
                    longest = length;
                }
            } else {
                self.list[done] = next;
                done += 1;
                longest = length;
            }
        }
        self.list.truncate(done);
        &self.list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(findings: &[(usize, usize, usize)]) -> Vec<(usize, usize, usize)> {
        let mut finds = Finds::default();
        for (start, end, detector) in findings {
            finds.by(*detector);
            finds.push(*start..*end);
        }
        finds.resolve().iter().map(|part| (part.start, part.end, part.detector)).collect()
    }

    #[test]
    fn overlaps_are_one_part_under_the_longest_ones_name_whatever_the_order() {
        for (findings, expected) in [
            (&[(0, 4, 1), (6, 9, 0)][..], &[(0, 4, 1), (6, 9, 0)][..]),
            (&[(0, 4, 1), (3, 9, 2)], &[(0, 9, 2)]),
            (&[(0, 4, 2), (0, 4, 1)], &[(0, 4, 1)]),
            (&[(0, 9, 2), (2, 4, 0), (8, 12, 1)], &[(0, 12, 2)]),
            (&[(0, 2, 3), (2, 4, 3)], &[(0, 2, 3), (2, 4, 3)]),
            (&[(5, 5, 0)], &[]),
        ] {
            assert_eq!(resolved(findings), expected);
            let reversed: Vec<_> = findings.iter().rev().copied().collect();
            assert_eq!(resolved(&reversed), expected);
        }
    }
}
