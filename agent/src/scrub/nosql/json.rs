//! JSON without its values: what `MongoDB`, Elasticsearch and `OpenSearch` are asked.
//!
//! Names of members and the structure stay, white space too; every text, number, boolean and null becomes `"?"`.
//! Several documents may follow each other, as in bulk requests. What is not JSON becomes `?` as a whole: half a
//! document says nothing certain of where its values are.

#![forbid(unsafe_code)]

use memchr::memchr2;

/// What stands for a value.
const MASK: &[u8] = b"\"?\"";
/// What stands for a text that is not JSON.
const WHOLE: &[u8] = b"?";
/// Arrays and objects in each other; deeper ones are taken for something that is not JSON.
const MAX_DEPTH: usize = 512;

/// Writes the documents without their values. `false` where nothing changes.
pub fn sanitize(text: &[u8], out: &mut Vec<u8>) -> bool {
    out.clear();
    let mut pass = Pass { text, at: 0, out, copied: 0 };
    let Some(()) = pass.documents() else {
        out.clear();
        out.extend_from_slice(WHOLE);
        return text != WHOLE;
    };
    let copied = pass.copied;
    out.extend_from_slice(&text[copied..]);
    copied > 0
}

/// What may stand next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Value,
    /// A value, or the end of an array that has just begun.
    ValueOrEnd,
    /// A name, or the end of an object that has just begun.
    NameOrEnd,
    Name,
    /// A comma or the end of what is open; at the top another document.
    After,
}

/// What a closing bracket closes.
fn opening(closing: u8) -> u8 {
    if closing == b'}' { b'{' } else { b'[' }
}

struct Pass<'a> {
    text: &'a [u8],
    at: usize,
    out: &'a mut Vec<u8>,
    /// Everything before it is written; 0 while nothing has changed.
    copied: usize,
}

impl Pass<'_> {
    /// `None` where it is not JSON.
    fn documents(&mut self) -> Option<()> {
        let mut open: Vec<u8> = Vec::new();
        let mut next = Next::Value;
        loop {
            self.space();
            let Some(&byte) = self.text.get(self.at) else {
                return open.is_empty().then_some(());
            };
            if open.is_empty() {
                // Only whole documents: a bare text or number is no request.
                next = if matches!(byte, b'{' | b'[') { Next::Value } else { return None };
            }
            next = match (byte, next) {
                (b'{' | b'[', Next::Value | Next::ValueOrEnd) if open.len() < MAX_DEPTH => {
                    open.push(byte);
                    self.at += 1;
                    if byte == b'{' { Next::NameOrEnd } else { Next::ValueOrEnd }
                }
                (b'}', Next::NameOrEnd) | (b']', Next::ValueOrEnd) => self.close(&mut open),
                (b'}' | b']', Next::After) if open.last() == Some(&opening(byte)) => self.close(&mut open),
                (b',', Next::After) => {
                    self.at += 1;
                    if open.last() == Some(&b'{') { Next::Name } else { Next::Value }
                }
                (b'"', Next::Name | Next::NameOrEnd) => {
                    self.at = self.string_end()?;
                    self.space();
                    (self.text.get(self.at) == Some(&b':')).then(|| self.at += 1)?;
                    Next::Value
                }
                (_, Next::Value | Next::ValueOrEnd) => {
                    let end = self.scalar_end(byte)?;
                    self.mask(end);
                    Next::After
                }
                _ => return None,
            };
        }
    }

    fn close(&mut self, open: &mut Vec<u8>) -> Next {
        open.pop();
        self.at += 1;
        Next::After
    }

    fn space(&mut self) {
        while matches!(self.text.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn mask(&mut self, end: usize) {
        if &self.text[self.at..end] != MASK {
            self.out.extend_from_slice(&self.text[self.copied..self.at]);
            self.out.extend_from_slice(MASK);
            self.copied = end;
        }
        self.at = end;
    }

    fn string_end(&self) -> Option<usize> {
        let mut at = self.at + 1;
        loop {
            at += memchr2(b'"', b'\\', self.text.get(at..)?)?;
            if self.text[at] == b'"' {
                return Some(at + 1);
            }
            at += 2;
        }
    }

    fn scalar_end(&self, first: u8) -> Option<usize> {
        if first == b'"' {
            return self.string_end();
        }
        let rest = &self.text[self.at..];
        let length =
            rest.iter().take_while(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte)).count();
        let word = &rest[..length];
        let number = || {
            let unsigned = word.strip_prefix(b"-").unwrap_or(word);
            unsigned.first().is_some_and(u8::is_ascii_digit)
                && unsigned.iter().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(byte))
        };
        (matches!(word, b"true" | b"false" | b"null") || number()).then_some(self.at + length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sanitized(text: &str) -> String {
        let mut out = Vec::new();
        let changed = sanitize(text.as_bytes(), &mut out);
        let out = String::from_utf8(out).expect("text stays text");
        let mut again = Vec::new();
        assert!(!sanitize(out.as_bytes(), &mut again), "once is enough: {out}");
        assert_eq!(changed, out != text, "{text}");
        out
    }

    #[test]
    fn values_are_masked_and_the_rest_stays() {
        for (before, after) in [
            (
                r#"{"find":"users","filter":{"mail":"a@b.c","n":{"$gt":-1.5e+3}}}"#,
                r#"{"find":"?","filter":{"mail":"?","n":{"$gt":"?"}}}"#,
            ),
            (
                "{ \"a\" : [ 1 , true,null, \"x\\\"y\" ] , \"b\": {} }\n",
                "{ \"a\" : [ \"?\" , \"?\",\"?\", \"?\" ] , \"b\": {} }\n",
            ),
            (
                "{\"index\":{\"_id\":\"1\"}}\n{\"name\":\"alice\"}\n",
                "{\"index\":{\"_id\":\"?\"}}\n{\"name\":\"?\"}\n",
            ),
            ("", ""),
            (" \n", " \n"),
            ("[]", "[]"),
            ("{}", "{}"),
            (r#"{"a\"b":"\\"}"#, r#"{"a\"b":"?"}"#),
            (r#"{"é":"ü"}"#, r#"{"é":"?"}"#),
        ] {
            assert_eq!(sanitized(before), after);
        }
    }

    #[test]
    fn what_is_not_json_is_masked_whole() {
        for text in [
            "alice",
            "\"alice\"",
            "1",
            "{\"a\":\"alice",
            "{\"a\":1,}",
            "{\"a\" 1}",
            "{a:1}",
            "[1,]",
            "[1 2]",
            "{\"a\":ObjectId(\"5f\")}",
            "{\"a\":1}}",
            "{]",
            "[}",
            "{\"a\":1}x",
            "{\"a\":1}, {\"b\":2}",
            "{\"a\":'x'}",
            "{\"a\":-}",
            "{\"a\":nul}",
            "{\"a\":1} \"alice\"",
            "{,}",
            "{\"a\"}",
            "[1}",
            "{\"a\":\"\\",
        ] {
            assert_eq!(sanitized(text), "?", "{text}");
        }
        assert_eq!(sanitized(&"[".repeat(100_000)), "?");
        let deep = "[".repeat(MAX_DEPTH) + &"]".repeat(MAX_DEPTH);
        assert_eq!(sanitized(&deep), deep);
    }
}
