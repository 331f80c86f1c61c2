//! Tokens with a fixed prefix.

#![forbid(unsafe_code)]

use memchr::memmem;

use super::{
    bytes::{Class, begins},
    finds::Finds,
};

/// A form of token.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token {
    /// What it begins with, or holds after `lead`.
    pub(super) head: &'static str,
    /// What follows.
    pub(super) body: Class,
    /// Fewest bytes of the body.
    pub(super) min: usize,
    /// Most bytes of the body: what is longer is something else. 0 is any number.
    pub(super) max: usize,
    /// So many letters and digits stand before the head and belong to it.
    pub(super) lead: usize,
    /// Padding with `=` belongs to it.
    pub(super) padded: bool,
}

/// A token of exactly so many bytes after its head.
pub(super) const fn exactly(head: &'static str, body: Class, length: usize) -> Token {
    Token { head, body, min: length, max: length, lead: 0, padded: false }
}

/// A token of at least so many bytes after its head.
pub(super) const fn at_least(head: &'static str, body: Class, min: usize) -> Token {
    Token { head, body, min, max: 0, lead: 0, padded: false }
}

/// Finds tokens of these forms. Nothing that begins inside a word is one.
pub(super) fn scan(tokens: &[Token], text: &[u8], finds: &mut Finds) {
    for token in tokens {
        // A head inside a body that was already measured has the same end and less before it.
        let mut measured = 0;
        for at in memmem::find_iter(text, token.head) {
            if at >= measured
                && let Some((start, end)) = token.at(text, at, &mut measured)
            {
                finds.push(start..end);
            }
        }
    }
}

impl Token {
    fn at(&self, text: &[u8], at: usize, measured: &mut usize) -> Option<(usize, usize)> {
        let start = at.checked_sub(self.lead)?;
        if !begins(text, start) || !text[start..at].iter().all(u8::is_ascii_alphanumeric) {
            return None;
        }
        let from = at + self.head.len();
        let mut end = self.body.run(text, from);
        *measured = end;
        let length = end - from;
        if length < self.min || self.max > 0 && length > self.max {
            return None;
        }
        while self.padded && text.get(end) == Some(&b'=') {
            end += 1;
        }
        Some((start, end))
    }
}
