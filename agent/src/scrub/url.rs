//! URLs without what they tell of people: user info, values in query and fragment, e-mail addresses, and identifiers
//! in the path.
//!
//! What is masked becomes `*`, so that a URL stays a URL; delimiters stay. It works on whole URLs, on targets
//! (`/path?query`), on paths and on queries alone, in one pass, and running it again changes nothing.

#![forbid(unsafe_code)]

use memchr::{memchr, memchr2, memchr3, memrchr};

mod word;

/// What stands for something masked.
const MASK: u8 = b'*';

/// What is masked besides user info and e-mail addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Every value in a query; otherwise those whose key says that they are secret.
    pub all_values: bool,
    /// Segments of the path that look like identifiers.
    pub identifiers: bool,
}

/// What a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A URL, a target or a path.
    Url,
    /// What stands behind `?`, with it or without.
    Query,
    /// What stands behind `#`, with it or without.
    Fragment,
}

/// Keys of query values that are masked wherever they stand, in lower case and without `-`, `_`, `.`; a key that
/// ends in one of them is meant too.
const SECRET: [&str; 36] = [
    "token",
    "secret",
    "password",
    "passwd",
    "pwd",
    "pass",
    "passphrase",
    "signature",
    "sig",
    "key",
    "apikey",
    "hmac",
    "auth",
    "authorization",
    "credential",
    "credentials",
    "code",
    "state",
    "nonce",
    "session",
    "sessionid",
    "sid",
    "jwt",
    "assertion",
    "samlrequest",
    "samlresponse",
    "otp",
    "pin",
    "cvv",
    "ssn",
    "email",
    "mail",
    "phone",
    "username",
    "login",
    "hash",
];

/// By a letter, the keys of [`SECRET`] that end in it, as bits.
const ENDING: [u64; 26] = {
    let mut table = [0; 26];
    let mut at = 0;
    while at < SECRET.len() {
        let key = SECRET[at].as_bytes();
        table[(key[key.len() - 1] - b'a') as usize] |= 1 << at;
        at += 1;
    }
    table
};

/// Writes the text without what is to be masked. `false` where nothing changes.
pub fn sanitize(text: &[u8], part: Part, rules: Rules, out: &mut Vec<u8>) -> bool {
    out.clear();
    let mut writer = Writer { out, rules };
    match part {
        Part::Url => writer.url(text),
        Part::Query => {
            let (mark, query) = text.split_at(usize::from(text.first() == Some(&b'?')));
            writer.out.extend_from_slice(mark);
            writer.query(query);
        }
        Part::Fragment => {
            let (mark, fragment) = text.split_at(usize::from(text.first() == Some(&b'#')));
            writer.out.extend_from_slice(mark);
            writer.fragment(fragment);
        }
    }
    out != text
}

/// The same for a span's name: what stands in it between spaces and has a `/` is taken for a URL.
pub fn sanitize_name(name: &[u8], rules: Rules, out: &mut Vec<u8>) -> bool {
    out.clear();
    if memchr(b'/', name).is_none() {
        return false;
    }
    let mut writer = Writer { out, rules };
    for (index, word) in name.split(|byte| *byte == b' ').enumerate() {
        if index > 0 {
            writer.out.push(b' ');
        }
        if memchr(b'/', word).is_some() {
            writer.url(word);
        } else {
            writer.out.extend_from_slice(word);
        }
    }
    out != name
}

struct Writer<'a> {
    out: &'a mut Vec<u8>,
    rules: Rules,
}

