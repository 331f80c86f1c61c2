//! A policy as the kernel takes it.

#![forbid(unsafe_code)]

use crate::config::extensions::{Place, PlaintextMode};
use spanwarden_ebpf::abi;

/// `mode` at `places`, with `flags` (`POLICY_*`).
pub(super) fn policy(mode: PlaintextMode, places: &[Place], flags: u32) -> abi::Policy {
    let bit = |place: &Place| {
        1 << match place {
            Place::Pod => abi::PLACE_POD,
            Place::Agent => abi::PLACE_AGENT,
            Place::Node => abi::PLACE_NODE,
            Place::Cluster => abi::PLACE_CLUSTER,
            Place::Outside => abi::PLACE_OUTSIDE,
        }
    };
    let mode = match mode {
        PlaintextMode::Observe => abi::MODE_OBSERVE,
        PlaintextMode::Warn => abi::MODE_WARN,
        PlaintextMode::Block => abi::MODE_BLOCK,
    };
    let places = places.iter().map(bit).fold(0, |all, bit: u32| all | bit);
    abi::Policy { mode, places, flags, reserved: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_become_bits() {
        let told = policy(PlaintextMode::Block, &[Place::Pod, Place::Outside], abi::POLICY_GROUP);
        assert_eq!((told.mode, told.flags), (abi::MODE_BLOCK, abi::POLICY_GROUP));
        assert_eq!(told.places, 1 << abi::PLACE_POD | 1 << abi::PLACE_OUTSIDE);
        assert_eq!(policy(PlaintextMode::Warn, &[], 0).places, 0);
    }
}
