//! The weaker evidence: the peer's address.

use super::count_evidence;
use crate::origin::{Evidence, Origin, OriginSource, PodSource};
use std::{net::SocketAddr, os::fd::BorrowedFd, sync::Arc};

/// Origins without the kernel side: the pod with the peer's address, or nothing.
pub struct AddressOrigins {
    pods: Arc<dyn PodSource>,
}

impl AddressOrigins {
    /// Looks addresses up in `pods`.
    pub fn new(pods: Arc<dyn PodSource>) -> Self {
        Self { pods }
    }
}

impl OriginSource for AddressOrigins {
    fn origin(&self, _: BorrowedFd<'_>, peer: SocketAddr) -> Arc<Origin> {
        let origin = origin(self.pods.as_ref(), peer);
        count_evidence(origin.evidence);
        Arc::new(origin)
    }

    fn alive(&self) -> bool {
        true
    }
}

/// A peer that is found becomes [`Evidence::Address`]; containers and processes an address cannot tell.
pub(super) fn origin(pods: &dyn PodSource, peer: SocketAddr) -> Origin {
    let Some(pod) = pods.by_ip(peer.ip().to_canonical()) else { return Origin::unknown(peer) };
    Origin {
        evidence: Evidence::Address,
        pod_uid: Some(pod.uid.clone()),
        pod: Some(pod),
        ..Origin::unknown(peer)
    }
}
