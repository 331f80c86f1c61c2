//! `X509SVIDResponse` and `X509SVID` of the Workload API's `workload.proto`.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use super::{SpiffeError, Svid, Update};
use crate::otlp::wire::{self, LEN};

/// Identities, and trust domains, of one update. Workloads have one identity, rarely a few.
const MOST: usize = 64;
const SCHEME: &str = "spiffe://";

/// Reads an update.
pub(super) fn read(message: &[u8]) -> Result<Update, SpiffeError> {
    let mut update = Update { svids: Vec::new(), bundles: BTreeMap::new() };
    for (number, content) in fields(message)? {
        match number {
            1 => {
                let (svid, bundle) = svid(content)?;
                update.bundles.insert(domain(&svid.id)?.to_owned(), certificates(bundle)?);
                update.svids.push(svid);
            }
            3 => {
                let entry = fields(content)?;
                let of =
                    |number| entry.iter().find(|field| field.0 == number).map_or(&[][..], |field| field.1);
                let (domain, bundle) = (domain(text(of(1))?)?, certificates(of(2))?);
                update.bundles.entry(domain.to_owned()).or_insert(bundle);
            }
            _ => {}
        }
        if update.svids.len() > MOST || update.bundles.len() > MOST {
            return Err(SpiffeError::Answer("more than 64 identities or trust domains"));
        }
    }
    if update.svids.is_empty() { Err(SpiffeError::Answer("no SVID")) } else { Ok(update) }
}

fn svid(message: &[u8]) -> Result<(Svid, &[u8]), SpiffeError> {
    let fields = fields(message)?;
    let of = |number| fields.iter().rfind(|field| field.0 == number).map_or(&[][..], |field| field.1);
    let chain = certificates(of(2))?;
    if chain.is_empty() || of(3).is_empty() || of(4).is_empty() {
        return Err(SpiffeError::Answer("an SVID without its certificate, its key or its bundle"));
    }
    let key = PrivatePkcs8KeyDer::from(of(3).to_vec());
    Ok((Svid { id: text(of(1))?.to_owned(), chain, key }, of(4)))
}

/// The trust domain of a SPIFFE ID, or of a trust domain's name with or without the scheme.
pub(crate) fn domain(id: &str) -> Result<&str, SpiffeError> {
    let rest = id.strip_prefix(SCHEME).unwrap_or(id);
    let domain = rest.split('/').next().unwrap_or_default();
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
    if domain.is_empty() || !domain.bytes().all(allowed) {
        return Err(SpiffeError::Answer("a SPIFFE ID that is none"));
    }
    Ok(domain)
}

fn text(bytes: &[u8]) -> Result<&str, SpiffeError> {
    std::str::from_utf8(bytes).map_err(|_| SpiffeError::Answer("a text that is no UTF-8"))
}

/// The length-delimited fields of a message; these are all that its messages have.
fn fields(message: &[u8]) -> Result<Vec<(u32, &[u8])>, SpiffeError> {
    let broken = |_| SpiffeError::Answer("a message that is no protobuf");
    let (mut fields, mut pos) = (Vec::new(), 0);
    while pos < message.len() {
        let (tag, after) = wire::tag(message, pos).map_err(broken)?;
        let end = wire::skip(message, after, tag.wire).map_err(broken)?;
        if tag.wire == LEN {
            let (start, end) = wire::length(message, after).map_err(broken)?;
            fields.push((tag.number, &message[start..end]));
        }
        pos = end;
    }
    Ok(fields)
}

/// Certificates one after the other, in DER (X509-SVID, Workload API 5.2.1): each begins with the tag of a sequence and
/// its length.
fn certificates(mut bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, SpiffeError> {
    let broken = SpiffeError::Answer("certificates that are no DER");
    let mut list = Vec::new();
    while !bytes.is_empty() {
        let length = match *bytes {
            [0x30, short @ ..=0x7f, ..] => 2 + usize::from(short),
            [0x30, 0x81, a, ..] => 3 + usize::from(a),
            [0x30, 0x82, a, b, ..] => 4 + usize::from(u16::from_be_bytes([a, b])),
            [0x30, 0x83, a, b, c, ..] => 5 + u32::from_be_bytes([0, a, b, c]) as usize,
            _ => return Err(broken),
        };
        let Some((one, rest)) = bytes.split_at_checked(length) else { return Err(broken) };
        list.push(CertificateDer::from(one.to_vec()));
        bytes = rest;
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::encode;

    fn message(fields: &[(u32, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for (number, content) in fields {
            encode::field(&mut out, *number, content);
        }
        out
    }

    /// Not a certificate, but DER.
    const ONE: &[u8] = &[0x30, 2, 5, 0];

    fn whole(id: &str) -> Vec<u8> {
        message(&[(1, id.as_bytes()), (2, &[ONE, ONE].concat()), (3, b"key"), (4, ONE)])
    }

    #[test]
    fn an_update_has_its_identities_and_every_domain_its_own_bundle() {
        let foreign = message(&[(1, b"spiffe://other.org"), (2, &[ONE, ONE, ONE].concat())]);
        let own = message(&[(1, b"spiffe://example.org"), (2, &[ONE, ONE].concat())]);
        let svid = whole("spiffe://example.org/ns/a/sa/b");
        let update = read(&message(&[(1, &svid), (3, &foreign), (3, &own), (9, b"?")])).expect("an update");
        assert_eq!(update.svids[0].id, "spiffe://example.org/ns/a/sa/b");
        assert_eq!(update.svids[0].chain.len(), 2);
        let sizes: Vec<_> = update.bundles.iter().map(|(domain, bundle)| (&**domain, bundle.len())).collect();
        assert_eq!(sizes, [("example.org", 1), ("other.org", 3)]);
        assert!(update.svid(Some("spiffe://example.org/x")).is_err());
    }

    #[test]
    fn what_is_broken_is_refused() {
        let id = "spiffe://example.org/a";
        let good = message(&[(1, &whole(id))]);
        for cut in 1..good.len() {
            assert!(read(&good[..cut]).is_err(), "{cut}");
        }
        for fields in [
            &[][..],
            &[(1, &whole("spiffe:///a")[..])],
            &[(1, &whole("spiffe://Example.org/a")[..])],
            &[(1, &message(&[(1, id.as_bytes()), (3, b"key"), (4, ONE)])[..])],
            &[(1, &message(&[(1, id.as_bytes()), (2, ONE), (4, ONE)])[..])],
            &[(1, &message(&[(1, id.as_bytes()), (2, ONE), (3, b"key")])[..])],
            &[(1, &message(&[(1, id.as_bytes()), (2, &ONE[..3]), (3, b"key"), (4, ONE)])[..])],
            &[(1, &message(&[(1, &[0xff]), (2, ONE), (3, b"key"), (4, ONE)])[..])],
        ] {
            assert!(read(&message(fields)).is_err(), "{fields:?}");
        }
        let many: Vec<_> = (0..=MOST).map(|number| whole(&format!("spiffe://d{number}/a"))).collect();
        let many: Vec<_> = many.iter().map(|svid| (1, &svid[..])).collect();
        assert!(read(&message(&many)).is_err());
    }
}
