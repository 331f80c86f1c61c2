use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;

use super::*;
use crate::receiver::{admission::Admission, source::Source};

const BUDGET: u64 = 64 << 20;

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// With the content's size in the header, and (streamed) without.
fn zstds(data: &[u8]) -> [Vec<u8>; 2] {
    [zstd::bulk::compress(data, 3).unwrap(), zstd::stream::encode_all(data, 3).unwrap()]
}

fn run(encoding: Encoding, input: &[u8], max: usize) -> Result<Bytes, &'static str> {
    let admission = Admission::new(BUDGET);
    let share = admission.share(&Source::Cgroup(1), BUDGET);
    let mut permit = Permit::new(&share);
    let result = decompress(encoding, Bytes::copy_from_slice(input), max, &mut permit);
    if let Ok(out) = &result
        && encoding != Encoding::Identity
    {
        assert!(admission.in_use() >= out.len() as u64, "output is admitted");
    }
    drop(permit);
    assert_eq!(admission.in_use(), 0);
    result.map_err(|failure| failure.cause)
}

#[test]
fn the_limit_is_exact() {
    let data: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
    let [sized, streamed] = zstds(&data);
    for (encoding, packed) in
        [(Encoding::Gzip, gzip(&data)), (Encoding::Zstd, sized), (Encoding::Zstd, streamed)]
    {
        assert_eq!(run(encoding, &packed, data.len()).unwrap(), data);
        assert_eq!(run(encoding, &packed, data.len() - 1), Err("decompressed_too_large"));
    }
}

#[test]
fn bombs_stop_at_the_ratio_and_at_the_size() {
    let zeros = vec![0; 8 << 20];
    let [sized, streamed] = zstds(&zeros);
    for (encoding, packed) in
        [(Encoding::Gzip, gzip(&zeros)), (Encoding::Zstd, sized), (Encoding::Zstd, streamed)]
    {
        assert_eq!(run(encoding, &packed, 20 << 20), Err("decompression_ratio"), "{encoding:?}");
        assert_eq!(run(encoding, &packed, 512 << 10), Err("decompressed_too_large"), "{encoding:?}");
    }
}

#[test]
fn a_claimed_size_is_not_believed() {
    // Frame header with an 8-byte content size of 2^40, then an empty last block.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0b1110_0000];
    frame.extend_from_slice(&(1u64 << 40).to_le_bytes());
    frame.extend_from_slice(&[1, 0, 0]);
    assert!(run(Encoding::Zstd, &frame, 4 << 20).is_err());
    // A window of 2^30, which would be allocated at once.
    let window = [0x28, 0xb5, 0x2f, 0xfd, 0, (30 - 10) << 3, 1, 0, 0];
    assert_eq!(run(Encoding::Zstd, &window, 4 << 20), Err("zstd_window"));
}

#[test]
fn several_members_and_frames_are_one_stream() {
    let (a, b) = (vec![b'a'; 5000], vec![b'b'; 70_000]);
    let both = [a.clone(), b.clone()].concat();
    assert_eq!(run(Encoding::Gzip, &[gzip(&a), gzip(&b)].concat(), 1 << 20).unwrap(), both);
    for (first, second) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let packed = [zstds(&a)[first].clone(), zstds(&b)[second].clone()].concat();
        assert_eq!(run(Encoding::Zstd, &packed, 1 << 20).unwrap(), both);
    }
}

#[test]
fn admission_runs_out_before_memory_does() {
    let packed = gzip(&vec![7; 900_000]);
    let admission = Admission::new(100_000);
    let share = admission.share(&Source::Cgroup(1), 100_000);
    let failure = decompress(Encoding::Gzip, packed.into(), 1 << 20, &mut Permit::new(&share)).unwrap_err();
    assert!(failure.retry_after.is_some());
    assert_eq!(admission.in_use(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_packed_is_unpacked(data in proptest::collection::vec(0u8..4, 0..5000)) {
        prop_assert_eq!(run(Encoding::Gzip, &gzip(&data), 20_000).unwrap(), data.clone());
        for packed in zstds(&data) {
            prop_assert_eq!(run(Encoding::Zstd, &packed, 20_000).unwrap(), data.clone());
        }
    }

    /// Cut or changed anywhere, a stream gives an error or bytes within the limit, never a hang or a panic; cut,
    /// it is never taken for the whole.
    #[test]
    fn damage_is_survived(data in proptest::collection::vec(0u8..4, 1..3000), at in any::<prop::sample::Index>(), flip in 1u8..) {
        for (encoding, packed) in [(Encoding::Gzip, gzip(&data)), (Encoding::Zstd, zstds(&data)[0].clone()), (Encoding::Zstd, zstds(&data)[1].clone())] {
            let at = at.index(packed.len());
            prop_assert!(run(encoding, &packed[..at], 4000).is_err());
            let mut changed = packed.clone();
            changed[at] ^= flip;
            if let Ok(out) = run(encoding, &changed, 4000) {
                prop_assert!(out.len() <= 4000);
            }
        }
    }
}
