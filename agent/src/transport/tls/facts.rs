//! What a certificate says: names, validity, usage. A reader of the few fields that are needed, besides the
//! verification, which rustls does; it also reads certificates that were refused, so it takes nothing for granted.
//! Layout: RFC 5280, 4.1 (certificates), 5.1 (revocation lists), 4.2.1.6 (subject alternative names).

#![forbid(unsafe_code)]

use std::{
    fmt::Write as _,
    time::{Duration, SystemTime},
};

mod der;

use der::{Reader, tag};

/// Names beyond this many are not read: the certificate is refused instead of understood in part.
const MOST_NAMES: usize = 64;
/// Longest value of a name's part in a message.
const SHOWN: usize = 64;
/// Longest name in a message, by parts.
const SHOWN_PARTS: usize = 8;

const COMMON_NAME: &[u8] = &[0x55, 4, 3];
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 17];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 19];
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 15];

/// What a certificate says of itself. Proven only where its chain was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The subject, as text for people: escaped and shortened.
    pub subject: String,
    /// The subject's (last) common name, as it is.
    pub common_name: Option<String>,
    /// The issuer, as text for people: escaped and shortened.
    pub issuer: String,
    /// Subject alternative names that are URIs, as they are; one that is no UTF-8 has replacement characters.
    pub uris: Vec<String>,
    /// Subject alternative names that are DNS names, as they are.
    pub dns_names: Vec<String>,
    /// From when on it is valid.
    pub not_before: SystemTime,
    /// Until when it is valid.
    pub not_after: SystemTime,
    /// It may sign certificates or revocation lists, by its basic constraints or its key usage.
    pub signs: bool,
}

impl Facts {
    /// Reads a certificate in DER; `None` where it is none, or holds more names than anybody needs.
    pub fn of(certificate: &[u8]) -> Option<Self> {
        let mut tbs = Reader(Reader(Reader(certificate).expect(tag::SEQUENCE)?).expect(tag::SEQUENCE)?);
        tbs.optional(tag::CONTEXT_0); // version
        tbs.expect(tag::INTEGER)?; // serial number
        tbs.expect(tag::SEQUENCE)?; // signature algorithm
        let issuer = tbs.expect(tag::SEQUENCE)?;
        let mut validity = Reader(tbs.expect(tag::SEQUENCE)?);
        let subject = tbs.expect(tag::SEQUENCE)?;
        let mut facts = Self {
            subject: name(subject)?,
            common_name: common_name(subject),
            issuer: name(issuer)?,
            uris: Vec::new(),
            dns_names: Vec::new(),
            not_before: validity.time()?,
            not_after: validity.time()?,
            signs: false,
        };
        tbs.expect(tag::SEQUENCE)?; // public key
        while !tbs.0.is_empty() {
            let (found, content) = tbs.next()?;
            if found == tag::CONTEXT_3 {
                facts.extensions(Reader(content).expect(tag::SEQUENCE)?)?;
            }
        }
        Some(facts)
    }

    fn extensions(&mut self, list: &[u8]) -> Option<()> {
        let mut list = Reader(list);
        while !list.0.is_empty() {
            let mut extension = Reader(list.expect(tag::SEQUENCE)?);
            let id = extension.expect(tag::OID)?;
            extension.optional(tag::BOOLEAN); // critical
            let value = extension.expect(tag::OCTET_STRING)?;
            match id {
                SUBJECT_ALT_NAME => self.names(Reader(value).expect(tag::SEQUENCE)?)?,
                BASIC_CONSTRAINTS => {
                    let mut constraints = Reader(Reader(value).expect(tag::SEQUENCE)?);
                    self.signs |= constraints.optional(tag::BOOLEAN).is_some_and(|ca| ca != [0]);
                }
                // Bits 5 and 6 of the first byte: keyCertSign, cRLSign (RFC 5280, 4.2.1.3).
                KEY_USAGE => {
                    let bits = Reader(value).expect(tag::BIT_STRING)?;
                    self.signs |= bits.get(1).is_some_and(|bits| bits & 0b0000_0110 != 0);
                }
                _ => {}
            }
        }
        Some(())
    }

