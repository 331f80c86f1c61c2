//! The keys of an issuer: a JWK Set (RFC 7517), or PEM.

#![forbid(unsafe_code)]

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rustls_pki_types::{
    CertificateDer, alg_id,
    pem::{PemObject as _, SectionKind},
};
use serde_json::{Map, Value};

use super::{
    json,
    key::{Algorithm, Key, Kind},
};

/// The largest document with keys, in bytes: hundreds of keys.
pub(super) const MAX_BYTES: usize = 256 << 10;

/// The most keys that an issuer may have. An API server has one to three.
const MAX_KEYS: usize = 64;

/// The most keys without a name: each of them is tried.
const MAX_NAMELESS: usize = 8;

/// Why a document's keys are not taken. The document is then refused as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// Not JSON, or not unambiguous.
    #[error("the key set {0}")]
    Json(&'static str),
    /// JSON, but no set of keys.
    #[error("the key set has no list `keys`; a JWK Set (RFC 7517) is expected")]
    NoList,
    /// Too many keys.
    #[error("the key set has more than {0} keys; remove those that sign no longer")]
    TooMany(usize),
    /// Two keys with one name.
    #[error("two keys are named `{0}`: it can't be told which one is meant")]
    Twice(String),
    /// A private key.
    #[error(
        "it holds a private or symmetric key, which is now known to whoever reads it: replace that key, and give only public ones"
    )]
    Private,
    /// Nothing that verifies.
    #[error("no key in it can be used{}; RSA of 2048 bits and more, P-256, P-384, P-521 and Ed25519 can", .0.map(|why| format!(" ({why})")).unwrap_or_default())]
    None(Option<&'static str>),
    /// Broken PEM.
    #[error("its PEM can't be read: {0}")]
    Pem(String),
}

/// Keys by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct KeySet {
    keys: Vec<Key>,
}

impl KeySet {
    /// A file's content: a JWK Set, or PEM with public keys and certificates.
    pub(super) fn of_file(bytes: &[u8]) -> Result<Self, KeysError> {
        if bytes.trim_ascii_start().starts_with(b"{") { Self::of_jwks(bytes) } else { Self::of_pem(bytes) }
    }

    /// A JWK Set. Keys of unknown kinds and for other uses are passed over (RFC 7517 5).
    pub(super) fn of_jwks(bytes: &[u8]) -> Result<Self, KeysError> {
        let set = json::object(bytes).map_err(KeysError::Json)?;
        let Some(Value::Array(listed)) = set.get("keys") else { return Err(KeysError::NoList) };
        if listed.len() > MAX_KEYS {
            return Err(KeysError::TooMany(MAX_KEYS));
        }
        let (mut keys, mut why) = (Vec::new(), None);
        for jwk in listed {
            let Value::Object(jwk) = jwk else { return Err(KeysError::NoList) };
            if jwk.contains_key("d") || jwk.contains_key("k") {
                return Err(KeysError::Private);
            }
            match read_jwk(jwk) {
                Ok(key) => keys.push(key),
                Err(reason) => why = Some(reason),
            }
        }
        Self::checked(keys, why)
    }

    fn of_pem(bytes: &[u8]) -> Result<Self, KeysError> {
        let (mut keys, mut why) = (Vec::new(), None);
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(bytes) {
            let (kind, der) = section.map_err(|error| KeysError::Pem(error.to_string()))?;
            let key = match kind {
                SectionKind::PublicKey => of_spki(&der),
                SectionKind::Certificate => of_certificate(&der),
                SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey => {
                    return Err(KeysError::Private);
                }
                _ => continue,
            };
            match key {
                Ok(key) => keys.push(key),
                Err(reason) => why = Some(reason),
            }
        }
        Self::checked(keys, why)
    }

    fn checked(keys: Vec<Key>, why: Option<&'static str>) -> Result<Self, KeysError> {
        if keys.is_empty() {
            return Err(KeysError::None(why));
        }
        if keys.iter().filter(|key| key.kid.is_none()).count() > MAX_NAMELESS {
            return Err(KeysError::TooMany(MAX_NAMELESS));
        }
        for (at, key) in keys.iter().enumerate() {
            if let Some(kid) = &key.kid
                && keys[..at].iter().any(|other| other.kid.as_ref() == Some(kid))
            {
                return Err(KeysError::Twice(super::fault::shown(kid)));
            }
        }
        Ok(Self { keys })
    }

