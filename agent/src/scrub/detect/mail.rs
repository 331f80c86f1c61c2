//! What stands around an `@`: e-mail addresses, and the user information of URLs.

#![forbid(unsafe_code)]

use super::{
    bytes::{Class, before},
    finds::Finds,
};

/// Longest local part (RFC 5321, 4.5.3.1.1).
const LOCAL: usize = 64;
/// Longest domain (4.5.3.1.2).
const DOMAIN: usize = 255;

/// E-mail addresses with a domain that ends like one. Letters of two bytes belong to a name; a host that is reached by
/// `git@` is no address, nor is a picture's size (`icon@2x.png`).
pub(super) fn email(text: &[u8], finds: &mut Finds) {
    let mut floor = 0;
    for (at, info) in signs(text) {
        let start = local(text, floor.max(at.saturating_sub(LOCAL)), at);
        let end = domain(text, at + 1);
        if let Some(end) = end
            && start < at
            && info.is_none()
            && !(&text[start..at] == b"git" && matches!(text.get(end), Some(b':' | b'/')))
        {
            finds.push(start..end);
        }
        floor = at + 1;
    }
}

/// Where the local part that ends at `at` begins.
fn local(text: &[u8], floor: usize, at: usize) -> usize {
    let part = |byte: &u8| {
        byte.is_ascii_alphanumeric()
            || matches!(byte, b'.' | b'_' | b'%' | b'+' | b'-' | b'\'' | 0x80..=0xbf | 0xc3..=0xdf)
    };
    let mut start =
        text[floor..at].iter().rposition(|byte| !part(byte)).map_or(floor, |other| floor + other + 1);
    // A letter that was cut, what only separates, the letter of an escape such as `\n`.
    while start < at && matches!(text[start], b'.' | b'%' | b'+' | b'-' | b'\'' | 0x80..=0xbf) {
        start += 1;
    }
    if before(text, start) == Some(b'\\') && matches!(text[start], b'n' | b'r' | b't' | b'b' | b'f') {
        start += 1;
    }
    start
}

/// Where the domain that begins at `from` ends; `None` where none does.
fn domain(text: &[u8], from: usize) -> Option<usize> {
    let part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | 0x80..=0xbf | 0xc3..=0xdf);
    let text = &text[..text.len().min(from + DOMAIN)];
    let (mut at, mut end, mut labels, mut numbers) = (from, None, 0, 0);
    let mut first: &[u8] = &[];
    loop {
        let rest = &text[at..];
        // A continuation byte at the beginning belongs to a longer letter.
        let length = rest.iter().position(|byte| !part(byte)).unwrap_or(rest.len());
        let label = &rest[..length];
        if label.is_empty() || matches!(label[0], b'-' | 0x80..=0xbf) {
            return end;
        }
        labels += 1;
        if labels == 1 {
            first = label;
        } else if is_top(label) && !(labels > 2 && numbers == labels - 1) && !is_picture(first, label) {
            end = Some(at + label.len());
        }
        numbers += usize::from(label.iter().all(u8::is_ascii_digit));
        at += length;
        if text.get(at) != Some(&b'.') {
            return end;
        }
        at += 1;
    }
}

fn is_top(label: &[u8]) -> bool {
    let letters = |label: &[u8]| label.iter().all(|byte| byte.is_ascii_alphabetic() || *byte >= 0x80);
    (2..=24).contains(&label.len()) && letters(label)
        || label.len() > 4 && label[..4].eq_ignore_ascii_case(b"xn--")
}

fn is_picture(first: &[u8], top: &[u8]) -> bool {
    matches!(first, [b'1'..=b'9', b'x'])
        && matches!(top, b"png" | b"jpg" | b"jpeg" | b"gif" | b"webp" | b"svg" | b"avif")
}

/// Whether a byte can't be a part of user information.
fn is_outside(byte: u8) -> bool {
    byte.is_ascii_whitespace() || b"/?#\"'<>\\,".contains(&byte)
}

/// Every `@`, and where the user information of a URL begins that it ends.
fn signs(text: &[u8]) -> impl Iterator<Item = (usize, Option<usize>)> {
    let mut floor = 0;
    let mut last: Option<usize> = None;
    memchr::memchr_iter(b'@', text).map(move |at| {
        let part = &text[floor..at];
        // A password may have an `@` in it.
        let outside = part.iter().rposition(|byte| is_outside(*byte));
        last = match outside {
            None => last,
            Some(place) => {
                let start = floor + place + 1;
                (text[..start].ends_with(b"://") && start < at).then_some(start)
            }
        };
        floor = at + 1;
        (at, last)
    })
}

/// The user information of URLs, all before the `@`. `git@` names nobody.
pub(super) fn url_credentials(text: &[u8], finds: &mut Finds) {
    for (at, info) in signs(text) {
        if let Some(start) = info {
            let info = &text[start..at];
            let hidden =
                info.starts_with(b"[REDACTED") || info.iter().all(|byte| matches!(byte, b'*' | b':'));
            if info != b"git" && !hidden {
                finds.push(start..at);
            }
        }
    }
}

/// What signs a URL, by the name of its parameter: the value only.
pub(super) fn url_signature(text: &[u8], finds: &mut Finds) {
    const NAMES: [&[u8]; 4] = [b"signature", b"sig", b"x-amz-security-token", b"x-amz-credential"];
    let mut end = 0;
    for at in memchr::memchr_iter(b'=', text) {
        if at < end {
            continue;
        }
        let name = Class::Word.back(text, at.saturating_sub(32), at);
        let name = &text[name..at];
        let known = NAMES.iter().any(|known| {
            name.len().checked_sub(known.len()).is_some_and(|cut| {
                name[cut..].eq_ignore_ascii_case(known)
                    && (cut == 0 || name[cut - 1] == b'-' || name[cut - 1] == b'_')
            })
        });
        if !known {
            continue;
        }
        let value = |byte: &u8| Class::Token.has(*byte) || matches!(byte, b'%' | b'=');
        let from = at + 1;
        let length = text[from..].iter().position(|byte| !value(byte)).unwrap_or(text.len() - from);
        if length >= 16 {
            end = from + length;
            finds.push(from..end);
        }
    }
}
