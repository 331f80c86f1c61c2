//! What is made of digits and has a check: cards, IBANs, US social security numbers.

#![forbid(unsafe_code)]

use super::{
    bytes::{before, begins, ends},
    finds::Finds,
};

/// Fewest and most digits of a card (ISO/IEC 7812-1).
const CARD: std::ops::RangeInclusive<usize> = 13..=19;
/// Most groups that a card's digits stand in.
const GROUPS: usize = 19;

/// Payment cards: a known issuer's prefix and length, and a right check digit (Luhn). Digits may stand in groups with
/// spaces or dashes between them.
pub(super) fn card(text: &[u8], finds: &mut Finds) {
    let mut at = 0;
    while let Some(start) = next_group(text, at) {
        let first = digits(text, start);
        at = match card_at(text, start) {
            Some(end) if is_span_id(text, start, end) => first,
            Some(end) => {
                finds.push(start..end);
                digits(text, end)
            }
            None => first,
        };
    }
}

/// Whether 16 digits are the span's id behind its trace's: `00-<trace>-<span>-01` (W3C Trace Context), `<trace>-<span>-1`
/// (B3).
fn is_span_id(text: &[u8], start: usize, end: usize) -> bool {
    let Some(from) = start.checked_sub(33).filter(|_| end - start == 16) else { return false };
    let hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let flags = text[end..].iter().skip(1).take_while(|byte| hex(byte)).count();
    text[from..start - 1].iter().all(hex)
        && text[start - 1] == b'-'
        && begins(text, from)
        && text.get(end) == Some(&b'-')
        && matches!(flags, 1 | 2)
        && ends(text, end + 1 + flags)
}

/// Where the next group of digits begins.
fn next_group(text: &[u8], from: usize) -> Option<usize> {
    text[from..].iter().position(u8::is_ascii_digit).map(|at| from + at)
}

/// Where the digits that begin at a place end.
fn digits(text: &[u8], from: usize) -> usize {
    from + text[from..].iter().take_while(|byte| byte.is_ascii_digit()).count()
}

/// Where the next group begins that still belongs to a number whose group ends at `end`.
fn joined(text: &[u8], end: usize) -> Option<usize> {
    let mut at = end;
    while at - end < 2 && text.get(at).is_some_and(|byte| matches!(byte, b' ' | b'-')) {
        at += 1;
    }
    (at > end && text.get(at).is_some_and(u8::is_ascii_digit)).then_some(at)
}

/// Whether digits before a place belong to the same number.
fn is_first(text: &[u8], start: usize) -> bool {
    let mut at = start;
    while start - at < 2 && before(text, at).is_some_and(|byte| matches!(byte, b' ' | b'-')) {
        at -= 1;
    }
    at == start || !before(text, at).is_some_and(|byte| byte.is_ascii_digit())
}

/// The end of the longest card that begins at a group.
fn card_at(text: &[u8], start: usize) -> Option<usize> {
    // The fraction of a number is no card.
    let fraction = before(text, start) == Some(b'.') && before(text, start - 1).is_some_and(is_digit);
    if !begins(text, start) || fraction {
        return None;
    }
    let (mut count, mut groups, mut head) = (0, 0, 0u32);
    let mut lengths = [0; GROUPS];
    // Sums with the last digit as it is, and with it doubled.
    let (mut plain, mut doubled) = (0, 0);
    let (mut at, mut found) = (start, None);
    loop {
        let from = at;
        while let Some(digit) = text.get(at).filter(|byte| byte.is_ascii_digit()) {
            let digit = u32::from(digit - b'0');
            (plain, doubled) = (doubled + digit, plain + [0, 2, 4, 6, 8, 1, 3, 5, 7, 9][digit as usize]);
            count += 1;
            if count > *CARD.end() {
                return found;
            }
            if count <= 6 {
                head = head * 10 + digit;
            }
            at += 1;
        }
        lengths[groups] = at - from;
        groups += 1;
        let next = joined(text, at);
        // Pairs and single digits go on too well to tell where a card begins: all of them, or none.
        let small = lengths[0] < 3;
        if small && !is_first(text, start) {
            return None;
        }
        let fraction = text.get(at) == Some(&b'.') && text.get(at + 1).copied().is_some_and(is_digit);
        if CARD.contains(&count)
            && plain.is_multiple_of(10)
            && is_written_so(&lengths[..groups])
            && (!small || next.is_none())
            && ends(text, at)
            && !fraction
            && issued(head, count, groups > 1)
        {
            found = Some(at);
        }
        match next {
            Some(next) => at = next,
            None => return found.or_else(|| dotted(text, start)),
        }
    }
}