    /// The keys that a token of this name may be signed with, whatever the algorithm: the one of that name, and
    /// those without any. A token without a name is tried against all, if they are few.
    pub(super) fn candidates<'a>(&'a self, kid: Option<&'a str>) -> impl Iterator<Item = &'a Key> {
        let few = self.keys.len() <= MAX_NAMELESS;
        self.keys.iter().filter(move |key| match (kid, &key.kid) {
            (_, None) => true,
            (Some(wanted), Some(has)) => wanted == has,
            (None, Some(_)) => few,
        })
    }

    /// How many.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }
}

/// One key, or why it is passed over.
fn read_jwk(jwk: &Map<String, Value>) -> Result<Key, &'static str> {
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    let number = |name: &str| {
        text(name)
            .and_then(|text| URL_SAFE_NO_PAD.decode(text).ok())
            .ok_or("a number is missing or no base64url")
    };
    if jwk.contains_key("use") && text("use") != Some("sig") {
        return Err("its `use` is not `sig`");
    }
    if let Some(operations) = jwk.get("key_ops") {
        let verifies = operations.as_array().is_some_and(|ops| ops.iter().any(|op| op == "verify"));
        if !verifies {
            return Err("its `key_ops` do not have `verify`");
        }
    }
    let only = match jwk.get("alg") {
        None => None,
        Some(alg) => Some(alg.as_str().and_then(Algorithm::parse).ok_or("its `alg` is none that is known")?),
    };
    let kid = match jwk.get("kid") {
        None => None,
        Some(Value::String(kid)) => Some(kid.clone()),
        Some(_) => return Err("its `kid` is no text"),
    };
    let key = match (text("kty"), text("crv")) {
        (Some("RSA"), _) => Key::rsa(&number("n")?, &number("e")?)?,
        (Some("EC"), Some("P-256")) => point(Kind::P256, 32, &number("x")?, &number("y")?)?,
        (Some("EC"), Some("P-384")) => point(Kind::P384, 48, &number("x")?, &number("y")?)?,
        (Some("EC"), Some("P-521")) => point(Kind::P521, 66, &number("x")?, &number("y")?)?,
        (Some("OKP"), Some("Ed25519")) => Key::new(Kind::Ed25519, number("x")?)?,
        _ => return Err("its kind is not known"),
    };
    key.named(kid, only).ok_or("its `alg` is not for its kind")
}

/// An uncompressed point; RFC 7518 6.2.1.2: coordinates have their full length.
fn point(kind: Kind, length: usize, x: &[u8], y: &[u8]) -> Result<Key, &'static str> {
    if x.len() != length || y.len() != length {
        return Err("its coordinates do not have the curve's length");
    }
    Key::new(kind, [&[4], x, y].concat())
}

fn of_certificate(der: &[u8]) -> Result<Key, &'static str> {
    let certificate = CertificateDer::from(der);
    let parsed =
        rustls::server::ParsedCertificate::try_from(&certificate).map_err(|_| "is no certificate")?;
    of_spki(&parsed.subject_public_key_info())
}

/// A `SubjectPublicKeyInfo` (RFC 5280 4.1.2.7).
fn of_spki(der: &[u8]) -> Result<Key, &'static str> {
    const BAD: &str = "is no public key";
    let (info, _) = part(der, 0x30).ok_or(BAD)?;
    let (algorithm, rest) = part(info, 0x30).ok_or(BAD)?;
    let (bits, _) = part(rest, 0x03).ok_or(BAD)?;
    let (0, bits) = bits.split_first().ok_or(BAD)? else { return Err(BAD) };
    let kind = [
        (alg_id::ECDSA_P256, Kind::P256),
        (alg_id::ECDSA_P384, Kind::P384),
        (alg_id::ECDSA_P521, Kind::P521),
        (alg_id::ED25519, Kind::Ed25519),
    ]
    .into_iter()
    .find(|(id, _)| id.as_ref() == algorithm);
    if let Some((_, kind)) = kind {
        return Key::new(kind, bits.to_vec());
    }
    if algorithm != alg_id::RSA_ENCRYPTION.as_ref() {
        return Err("its kind is not known");
    }
    let (numbers, _) = part(bits, 0x30).ok_or(BAD)?;
    let (modulus, rest) = part(numbers, 0x02).ok_or(BAD)?;
    let (exponent, _) = part(rest, 0x02).ok_or(BAD)?;
    Key::rsa(modulus, exponent)
}

/// The content of the DER value at the start, if it has this tag, and what follows it.
fn part(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => (usize::from(*rest.first()?), rest.get(1..)?),
        0x82 => (usize::from(*rest.first()?) << 8 | usize::from(*rest.get(1)?), rest.get(2..)?),
        _ => return None,
    };
    (found == tag && rest.len() >= length).then(|| rest.split_at(length))
}
