//! What the kernel knows of places: node addresses and the cluster's networks.

use crate::origin::loader::{OriginError, chain, own};
use aya::maps::{LpmTrie, MapData, MapError, lpm_trie::Key};
use spanwarden_ebpf::abi::{NETWORKS, PLACE_CLUSTER, PLACE_NODE, PLACE_OUTSIDE};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// Networks that nobody routes on the Internet: RFC 1918, RFC 6598, RFC 3927, RFC 4193, RFC 4291.
const PRIVATE: [(IpAddr, u8); 7] = [
    (IpAddr::V4(Ipv4Addr::new(10, 0, 0, 0)), 8),
    (IpAddr::V4(Ipv4Addr::new(172, 16, 0, 0)), 12),
    (IpAddr::V4(Ipv4Addr::new(192, 168, 0, 0)), 16),
    (IpAddr::V4(Ipv4Addr::new(100, 64, 0, 0)), 10),
    (IpAddr::V4(Ipv4Addr::new(169, 254, 0, 0)), 16),
    (IpAddr::V6(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0)), 7),
    (IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), 10),
];

/// `PLACE_*` by prefix length and address, as the map has it.
pub(in crate::origin) type Places = BTreeMap<(u32, [u8; 16]), u32>;

/// The map's content: every address of this node (the agent's own are told apart before the map is asked, by
/// address and port), and the cluster's networks; the longest prefix counts. What does not fit is left out, the
/// node's addresses first: they are in the cluster's networks, as a rule.
pub(in crate::origin) fn table(node: &BTreeSet<IpAddr>, cluster: &[(IpAddr, u8)]) -> Places {
    let cluster = if cluster.is_empty() { &PRIVATE[..] } else { cluster };
    let mut places: Places =
        cluster.iter().map(|&(address, bits)| (key(address, bits), PLACE_CLUSTER)).collect();
    // A wide IPv6 network (`::/0`) would hold all of IPv4 too, which is a part of it in the map.
    places.entry(key(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0)).or_insert(PLACE_OUTSIDE);
    // Loopback is decided by the kernel; a link-local address may be anybody's on another link.
    let unicast = node.iter().filter(|ip| match ip {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
    });
    for &address in unicast {
        if places.len() >= NETWORKS {
            tracing::warn!(
                addresses = node.len(),
                "more node addresses than the kernel side holds: some findings say `cluster` instead of `node`"
            );
            break;
        }
        places.insert(key(address, if address.is_ipv4() { 32 } else { 128 }), PLACE_NODE);
    }
    places
}

/// IPv4 is v4-mapped there, 96 bits further on.
fn key(address: IpAddr, bits: u8) -> (u32, [u8; 16]) {
    let before = if address.is_ipv4() { 96 } else { 0 };
    (before + u32::from(bits), own::to_bytes(address))
}

/// Brings the map to `wanted`, whatever it holds: a pinned one is from an earlier run.
pub(in crate::origin) fn apply(
    map: &mut LpmTrie<MapData, [u8; 16], u32>,
    wanted: &Places,
) -> Result<(), OriginError> {
    let failed = |e: MapError| OriginError::Map { map: "PLACES", chain: chain(&e) };
    let there = map.keys().collect::<Result<Vec<_>, _>>().map_err(failed)?;
    for stale in there.iter().filter(|key| !wanted.contains_key(&(key.prefix_len(), key.data()))) {
        match map.remove(stale) {
            Ok(()) | Err(MapError::KeyNotFound) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    for (&(bits, address), place) in wanted {
        map.insert(&Key::new(bits, address), place, 0).map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel does: the longest prefix that matches.
    fn lookup(places: &Places, address: &str) -> Option<u32> {
        let address = u128::from_be_bytes(own::to_bytes(address.parse().unwrap()));
        let matches = |bits: u32, prefix: &[u8; 16]| {
            (address ^ u128::from_be_bytes(*prefix)).checked_shr(128 - bits).unwrap_or(0) == 0
        };
        places.iter().rev().find(|((bits, prefix), _)| matches(*bits, prefix)).map(|(_, place)| *place)
    }

    fn set(addresses: &[&str]) -> BTreeSet<IpAddr> {
        addresses.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn the_private_ranges_are_the_cluster_s_unless_it_names_its_own() {
        let node = set(&["192.168.1.10", "2001:db8::10", "127.0.0.1", "fe80::1", "::1"]);
        let places = table(&node, &[]);
        for (address, place) in [
            ("10.96.0.1", Some(PLACE_CLUSTER)),
            ("172.31.255.255", Some(PLACE_CLUSTER)),
            ("172.32.0.0", Some(PLACE_OUTSIDE)),
            ("100.127.0.1", Some(PLACE_CLUSTER)),
            ("169.254.169.254", Some(PLACE_CLUSTER)),
            ("192.168.1.10", Some(PLACE_NODE)),
            ("192.168.1.11", Some(PLACE_CLUSTER)),
            ("2001:db8::10", Some(PLACE_NODE)),
            ("2001:db8::11", None),
            ("fd00::7", Some(PLACE_CLUSTER)),
            ("fe80::1", Some(PLACE_CLUSTER)),
            ("8.8.8.8", Some(PLACE_OUTSIDE)),
        ] {
            assert_eq!(lookup(&places, address), place, "{address}");
        }
        let own = table(&node, &[("2001:db8::".parse().unwrap(), 32), ("0.0.0.0".parse().unwrap(), 0)]);
        for (address, place) in [
            ("2001:db8::11", Some(PLACE_CLUSTER)),
            ("fd00::7", None),
            ("8.8.8.8", Some(PLACE_CLUSTER)),
            ("192.168.1.10", Some(PLACE_NODE)),
        ] {
            assert_eq!(lookup(&own, address), place, "{address}");
        }
        let six = table(&BTreeSet::new(), &[("::".parse().unwrap(), 0), ("10.0.0.0".parse().unwrap(), 8)]);
        for (address, place) in
            [("2001:db8::11", PLACE_CLUSTER), ("8.8.8.8", PLACE_OUTSIDE), ("10.1.2.3", PLACE_CLUSTER)]
        {
            assert_eq!(lookup(&six, address), Some(place), "{address}");
        }
    }

    #[test]
    fn what_does_not_fit_is_left_out() {
        let node = (0..2_000_u32).map(|n| IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n))).collect();
        let places = table(&node, &[]);
        assert_eq!(places.len(), NETWORKS);
        assert_eq!(places.values().filter(|place| **place == PLACE_CLUSTER).count(), PRIVATE.len());
    }
}