    fn names(&mut self, list: &[u8]) -> Option<()> {
        let mut list = Reader(list);
        while !list.0.is_empty() {
            let (kind, content) = list.next()?;
            let names = match kind {
                tag::SAN_URI => &mut self.uris,
                tag::SAN_DNS => &mut self.dns_names,
                _ => continue,
            };
            names.push(String::from_utf8_lossy(content).into_owned());
            if self.uris.len() + self.dns_names.len() > MOST_NAMES {
                return None;
            }
        }
        Some(())
    }

    /// For logs: subject, names and issuer, all escaped and shortened.
    pub fn describe(&self) -> String {
        let names: Vec<String> =
            self.uris.iter().chain(&self.dns_names).take(3).map(|name| shown(name)).collect();
        let names = if names.is_empty() { "no names".to_owned() } else { names.join(", ") };
        format!("subject `{}`, {names}, issuer `{}`", self.subject, self.issuer)
    }
}

/// Bytes that are no revocation list.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoList;

/// `nextUpdate` of a revocation list in DER; `None` where it says none.
pub(super) fn next_update(list: &[u8]) -> Result<Option<SystemTime>, NoList> {
    let after_this_update = || {
        let mut tbs = Reader(Reader(Reader(list).expect(tag::SEQUENCE)?).expect(tag::SEQUENCE)?);
        tbs.optional(tag::INTEGER); // version
        tbs.expect(tag::SEQUENCE)?; // signature algorithm
        tbs.expect(tag::SEQUENCE)?; // issuer
        tbs.time()?;
        Some(tbs)
    };
    let mut rest = after_this_update().ok_or(NoList)?;
    if rest.at_time() { rest.time().map(Some).ok_or(NoList) } else { Ok(None) }
}

/// Text that a sender wrote, for a log or a message: escaped, at most 64 characters of it.
pub fn shown(text: &str) -> String {
    let mut out: String = text.chars().take(SHOWN).flat_map(char::escape_default).collect();
    if text.chars().nth(SHOWN).is_some() {
        out.push('…');
    }
    out
}

/// A time span, for people: its largest two units.
pub fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min {} s", seconds / 60, seconds % 60),
        7_200..=172_799 => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// A distinguished name as `CN=…, O=…`, in its own order. `None` where the bytes are none.
pub(super) fn name(content: &[u8]) -> Option<String> {
    let mut out = String::new();
    let mut parts = 0;
    attributes(content, |id, value| {
        parts += 1;
        if parts <= SHOWN_PARTS {
            let label = match id {
                [0x55, 4, kind] => match kind {
                    3 => "CN",
                    5 => "serialNumber",
                    6 => "C",
                    7 => "L",
                    8 => "ST",
                    10 => "O",
                    11 => "OU",
                    _ => "?",
                },
                _ => "?",
            };
            let comma = if out.is_empty() { "" } else { ", " };
            let _ = write!(out, "{comma}{label}={}", shown(&String::from_utf8_lossy(value)));
        }
    })?;
    if parts > SHOWN_PARTS {
        out.push_str(", …");
    }
    Some(out)
}

fn common_name(content: &[u8]) -> Option<String> {
    let mut found = None;
    attributes(content, |id, value| {
        if id == COMMON_NAME {
            found = Some(String::from_utf8_lossy(value).into_owned());
        }
    })?;
    found
}

/// Calls `visit` with type and value of each attribute of a distinguished name.
fn attributes(content: &[u8], mut visit: impl FnMut(&[u8], &[u8])) -> Option<()> {
    let mut sets = Reader(content);
    while !sets.0.is_empty() {
        let mut set = Reader(sets.expect(tag::SET)?);
        while !set.0.is_empty() {
            let mut attribute = Reader(set.expect(tag::SEQUENCE)?);
            let id = attribute.expect(tag::OID)?;
            let (_, value) = attribute.next()?;
            visit(id, value);
        }
    }
    Some(())
}

#[cfg(test)]
mod tests;
