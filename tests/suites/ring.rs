//! Routing: the Collector's ring, vector for vector and against a model; rendezvous and its promises.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use proptest::prelude::*;
use spanwarden::route::{Router, rendezvous::Rendezvous, ring::Ring};

fn members(texts: &[impl AsRef<str>]) -> Vec<Arc<str>> {
    let mut members: Vec<Arc<str>> = texts.iter().map(|t| Arc::from(t.as_ref())).collect();
    members.sort();
    members
}

fn id(hex: &str) -> [u8; 16] {
    u128::from_str_radix(hex, 16).expect("32 hex digits").to_be_bytes()
}

/// One line a vector: members (comma-separated), trace id, owner. Computed from the Collector's algorithm.
#[test]
fn vectors() {
    let mut seen = 0;
    for line in include_str!("../fixtures/ring.txt").lines().filter(|l| !l.starts_with('#')) {
        let [list, trace, owner] = line.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("malformed fixture line: {line}")
        };
        let members = members(&list.split(',').collect::<Vec<_>>());
        let router = Router::new(&members, false);
        assert_eq!(&*members[router.owner(&id(trace))], owner, "{line}");
        seen += 1;
    }
    assert_eq!(seen, 10);
}

#[test]
fn first_points_of_the_documented_ring() {
    let members = members(&["backend-3:4317", "backend-1:4317", "backend-2:4317"]);
    let points: Vec<_> = Ring::new(&members).points().collect();
    assert_eq!(points.len(), 300);
    assert_eq!(points[..5], [(69, 1), (89, 1), (127, 1), (316, 1), (324, 2)]);
}

/// The ring once more, slowly and in other words: a bitwise CRC, a map of positions, and a walk upwards from
/// the key until a point is met.
mod model {
    use std::collections::BTreeMap;

    fn crc32(bytes: &[u8]) -> u32 {
        let mut crc = u32::MAX;
        for byte in bytes {
            for bit in 0..8 {
                let odd = (crc ^ u32::from(byte >> bit)) & 1 == 1;
                crc >>= 1;
                if odd {
                    crc ^= 0xedb8_8320;
                }
            }
        }
        !crc
    }

    pub(crate) fn ring(sorted: &[String]) -> BTreeMap<u32, String> {
        let mut ring = BTreeMap::new();
        for member in sorted {
            'points: for point in 0..100_u32 {
                let mut bytes = member.clone().into_bytes();
                for shift in [0, 8, 16, 24] {
                    bytes.push((point >> shift) as u8);
                }
                let mut position = crc32(&bytes) % 36_000;
                let mut moved = 0;
                while ring.contains_key(&position) {
                    moved += 1;
                    if moved == 10 {
                        continue 'points;
                    }
                    position = if position == 35_999 { 0 } else { position + 1 };
                }
                ring.insert(position, member.clone());
            }
        }
        ring
    }

    pub(crate) fn owner<'a>(ring: &'a BTreeMap<u32, String>, id: &[u8; 16]) -> &'a str {
        let key = crc32(id) % 36_000;
        let after = ring.range(key..).next();
        after.or_else(|| ring.first_key_value()).expect("the ring has points").1
    }
}

/// 1 to 200 replicas, addresses with and without a port and names of pods mixed.
fn replicas() -> impl Strategy<Value = Vec<String>> {
    (1..=200_usize, any::<u64>()).prop_map(|(n, mut seed)| {
        let member = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (a, b) = (seed >> 40 & 255, seed >> 50 & 255);
            match seed >> 62 {
                0 => format!("10.0.{a}.{b}:4317"),
                1 => format!("10.0.{a}.{b}"),
                2 => format!("[fd00::{a:x}:{b:x}]:4317"),
                _ => format!("gateway-{b}.gateway.tracing.svc:4317"),
            }
        };
        std::iter::repeat_with(member).take(n).collect::<BTreeSet<_>>().into_iter().collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn agrees_with_the_model(replicas in replicas(), ids in proptest::collection::vec(any::<[u8; 16]>(), 300)) {
        let model = model::ring(&replicas);
        let members = members(&replicas);
        let ring = Ring::new(&members);
        let points: Vec<_> = ring.points().map(|(p, o)| (u32::from(p), members[o].to_string())).collect();
        prop_assert_eq!(points, model.clone().into_iter().collect::<Vec<_>>());
        for id in &ids {
            prop_assert_eq!(&*members[ring.owner(id)], model::owner(&model, id));
        }
    }

    /// A member that leaves gives up its own traces and nobody else's; by symmetry, one that joins takes only
    /// what becomes its own.
    #[test]
    fn rendezvous_moves_the_least(
        replicas in replicas(),
        which in any::<prop::sample::Index>(),
        ids in proptest::collection::vec(any::<[u8; 16]>(), 300),
    ) {
        prop_assume!(replicas.len() > 1);
        let all = members(&replicas);
        let gone = which.index(all.len());
        let mut fewer = all.clone();
        fewer.remove(gone);
        let (before, after) = (Rendezvous::new(&all), Rendezvous::new(&fewer));
        for id in &ids {
            let owner = before.owner(id);
            if owner != gone {
                prop_assert_eq!(&all[owner], &fewer[after.owner(id)]);
            }
        }
    }

    /// Agents that learn of the members in another order agree.
    #[test]
    fn rendezvous_ignores_order(replicas in replicas(), id in any::<[u8; 16]>()) {
        let forward: Vec<Arc<str>> = replicas.iter().map(|r| Arc::from(r.as_str())).collect();
        let backward: Vec<Arc<str>> = forward.iter().rev().cloned().collect();
        let owner = |m: &[Arc<str>]| m[Rendezvous::new(m).owner(&id)].clone();
        prop_assert_eq!(owner(&forward), owner(&backward));
    }
}

/// Trace ids that differ in a few bits, the low half zero, or counting up, spread as evenly as random ones:
/// with 10 members and 20,000 ids, within a tenth of the mean (more than four standard deviations).
#[test]
fn rendezvous_is_even_on_poor_ids() {
    let names: Vec<String> = (0..10).map(|n| format!("gateway-{n}:4317")).collect();
    let rendezvous = Rendezvous::new(&members(&names));
    let kinds: [fn(u128) -> u128; 3] = [|n| n, |n| n << 64, |n| n << 112 | 1];
    for kind in kinds {
        let mut load = BTreeMap::<usize, u32>::new();
        for n in 0..20_000 {
            *load.entry(rendezvous.owner(&kind(n).to_be_bytes())).or_default() += 1;
        }
        assert_eq!(load.len(), 10);
        assert!(load.values().all(|&n| (1_800..2_200).contains(&n)), "{load:?}");
    }
}
