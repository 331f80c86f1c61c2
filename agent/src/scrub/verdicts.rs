//! Texts that were searched in full and found clean, by a hash: what comes again need not be searched again.
//!
//! Only "clean" is remembered. The hash is keyed with a secret of this process, so that nobody can make a text that
//! passes for another; and it belongs to one plan's patterns, because it is thrown away with the plan's other search
//! state.

#![forbid(unsafe_code)]

use std::hash::{BuildHasher, Hasher, RandomState};

/// Texts remembered: 32 KiB a thread.
const ENTRIES: usize = 1 << 12;
/// Longer texts are seldom the same twice.
const LONGEST: usize = 1 << 10;

/// What is remembered.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    key: RandomState,
    /// Hashes by their low bits; the newest stays. Empty until something is noted.
    table: Vec<u64>,
}

/// A text's hash. 0 stands for none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name(u64);

impl Verdicts {
    /// A text under a set of patterns. `None` where it is not remembered.
    pub(super) fn name(&self, patterns: usize, text: &[u8]) -> Option<Name> {
        if text.len() > LONGEST {
            return None;
        }
        let mut hasher = self.key.build_hasher();
        hasher.write_usize(patterns);
        hasher.write(text);
        Some(Name(hasher.finish())).filter(|name| name.0 != 0)
    }

    /// Whether it was found clean.
    pub(super) fn is_clean(&self, name: Name) -> bool {
        self.table.get(place(name)) == Some(&name.0)
    }

    /// Remembers it as clean.
    pub(super) fn note_clean(&mut self, name: Name) {
        self.table.resize(ENTRIES, 0);
        self.table[place(name)] = name.0;
    }
}

fn place(name: Name) -> usize {
    name.0 as usize & (ENTRIES - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_noted_is_clean_and_only_for_its_patterns() {
        let mut verdicts = Verdicts::default();
        let name = |verdicts: &Verdicts, patterns, text: &str| {
            verdicts.name(patterns, text.as_bytes()).expect("short enough")
        };
        let clean = name(&verdicts, 0, "10.12.1.1");
        assert!(!verdicts.is_clean(clean));
        verdicts.note_clean(clean);
        assert!(verdicts.is_clean(name(&verdicts, 0, "10.12.1.1")));
        assert!(!verdicts.is_clean(name(&verdicts, 1, "10.12.1.1")));
        assert!(!verdicts.is_clean(name(&verdicts, 0, "10.12.1.2")));
        for number in 0..20_000 {
            let other = name(&verdicts, 0, &format!("value {number}"));
            assert!(!verdicts.is_clean(other), "{number}");
            if number % 2 == 0 {
                verdicts.note_clean(other);
            }
        }
        assert!(verdicts.table.len() == ENTRIES);
    }

    #[test]
    fn two_processes_name_a_text_differently() {
        let (ours, theirs) = (Verdicts::default(), Verdicts::default());
        let same = (0..64).filter(|n| {
            let text = [*n; 20];
            ours.name(0, &text).map(|name| name.0) == theirs.name(0, &text).map(|name| name.0)
        });
        assert_eq!(same.count(), 0);
    }

    #[test]
    fn long_texts_are_not_remembered() {
        assert!(Verdicts::default().name(0, &[b'x'; LONGEST + 1]).is_none());
    }
}
