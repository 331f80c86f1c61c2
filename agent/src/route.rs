//! Which gateway a trace belongs to: the rings, and the resolvers that say which gateways there are.
//!
//! Nothing here sends anything; `export::loadbalancing` is the exporter that uses it.

#![forbid(unsafe_code)]

use std::sync::Arc;

pub mod rendezvous;
pub mod resolver;
pub mod ring;

use rendezvous::Rendezvous;
use ring::Ring;

/// How a trace id finds its owner among the members.
#[derive(Clone, Debug)]
pub enum Router {
    /// The Collector's ring, for fleets in which both route.
    Ring(Ring),
    /// Rendezvous hashing (`routing: rendezvous`).
    Rendezvous(Rendezvous),
}

impl Router {
    /// Builds a router over `members`, in the order in which the resolver gave them (sorted bytewise).
    pub fn new(members: &[Arc<str>], rendezvous: bool) -> Self {
        if rendezvous { Self::Rendezvous(Rendezvous::new(members)) } else { Self::Ring(Ring::new(members)) }
    }

    /// The index of the member that owns a trace. 0 when there are no members at all.
    #[inline]
    pub fn owner(&self, trace_id: &[u8; 16]) -> usize {
        match self {
            Self::Ring(ring) => ring.owner(trace_id),
            Self::Rendezvous(rendezvous) => rendezvous.owner(trace_id),
        }
    }
}

/// What the Collector dials for a member: `:4317` where the text has no port. The rings hash the text before
/// this is added, so that `10.0.0.1` and `10.0.0.1:4317` are different members to them.
pub fn with_default_port(member: &str) -> String {
    let has_port = match (member.rfind(':'), member.rfind(']')) {
        (Some(colon), Some(bracket)) => colon > bracket,
        // More than one colon and no bracket is a bare IPv6 address.
        (Some(colon), None) => member.find(':') == Some(colon),
        (None, _) => false,
    };
    if has_port {
        member.to_owned()
    } else if member.contains(':') && !member.starts_with('[') {
        format!("[{member}]:4317")
    } else {
        format!("{member}:4317")
    }
}

#[cfg(test)]
mod tests {
    use super::with_default_port;

    #[test]
    fn default_port_is_added_where_there_is_none() {
        for (member, dialled) in [
            ("gateway-0.gateway", "gateway-0.gateway:4317"),
            ("gateway-0.gateway:5317", "gateway-0.gateway:5317"),
            ("10.0.0.1", "10.0.0.1:4317"),
            ("10.0.0.1:1", "10.0.0.1:1"),
            ("[fd00::1]", "[fd00::1]:4317"),
            ("[fd00::1]:9", "[fd00::1]:9"),
            ("fd00::1", "[fd00::1]:4317"),
        ] {
            assert_eq!(with_default_port(member), dialled);
        }
    }
}
