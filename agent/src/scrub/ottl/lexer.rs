//! OTTL's tokens.

use super::{At, OttlError};

/// A token.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// `attributes`, `replace_pattern`, `where`
    Lower(String),
    /// `SHA256`, `SPAN_KIND_SERVER`
    Upper(String),
    /// `"…"`, unquoted
    Text(String),
    /// `12`
    Int(i64),
    /// `1.5`
    Float(f64),
    /// `0x0aff`
    Bytes(Vec<u8>),
    /// `==`, `(` and the like
    Sign(&'static str),
    /// Nothing follows.
    End,
}

impl Token {
    /// For messages.
    pub(super) fn show(&self) -> String {
        match self {
            Self::Lower(word) | Self::Upper(word) => format!("`{word}`"),
            Self::Text(_) => "a string".into(),
            Self::Int(_) | Self::Float(_) => "a number".into(),
            Self::Bytes(_) => "a byte literal".into(),
            Self::Sign(sign) => format!("`{sign}`"),
            Self::End => "the end".into(),
        }
    }
}

/// Longest first.
const SIGNS: [&str; 21] = [
    "==", "!=", "<=", ">=", "=>", "(", ")", "[", "]", "{", "}", ",", ".", ":", "<", ">", "=", "+", "-", "*",
    "/",
];

/// Longest statement, in bytes.
const MAX_LENGTH: usize = 64 << 10;

/// Splits a statement or a condition into tokens with their places.
pub(super) fn tokens(source: &str) -> Result<Vec<(At, Token)>, OttlError> {
    let mut lexer = Lexer { rest: source, at: At { line: 1, column: 1 }, after_value: false };
    if source.len() > MAX_LENGTH {
        return Err(lexer.error(format!("a statement has at most {} KiB", MAX_LENGTH >> 10)));
    }
    let mut tokens: Vec<(At, Token)> = Vec::new();
    loop {
        lexer.skip(char::is_whitespace);
        let at = lexer.at;
        let token = lexer.token()?;
        let end = token == Token::End;
        lexer.after_value = match &token {
            Token::Lower(word) => !matches!(word.as_str(), "and" | "or" | "not" | "where"),
            Token::Sign(sign) => matches!(*sign, ")" | "]" | "}"),
            Token::Upper(_) | Token::Text(_) | Token::Int(_) | Token::Float(_) | Token::Bytes(_) => true,
            Token::End => false,
        };
        tokens.push((at, token));
        if end {
            return Ok(tokens);
        }
    }
}

struct Lexer<'a> {
    rest: &'a str,
    at: At,
    /// The last token ended a value, so that `+` and `-` stand between two numbers and not before one.
    after_value: bool,
}

impl<'a> Lexer<'a> {
    fn advance(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(bytes);
        for c in taken.chars() {
            if c == '\n' {
                self.at = At { line: self.at.line + 1, column: 1 };
            } else {
                self.at.column += 1;
            }
        }
        self.rest = rest;
        taken
    }

