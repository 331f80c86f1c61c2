//! Names of secrets: keys of attributes, and of what is assigned inside a text (`password=…`, `"token": "…"`).

#![forbid(unsafe_code)]

use std::collections::HashSet;

use crate::config::processors::ScrubKeys;

use super::{bytes::looking_at, finds::Finds};

/// How the last part of a key ends that names a secret, in lower case and without `-`, `_`, and spaces.
const ENDINGS: [&[u8]; 22] = [
    b"password",
    b"passwd",
    b"passwort",
    b"pwd",
    b"passphrase",
    b"secret",
    b"secrets",
    b"token",
    b"authorization",
    b"cookie",
    b"cookies",
    b"apikey",
    b"accesskey",
    b"secretkey",
    b"privatekey",
    b"secretaccesskey",
    b"signingkey",
    b"encryptionkey",
    b"credential",
    b"credentials",
    b"ssn",
    b"socialsecuritynumber",
];
/// Parts that end like a secret and are none: places in a list of results.
const HARMLESS: [&[u8]; 7] = [
    b"pagetoken",
    b"nexttoken",
    b"continuationtoken",
    b"nextpagetoken",
    b"paginationtoken",
    b"synctoken",
    b"resumetoken",
];
/// Longest part that is looked at: a longer one names nothing.
const LONGEST: usize = 64;

/// What every such name contains, for the gate.
pub(super) const GATES: [&str; 12] = [
    "(?i)passw",
    "(?i)passphr",
    "(?i)pwd",
    "(?i)secret",
    "(?i)token",
    "(?i)authoriz",
    "(?i)cookie",
    "(?i)credential",
    "(?i)[sietgn][-_ ]key",
    "(?i)[sietgn]key",
    "(?i)ssn",
    "(?i)socials?[-_ ]?sec",
];

/// The last part of a key, in lower case and without what only separates words.
fn last_part(key: &[u8]) -> Option<([u8; LONGEST], usize)> {
    let key = key.rsplit(|byte| matches!(byte, b'.' | b'/' | b':')).find(|part| !part.is_empty())?;
    let mut part = [0; LONGEST];
    let mut length = 0;
    for byte in key.iter().filter(|byte| !matches!(byte, b'-' | b'_' | b' ' | b'[' | b']' | b'0'..=b'9')) {
        *part.get_mut(length)? = byte.to_ascii_lowercase();
        length += 1;
    }
    Some((part, length))
}

/// Whether a name is a secret's.
pub(super) fn is_secret(name: &[u8]) -> bool {
    last_part(name).is_some_and(|(part, length)| {
        let part = &part[..length];
        ENDINGS.iter().any(|ending| part.ends_with(ending))
            && !HARMLESS.iter().any(|other| part.ends_with(other))
    })
}

/// How the last part of a key ends that names a trace or a span.
const TRACES: [&[u8]; 3] = [b"traceid", b"spanid", b"parentid"];

/// Whether an attribute holds nothing but the id of a trace or a span: by its key, and by its form (16 or 32 hex digits,
/// or a number of 64 bits). Of every thousand of them some have digits only, and of these one in fifty passes for a
/// card. An id under any other key may be one.
pub(super) fn is_trace_id(key: &[u8], value: &[u8]) -> bool {
    let hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let form = matches!(value.len(), 16 | 32) && value.iter().all(hex)
        || (1..=20).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    form && last_part(key)
        .is_some_and(|(part, length)| TRACES.iter().any(|ending| part[..length].ends_with(ending)))
}

/// Keys whose values are masked whole.
#[derive(Debug)]
pub(super) struct BlockedKeys {
    defaults: bool,
    add: HashSet<Vec<u8>>,
    except: HashSet<Vec<u8>>,
}

impl BlockedKeys {
    /// As configured; `None` where no key is.
    pub(super) fn new(config: &ScrubKeys) -> Option<Self> {
        let lower = |keys: &[String]| keys.iter().map(|key| key.to_ascii_lowercase().into_bytes()).collect();
        (config.enabled || !config.add.is_empty()).then(|| Self {
            defaults: config.enabled,
            add: lower(&config.add),
            except: lower(&config.except),
        })
    }

    /// What every such key contains, for the gate.
    pub(super) fn patterns(&self) -> Vec<String> {
        let defaults = GATES.iter().filter(|_| self.defaults).map(|gate| (*gate).to_owned());
        let quoted = |key: &Vec<u8>| format!("(?i)\\Q{}\\E", String::from_utf8_lossy(key).replace('\\', ""));
        defaults.chain(self.add.iter().map(quoted)).collect()
    }

    /// Whether the name is one of a number of tokens, as language models count them.
    pub(super) fn is_count(key: &[u8]) -> bool {
        last_part(key).is_some_and(|(part, length)| part[..length].ends_with(b"token"))
    }

    /// Whether the value of a key is masked.
    pub(super) fn has(&self, key: &[u8]) -> bool {
        let listed = |list: &HashSet<Vec<u8>>| {
            if list.is_empty() {
                return false;
            }
            let key = key.to_ascii_lowercase();
            let last = key.rsplit(|byte| *byte == b'.').next().unwrap_or_default();
            list.contains(&key) || list.contains(last)
        };
        (listed(&self.add) || self.defaults && is_secret(key)) && !listed(&self.except)
    }
}

