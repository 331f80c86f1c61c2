//! How far a search looks.
//!
//! A search goes on behind a match for as long as a longer one, or one that counts more, is possible. Most patterns without a
//! longest match stop soon (`Bearer [a-z0-9]+` at the first other byte), some look at the whole rest (`a.*z|a`). Only
//! stepping through the automaton tells, which costs as much as the search: so that is done where it decides whether
//! a text is dropped.

#![forbid(unsafe_code)]

use regex_automata::{
    Input,
    hybrid::dfa::{Cache, Config, DFA},
    nfa::thompson::{Compiler, WhichCaptures},
};
use regex_syntax::hir::Hir;

/// What the automaton may use in one thread, as the engine's own.
const CACHE: usize = 4 << 20;

/// The automaton of a pattern, for measuring.
#[derive(Debug)]
pub(super) struct Reach(DFA);

impl Reach {
    /// For a pattern; `None` where it has no such automaton.
    pub(super) fn new(hir: &Hir) -> Option<Self> {
        let captures = regex_automata::nfa::thompson::Config::new().which_captures(WhichCaptures::None);
        let nfa = Compiler::new().configure(captures).build_from_hir(hir).ok()?;
        let config = Config::new().unicode_word_boundary(true).cache_capacity(CACHE);
        DFA::builder().configure(config).build_from_nfa(nfa).ok().map(Self)
    }

    /// Search state for one thread.
    pub(super) fn cache(&self) -> Cache {
        self.0.create_cache()
    }

    /// How many bytes a search from `from` on looks at.
    pub(super) fn of(&self, cache: &mut Cache, text: &[u8], from: usize) -> usize {
        let rest = text.len() - from;
        let Ok(mut state) = self.0.start_state_forward(cache, &Input::new(text).range(from..)) else {
            return rest;
        };
        for (looked, byte) in text[from..].iter().enumerate() {
            match self.0.next_state(cache, state, *byte) {
                Ok(next) if next.is_dead() => return looked + 1,
                Ok(next) if !next.is_quit() => state = next,
                // Other engines take over where it gives up, and may look at all of it.
                _ => return rest,
            }
        }
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scrub::pattern::go;

    #[test]
    fn a_search_is_followed_to_its_end() {
        // The automaton tells a match, and that nothing more can come, some bytes late.
        for (pattern, text, looks) in [
            ("Bearer +[a-z0-9]+", "Bearer abc, and a long rest", 11..=13),
            ("Bearer +[a-z0-9]+", "xx Bearer abc, and a long rest", 14..=16),
            // The other branch may still come.
            ("a.*z|a", "abbbbbbbbbbbbbbbbbbb", 20..=20),
            ("a.*z|a", "ab\nbbbbbbbbbbbbbbbbb", 3..=4),
            ("\\b(?:\\d[ -]*?){13,16}\\b", "1234 5678 9012 3 and so on", 17..=19),
            ("a", "bbbbb", 5..=5),
        ] {
            let reach = Reach::new(&go::parse(pattern).expect("a pattern").hir).expect("an automaton");
            let found = reach.of(&mut reach.cache(), text.as_bytes(), 0);
            assert!(looks.contains(&found), "{pattern} in {text}: {found}");
        }
    }
}