    fn skip(&mut self, class: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !class(c)).unwrap_or(self.rest.len());
        self.advance(end)
    }

    fn error(&self, message: impl Into<String>) -> OttlError {
        OttlError { at: self.at, message: message.into() }
    }

    fn token(&mut self) -> Result<Token, OttlError> {
        let Some(first) = self.rest.chars().next() else { return Ok(Token::End) };
        if first == '"' {
            return self.text();
        }
        let digit = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
        let signed = !self.after_value && matches!(first, '-' | '+' | '.') && digit(&self.rest[1..]);
        if first.is_ascii_digit() || signed {
            return self.number();
        }
        if first.is_ascii_alphabetic() {
            let word = self.skip(|c| c.is_ascii_alphanumeric() || c == '_').to_owned();
            return Ok(if first.is_ascii_uppercase() { Token::Upper(word) } else { Token::Lower(word) });
        }
        match SIGNS.iter().find(|sign| self.rest.starts_with(**sign)) {
            Some(sign) => {
                self.advance(sign.len());
                Ok(Token::Sign(sign))
            }
            None if first == '\'' => Err(self.error("strings stand in double quotes")),
            None => Err(self.error(format!("`{first}` is not part of OTTL"))),
        }
    }

    /// A string, with Go's escapes.
    fn text(&mut self) -> Result<Token, OttlError> {
        let open = self.at;
        self.advance(1);
        let mut text = String::new();
        loop {
            let Some(c) = self.rest.chars().next() else {
                return Err(OttlError { at: open, message: "this string is not closed".into() });
            };
            match c {
                '"' => {
                    self.advance(1);
                    return Ok(Token::Text(text));
                }
                '\\' => text.push(self.escape()?),
                c => {
                    self.advance(c.len_utf8());
                    text.push(c);
                }
            }
        }
    }

    fn escape(&mut self) -> Result<char, OttlError> {
        let Some(c) = self.rest[1..].chars().next() else {
            return Err(self.error("this string is not closed"));
        };
        let code = |digits: &str, radix| u32::from_str_radix(digits, radix).ok().and_then(char::from_u32);
        let (value, length) = match c {
            'a' => (Some('\x07'), 2),
            'b' => (Some('\x08'), 2),
            'f' => (Some('\x0c'), 2),
            'n' => (Some('\n'), 2),
            'r' => (Some('\r'), 2),
            't' => (Some('\t'), 2),
            'v' => (Some('\x0b'), 2),
            '\\' => (Some('\\'), 2),
            '"' => (Some('"'), 2),
            'x' => (self.rest.get(2..4).and_then(|digits| code(digits, 16)).filter(char::is_ascii), 4),
            'u' => (self.rest.get(2..6).and_then(|digits| code(digits, 16)), 6),
            'U' => (self.rest.get(2..10).and_then(|digits| code(digits, 16)), 10),
            '0'..='7' => (self.rest.get(1..4).and_then(|digits| code(digits, 8)).filter(char::is_ascii), 4),
            _ => (None, 0),
        };
        let Some(value) = value else {
            return Err(
                self.error(format!("`\\{c}` is not an escape in a string; in a pattern write `\\\\{c}`"))
            );
        };
        self.advance(length);
        Ok(value)
    }

    fn number(&mut self) -> Result<Token, OttlError> {
        let at = self.at;
        let bad = |message: &str| OttlError { at, message: message.into() };
        let bytes = self.rest.as_bytes();
        if self.rest.starts_with("0x") {
            let text = self.skip(|c| c.is_ascii_alphanumeric());
            return hex_bytes(&text[2..])
                .map(Token::Bytes)
                .ok_or_else(|| bad("a byte literal is `0x` and pairs of hex digits"));
        }
        let digits = |from: usize| {
            let rest = bytes.get(from..).unwrap_or_default();
            from + rest.iter().take_while(|byte| byte.is_ascii_digit()).count()
        };
        let mut end = digits(usize::from(matches!(bytes[0], b'-' | b'+')));
        let mut float = false;
        if bytes.get(end) == Some(&b'.') && digits(end + 1) > end + 1 {
            (end, float) = (digits(end + 1), true);
        }
        if matches!(bytes.get(end), Some(b'e' | b'E')) {
            let sign = end + 1 + usize::from(matches!(bytes.get(end + 1), Some(b'-' | b'+')));
            if digits(sign) > sign {
                (end, float) = (digits(sign), true);
            }
        }
        let text = self.advance(end);
        if self.rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
            return Err(bad("this is not a number"));
        }
        if float {
            let value = text.parse().ok().filter(|value: &f64| value.is_finite());
            return value.map(Token::Float).ok_or_else(|| bad("this is not a number of 64 bits"));
        }
        text.parse().map(Token::Int).map_err(|_| bad("this is not an integer of 64 bits"))
    }
}

/// Pairs of hex digits, at least one.
fn hex_bytes(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    let byte = |pair: &[u8]| match pair {
        [high, low] => {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            Some((digit(*high)? << 4 | digit(*low)?) as u8)
        }
        _ => None,
    };
    pairs.map(byte).collect::<Option<Vec<u8>>>().filter(|bytes| !bytes.is_empty())
}