/// Whether a card's digits are written in groups of these lengths.
fn is_written_so(groups: &[usize]) -> bool {
    matches!(
        groups,
        [_] | [4, 4, 4, 1..=4] | [4, 4, 4, 4, 1..=3] | [4, 6, 4 | 5] | [8, 8] | [4, 3, 3, 3] | [6, 10 | 13]
    ) || groups.iter().all(|length| *length == 1)
        || groups.iter().all(|length| *length == 2)
}

fn is_digit(byte: u8) -> bool {
    byte.is_ascii_digit()
}

/// Four groups of four with dots between them: what has other groups is a fraction or a version.
fn dotted(text: &[u8], start: usize) -> Option<usize> {
    let card = text.get(start..start + 19)?;
    let shaped = card.iter().enumerate().all(|(at, byte)| match at {
        4 | 9 | 14 => *byte == b'.',
        _ => byte.is_ascii_digit(),
    });
    if !shaped || !begins(text, start) || before(text, start) == Some(b'.') || !ends(text, start + 19) {
        return None;
    }
    let digits: Vec<u32> =
        card.iter().filter(|byte| **byte != b'.').map(|byte| u32::from(byte - b'0')).collect();
    let head = digits[..6].iter().fold(0, |head, digit| head * 10 + digit);
    (luhn(&digits) && issued(head, 16, true)).then_some(start + 19)
}

/// The check of ISO/IEC 7812-1, annex B.
fn luhn(digits: &[u32]) -> bool {
    let double = |digit: u32| if digit > 4 { 2 * digit - 9 } else { 2 * digit };
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(at, digit)| if at % 2 == 1 { double(*digit) } else { *digit })
        .sum();
    sum.is_multiple_of(10)
}

/// Whether numbers with these first six digits are given out in this length. Rare lengths count only in groups, as
/// people write them: alone, a long number is rather an id.
#[expect(clippy::match_same_arms, reason = "an arm for each network")]
fn issued(head: u32, length: usize, grouped: bool) -> bool {
    let long = grouped && length > 16;
    match head {
        // Visa
        400_000..=499_999 => length == 16 || length == 13 || length == 19 && grouped,
        // Mastercard
        510_000..=559_999 | 222_100..=272_099 => length == 16,
        // American Express
        340_000..=349_999 | 370_000..=379_999 => length == 15,
        // Diners Club
        300_000..=305_999 | 309_500..=309_599 | 360_000..=369_999 | 380_000..=399_999 => {
            length == 14 || length == 16 && grouped
        }
        // JCB
        352_800..=358_999 => length == 16 || long,
        // UnionPay
        620_000..=629_999 => length >= 16,
        // Discover
        601_100..=601_199 | 644_000..=659_999 => length == 16 || long,
        // Maestro
        501_800..=501_899
        | 502_000..=502_099
        | 503_800..=503_899
        | 589_300..=589_399
        | 630_400..=630_499
        | 675_900..=675_999
        | 676_100..=676_399 => length == 16 || grouped,
        // RuPay, Mir
        508_500..=508_999 | 606_985..=607_984 | 220_000..=220_499 => length == 16,
        _ => false,
    }
}

/// US social security numbers with dashes or spaces: area, group and serial are ones that are given out.
pub(super) fn ssn(text: &[u8], finds: &mut Finds) {
    let mut at = 0;
    while let Some(start) = next_group(text, at) {
        at = digits(text, start);
        if is_ssn(text, start) {
            at = start + 11;
            finds.push(start..at);
        }
    }
}

fn is_ssn(text: &[u8], start: usize) -> bool {
    let Some(number) = text.get(start..start + 11) else { return false };
    let separator = number[3];
    let shaped = number.iter().enumerate().all(|(at, byte)| match at {
        3 | 6 => *byte == separator,
        _ => byte.is_ascii_digit(),
    });
    // Neighbours that would make it a part of a longer number.
    let longer = |byte: Option<u8>, beyond: Option<u8>| {
        byte.is_some_and(|byte| byte.is_ascii_alphanumeric())
            || byte.is_some_and(|byte| matches!(byte, b'-' | b'.')) && beyond.is_some_and(is_digit)
    };
    let beyond = start.checked_sub(2).map(|at| text[at]);
    shaped
        && matches!(separator, b'-' | b' ')
        && !longer(before(text, start), beyond)
        && !longer(text.get(start + 11).copied(), text.get(start + 12).copied())
        && !matches!(&number[..3], b"000" | b"666")
        && number[0] != b'9'
        && &number[4..6] != b"00"
        && &number[7..] != b"0000"
}