impl Writer<'_> {
    fn url(&mut self, text: &[u8]) {
        let hierarchy = memchr2(b'?', b'#', text).unwrap_or(text.len());
        let (before, after) = text.split_at(hierarchy);
        let path = self.authority(before);
        self.path(path);
        self.after_path(after);
    }

    /// `?query#fragment`
    fn after_path(&mut self, text: &[u8]) {
        let (query, fragment) = text.split_at(memchr(b'#', text).unwrap_or(text.len()));
        if let Some(query) = query.strip_prefix(b"?") {
            self.out.push(b'?');
            self.query(query);
        }
        if let Some(fragment) = fragment.strip_prefix(b"#") {
            self.out.push(b'#');
            self.fragment(fragment);
        }
    }

    /// Writes scheme, user info and host. Returns the path.
    fn authority<'t>(&mut self, text: &'t [u8]) -> &'t [u8] {
        let start = if text.starts_with(b"//") { 2 } else { scheme(text) };
        if start == 0 {
            return text;
        }
        let (scheme, rest) = text.split_at(start);
        self.out.extend_from_slice(scheme);
        // Browsers take `\` for `/`; only what no program takes for user info is left.
        let (end, signs) = until(rest, |byte| matches!(byte, b'/' | b'\\'));
        let (authority, path) = rest.split_at(end);
        if !signs {
            self.out.extend_from_slice(authority);
            return path;
        }
        let host = match memrchr(b'@', authority) {
            Some(at) => {
                self.out.extend_from_slice(b"*@");
                &authority[at + 1..]
            }
            None => authority,
        };
        if has_mail(host) {
            self.out.push(MASK);
        } else {
            self.out.extend_from_slice(host);
        }
        path
    }

    fn path(&mut self, path: &[u8]) {
        let mut rest = path;
        loop {
            let (end, signs) = until(rest, |byte| matches!(byte, b'/' | b'\\' | b';'));
            let (segment, after) = rest.split_at(end);
            if signs && has_mail(segment) || self.rules.identifiers && !word::is_plain(segment) {
                self.out.push(MASK);
            } else {
                self.out.extend_from_slice(segment);
            }
            let Some(mut delimiter) = after.first().copied() else { return };
            let mut after = &after[1..];
            // Parameters of a segment: `;jsessionid=…`
            while delimiter == b';' {
                self.out.push(delimiter);
                let end = memchr3(b'/', b'\\', b';', after).unwrap_or(after.len());
                self.parameter(&after[..end]);
                after = &after[end..];
                let Some(next) = after.first().copied() else { return };
                delimiter = next;
                after = &after[1..];
            }
            self.out.push(delimiter);
            rest = after;
        }
    }

    fn query(&mut self, query: &[u8]) {
        let mut rest = query;
        loop {
            let end = memchr2(b'&', b';', rest).unwrap_or(rest.len());
            let (parameter, after) = rest.split_at(end);
            self.parameter(parameter);
            let Some(delimiter) = after.first() else { return };
            self.out.push(*delimiter);
            rest = &after[1..];
        }
    }

    /// `key=value`, or a word alone.
    fn parameter(&mut self, text: &[u8]) {
        let (end, in_key) = until(text, |byte| byte == b'=');
        let (key, value) = text.split_at(end);
        let plain = !(in_key && has_mail(key)) && (!self.rules.all_values || word::is_key(key));
        if plain {
            self.out.extend_from_slice(key);
        } else {
            self.out.push(MASK);
        }
        let Some(value) = value.strip_prefix(b"=") else { return };
        self.out.push(b'=');
        let masked = self.rules.all_values || is_secret(key) || has_mail(value);
        if masked && !value.is_empty() {
            self.out.push(MASK);
        } else {
            self.out.extend_from_slice(value);
        }
    }

    /// Parameters (`access_token=…`), a route of a program in the browser (`/users/7?tab=a`, `!/…`), or a name.
    fn fragment(&mut self, text: &[u8]) {
        if text.starts_with(b"/") || text.starts_with(b"!/") {
            let (route, query) = text.split_at(memchr(b'?', text).unwrap_or(text.len()));
            let (mark, route) = route.split_at(usize::from(route[0] == b'!'));
            self.out.extend_from_slice(mark);
            self.path(route);
            if let Some(query) = query.strip_prefix(b"?") {
                self.out.push(b'?');
                self.query(query);
            }
        } else if memchr(b'=', text).is_some() {
            self.query(text);
        } else if has_mail(text) || self.rules.identifiers && !word::is_plain(text) {
            self.out.push(MASK);
        } else {
            self.out.extend_from_slice(text);
        }
    }
}

/// Where a URL's scheme ends, `://` included; 0 where it has none. A scheme has no delimiters; `/a/http://b` is a path
/// that holds a URL.
#[inline]
fn scheme(text: &[u8]) -> usize {
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b'/' => break,
            b':' if text[at..].starts_with(b"://") => return at + 3,
            _ => {}
        }
    }
    0
}

/// The length of a text up to the first byte that stops it, and whether there is a byte in it with which an `@`
/// begins. Parts of URLs are too short for a search by blocks.
#[inline]
fn until(text: &[u8], stops: impl Fn(u8) -> bool) -> (usize, bool) {
    let mut signs = false;
    for (at, byte) in text.iter().enumerate() {
        if stops(*byte) {
            return (at, signs);
        }
        signs |= matches!(byte, b'@' | b'%');
    }
    (text.len(), signs)
}

/// Whether there is an `@`, plain or escaped, with something on both sides: an e-mail address, or user info of a URL
/// inside.
fn has_mail(text: &[u8]) -> bool {
    let mut from = 0;
    while let Some(found) = memchr2(b'@', b'%', &text[from..]) {
        let at = from + found;
        let width = if text[at] == b'@' { 1 } else { escaped_at(&text[at..]) };
        if width > 0 && at > 0 && at + width < text.len() {
            return true;
        }
        from = at + 1;
    }
    false
}

/// The length of an `@` that is escaped, perhaps more than once: `%40`, `%2540`.
fn escaped_at(text: &[u8]) -> usize {
    let mut at = 1;
    while text[at..].starts_with(b"25") {
        at += 2;
    }
    if text[at..].starts_with(b"40") { at + 2 } else { 0 }
}

/// Whether a key says that its value is secret.
fn is_secret(key: &[u8]) -> bool {
    /// Longer than any key of [`SECRET`].
    const LONGEST: usize = 16;
    let mut tail = [0u8; LONGEST];
    let mut used = 0;
    let mut from = LONGEST;
    // The last letters without delimiters, in lower case, and an escaped letter counts as itself.
    let mut rest = key;
    while let Some((byte, before)) = last(rest) {
        rest = before;
        if byte.is_ascii_alphanumeric() {
            if from == 0 {
                break;
            }
            from -= 1;
            tail[from] = byte.to_ascii_lowercase();
            used += 1;
        }
    }
    let tail = &tail[LONGEST - used..];
    let Some(end @ b'a'..=b'z') = tail.last() else { return false };
    let mut left = ENDING[usize::from(end - b'a')];
    while left != 0 {
        if tail.ends_with(SECRET[left.trailing_zeros() as usize].as_bytes()) {
            return true;
        }
        left &= left - 1;
    }
    false
}

/// The last byte, unescaped, and what stands before it.
fn last(text: &[u8]) -> Option<(u8, &[u8])> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    if let [before @ .., b'%', high, low] = text
        && let (Some(high), Some(low)) = (digit(*high), digit(*low))
    {
        return Some(((high << 4 | low) as u8, before));
    }
    text.split_last().map(|(byte, before)| (*byte, before))
}

#[cfg(test)]
mod tests;
