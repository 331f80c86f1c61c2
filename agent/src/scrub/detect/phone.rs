//! Telephone numbers: international ones with `+`, North American ones with their usual separators, `tel:` links.

#![forbid(unsafe_code)]

use super::{
    bytes::{before, begins, ends},
    finds::Finds,
};

/// Most digits of an international number (E.164).
const MOST: usize = 15;

/// Finds telephone numbers. A number without `+` must have the whole North American form: digits alone are ids far
/// more often.
pub(super) fn phone(text: &[u8], finds: &mut Finds) {
    let mut at = 0;
    while let Some(found) =
        text[at..].iter().position(|byte| matches!(byte, b'+' | b'(' | b':' | b'2'..=b'9'))
    {
        let start = at + found;
        let end = match text[start] {
            b'+' => international(text, start),
            b':' => link(text, start),
            _ => north_american(text, start),
        };
        at = start + 1;
        if let Some((from, to)) = end {
            finds.push(from..to);
            at = to;
        } else if text[start].is_ascii_digit() {
            at = start + text[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        }
    }
}

/// Digits with single separators from `at` on: how many there are, and the ends after each, of at most [`MOST`].
fn read(text: &[u8], mut at: usize) -> ([u8; MOST], usize, usize) {
    let mut digits = [0; MOST];
    let (mut count, mut end) = (0, at);
    // The count and end before the last group, for a number that would be too long with it.
    let mut kept = (0, at);
    loop {
        let mut gap = 0;
        while gap < 2
            && count > 0
            && text.get(at).is_some_and(|byte| matches!(byte, b' ' | b'-' | b'.' | b'(' | b')' | b'/'))
        {
            gap += 1;
            at += 1;
        }
        if gap > 0 {
            kept = (count, end);
        }
        match text.get(at) {
            Some(byte) if byte.is_ascii_digit() => {
                if count == MOST {
                    return (digits, kept.0, kept.1);
                }
                digits[count] = byte - b'0';
                count += 1;
                at += 1;
                end = at;
            }
            _ => return (digits, count, end),
        }
    }
}

fn international(text: &[u8], start: usize) -> Option<(usize, usize)> {
    if !begins(text, start) || before(text, start) == Some(b'+') {
        return None;
    }
    let (digits, count, end) = read(text, start + 1);
    let known = country(&digits) && count >= 9 && ends(text, end);
    let american = digits[0] != 1 || count == 11 && exchange(&digits[1..]);
    (known && american).then_some((start, end))
}

/// `(212) 555-0123`, `212-555-0123`, `212.555.0123`, `1-212-555-0123`.
fn north_american(text: &[u8], start: usize) -> Option<(usize, usize)> {
    let mut shape: &[&[u8]] = &[b"ddd-ddd-dddd", b"ddd.ddd.dddd"];
    if text[start] == b'(' {
        shape = &[b"(ddd) ddd-dddd", b"(ddd)ddd-dddd", b"(ddd) ddd dddd", b"(ddd) ddd.dddd"];
    }
    // A digit, or a separator after a digit, would make it a part of something longer.
    let beyond = start.checked_sub(2).map(|at| text[at]);
    let country = beyond == Some(b'1')
        && matches!(text[start - 1], b'-' | b' ' | b'.')
        && start.checked_sub(3).is_none_or(|at| !text[at].is_ascii_alphanumeric() && text[at] != b'.');
    let within =
        matches!(before(text, start), Some(b'-' | b'.')) && beyond.is_some_and(|byte| byte.is_ascii_digit());
    if !begins(text, start) || within && !country {
        return None;
    }
    let end = shape.iter().find_map(|shape| {
        let number = text.get(start..start + shape.len())?;
        let fits = number.iter().zip(*shape).all(|(byte, shape)| match shape {
            b'd' => byte.is_ascii_digit(),
            other => byte == other,
        });
        fits.then_some(start + shape.len())
    })?;
    let mut digits = [0; 10];
    let found = text[start..end].iter().filter(|byte| byte.is_ascii_digit());
    for (place, digit) in digits.iter_mut().zip(found) {
        *place = digit - b'0';
    }
    let longer =
        matches!(text.get(end), Some(b'-' | b'.')) && text.get(end + 1).is_some_and(u8::is_ascii_digit);
    let from = if country { start - 2 } else { start };
    (exchange(&digits) && ends(text, end) && !longer).then_some((from, end))
}

/// `tel:` and a number of at least five digits.
fn link(text: &[u8], colon: usize) -> Option<(usize, usize)> {
    let start = colon.checked_sub(3)?;
    if !text[start..colon].eq_ignore_ascii_case(b"tel") || !begins(text, start) {
        return None;
    }
    let from = colon + 1;
    let number = if text.get(from) == Some(&b'+') { from + 1 } else { from };
    let (_, count, end) = read(text, number);
    (count >= 5).then_some((from, end))
}

/// Whether area and exchange of a North American number are ones that are given out.
fn exchange(digits: &[u8]) -> bool {
    digits[0] >= 2 && digits[3] >= 2 && digits[1..3] != [1, 1] && digits[4..6] != [1, 1]
}

/// Whether a number begins with a country's code (ITU-T E.164, annex).
fn country(digits: &[u8; MOST]) -> bool {
    let two = digits[0] * 10 + digits[1];
    matches!(
        (two, digits[2]),
        (
            10..=20
            | 27
            | 30..=34
            | 36
            | 39..=41
            | 43..=49
            | 51..=58
            | 60..=66
            | 70..=79
            | 81
            | 82
            | 84
            | 86
            | 90..=95
            | 98
            | 22
            | 23
            | 24
            | 25
            | 26
            | 35
            | 37
            | 50
            | 59
            | 96,
            _,
        )
        | (67, 0 | 2..=9)
        | (21, 1..=3 | 6 | 8)
        | (29, 0 | 1 | 7..=9)
        | (38, 0..=3 | 5..=7 | 9)
        | (42, 0 | 1 | 3)
        | (68, 0..=3 | 5..=9)
        | (69, 0..=2)
        | (80 | 87, 0 | 8)
        | (85, 0 | 2 | 3 | 5 | 6)
        | (88, 0..=3 | 6 | 8)
        | (97, 0..=7 | 9)
        | (99, 2..=6 | 8)
    )
}