/// Lengths of IBANs by country (the registry of SWIFT), ordered.
const IBAN: [(&[u8; 2], usize); 88] = [
    (b"AD", 24),
    (b"AE", 23),
    (b"AL", 28),
    (b"AT", 20),
    (b"AZ", 28),
    (b"BA", 20),
    (b"BE", 16),
    (b"BG", 22),
    (b"BH", 22),
    (b"BI", 27),
    (b"BR", 29),
    (b"BY", 28),
    (b"CH", 21),
    (b"CR", 22),
    (b"CY", 28),
    (b"CZ", 24),
    (b"DE", 22),
    (b"DJ", 27),
    (b"DK", 18),
    (b"DO", 28),
    (b"EE", 20),
    (b"EG", 29),
    (b"ES", 24),
    (b"FI", 18),
    (b"FK", 18),
    (b"FO", 18),
    (b"FR", 27),
    (b"GB", 22),
    (b"GE", 22),
    (b"GI", 23),
    (b"GL", 18),
    (b"GR", 27),
    (b"GT", 28),
    (b"HN", 28),
    (b"HR", 21),
    (b"HU", 28),
    (b"IE", 22),
    (b"IL", 23),
    (b"IQ", 23),
    (b"IS", 26),
    (b"IT", 27),
    (b"JO", 30),
    (b"KW", 30),
    (b"KZ", 20),
    (b"LB", 28),
    (b"LC", 32),
    (b"LI", 21),
    (b"LT", 20),
    (b"LU", 20),
    (b"LV", 21),
    (b"LY", 25),
    (b"MC", 27),
    (b"MD", 24),
    (b"ME", 22),
    (b"MK", 19),
    (b"MN", 20),
    (b"MR", 27),
    (b"MT", 31),
    (b"MU", 30),
    (b"NI", 28),
    (b"NL", 18),
    (b"NO", 15),
    (b"OM", 23),
    (b"PK", 24),
    (b"PL", 28),
    (b"PS", 29),
    (b"PT", 25),
    (b"QA", 29),
    (b"RO", 24),
    (b"RS", 22),
    (b"RU", 33),
    (b"SA", 24),
    (b"SC", 31),
    (b"SD", 18),
    (b"SE", 24),
    (b"SI", 19),
    (b"SK", 24),
    (b"SM", 27),
    (b"SO", 23),
    (b"ST", 25),
    (b"SV", 28),
    (b"TL", 23),
    (b"TN", 24),
    (b"TR", 26),
    (b"UA", 29),
    (b"VA", 22),
    (b"VG", 24),
    (b"XK", 20),
];

/// IBANs in capitals, with or without a space or a dash after each four characters: the country's length and a
/// remainder of 1 (ISO 7064, mod 97-10).
pub(super) fn iban(text: &[u8], finds: &mut Finds) {
    let mut at = 0;
    while at + 15 <= text.len() {
        if text[at].is_ascii_uppercase()
            && begins(text, at)
            && let Some(end) = iban_at(text, at)
        {
            finds.push(at..end);
            at = end;
        } else {
            at += 1;
        }
    }
}

fn iban_at(text: &[u8], start: usize) -> Option<usize> {
    let country: &[u8; 2] = text[start..].first_chunk()?;
    let place = IBAN.binary_search_by_key(&country, |(country, _)| country).ok()?;
    let length = IBAN[place].1;
    let mut number = [0u8; 34];
    let (mut count, mut at) = (0, start);
    while count < length {
        let byte = *text.get(at)?;
        if matches!(byte, b'0'..=b'9' | b'A'..=b'Z') {
            number[count] = byte;
            count += 1;
        } else if !matches!(byte, b' ' | b'-') || count % 4 != 0 || before(text, at) == Some(byte) {
            return None;
        }
        at += 1;
    }
    if !ends(text, at) || !number[2..4].iter().all(u8::is_ascii_digit) {
        return None;
    }
    let turned = number[4..length].iter().chain(&number[..4]);
    let remainder = turned.fold(0, |remainder, byte| match byte {
        b'0'..=b'9' => (remainder * 10 + u32::from(byte - b'0')) % 97,
        _ => (remainder * 100 + u32::from(byte - b'A') + 10) % 97,
    });
    (remainder == 1).then_some(at)
}
