//! SHA-256 of identifiers, in lower-case hex: what is short is hashed in one block, without a hasher's state.

#![forbid(unsafe_code)]

use sha2::{Digest, Sha256, block_api::compress256};

/// The state that a hash begins with (FIPS 180-4, 5.3.3).
const INITIAL: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];
/// Bytes that fit into one block beside the padding's first byte and the length.
const SHORT: usize = 55;

/// Appends the lower-case hex of the hash.
pub(super) fn put_hex(content: &[u8], out: &mut Vec<u8>) {
    let mut hex = [[0; 8]; 8];
    for (hex, word) in hex.iter_mut().zip(words(content)) {
        *hex = spread(word);
    }
    out.extend_from_slice(hex.as_flattened());
}

/// The hash, as big-endian words.
fn words(content: &[u8]) -> [u32; 8] {
    let mut state = INITIAL;
    if content.len() > SHORT {
        let digest = Sha256::digest(content);
        let (digest, _) = digest[..].as_chunks();
        state.iter_mut().zip(digest).for_each(|(word, bytes)| *word = u32::from_be_bytes(*bytes));
        return state;
    }
    let mut block = [0; 64];
    block[..content.len()].copy_from_slice(content);
    block[content.len()] = 0x80;
    block[56..].copy_from_slice(&(content.len() as u64 * 8).to_be_bytes());
    compress256(&mut state, &[block]);
    state
}

/// Eight hex digits, all at once: a half-byte in each byte of a word, and for those over 9 what lies between `9` and
/// `a` in ASCII more.
fn spread(word: u32) -> [u8; 8] {
    let mut x = u64::from(word);
    x = (x | x << 16) & 0x0000_ffff_0000_ffff;
    x = (x | x << 8) & 0x00ff_00ff_00ff_00ff;
    x = (x | x << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    let letters = ((x + 0x0606_0606_0606_0606) >> 4) & 0x0101_0101_0101_0101;
    (x + 0x3030_3030_3030_3030 + letters * 0x27).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_is_hashed_as_the_crate_does() {
        for length in 0..200u8 {
            let content: Vec<u8> = (0..length).map(|n| n ^ 0xa5).collect();
            let mut out = b"kept".to_vec();
            put_hex(&content, &mut out);
            let mut expected = b"kept".to_vec();
            for byte in Sha256::digest(&content) {
                expected.extend(format!("{byte:02x}").bytes());
            }
            assert_eq!(out, expected, "{length}");
        }
    }
}
