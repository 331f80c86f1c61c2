//! The Collector's consistent-hash ring (`exporter/loadbalancingexporter/consistent_hashing.go`), point for
//! point, so that agents of both kinds in front of the same gateways agree on every trace.

use std::sync::Arc;

/// Positions on the ring.
const POSITIONS: u32 = 36_000;
/// Points of each member.
const WEIGHT: u32 = 100;
/// How many positions are tried for a point, its own and the nine after it; when all are occupied it is left
/// out. (The Collector's loop gives up at the tenth step without looking whether that position is free.)
const PROBES: u32 = 10;

/// The ring. Looking up allocates nothing and touches 6 bytes a point, in two arrays that stay in cache.
#[derive(Clone, Debug)]
pub struct Ring {
    /// Occupied positions, ascending.
    positions: Box<[u16]>,
    /// The member at each of them.
    owners: Box<[u32]>,
}

impl Ring {
    /// Places every member's points. The order of `members` matters where points collide; every resolver of
    /// the Collector sorts bytewise, and so do ours.
    pub fn new(members: &[Arc<str>]) -> Self {
        let mut taken: Vec<Option<u32>> = vec![None; POSITIONS as usize];
        for (index, member) in members.iter().enumerate() {
            for point in 0..WEIGHT {
                let mut hash = crc32fast::Hasher::new();
                hash.update(member.as_bytes());
                hash.update(&point.to_le_bytes());
                let wanted = hash.finalize() % POSITIONS;
                let free = (0..PROBES)
                    .map(|probe| ((wanted + probe) % POSITIONS) as usize)
                    .find(|&position| taken[position].is_none());
                if let Some(position) = free {
                    taken[position] = Some(index as u32);
                }
            }
        }
        let (positions, owners): (Vec<u16>, Vec<u32>) = taken
            .into_iter()
            .enumerate()
            .filter_map(|(position, owner)| owner.map(|owner| (position as u16, owner)))
            .unzip();
        Self { positions: positions.into(), owners: owners.into() }
    }

    /// The index of the member that owns a trace: the first point at or after its position, around the end.
    #[inline]
    pub fn owner(&self, trace_id: &[u8; 16]) -> usize {
        let position = (crc32fast::hash(trace_id) % POSITIONS) as u16;
        let point = self.positions.partition_point(|&p| p < position);
        self.owners.get(point).or(self.owners.first()).map_or(0, |&owner| owner as usize)
    }

    /// `(position, member)` of every point, ascending: for tests and the status page.
    pub fn points(&self) -> impl Iterator<Item = (u16, usize)> + '_ {
        self.positions.iter().zip(&self.owners).map(|(&position, &owner)| (position, owner as usize))
    }
}
