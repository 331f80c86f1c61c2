//! One public key and what it verifies. The key decides about the algorithm, never the token alone.

#![forbid(unsafe_code)]

use aws_lc_rs::signature::{self, ParsedPublicKey, UnparsedPublicKey, VerificationAlgorithm};

/// An algorithm of RFC 7518 3.1 or RFC 8037. There are no others: not `none`, and nothing with a shared secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "their names are their meaning")]
pub enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    Es512,
    EdDsa,
}

/// What a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Rsa,
    P256,
    P384,
    P521,
    Ed25519,
}

impl Algorithm {
    /// By its name, as written.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "RS256" => Self::Rs256,
            "RS384" => Self::Rs384,
            "RS512" => Self::Rs512,
            "PS256" => Self::Ps256,
            "PS384" => Self::Ps384,
            "PS512" => Self::Ps512,
            "ES256" => Self::Es256,
            "ES384" => Self::Es384,
            "ES512" => Self::Es512,
            // RFC 9864 says which curve, RFC 8037 leaves it to the key; only this one is known here.
            "EdDSA" | "Ed25519" => Self::EdDsa,
            _ => return None,
        })
    }

    fn kind(self) -> Kind {
        match self {
            Self::Rs256 | Self::Rs384 | Self::Rs512 | Self::Ps256 | Self::Ps384 | Self::Ps512 => Kind::Rsa,
            Self::Es256 => Kind::P256,
            Self::Es384 => Kind::P384,
            Self::Es512 => Kind::P521,
            Self::EdDsa => Kind::Ed25519,
        }
    }

    fn verifier(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
            Self::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
            Self::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
            Self::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
            Self::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
            Self::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
            Self::Es256 => &signature::ECDSA_P256_SHA256_FIXED,
            Self::Es384 => &signature::ECDSA_P384_SHA384_FIXED,
            Self::Es512 => &signature::ECDSA_P521_SHA512_FIXED,
            Self::EdDsa => &signature::ED25519,
        }
    }
}

impl Kind {
    /// Any algorithm of the kind, to see whether a key can be read.
    fn algorithm(self) -> Algorithm {
        match self {
            Self::Rsa => Algorithm::Rs256,
            Self::P256 => Algorithm::Es256,
            Self::P384 => Algorithm::Es384,
            Self::P521 => Algorithm::Es512,
            Self::Ed25519 => Algorithm::EdDsa,
        }
    }
}

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// Absent in PEM files, and where an issuer has one key.
    pub(super) kid: Option<String>,
    kind: Kind,
    /// The only algorithm it is for, where the set says so.
    only: Option<Algorithm>,
    /// RSA: `RSAPublicKey` (RFC 8017); EC: an uncompressed point; Ed25519: its 32 bytes.
    bytes: Vec<u8>,
}

impl Key {
    /// An RSA key by its big-endian numbers. 2048 to 8192 bits.
    pub(super) fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<Self, &'static str> {
        let (modulus, exponent) = (trimmed(modulus), trimmed(exponent));
        let bits = modulus.len() * 8 - modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
        if !(2048..=8192).contains(&bits) {
            return Err("its RSA modulus has not 2048 to 8192 bits");
        }
        let both = [der(0x02, &positive(modulus)), der(0x02, &positive(exponent))].concat();
        Self::new(Kind::Rsa, der(0x30, &both))
    }

    /// A key of a curve, or Ed25519.
    pub(super) fn new(kind: Kind, bytes: Vec<u8>) -> Result<Self, &'static str> {
        if kind == Kind::Ed25519 && bytes.len() != 32 {
            return Err("an Ed25519 key has 32 bytes");
        }
        match ParsedPublicKey::new(kind.algorithm().verifier(), &bytes) {
            Ok(_) => Ok(Self { kid: None, kind, only: None, bytes }),
            Err(_) => Err("is no valid public key"),
        }
    }

    /// The same under a name, and for one algorithm only; `None` where the key can't be used with it.
    pub(super) fn named(self, kid: Option<String>, only: Option<Algorithm>) -> Option<Self> {
        let fits = only.is_none_or(|algorithm| algorithm.kind() == self.kind);
        fits.then_some(Self { kid, only, ..self })
    }

    /// Whether it verifies tokens of this algorithm.
    pub(super) fn fits(&self, algorithm: Algorithm) -> bool {
        self.kind == algorithm.kind() && self.only.is_none_or(|only| only == algorithm)
    }

    /// Whether the signature is right; for an algorithm that [`fits`](Self::fits).
    pub(super) fn verify(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        self.fits(algorithm)
            && UnparsedPublicKey::new(algorithm.verifier(), &self.bytes).verify(signed, signature).is_ok()
    }
}

fn trimmed(number: &[u8]) -> &[u8] {
    &number[number.iter().take_while(|byte| **byte == 0).count()..]
}

/// A number's content in DER: the first bit is the sign.
fn positive(number: &[u8]) -> Vec<u8> {
    let pad = number.first().is_none_or(|byte| byte & 0x80 != 0);
    [if pad { &[0][..] } else { &[] }, number].concat()
}

/// A DER value with its tag and length; at most 64 KiB.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut out = vec![tag];
    match length {
        0..=0x7f => out.push(length as u8),
        0x80..=0xff => out.extend([0x81, length as u8]),
        _ => out.extend([0x82, (length >> 8) as u8, length as u8]),
    }
    out.extend_from_slice(content);
    out
}
