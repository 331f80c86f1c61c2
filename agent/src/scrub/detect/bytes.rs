//! Sets of bytes that detectors read runs of.

#![forbid(unsafe_code)]

/// A set of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// `[0-9A-Za-z]`
    Alnum,
    /// `[0-9A-Za-z_-]`, base64 for URLs
    Word,
    /// `[0-9a-f]`
    Hex,
    /// `[0-9A-Z]`
    Upper,
    /// `[0-9a-z]`
    Lower,
    /// `[0-9A-Za-z+/]`
    Base64,
    /// `[0-9A-Za-z._~+/-]`, what a token68 is made of
    Token,
}

impl Class {
    /// Whether the byte is in it.
    #[inline]
    pub(super) const fn has(self, byte: u8) -> bool {
        match self {
            Self::Alnum => byte.is_ascii_alphanumeric(),
            Self::Word => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'),
            Self::Hex => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
            Self::Upper => matches!(byte, b'0'..=b'9' | b'A'..=b'Z'),
            Self::Lower => matches!(byte, b'0'..=b'9' | b'a'..=b'z'),
            Self::Base64 => byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'),
            Self::Token => {
                byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'~' | b'+' | b'/' | b'-')
            }
        }
    }

    /// Where a run of it that begins at `from` ends.
    pub(super) fn run(self, text: &[u8], from: usize) -> usize {
        let rest = text.get(from..).unwrap_or_default();
        from + rest.iter().position(|byte| !self.has(*byte)).unwrap_or(rest.len())
    }

    /// Where a run of it that ends at `to` begins, not before `floor`.
    pub(super) fn back(self, text: &[u8], floor: usize, to: usize) -> usize {
        text[floor..to].iter().rposition(|byte| !self.has(*byte)).map_or(floor, |at| floor + at + 1)
    }
}

/// The byte before a place.
#[inline]
pub(super) fn before(text: &[u8], at: usize) -> Option<u8> {
    at.checked_sub(1).map(|at| text[at])
}

/// Whether no letter or digit stands right before a place.
#[inline]
pub(super) fn begins(text: &[u8], at: usize) -> bool {
    !before(text, at).is_some_and(|byte| byte.is_ascii_alphanumeric())
}

/// Whether no letter or digit stands right at a place.
#[inline]
pub(super) fn ends(text: &[u8], at: usize) -> bool {
    !text.get(at).is_some_and(u8::is_ascii_alphanumeric)
}

/// Whether a text goes on like this from a place, whatever the case of its letters.
pub(super) fn looking_at(text: &[u8], at: usize, word: &[u8]) -> bool {
    text.get(at..at + word.len()).is_some_and(|here| here.eq_ignore_ascii_case(word))
}

/// Decodes base64 in either alphabet, up to the first byte that is neither; a last single character says nothing.
pub(super) fn base64(text: &[u8], out: &mut Vec<u8>) {
    let (mut bits, mut count) = (0u32, 0);
    for byte in text {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => break,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
}
