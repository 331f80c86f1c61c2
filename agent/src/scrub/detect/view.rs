//! A text as a person or a program would read it: percent escapes, escapes of JSON strings, and Unicode's look-alikes
//! undone, with the way back to the text as it stands.

#![forbid(unsafe_code)]

use std::ops::Range;

use regex_syntax::hir::{Class, ClassBytes, ClassBytesRange, Hir};

/// Patterns of which every text contains one whose view differs from it, unless it has a character of [`unseen`].
pub(super) const GATES: [&str; 3] = ["%[0-9A-Fa-f][0-9A-Fa-f]", "\\\\[\"\\\\/bfnrtu]", "[0-9]\\+[0-9]{3}"];

/// The same for the characters of [`plain`]: the bytes with which they begin.
pub(super) fn unseen() -> [Hir; 6] {
    let places = |places: &[&[(u8, u8)]]| {
        let set = |ranges: &&[(u8, u8)]| {
            Hir::class(Class::Bytes(ClassBytes::new(
                ranges.iter().map(|(low, high)| ClassBytesRange::new(*low, *high)),
            )))
        };
        Hir::concat(places.iter().map(set).collect())
    };
    [
        places(&[&[(0xc2, 0xc2)], &[(0xa0, 0xa0), (0xad, 0xad)]]),
        places(&[&[(0xcd, 0xcd), (0xd8, 0xd9), (0xdb, 0xdb)], &[(0x8f, 0xb9)]]),
        places(&[
            &[(0xe0, 0xe1), (0xe3, 0xe3)],
            &[(0x80, 0x80), (0xa0, 0xa0), (0xa5, 0xa5)],
            &[(0x80, 0xaf)],
        ]),
        places(&[&[(0xe2, 0xe2)], &[(0x80, 0x81), (0x88, 0x88)]]),
        places(&[&[(0xef, 0xef)], &[(0xb8, 0xbd)]]),
        places(&[&[(0xf0, 0xf0), (0xf3, 0xf3)], &[(0x9d, 0x9d), (0xa0, 0xa1)]]),
    ]
}

/// A text in plain form.
#[derive(Debug, Default)]
pub(super) struct View {
    /// The plain form.
    pub(super) text: Vec<u8>,
    /// Where each of its bytes comes from, and last the original's length.
    from: Vec<u32>,
}

impl View {
    /// The plain form of a text; `None` where it is the text itself.
    pub(super) fn of(original: &[u8]) -> Option<Self> {
        let mut view =
            Self { text: Vec::with_capacity(original.len()), from: Vec::with_capacity(original.len() + 1) };
        let (mut at, mut changed) = (0, false);
        while at < original.len() {
            let unit = match original[at] {
                b'%' => percent(original, at),
                b'\\' => json(original, at),
                b'+' => plus(original, at),
                0xc2.. => unicode(original, at),
                _ => None,
            };
            if let Some(unit) = unit {
                changed = true;
                unit.put(&mut view, at);
                at += unit.length;
                continue;
            }
            // Backslashes that escape nothing are read once.
            let rest = &original[at..];
            let length = rest.iter().position(|byte| *byte != b'\\').unwrap_or(rest.len()).max(1);
            for byte in &rest[..length] {
                view.put(*byte, at);
                at += 1;
            }
        }
        view.from.push(original.len() as u32);
        changed.then_some(view)
    }

    fn put(&mut self, byte: u8, at: usize) {
        self.text.push(byte);
        self.from.push(at as u32);
    }

    /// The part of the original that a part of the plain form stands for.
    pub(super) fn original(&self, range: Range<usize>) -> Range<usize> {
        self.from[range.start] as usize..self.from[range.end] as usize
    }
}

/// What stands in the plain form for some bytes.
#[derive(Clone, Copy, Debug)]
struct Unit {
    /// Bytes of the original.
    length: usize,
    /// The character; `None`: nothing.
    plain: Option<char>,
    /// The character is a byte of a longer one, as percent escapes have them.
    byte: bool,
}

impl Unit {
    fn put(self, view: &mut View, at: usize) {
        let Some(c) = self.plain else { return };
        if self.byte {
            return view.put(c as u8, at);
        }
        let mut buffer = [0; 4];
        for byte in c.encode_utf8(&mut buffer).bytes() {
            view.put(byte, at);
        }
    }
}

