//! Converters of text, and glob patterns.

#![forbid(unsafe_code)]

use std::borrow::Cow;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD},
};

use super::{Arguments, Fit, Function, Unfit, Value, elements, hex_text};

/// `toCase` of `ConvertCase`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::scrub::ottl) enum Case {
    Lower,
    Upper,
    Snake,
    Camel,
}

impl Case {
    /// By its name.
    pub(in crate::scrub::ottl) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "lower" => Self::Lower,
            "upper" => Self::Upper,
            "snake" => Self::Snake,
            "camel" => Self::Camel,
            _ => return None,
        })
    }
}

pub(super) fn call(function: Function, given: &Arguments<'_, '_>) -> Fit<Value<'static>> {
    Ok(match function {
        Function::Concat => concat(given)?,
        Function::Substring => substring(given.text(0)?, given.int(1)?, given.int(2)?)?,
        Function::ToLowerCase => Value::text(given.text(0)?.to_lowercase()),
        Function::ToUpperCase => Value::text(given.text(0)?.to_uppercase()),
        Function::ConvertCase => {
            Value::text(in_case(given.text(0)?, Case::named(given.text(1)?).ok_or(Unfit)?))
        }
        Function::Split => {
            let (text, delimiter) = (given.text(0)?, given.text(1)?);
            let part = |part: &str| Value::text(part);
            if delimiter.is_empty() {
                // As Go's strings.Split: into characters.
                Value::list(text.chars().map(|c| Value::text(c.to_string())))?
            } else {
                Value::list(text.split(delimiter).map(part))?
            }
        }
        Function::HasPrefix => Value::Bool(given.text(0)?.starts_with(given.text(1)?)),
        Function::HasSuffix => Value::Bool(given.text(0)?.ends_with(given.text(1)?)),
        Function::Trim => {
            let cut: Vec<char> = match given.given(1) {
                Some(cut) => cut.as_str()?.chars().collect(),
                None => vec![' '],
            };
            Value::text(given.text(0)?.trim_matches(&cut[..]))
        }
        Function::TrimPrefix => {
            let text = given.text(0)?;
            Value::text(text.strip_prefix(given.text(1)?).unwrap_or(text))
        }
        Function::TrimSuffix => {
            let text = given.text(0)?;
            Value::text(text.strip_suffix(given.text(1)?).unwrap_or(text))
        }
        Function::Hex => match given.get(0)? {
            Value::Bytes(bytes) | Value::Text(bytes) => hex_text(bytes),
            Value::Int(number) => hex_text(&number.to_be_bytes()),
            Value::Double(number) => hex_text(&number.to_be_bytes()),
            Value::Bool(flag) => hex_text(&[u8::from(*flag)]),
            _ => return Err(Unfit),
        },
        Function::Base64Decode => {
            let text = given.text(0)?;
            let engine =
                if text.ends_with('=') || text.len() % 4 == 0 { &STANDARD } else { &STANDARD_NO_PAD };
            let bytes = engine.decode(text).map_err(|_| Unfit)?;
            // What is no text must not become one.
            match String::from_utf8(bytes) {
                Ok(text) => Value::text(text),
                Err(error) => Value::Bytes(Cow::Owned(error.into_bytes())),
            }
        }
        Function::IsValidLuhn => match given.get(0)?.to_text()? {
            Some(digits) => Value::Bool(luhn(&digits)),
            None => return Err(Unfit),
        },
        _ => return Err(Unfit),
    })
}

/// `nil` is written `<nil>`, as in the Collector.
fn concat(given: &Arguments<'_, '_>) -> Fit<Value<'static>> {
    let (Value::List(list), delimiter) = (given.get(0)?, given.text(1)?) else { return Err(Unfit) };
    let mut joined = Vec::new();
    for (number, (kind, content)) in elements(list).enumerate() {
        if number > 0 {
            joined.extend_from_slice(delimiter.as_bytes());
        }
        match Value::of(kind, Cow::Borrowed(content)).to_text()? {
            Some(text) => joined.extend_from_slice(&text),
            None => joined.extend_from_slice(b"<nil>"),
        }
    }
    Ok(Value::Text(Cow::Owned(joined)))
}

/// By bytes, as in the Collector, but never through a character: an end inside one moves back to its beginning.
fn substring(text: &str, start: i64, length: i64) -> Fit<Value<'static>> {
    let start = usize::try_from(start).map_err(|_| Unfit)?;
    let length = usize::try_from(length).ok().filter(|length| *length > 0).ok_or(Unfit)?;
    let end = start.checked_add(length).filter(|end| *end <= text.len()).ok_or(Unfit)?;
    let boundary = |at: usize| (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    Ok(Value::text(&text[boundary(start)..boundary(end)]))
}

fn in_case(text: &str, case: Case) -> String {
    match case {
        Case::Lower => text.to_lowercase(),
        Case::Upper => text.to_uppercase(),
        Case::Snake => words(text).iter().map(|word| word.to_lowercase()).collect::<Vec<_>>().join("_"),
        Case::Camel => words(text)
            .iter()
            .map(|word| {
                let mut chars = word.chars();
                let first = chars.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
                first + &chars.as_str().to_lowercase()
            })
            .collect(),
    }
}

