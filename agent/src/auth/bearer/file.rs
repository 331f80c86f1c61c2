//! A file of tokens: `TOKEN` or `TOKEN NAME` a line; empty lines and lines that begin with `#` mean nothing.

#![forbid(unsafe_code)]

use std::{
    collections::HashMap,
    fs::{File, Metadata},
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use sha2::{Digest as _, Sha256};

use super::BearerError;

/// The largest file that is read.
const MAX_BYTES: u64 = 1 << 20;
/// Every request is compared with all of them.
const MAX_TOKENS: usize = 1000;
/// A service account's token has about 1 KiB; all headers of a request together have at most 16.
const MAX_TOKEN: usize = 8 << 10;
/// A name ends up in resource attributes and rules.
const MAX_NAME: usize = 128;

/// One token, and its name if it has one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Line<'t> {
    pub(super) token: &'t str,
    pub(super) name: Option<&'t str>,
}

/// What a file looks like from outside. The time of change (`ctime`) can't be set back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: (u64, u64),
    size: u64,
    changed: (i64, i64),
}

impl Stamp {
    /// Of the file that the path leads to now: a Secret's volume swaps a link.
    pub(super) fn of(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().map(|meta| Self::from(&meta))
    }
}

impl From<&Metadata> for Stamp {
    fn from(meta: &Metadata) -> Self {
        let changed = (meta.ctime(), meta.ctime_nsec());
        Self { inode: (meta.dev(), meta.ino()), size: meta.size(), changed }
    }
}

/// The file's text, with what it looked like before it was read.
pub(super) fn read(path: &Path) -> Result<(Stamp, String), BearerError> {
    let failed = |source| BearerError::Read { path: path.to_owned(), source };
    let content = |message: &str| BearerError::Content { path: path.to_owned(), message: message.to_owned() };
    let file = File::open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if !meta.is_file() {
        return Err(failed(io::Error::other("it is no file")));
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(content("more than 1 MiB, which no list of tokens has"));
    }
    let text =
        String::from_utf8(bytes).map_err(|_| content("it is no text; one token a line is expected"))?;
    Ok((Stamp::from(&meta), text))
}

/// The tokens of a text. Errors name lines and never quote them.
pub(super) fn parse(text: &str) -> Result<Vec<Line<'_>>, String> {
    let mut seen = HashMap::new();
    let mut lines = Vec::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let mut words = line.split_whitespace();
        let Some(token) = words.next().filter(|word| !word.starts_with('#')) else { continue };
        let name = words.next();
        if words.next().is_some() {
            return Err(format!("line {number} has more than a token and a name; write `TOKEN NAME`"));
        }
        check(token).map_err(|why| format!("line {number}: {why}"))?;
        if name.is_some_and(|name| name.len() > MAX_NAME || !name.bytes().all(|b| b.is_ascii_graphic())) {
            return Err(format!("line {number}: a name has at most {MAX_NAME} printable ASCII characters"));
        }
        if let Some(first) = seen.insert(token, number) {
            return Err(format!("lines {first} and {number} have the same token; remove one"));
        }
        lines.push(Line { token, name });
        if lines.len() > MAX_TOKENS {
            return Err(format!(
                "more than {MAX_TOKENS} tokens; certificates or `oidc` prove so many senders better"
            ));
        }
    }
    Ok(lines)
}

/// Whether a header can carry it.
pub(super) fn check(token: &str) -> Result<(), String> {
    if token.len() > MAX_TOKEN {
        return Err(format!("a token has at most {MAX_TOKEN} characters"));
    }
    if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("a token has printable ASCII characters only, and no spaces".to_owned());
    }
    Ok(())
}

/// What tells one text from another.
pub(super) fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// The name of a token that has none: it stays the same wherever the token stands, and tells 32 bits of its hash.
pub(super) fn fingerprint(token: &str) -> String {
    let hash = hash(token);
    format!("token-{:02x}{:02x}{:02x}{:02x}", hash[0], hash[1], hash[2], hash[3])
}
