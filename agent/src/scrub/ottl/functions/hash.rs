//! Hashes. Each is what the Collector's function of that name gives, so that mixed fleets agree.

#![forbid(unsafe_code)]

use sha2::{Digest as _, Sha512};

use super::{Function, Value, hex_text};
use crate::scrub::hash::Digest;

/// The hash of a text; lower-case hex but for FNV, which is the number itself.
pub(super) fn call(function: Function, text: &[u8]) -> Value<'static> {
    let digest = match function {
        Function::Md5 => Digest::Md5,
        Function::Sha1 => Digest::Sha1,
        Function::Sha512 => return hex_text(&Sha512::digest(text)),
        Function::Xxh3 => return hex_text(&xxhash_rust::xxh3::xxh3_64(text).to_be_bytes()),
        Function::Xxh128 => return hex_text(&xxhash_rust::xxh3::xxh3_128(text).to_be_bytes()),
        Function::Fnv => return Value::Int(fnv1a(text).cast_signed()),
        _ => Digest::Sha256,
    };
    let mut out = Vec::with_capacity(64);
    digest.put(text, &mut out);
    Value::Text(out.into())
}

/// FNV-1a of 64 bits.
fn fnv1a(text: &[u8]) -> u64 {
    text.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The published vectors: RFC 1321, RFC 3174, FIPS 180-2, and those of FNV's and XXH3's authors.
    #[test]
    fn known_answers() {
        for (function, text, hash) in [
            (Function::Md5, "abc", "900150983cd24fb0d6963f7d28e17f72"),
            (Function::Sha1, "abc", "a9993e364706816aba3e25717850c26c9cd0d89d"),
            (Function::Sha256, "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (
                Function::Sha512,
                "abc",
                "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd\
                 454d4423643ce80e2a9ac94fa54ca49f",
            ),
            (Function::Xxh3, "", "2d06800538d394c2"),
            (Function::Xxh128, "", "99aa06d3014798d86001c324468d497f"),
        ] {
            assert_eq!(call(function, text.as_bytes()).as_str(), Ok(hash), "{function:?}");
        }
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
    }
}
