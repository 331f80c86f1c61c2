//! Keys that sign.

use std::sync::OnceLock;

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    rand::SystemRandom,
    rsa::KeySize,
    signature::{self as sig, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};

enum Pair {
    Rsa(&'static RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

/// A private key with its name and algorithm.
pub(super) struct Signer {
    pub(super) kid: String,
    pub(super) algorithm: &'static str,
    pair: Pair,
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Two keys for all tests: making them takes a while.
fn rsa_pair(which: usize) -> &'static RsaKeyPair {
    static PAIRS: [OnceLock<RsaKeyPair>; 2] = [const { OnceLock::new() }; 2];
    PAIRS[which].get_or_init(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap())
}

impl Signer {
    pub(super) fn rsa(kid: &str, algorithm: &'static str) -> Self {
        Self { kid: kid.to_owned(), algorithm, pair: Pair::Rsa(rsa_pair(0)) }
    }

    /// Another key than [`Signer::rsa`]'s.
    pub(super) fn other_rsa(kid: &str, algorithm: &'static str) -> Self {
        Self { kid: kid.to_owned(), algorithm, pair: Pair::Rsa(rsa_pair(1)) }
    }

    pub(super) fn es256(kid: &str) -> Self {
        Self::ec(kid, "ES256", &sig::ECDSA_P256_SHA256_FIXED_SIGNING)
    }

    fn ec(kid: &str, algorithm: &'static str, curve: &'static sig::EcdsaSigningAlgorithm) -> Self {
        Self { kid: kid.to_owned(), algorithm, pair: Pair::Ec(EcdsaKeyPair::generate(curve).unwrap()) }
    }

    pub(super) fn one_of_each() -> Vec<Self> {
        vec![
            Self::rsa("1", "RS256"),
            Self::rsa("2", "RS384"),
            Self::rsa("3", "RS512"),
            Self::rsa("4", "PS256"),
            Self::rsa("5", "PS384"),
            Self::rsa("6", "PS512"),
            Self::es256("7"),
            Self::ec("8", "ES384", &sig::ECDSA_P384_SHA384_FIXED_SIGNING),
            Self::ec("9", "ES512", &sig::ECDSA_P521_SHA512_FIXED_SIGNING),
            Self {
                kid: "10".into(),
                algorithm: "EdDSA",
                pair: Pair::Ed(Ed25519KeyPair::generate().unwrap()),
            },
        ]
    }

    pub(super) fn jwk(&self) -> Value {
        let mut jwk = match &self.pair {
            Pair::Rsa(pair) => {
                // `RSAPublicKey` of 2048 bits: 9 bytes of tags, lengths and sign, then the modulus; the exponent is 65537.
                json!({"kty": "RSA", "n": encode(&pair.public_key().as_ref()[9..265]), "e": "AQAB"})
            }
            Pair::Ec(pair) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let crv = match self.algorithm {
                    "ES256" => "P-256",
                    "ES384" => "P-384",
                    _ => "P-521",
                };
                json!({"kty": "EC", "crv": crv, "x": encode(x), "y": encode(y)})
            }
            Pair::Ed(pair) => json!({"kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key())}),
        };
        jwk["kid"] = json!(self.kid);
        jwk["alg"] = json!(self.algorithm);
        jwk["use"] = json!("sig");
        jwk
    }

    /// `SubjectPublicKeyInfo`, PEM.
    pub(super) fn public_pem(&self) -> String {
        let der: PublicKeyX509Der<'_> = match &self.pair {
            Pair::Rsa(pair) => pair.public_key().as_der().unwrap(),
            Pair::Ec(pair) => pair.public_key().as_der().unwrap(),
            Pair::Ed(pair) => pair.public_key().as_der().unwrap(),
        };
        pem("PUBLIC KEY", der.as_ref())
    }

    pub(super) fn private_pem(&self) -> String {
        let Pair::Ec(pair) = &self.pair else { panic!("an EC key") };
        pem("PRIVATE KEY", pair.to_pkcs8v1().unwrap().as_ref())
    }

    /// A self-signed certificate.
    pub(super) fn certificate_pem(&self) -> String {
        let key = rcgen::KeyPair::from_pem(&self.private_pem()).unwrap();
        rcgen::CertificateParams::new(vec!["issuer.example".to_owned()])
            .unwrap()
            .self_signed(&key)
            .unwrap()
            .pem()
    }

    pub(super) fn sign(&self, claims: &Value) -> String {
        self.sign_with(&json!({"alg": self.algorithm, "kid": self.kid, "typ": "JWT"}), &claims.to_string())
    }

    /// With any header, and claims as text.
    pub(super) fn sign_with(&self, header: &Value, claims: &str) -> String {
        let signed = format!("{}.{}", encode(header.to_string()), encode(claims));
        let signature = self.signature(signed.as_bytes());
        format!("{signed}.{}", encode(signature))
    }

    pub(super) fn signature(&self, signed: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair) => {
                let encoding: &dyn sig::RsaEncoding = match self.algorithm {
                    "RS256" => &sig::RSA_PKCS1_SHA256,
                    "RS384" => &sig::RSA_PKCS1_SHA384,
                    "RS512" => &sig::RSA_PKCS1_SHA512,
                    "PS256" => &sig::RSA_PSS_SHA256,
                    "PS384" => &sig::RSA_PSS_SHA384,
                    _ => &sig::RSA_PSS_SHA512,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &random, signed, &mut signature).unwrap();
                signature
            }
            Pair::Ec(pair) => pair.sign(&random, signed).unwrap().as_ref().to_vec(),
            Pair::Ed(pair) => pair.sign(signed).as_ref().to_vec(),
        }
    }
}

pub(super) fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

/// A JWK Set.
pub(super) fn set(signers: &[Signer]) -> String {
    json!({"keys": signers.iter().map(Signer::jwk).collect::<Vec<_>>()}).to_string()
}

/// An RSA key of 1024 bits.
pub(super) fn small_rsa() -> Value {
    json!({"kty": "RSA", "kid": "small", "n": encode([0xff; 128]), "e": "AQAB"})
}

/// A token whose signature is just something.
pub(super) fn unsigned(header: &Value, claims: &Value) -> String {
    format!("{}.{}.{}", encode(header.to_string()), encode(claims.to_string()), encode([7; 64]))
}