fn hex(byte: Option<&u8>) -> Option<u8> {
    char::from(*byte?).to_digit(16).map(|digit| digit as u8)
}

/// `%40`, and `%2540`, which is what it becomes when it is escaped again.
fn percent(text: &[u8], at: usize) -> Option<Unit> {
    let mut from = at + 1;
    while text.get(from..from + 2) == Some(b"25")
        && hex(text.get(from + 2)).is_some()
        && hex(text.get(from + 3)).is_some()
    {
        from += 2;
    }
    let byte = hex(text.get(from))? << 4 | hex(text.get(from + 1))?;
    Some(Unit { length: from + 2 - at, plain: Some(char::from(byte)), byte: true })
}

/// An escape of a JSON string; backslashes before it may be doubled, as JSON in JSON has them.
fn json(text: &[u8], at: usize) -> Option<Unit> {
    let mut from = at + 1;
    while text.get(from) == Some(&b'\\') {
        from += 1;
    }
    let unit = |length, c| Some(Unit { length, plain: Some(c), byte: false });
    match text.get(from)? {
        quote @ (b'"' | b'/') => unit(from + 1 - at, char::from(*quote)),
        b'b' | b'f' | b'n' | b'r' | b't' => unit(from + 1 - at, ' '),
        b'u' => {
            let digits = text.get(from + 1..from + 5)?;
            let code =
                digits.iter().try_fold(0, |code, digit| Some(code << 4 | u32::from(hex(Some(digit))?)))?;
            let c = char::from_u32(code)?;
            Some(Unit { length: from + 5 - at, plain: plain(c).unwrap_or(Some(c)), byte: false })
        }
        _ => None,
    }
}

/// A space in a form: `4111+1111+…`.
fn plus(text: &[u8], at: usize) -> Option<Unit> {
    let before = at.checked_sub(1).is_some_and(|at| text[at].is_ascii_digit());
    (before && text.get(at + 1).is_some_and(u8::is_ascii_digit)).then_some(Unit {
        length: 1,
        plain: Some(' '),
        byte: false,
    })
}

fn unicode(text: &[u8], at: usize) -> Option<Unit> {
    let length = match text[at] {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        _ => 4,
    };
    let c = std::str::from_utf8(text.get(at..at + length)?).ok()?.chars().next()?;
    Some(Unit { length, plain: plain(c)?, byte: false })
}

/// What a character looks like: `Some(None)` for one that can't be seen, `None` for one that is plain already.
#[expect(clippy::option_option, reason = "unseen and plain are two things, as said above")]
fn plain(c: char) -> Option<Option<char>> {
    let digit = |zero: u32| char::from_digit(c as u32 - zero, 10);
    // The mathematical alphabets: 13 of letters, 26 capitals and 26 small ones each, and five of digits.
    let letter = |of: u32| {
        let place = (c as u32 - of) % 52;
        char::from_u32(if place < 26 { 'A' as u32 + place } else { 'a' as u32 + place - 26 })
    };
    Some(match c as u32 {
        0xad
        | 0x34f
        | 0x61c
        | 0x180e
        | 0x200b..=0x200f
        | 0x202a..=0x202e
        | 0x2060..=0x206f
        | 0xfe00..=0xfe0f
        | 0xfeff
        | 0xe_0000..=0xe_007f => None,
        0xa0 | 0x2000..=0x200a | 0x2028 | 0x2029 | 0x202f | 0x205f | 0x3000 => Some(' '),
        0x2010..=0x2015 | 0x2212 | 0xfe58 | 0xfe63 => Some('-'),
        0x2024 | 0x3002 | 0xfe52 | 0xff61 => Some('.'),
        0xfe6b => Some('@'),
        0x660..=0x669 => digit(0x660),
        0x6f0..=0x6f9 => digit(0x6f0),
        0x966..=0x96f => digit(0x966),
        0xff01..=0xff5e => char::from_u32(c as u32 - 0xff01 + 0x21),
        0x1d400..=0x1d6a3 => letter(0x1d400),
        0x1d7ce..=0x1d7ff => char::from_digit((c as u32 - 0x1d7ce) % 10, 10),
        _ => return None,
    })
}