/// Words of a name: parted by anything that is neither letter nor digit, and where a capital follows a small letter
/// or precedes one (`HTTPServer` is two words).
fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let chars: Vec<char> = text.chars().collect();
    for (at, c) in chars.iter().enumerate() {
        let next_small = chars.get(at + 1).is_some_and(|next| next.is_lowercase());
        let after = at.checked_sub(1).map(|before| chars[before]);
        let begins = c.is_uppercase()
            && after.is_some_and(|before| {
                before.is_lowercase() || before.is_numeric() || before.is_uppercase() && next_small
            });
        if (!c.is_alphanumeric() || begins) && words.last().is_some_and(|word| !word.is_empty()) {
            words.push(String::new());
        }
        if c.is_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.push(*c);
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Digits only, at least one, and the checksum of ISO/IEC 7812.
fn luhn(digits: &[u8]) -> bool {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let sum: u64 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| {
            let digit = u64::from(digit - b'0');
            match (place % 2, digit) {
                (1, 5..) => digit * 2 - 9,
                (1, _) => digit * 2,
                _ => digit,
            }
        })
        .sum();
    sum.is_multiple_of(10)
}

/// A glob of `replace_match`: `*`, `?`, `[a-z]`, `[!a]`, `{a,b}` and `\` before a character; the whole text must
/// match.
pub(in crate::scrub) struct Glob;

impl Glob {
    /// The same as a pattern of RE2.
    pub(in crate::scrub) fn to_pattern(glob: &str) -> Result<String, &'static str> {
        let mut pattern = String::from(r"(?s)\A(?:");
        let mut groups = 0;
        let mut chars = glob.chars();
        while let Some(c) = chars.next() {
            match c {
                '*' => pattern.push_str(".*"),
                '?' => pattern.push('.'),
                '\\' => push_literal(&mut pattern, chars.next().ok_or("ends in a `\\`")?),
                '{' => {
                    groups += 1;
                    pattern.push_str("(?:");
                }
                '}' if groups > 0 => {
                    groups -= 1;
                    pattern.push(')');
                }
                ',' if groups > 0 => pattern.push('|'),
                '[' => {
                    let (class, after) = chars.as_str().split_once(']').ok_or("has a `[` without a `]`")?;
                    let (not, class) = match class.strip_prefix('!') {
                        Some(class) => ("^", class),
                        None => ("", class),
                    };
                    if class.is_empty() {
                        return Err("has an empty `[]`");
                    }
                    pattern.push('[');
                    pattern.push_str(not);
                    for c in class.chars() {
                        if c == '-' { pattern.push('-') } else { push_literal(&mut pattern, c) }
                    }
                    pattern.push(']');
                    chars = after.chars();
                }
                c => push_literal(&mut pattern, c),
            }
        }
        if groups > 0 {
            return Err("has a `{` without a `}`");
        }
        pattern.push_str(r")\z");
        Ok(pattern)
    }
}

fn push_literal(pattern: &mut String, c: char) {
    if c.is_ascii()
        && !c.is_ascii_alphanumeric()
        && !c.is_ascii_whitespace()
        && !c.is_ascii_control()
        && c != '_'
    {
        pattern.push('\\');
    }
    pattern.push(c);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases() {
        for (text, snake, camel) in [
            ("someName", "some_name", "SomeName"),
            ("HTTPServer", "http_server", "HttpServer"),
            ("already_snake", "already_snake", "AlreadySnake"),
            ("with-dash and.dot", "with_dash_and_dot", "WithDashAndDot"),
            ("", "", ""),
            ("__x__", "x", "X"),
            ("éTé", "é_té", "ÉTé"),
        ] {
            assert_eq!(in_case(text, Case::Snake), snake, "{text}");
            assert_eq!(in_case(text, Case::Camel), camel, "{text}");
        }
    }

    #[test]
    fn luhn_is_checked_over_digits_only() {
        for (digits, valid) in [
            ("4111111111111111", true),
            ("4111111111111112", false),
            ("0", true),
            ("", false),
            ("41-11", false),
        ] {
            assert_eq!(luhn(digits.as_bytes()), valid, "{digits}");
        }
    }

    #[test]
    fn globs_match_the_whole_text() {
        for (glob, text, matches) in [
            ("user/*/list/*", "user/1/list/2", true),
            ("user/*", "a user/1", false),
            ("?at", "cat", true),
            ("?at", "at", false),
            ("[!ab]x", "cx", true),
            ("[a-c]x", "dx", false),
            ("{ab,cd}*", "cdx\ny", true),
            (r"a\*b", "a*b", true),
            (r"a\*b", "axb", false),
            ("a.b", "axb", false),
            ("é*", "éa", true),
        ] {
            let pattern = Glob::to_pattern(glob).expect(glob);
            let regex = regex::Regex::new(&pattern).expect(&pattern);
            assert_eq!(regex.is_match(text), matches, "{glob} {text}");
        }
        for bad in ["[a", "{a", "a\\", "[]"] {
            assert!(Glob::to_pattern(bad).is_err(), "{bad}");
        }
    }
}
