//! The `probabilistic` policy, bit for bit as the Collector's, so that mixed fleets keep the same traces.

/// A trace id as it stands on the wire.
pub type TraceId = [u8; 16];

/// A trace of a tenant: ids of two tenants have nothing to do with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct TraceKey {
    /// The tenant's number in its shard.
    pub(super) tenant: u32,
    /// The trace.
    pub(super) id: TraceId,
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

fn fnv1a(state: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(state, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME))
}

/// Samples a share of all trace ids: FNV-1a-64 of the salt and the id, at most the threshold.
#[derive(Clone, Copy, Debug)]
pub struct Probabilistic {
    salted: u64,
    threshold: u64,
}

impl Probabilistic {
    /// `percentage` is clamped to 0..=100.
    pub fn new(salt: &str, percentage: f64) -> Self {
        Self { salted: fnv1a(FNV_OFFSET, salt.as_bytes()), threshold: threshold(percentage / 100.0) }
    }

    /// Whether this trace is in the share.
    pub fn samples(&self, id: &TraceId) -> bool {
        fnv1a(self.salted, id) <= self.threshold
    }
}

/// `(2^64 - 1) * ratio`, rounded to 64 significant bits (to nearest, ties to even) and then truncated: what
/// Go's `big.Float` of precision 64 yields.
fn threshold(ratio: f64) -> u64 {
    if ratio.is_nan() || ratio <= 0.0 {
        return 0;
    }
    if ratio >= 1.0 {
        return u64::MAX;
    }
    // ratio = mantissa * 2^exponent; IEEE 754 binary64 has 52 stored mantissa bits and a bias of 1023.
    let bits = ratio.to_bits();
    let stored = (bits >> 52) as i32;
    let fraction = u128::from(bits & ((1 << 52) - 1));
    let (mantissa, exponent) =
        if stored == 0 { (fraction, -1074) } else { (fraction | 1 << 52, stored - 1075) };
    let product = mantissa * u128::from(u64::MAX);
    let surplus = (128 - product.leading_zeros()).saturating_sub(64);
    let mut rounded = product >> surplus;
    if surplus > 0 {
        let rest = product & ((1 << surplus) - 1);
        let half = 1 << (surplus - 1);
        if rest > half || (rest == half && rounded & 1 == 1) {
            rounded += 1;
        }
    }
    match exponent + surplus.cast_signed() {
        shift @ 0.. => (rounded << shift) as u64,
        shift @ -127..0 => (rounded >> -shift) as u64,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Computed with an independent model in exact rational arithmetic.
    #[test]
    fn thresholds_are_exact() {
        for (percentage, expected) in THRESHOLDS {
            assert_eq!(threshold(percentage / 100.0), expected, "{percentage} %");
        }
    }

    const THRESHOLDS: [(f64, u64); 17] = [
        (0.0, 0),
        (0.001, 184_467_440_737_095),
        (0.1, 18_446_744_073_709_551),
        (0.5, 92_233_720_368_547_759),
        (1.0, 184_467_440_737_095_519),
        (3.0, 553_402_322_211_286_527),
        (5.0, 922_337_203_685_477_631),
        (7.77, 1_433_312_014_527_231_999),
        (10.0, 1_844_674_407_370_955_263),
        (33.3333, 6_148_908_542_321_825_791),
        (50.0, 9_223_372_036_854_775_807),
        (66.6, 12_285_531_553_090_559_999),
        (99.9, 18_428_297_329_635_844_095),
        (99.999_999_999_999_99, 18_446_744_073_709_549_567),
        (100.0, 18_446_744_073_709_551_615),
        (1e-18, 0),
        (1e-20, 0),
    ];

    #[test]
    fn hashes_are_fnv_1a_of_salt_and_id() {
        for (salt, id, expected) in HASHES {
            let id: TraceId = u128::to_be_bytes(id);
            assert_eq!(fnv1a(Probabilistic::new(salt, 0.0).salted, &id), expected, "{salt} {id:02x?}");
        }
    }

    const HASHES: [(&str, u128, u64); 12] = [
        ("default-hash-seed", 0x0000_0000_0000_0000_0000_0000_0000_0001, 16_254_957_729_900_898_954),
        ("default-hash-seed", 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c, 3_728_843_964_641_534_796),
        ("default-hash-seed", 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, 11_908_981_664_384_643_253),
        ("default-hash-seed", 0xffff_ffff_ffff_ffff_ffff_ffff_ffff_ffff, 1_711_019_809_656_077_869),
        ("", 0x0000_0000_0000_0000_0000_0000_0000_0001, 9_808_873_769_958_073_010),
        ("", 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c, 5_550_680_739_742_810_548),
        ("", 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, 12_180_425_081_350_451_581),
        ("", 0xffff_ffff_ffff_ffff_ffff_ffff_ffff_ffff, 15_447_475_403_222_018_133),
        ("gateway-eu", 0x0000_0000_0000_0000_0000_0000_0000_0001, 8_906_735_012_081_310_685),
        ("gateway-eu", 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c, 221_552_369_839_780_671),
        ("gateway-eu", 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, 821_506_526_528_520_374),
        ("gateway-eu", 0xffff_ffff_ffff_ffff_ffff_ffff_ffff_ffff, 1_218_293_716_496_591_386),
    ];

    #[test]
    fn the_threshold_itself_is_sampled() {
        let id = 1u128.to_be_bytes();
        let salted = FNV_OFFSET;
        let hash = fnv1a(salted, &id);
        assert!(Probabilistic { salted, threshold: hash }.samples(&id));
        assert!(!Probabilistic { salted, threshold: hash - 1 }.samples(&id));
    }
}
