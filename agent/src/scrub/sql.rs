//! SQL without its literals: one pass over the bytes, no tree, no regular expression.
//!
//! Every literal (text in all its quotings, numbers, hex and bit strings, unquoted UUIDs) becomes `?`, and so does what
//! a comment says; keywords, names, parameters, operators and all white space outside of literals and comments stay.
//! What is not terminated is masked to the end. Running it again changes nothing.
//!
//! Dialects differ in what ends a text, and a pass that is wrong about that shows the rest of a statement inside out.
//! So it asks for the dialect, and with [`Dialect::Other`] masks everything from the first place on where it would
//! matter.

#![forbid(unsafe_code)]

use memchr::{memchr, memchr2, memmem};

mod dialect;

pub use dialect::Dialect;
use dialect::{Byte, Class};

/// What stands for a literal.
const MASK: &[u8] = b"?";
/// What stands for a comment with two ends.
const BLOCK: &[u8] = b"/*?*/";
/// What stands for a comment to the end of its line.
const LINE: &[u8] = b"-- ?";
/// `MySQL`'s other one.
const HASH: &[u8] = b"#?";
/// A parameter's number has no more digits (`PostgreSQL` has 65,535 of them).
const PARAMETER_DIGITS: usize = 5;

/// Writes the statement without its literals. `false`, and `out` empty, where nothing changes.
pub fn sanitize(text: &[u8], dialect: Dialect, out: &mut Vec<u8>) -> bool {
    out.clear();
    let mut pass = Pass { text, dialect, bytes: dialect.bytes(), out, copied: None, floor: 0 };
    pass.run();
    let Some(copied) = pass.copied else { return false };
    out.extend_from_slice(&text[copied..]);
    true
}

struct Pass<'a> {
    text: &'a [u8],
    dialect: Dialect,
    bytes: &'static [Byte; 256],
    out: &'a mut Vec<u8>,
    /// Once something has changed: everything before it is written.
    copied: Option<usize>,
    /// Where the last thing ended that was more than a part of a name.
    floor: usize,
}