/// Values that are assigned to a name of a secret, with `=`, `:` or `=>`, quoted (also inside quoted JSON) or not.
pub(super) fn assignment(text: &[u8], finds: &mut Finds) {
    let mut from = 0;
    for at in memchr::memchr2_iter(b'=', b':', text) {
        if at < from || !is_secret(name_before(text, from, at)) {
            continue;
        }
        let mut value = at + 1;
        while text.get(value).is_some_and(|byte| matches!(byte, b'=' | b'>')) {
            value += 1;
        }
        let name = name_before(text, from, at);
        if let Some((start, end)) = value_at(text, value, text[at], name) {
            finds.push(start..end);
            from = end;
        }
    }
}

/// The name before an `=` or `:`, without its quotes.
fn name_before(text: &[u8], floor: usize, at: usize) -> &[u8] {
    let back = |from: usize, most: usize, is: fn(&u8) -> bool| {
        let low = floor.max(from.saturating_sub(most));
        text[low..from].iter().rposition(|byte| !is(byte)).map_or(low, |other| low + other + 1)
    };
    let end = back(at, 2, |byte| *byte == b' ');
    let end = back(end, 8, |byte| matches!(byte, b'"' | b'\'' | b'\\' | b'`' | b']'));
    let start = back(end, LONGEST, |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'));
    &text[start..end]
}

fn value_at(text: &[u8], from: usize, sign: u8, name: &[u8]) -> Option<(usize, usize)> {
    let spaces = text[from..].iter().take(4).take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let start = from + spaces;
    let slashes = text[start..].iter().take(8).take_while(|byte| **byte == b'\\').count();
    let quote = text.get(start + slashes).copied();
    if let Some(quote @ (b'"' | b'\'' | b'`')) = quote {
        let start = start + slashes + 1;
        let end = closing(text, start, quote, slashes);
        return (end > start && !is_placeholder(&text[start..end])).then_some((start, end));
    }
    if let Some(open @ (b'[' | b'{')) = quote
        && !text[start..].starts_with(b"[REDACTED")
    {
        let close = if open == b'[' { b']' } else { b'}' };
        let end = memchr::memchr(close, &text[start..]).map_or(text.len(), |end| start + end + 1);
        return (end > start + 2 && !is_placeholder(&text[start..end])).then_some((start, end));
    }
    let whole_line = sign == b':' && {
        let last = |word: &[u8]| name.len() >= word.len() && looking_at(name, name.len() - word.len(), word);
        last(b"cookie") || last(b"authorization")
    };
    let stops = |byte: &u8| {
        matches!(byte, b'\n' | b'\r' | b'"' | b'\\')
            || !whole_line && (byte.is_ascii_whitespace() || b"&,;)'<>}]|`".contains(byte))
    };
    let run =
        |most: usize| text[start..].iter().take(most).position(stops).unwrap_or(most.min(text.len() - start));
    // Judged by its beginning, so that a text of names alone is not read over and over.
    let value = &text[start..start + run(LONGEST)];
    let length = value.len();
    let likely = if sign == b'=' {
        length >= 3 && (spaces == 0 || has_digit(value))
    } else {
        // `session:token:17` is a key of a cache.
        let apart = spaces > 0 || !value.contains(&b':') && !before_name(text, from, name);
        whole_line && length >= 3 || length >= 6 && has_digit(value) && apart
    };
    (likely && !is_placeholder(value)).then(|| (start, start + run(usize::MAX)))
}

/// Whether a colon stands before the name whose colon ends at `from`.
fn before_name(text: &[u8], from: usize, name: &[u8]) -> bool {
    from.checked_sub(name.len() + 2).is_some_and(|at| text[at] == b':')
}

/// Where a quoted value ends: at a quote with as many backslashes before it as the first had, or at the text's end.
fn closing(text: &[u8], start: usize, quote: u8, slashes: usize) -> usize {
    for found in memchr::memchr_iter(quote, &text[start..]) {
        let at = start + found;
        let low = at.saturating_sub(slashes + 1).max(start);
        let escapes = text[low..at].iter().rev().take_while(|byte| **byte == b'\\').count();
        if escapes <= slashes {
            return at - escapes;
        }
    }
    text.len()
}

fn has_digit(value: &[u8]) -> bool {
    value.iter().any(u8::is_ascii_digit)
}

/// Whether a value stands for another one, or says that there is none.
fn is_placeholder(value: &[u8]) -> bool {
    const WORDS: [&[u8]; 12] = [
        b"null",
        b"nil",
        b"none",
        b"true",
        b"false",
        b"undefined",
        b"empty",
        b"redacted",
        b"string",
        b"required",
        b"invalid",
        b"expired",
    ];
    let name = |rest: &[u8]| rest.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_{}().".contains(byte));
    let reference = match value {
        [b'$' | b'?'] => true,
        [b'$', rest @ ..] => name(rest) && (rest[0] == b'{' || rest.len() < 3),
        [b'%', rest @ ..] => rest.len() < 3,
        [b'{', .., b'}'] | [b'<', .., b'>'] => name(&value[1..value.len() - 1]),
        [b':', rest @ ..] => rest.iter().all(|byte| byte.is_ascii_lowercase() || *byte == b'_'),
        _ => false,
    };
    reference
        || WORDS.iter().any(|word| value.eq_ignore_ascii_case(word))
        || value.starts_with(b"[REDACTED")
        || value.iter().all(|byte| matches!(byte, b'*' | b'x' | b'X' | b'.' | b'?'))
}
