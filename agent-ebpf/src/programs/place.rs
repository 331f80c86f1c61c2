//! Where bytes go.

use super::{
    maps::{self, lookup, own_contains},
    packet::Address,
};
use spanwarden_ebpf::abi::{OWN_PORTS, PLACE_AGENT, PLACE_OUTSIDE, PLACE_POD};

/// Key of [`maps::PLACES`]: how many bits count, then the address.
#[repr(C)]
struct Network {
    bits: u32,
    address: [u32; 4],
}

/// One of the `PLACE_*`, by the packet's own destination: whoever redirects in his own namespace what he says is for
/// the agent does not hide where it leads. A Service in front of the agent is the agent, being translated further on.
#[inline(always)]
pub(super) fn of(remote: Address, port: u32) -> u32 {
    if remote.is_loopback() {
        return PLACE_POD;
    }
    if receives_on(port) && own_contains(&remote.0) {
        return PLACE_AGENT;
    }
    let halves = |word: u64| [word as u32, (word >> 32) as u32];
    let ([a, b], [c, d]) = (halves(remote.0[0]), halves(remote.0[1]));
    let network = Network { bits: 128, address: [a, b, c, d] };
    // SAFETY: the key is as long as the map's, 4 + 16 bytes, and its values are `u32`.
    unsafe { lookup::<_, _, u32>(&maps::PLACES, &network).map_or(PLACE_OUTSIDE, |place| *place) }
}

/// Whether the agent receives on this port, or on any as far as is known.
#[inline(always)]
pub(super) fn receives_on(port: u32) -> bool {
    let Some(settings) = maps::SETTINGS.get(0) else { return true };
    if settings.port_count == 0 {
        return true;
    }
    let mut at = 0;
    while at < OWN_PORTS {
        if at as u32 >= settings.port_count {
            return false;
        }
        if settings.ports[at] == port {
            return true;
        }
        at += 1;
    }
    false
}
