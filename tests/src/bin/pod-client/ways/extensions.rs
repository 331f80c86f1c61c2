//! Extension headers of IPv6 (RFC 8200 section 4) in every packet of a connection, by sticky options (RFC 3542).

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, bail};
use socket2::Socket;

use super::options::set_option;

/// An extension header.
#[derive(Clone, Copy, Debug)]
pub(super) enum Header {
    HopByHop,
    /// Before a routing header.
    EarlyDestination,
    Routing,
    Destination,
}

/// Those that a way of sending has, in the order of the packet.
pub(super) fn of(way: &str) -> &'static [Header] {
    match way {
        "hop-by-hop" => &[Header::HopByHop],
        "destination" => &[Header::Destination],
        "routing" => &[Header::Routing],
        "extensions" => &[Header::HopByHop, Header::EarlyDestination, Header::Routing, Header::Destination],
        _ => &[],
    }
}

/// A header of one option, 24 bytes: for experiments, to be passed over by who does not know it (RFC 8200 section 4.2,
/// RFC 4727 section 3.4; Linux takes no more than seven bytes of padding). The first byte, the next header's number, is
/// the kernel's to fill in.
const OPTIONS: [u8; 24] = {
    let mut header = [0; 24];
    header[1] = 2; // beyond the first eight bytes, in eights
    header[2] = 0x1e;
    header[3] = 20;
    header
};

impl Header {
    pub(super) fn set(self, socket: &Socket, target: SocketAddr) -> Result<()> {
        let IpAddr::V6(address) = target.ip() else { bail!("{self:?} is of IPv6, {target} is not") };
        let (name, header) = match self {
            Self::HopByHop => (libc::IPV6_HOPOPTS, OPTIONS.to_vec()),
            Self::EarlyDestination => (libc::IPV6_RTHDRDSTOPTS, OPTIONS.to_vec()),
            Self::Destination => (libc::IPV6_DSTOPTS, OPTIONS.to_vec()),
            // A segment routing header (RFC 8754 section 2), the only kind that Linux makes without Mobile IPv6: from
            // the target to the target.
            Self::Routing => {
                let segments = [address.octets(), address.octets()].concat();
                (libc::IPV6_RTHDR, [&[0, 4, 4, 1, 1, 0, 0, 0], &segments[..]].concat())
            }
        };
        set_option(socket, libc::IPPROTO_IPV6, name, &header).with_context(|| format!("{self:?}"))
    }
}
