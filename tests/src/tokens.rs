//! An issuer's keys and the tokens that they sign.

#![forbid(unsafe_code)]

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rcgen::{KeyPair, PKCS_ED25519, PublicKeyData as _, SigningKey as _};
use serde_json::{Value, json};

/// A private key (Ed25519) under a name.
pub struct Signer {
    /// `kid`
    pub kid: String,
    key: KeyPair,
}

impl Signer {
    /// A new key.
    pub fn new(kid: &str) -> Result<Self> {
        Ok(Self { kid: kid.to_owned(), key: KeyPair::generate_for(&PKCS_ED25519)? })
    }

    /// The public key as a JWK.
    pub fn jwk(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.key.der_bytes());
        json!({"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": self.kid, "x": x})
    }

    /// The public key in PEM.
    pub fn public_pem(&self) -> String {
        self.key.public_key_pem()
    }

    /// A token.
    pub fn sign(&self, claims: &Value) -> Result<String> {
        self.sign_with(&json!({"alg": "EdDSA", "kid": self.kid}), claims)
    }

    /// A token with another header than belongs to the key.
    pub fn sign_with(&self, header: &Value, claims: &Value) -> Result<String> {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = URL_SAFE_NO_PAD.encode(self.key.sign(signed.as_bytes())?);
        Ok(format!("{signed}.{signature}"))
    }
}

/// A JWK Set of the keys.
pub fn key_set(signers: &[&Signer]) -> String {
    json!({"keys": signers.iter().map(|signer| signer.jwk()).collect::<Vec<_>>()}).to_string()
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// What a token says that an API server binds to a pod: valid for an hour from now.
pub fn bound(issuer: &str, audience: &str, namespace: &str, account: &str, pod: (&str, &str)) -> Value {
    let now = now();
    json!({
        "iss": issuer,
        "aud": [audience],
        "sub": format!("system:serviceaccount:{namespace}:{account}"),
        "iat": now,
        "nbf": now,
        "exp": now + 3600,
        "jti": "5b8e0a44-3c80-4d4a-9d3a-0d2a6f1e7c55",
        "kubernetes.io": {
            "namespace": namespace,
            "serviceaccount": {"name": account, "uid": "0c9d9a5e-6a6f-4c3e-8a53-6a2c5b8d1f10"},
            "pod": {"name": pod.0, "uid": pod.1},
            "node": {"name": "node-1", "uid": "9f0d4f52-2b0b-4b36-8f3a-7c1a2c7f4f4e"},
        },
    })
}
