//! Addresses of machines.

#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    bytes::{before, ends},
    finds::Finds,
};

/// Longest address as text.
const LONGEST: usize = 45;

/// Every address but the unspecified, loopback and link-local ones.
pub(super) fn all(text: &[u8], finds: &mut Finds) {
    addresses(text, finds, |_| true);
}

/// Those of the internet.
pub(super) fn public(text: &[u8], finds: &mut Finds) {
    addresses(text, finds, |address| !is_private(address));
}

/// Those of private networks.
pub(super) fn private(text: &[u8], finds: &mut Finds) {
    addresses(text, finds, is_private);
}

fn addresses(text: &[u8], finds: &mut Finds, wanted: fn(IpAddr) -> bool) {
    let part = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b'.' | b':');
    let mut at = 0;
    while let Some(found) = text[at..].iter().position(part) {
        let mut start = at + found;
        let end = start + text[start..].iter().position(|byte| !part(byte)).unwrap_or(text.len() - start);
        at = end;
        // `host:10.0.0.1`: the colon is not the address's.
        if matches!(text[start], b':' | b'.') && text.get(start + 1) != Some(&b':') {
            start += 1;
        }
        if before(text, start).is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            || end - start < 3
        {
            continue;
        }
        if let Some((from, to, address)) = address(text, start, end)
            && ends(text, to)
            && wanted(address)
            && !is_local(address)
        {
            finds.push(from..to);
        }
    }
}

/// The address in a run of hex digits, dots and colons: all of it, or what stands before a port.
fn address(text: &[u8], start: usize, end: usize) -> Option<(usize, usize, IpAddr)> {
    // A dot or colon of the sentence.
    let mut to = end;
    while to > start && matches!(text[to - 1], b'.' | b':') && !text[start..to].ends_with(b"::") {
        to -= 1;
    }
    let run = &text[start..to];
    if run.len() > LONGEST + 6 {
        return None;
    }
    let parse = |part: &[u8]| std::str::from_utf8(part).ok()?.parse::<IpAddr>().ok();
    if let Some(address) = parse(run) {
        // A version may look the same; four numbers in a row are an address.
        return Some((start, to, address));
    }
    let colon = run.iter().rposition(|byte| *byte == b':')?;
    let head = &run[..colon];
    let v4 = head.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.');
    let address = parse(head).filter(|_| v4)?;
    Some((start, start + colon, address))
}

fn is_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            address.is_unspecified()
                || address.is_loopback()
                || address.is_link_local()
                || address.is_broadcast()
        }
        IpAddr::V6(address) => {
            address.is_unspecified() || address.is_loopback() || address.is_unicast_link_local()
        }
    }
}

fn is_private(address: IpAddr) -> bool {
    let v4 = |address: Ipv4Addr| {
        let [a, b, ..] = address.octets();
        address.is_private() || a == 100 && b & 0xc0 == 64
    };
    let v6 = |address: Ipv6Addr| address.is_unique_local() || address.to_ipv4_mapped().is_some_and(v4);
    match address {
        IpAddr::V4(address) => v4(address),
        IpAddr::V6(address) => v6(address),
    }
}