impl Pass<'_> {
    fn run(&mut self) {
        let mut at = 0;
        while let Some(found) = self.find(at) {
            at = match self.bytes[usize::from(self.text[found])].class() {
                Class::Plain => found + 1,
                Class::Digit | Class::Dollar if self.in_word(found) => {
                    at = self.word_end(found);
                    continue;
                }
                Class::Digit => self.number(found),
                Class::Dollar => self.dollar(found),
                Class::Single => self.single_quoted(found),
                Class::Double => self.double_quoted(found),
                Class::Backtick => self.name(found, false),
                Class::Bracket => self.bracket(found),
                Class::Dash => self.dash(found),
                Class::Slash => self.slash(found),
                Class::Hash => self.hash(found),
                Class::Parameter => self.parameter(found).unwrap_or(found + 1),
            };
            self.floor = at;
        }
    }

    /// The next byte that may begin something. Most of a statement is names and spaces, which are nobody's concern.
    #[inline]
    fn find(&self, from: usize) -> Option<usize> {
        let mut at = from;
        let (chunks, _) = self.text[from..].as_chunks();
        for chunk in chunks {
            if Byte::any(chunk.map(|byte| self.bytes[usize::from(byte)])) {
                break;
            }
            at += chunk.len();
        }
        let found = self.text[at..].iter().position(|byte| self.bytes[usize::from(*byte)].begins())?;
        Some(at + found)
    }

    /// Where the name begins that ends right before `at`; `at` where none does.
    fn word_start(&self, at: usize) -> usize {
        let mut start = at;
        while start > self.floor {
            let byte = self.text[start - 1];
            if !self.bytes[usize::from(byte)].within() || byte >= 0x80 && ends_with_space(&self.text[..start])
            {
                break;
            }
            start -= 1;
        }
        start
    }

    /// Whether what stands at `at` goes on a name.
    fn in_word(&self, at: usize) -> bool {
        let mut before = at;
        while before > self.floor {
            let byte = self.text[before - 1];
            let kind = self.bytes[usize::from(byte)];
            if kind.word() {
                return byte < 0x80 || !ends_with_space(&self.text[..before]);
            }
            if !kind.within() {
                return false;
            }
            before -= 1;
        }
        false
    }

    /// Writes `with` for what stands there. Returns `to`.
    fn put(&mut self, from: usize, to: usize, with: &[u8]) -> usize {
        if &self.text[from..to] != with {
            let copied = self.copied.unwrap_or(0);
            self.out.extend_from_slice(&self.text[copied..from]);
            self.out.extend_from_slice(with);
            self.copied = Some(to);
        }
        to
    }

    /// Masks the rest of the text: from here on it could be read in two ways.
    fn give_up(&mut self, from: usize) -> usize {
        self.put(from, self.text.len(), MASK)
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.text.get(at).copied()
    }

    /// Where a name ends.
    fn word_end(&self, mut at: usize) -> usize {
        while let Some(&byte) = self.text.get(at) {
            let inside = self.bytes[usize::from(byte)].within();
            if !inside || byte >= 0x80 && space(&self.text[at..]).is_some() {
                break;
            }
            at += 1;
        }
        at
    }

    /// A text, with what stands right before its quote and belongs to it: `N'…'`, `E'…'`, `U&'…'`.
    fn single_quoted(&mut self, quote: usize) -> usize {
        let backslash = self.dialect.backslash();
        let mut start = self.word_start(quote);
        let mut word = [0; 2];
        if let Some(word) = word.get_mut(..quote - start) {
            word.copy_from_slice(&self.text[start..quote]);
            word.make_ascii_lowercase();
        }
        let end = match &word {
            b"q\0" | b"nq" if self.dialect.alternative_quotes() => self.alternative_end(quote),
            b"e\0" => self.quoted_end(quote, backslash || self.dialect == Dialect::Postgres),
            b"n\0" | b"x\0" | b"b\0" | b"r\0" | b"rb" | b"br" => self.quoted_end(quote, backslash),
            _ => {
                let unicode = matches!(self.text[self.floor..quote], [.., b'u' | b'U', b'&']);
                start = if unicode && self.word_start(quote - 1) + 2 == quote { quote - 2 } else { quote };
                self.quoted_end(quote, backslash)
            }
        };
        self.put(start, end, MASK)
    }

    /// Where a quoted text ends, its quote included; the end of all where it does not end.
    fn quoted_end(&self, open: usize, backslash: bool) -> usize {
        self.quoted(open, backslash).unwrap_or(self.text.len())
    }

    /// Where a quoted text or name ends. `None` where it does not, and where that depends on the dialect and the
    /// dialect is not known.
    fn quoted(&self, open: usize, backslash: bool) -> Option<usize> {
        let (text, quote) = (self.text, self.text[open]);
        let unsure = self.dialect == Dialect::Other;
        if unsure && text[open..].starts_with(&[quote; 3]) {
            return None;
        }
        let mut at = open + 1;
        loop {
            let rest = text.get(at..)?;
            at += if backslash || unsure { memchr2(quote, b'\\', rest) } else { memchr(quote, rest) }?;
            let next = self.byte(at + 1);
            at += match (text[at] == quote, next) {
                (true, next) if next != Some(quote) => return Some(at + 1),
                (false, next) if unsure && next == Some(quote) => return None,
                // One backslash before anything else ends nothing in any dialect.
                (false, next) if unsure && next != Some(b'\\') => 1,
                _ => 2,
            };
        }
    }

    /// Where Oracle's `q'[…]'` ends.
    fn alternative_end(&self, quote: usize) -> usize {
        let Some(open) = self.byte(quote + 1) else { return self.text.len() };
        let width = match open {
            0xc0..0xe0 => 2,
            0xe0..0xf0 => 3,
            0xf0.. => 4,
            _ => 1,
        };
        let inside = (quote + 1 + width).min(self.text.len());
        let mut close = match open {
            b'[' => b"]".to_vec(),
            b'{' => b"}".to_vec(),
            b'(' => b")".to_vec(),
            b'<' => b">".to_vec(),
            b' ' | b'\t' | b'\n' | b'\r' => return self.quoted_end(quote, self.dialect.backslash()),
            _ => self.text[quote + 1..inside].to_vec(),
        };
        close.push(b'\'');
        let found = memmem::find(&self.text[inside..], &close);
        found.map_or(self.text.len(), |found| inside + found + close.len())
    }

    fn double_quoted(&mut self, at: usize) -> usize {
        if self.dialect.double_quoted_text() {
            let end = self.quoted_end(at, self.dialect.backslash());
            return self.put(at, end, MASK);
        }
        self.name(at, self.dialect.double_quotes_unsure())
    }

    /// A quoted name, kept; masked where it is not terminated, or `unsure` whether it is a name and not like one.
    fn name(&mut self, at: usize, unsure: bool) -> usize {
        let Some(end) = self.quoted(at, self.dialect.backslash()) else { return self.give_up(at) };
        let like_a_name =
            |byte: &u8| byte.is_ascii_alphanumeric() || *byte >= 0x80 || b"_$#. -".contains(byte);
        if unsure && !self.text[at + 1..end - 1].iter().all(like_a_name) {
            return self.put(at, end, MASK);
        }
        end
    }

    fn bracket(&mut self, at: usize) -> usize {
        let mut end = at + 1;
        while let Some(found) = memchr(b']', &self.text[end..]) {
            end += found + 1;
            if self.dialect != Dialect::MsSql || self.byte(end) != Some(b']') {
                return end;
            }
            end += 1;
        }
        self.give_up(at)
    }

    fn number(&mut self, at: usize) -> usize {
        if is_uuid(&self.text[at..]) {
            return self.put(at, at + UUID, MASK);
        }
        let mut end = at;
        loop {
            end = self.word_end(end);
            match self.byte(end) {
                Some(b'.') => end += 1,
                Some(b'+' | b'-') if self.exponent(at, end) => end += 1,
                _ => break,
            }
        }
        self.put(at, end, MASK)
    }

    /// Whether the sign at `sign` belongs to the number that begins at `start`: `1.5e-3`.
    fn exponent(&self, start: usize, sign: usize) -> bool {
        let digits = |bytes: &[u8]| bytes.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.');
        matches!(self.text[sign - 1], b'e' | b'E')
            && self.byte(sign + 1).is_some_and(|byte| byte.is_ascii_digit())
            && digits(&self.text[start..sign - 1])
    }

    /// `$1`, `$tag$…$tag$`, `$name`.
    fn dollar(&mut self, at: usize) -> usize {
        if self.dialect.dollar_parameters()
            && let Some(end) = self.parameter(at)
        {
            return end;
        }
        if self.dialect.dollar_quotes() {
            let tag = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || *byte >= 0x80;
            let rest = &self.text[at + 1..];
            let length = rest.iter().take_while(|byte| tag(byte)).count();
            if rest.get(length) == Some(&b'$') && !rest[0].is_ascii_digit() {
                let inside = at + length + 2;
                let found = memmem::find(&self.text[inside..], &self.text[at..inside]);
                let end = found.map_or(self.text.len(), |found| inside + found + length + 2);
                return self.put(at, end, MASK);
            }
        }
        at + 1
    }

    /// Where the number of a parameter ends, if one follows.
    fn parameter(&self, at: usize) -> Option<usize> {
        let digits = self.text[at + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let end = at + 1 + digits;
        let fraction = self.byte(end) == Some(b'.') && self.byte(end + 1).is_some_and(|b| b.is_ascii_digit());
        ((1..=PARAMETER_DIGITS).contains(&digits) && self.word_end(end) == end && !fraction).then_some(end)
    }

    fn dash(&mut self, at: usize) -> usize {
        // A UUID that begins with a letter; the others are found as numbers.
        if let Some(start) = at.checked_sub(8).filter(|start| *start >= self.floor)
            && self.text[start].is_ascii_alphabetic()
            && is_uuid(&self.text[start..])
            && self.word_start(at) == start
        {
            return self.put(start, start + UUID, MASK);
        }
        if self.byte(at + 1) != Some(b'-') {
            return at + 1;
        }
        let spaced = self.byte(at + 2).is_none_or(|byte| byte <= b' ');
        match self.dialect {
            Dialect::MySql if !spaced => at + 1,
            Dialect::Other if !spaced => self.give_up(at),
            _ => self.line_comment(at, LINE),
        }
    }

    fn hash(&mut self, at: usize) -> usize {
        if self.dialect.hash_comments() { self.line_comment(at, HASH) } else { self.give_up(at) }
    }

    fn line_comment(&mut self, at: usize, with: &[u8]) -> usize {
        let rest = &self.text[at..];
        let end =
            if self.dialect == Dialect::Postgres { memchr2(b'\n', b'\r', rest) } else { memchr(b'\n', rest) };
        let mut end = end.map_or(self.text.len(), |end| at + end);
        if self.text[end - 1] == b'\r' {
            end -= 1;
        }
        self.put(at, end, with)
    }

    fn slash(&mut self, at: usize) -> usize {
        match self.byte(at + 1) {
            Some(b'*') => {
                let end = self.comment_end(at);
                self.put(at, end, BLOCK)
            }
            Some(b'/') if self.dialect == Dialect::Other => self.give_up(at),
            _ => at + 1,
        }
    }

    /// Where `/* … */` ends.
    fn comment_end(&self, open: usize) -> usize {
        let text = self.text;
        let (mut at, mut depth) = (open + 2, 1);
        while let Some(found) = memchr2(b'*', b'/', &text[at..]) {
            at += found;
            match (text[at], self.byte(at + 1)) {
                (b'*', Some(b'/')) => {
                    at += 2;
                    depth -= 1;
                    if depth == 0 {
                        return at;
                    }
                }
                (b'/', Some(b'*')) if self.dialect == Dialect::Other => return text.len(),
                (b'/', Some(b'*')) if self.dialect.nested_comments() => {
                    at += 2;
                    depth += 1;
                }
                _ => at += 1,
            }
        }
        text.len()
    }
}

/// Bytes of a UUID as it is written without quotes.
const UUID: usize = 36;

/// Whether an unquoted UUID begins here (CQL has them).
fn is_uuid(text: &[u8]) -> bool {
    text.get(8) == Some(&b'-')
        && text.len() >= UUID
        && text[..UUID].iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// The length of a space beyond ASCII that begins here. A database takes it for part of a name or for a mistake; here
/// it must not make a number that follows look like the end of a name.
fn space(text: &[u8]) -> Option<usize> {
    match text {
        [0xc2, 0x85 | 0xa0, ..] => Some(2),
        [0xe2, 0x80, 0x80..=0x8f | 0xa8..=0xaf, ..]
        | [0xe2, 0x81, 0x9f..=0xa4, ..]
        | [0xe3, 0x80, 0x80, ..]
        | [0xef, 0xbb, 0xbf, ..] => Some(3),
        _ => None,
    }
}

/// Whether such a space ends here.
fn ends_with_space(text: &[u8]) -> bool {
    [2, 3].iter().any(|width| text.len() >= *width && space(&text[text.len() - width..]) == Some(*width))
}

#[cfg(test)]
mod tests;
