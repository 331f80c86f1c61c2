//! Lists of networks: `10.0.0.0/8`, `fd00::/8`.

#![forbid(unsafe_code)]

use std::{collections::BTreeSet, net::IpAddr};

use crate::config::fields::Fields;

/// Room is needed in the kernel's map for the node's own addresses too.
const MOST: usize = 512;

pub(super) fn read(fields: &mut Fields<'_>, key: &'static str) -> Vec<(IpAddr, u8)> {
    let mut found = BTreeSet::new();
    for text in fields.located_strings(key) {
        match parse(&text.value) {
            Ok(network) if !found.insert(network) => {
                fields.report().error(&text.at, "this network is in the list twice");
            }
            Ok(_) => {}
            Err(message) => fields.report().error(&text.at, message),
        }
    }
    if found.len() > MOST {
        fields
            .error_at(key, format!("{} networks are more than the {MOST} that fit; join them", found.len()));
    }
    found.into_iter().collect()
}

/// An address and how many of its bits are the network's; the rest must be zero, or it is somebody's typing error.
fn parse(text: &str) -> Result<(IpAddr, u8), String> {
    let shown = text.chars().take(60).flat_map(char::escape_debug).collect::<String>();
    let bad = |why: &str| format!("`{shown}` is no network such as `10.0.0.0/8` or `fd00::/8`: {why}");
    let (address, bits) =
        text.split_once('/').ok_or_else(|| bad("`/` and the prefix's length are missing"))?;
    let address: IpAddr = address.parse().map_err(|_| bad("what stands before `/` is no IP address"))?;
    if let IpAddr::V6(v6) = address
        && v6.to_ipv4_mapped().is_some()
    {
        return Err(bad("an IPv4 network is written as IPv4"));
    }
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = Some(bits).filter(|bits| bits.bytes().all(|b| b.is_ascii_digit()));
    let bits = bits.and_then(|bits| bits.parse::<u8>().ok()).filter(|bits| *bits <= most);
    let bits = bits.ok_or_else(|| bad(&format!("the length is a number up to {most}")))?;
    let network = masked(address, bits);
    if network == address {
        Ok((address, bits))
    } else {
        Err(bad(&format!("bits after the prefix are set; is `{network}/{bits}` meant?")))
    }
}

fn masked(address: IpAddr, bits: u8) -> IpAddr {
    let bits = u32::from(bits);
    match address {
        IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() & u32::MAX.checked_shl(32 - bits).unwrap_or(0)).into()),
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & u128::MAX.checked_shl(128 - bits).unwrap_or(0)).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_and_typing_errors_are_not() {
        for text in ["0.0.0.0/0", "::/0", "10.0.0.0/8", "10.1.2.3/32", "fd00::/8", "fd00::1/128"] {
            let (address, bits) = parse(text).unwrap();
            assert_eq!(format!("{address}/{bits}"), text);
        }
        for (text, part) in [
            ("10.0.0.0", "length are missing"),
            ("10.0.0/8", "no IP address"),
            ("10.0.0.0/33", "up to 32"),
            ("fd00::/129", "up to 128"),
            ("10.0.0.0/+8", "up to 32"),
            ("10.0.0.0/", "up to 32"),
            ("10.0.0.1/8", "is `10.0.0.0/8` meant"),
            ("fd00::1/8", "is `fd00::/8` meant"),
            ("::ffff:10.0.0.0/104", "written as IPv4"),
            ("\u{1b}[31m/8", "\\u{1b}[31m"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
