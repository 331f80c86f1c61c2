//! Hashes that stand in for values, so that equal values can still be told to be equal.
//!
//! A plain hash of something that can be guessed (a user's number, an e-mail address) can be guessed too: it hides
//! nothing from who tries. [`Hasher`] knows the keyed ones, and a file of keys that are told apart by their epoch.

#![forbid(unsafe_code)]

use std::sync::Arc;

use aws_lc_rs::{digest, hmac};
use md5::Md5;
use sha2::Digest as _;

use crate::config::{
    Config, ConfigError,
    processors::{Hash, HmacKey, Processor},
};

use super::sha256;

mod keys;

use keys::KeyFile;
pub(super) use keys::reload_all;

/// What the key files of a configuration hold, so that a change can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFiles(Vec<Option<[u8; 32]>>);

impl KeyFiles {
    /// Reads them. It may wait for a file system.
    pub fn of(config: &Config) -> Self {
        let hashes = config.processors.iter().filter_map(|component| match &component.config {
            Processor::Redaction(redaction) => redaction.hash.as_ref(),
            _ => None,
        });
        let files = hashes.filter_map(|hash| match hash {
            Hash::HmacSha256(HmacKey::File(path)) | Hash::HmacSha512(HmacKey::File(path)) => {
                Some(&path.value)
            }
            _ => None,
        });
        Self(files.map(|path| keys::fingerprint(path)).collect())
    }
}

/// A hash without a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Digest {
    /// 128 bits. Broken: who chooses two values can give them one hash.
    Md5,
    /// 160 bits. Broken in the same way.
    Sha1,
    /// 256 bits of SHA-2.
    Sha256,
    /// 256 bits of SHA-3.
    Sha3,
}

impl Digest {
    /// Appends the hash in lower-case hex.
    pub(super) fn put(self, content: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Md5 => put_hex(&Md5::digest(content), out),
            Self::Sha1 => {
                put_hex(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, content).as_ref(), out);
            }
            Self::Sha256 => sha256::put_hex(content, out),
            Self::Sha3 => put_hex(digest::digest(&digest::SHA3_256, content).as_ref(), out),
        }
    }
}

/// Appends the lower-case hex of SHA-256.
pub(super) fn put_sha256(content: &[u8], out: &mut Vec<u8>) {
    Digest::Sha256.put(content, out);
}

/// Appends bytes in lower-case hex.
pub(super) fn put_hex(bytes: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.extend(bytes.iter().flat_map(|byte| [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]));
}

/// A configured hash. A key's state is computed once and cloned for each value.
#[derive(Debug)]
pub(super) enum Hasher {
    /// Without a key.
    Plain(Digest),
    /// With the key of the configuration.
    Keyed(Box<hmac::Key>),
    /// With the newest key of a file; the key's epoch and `:` stand before the hash.
    File(Arc<KeyFile>),
}

impl Hasher {
    /// Reads the key file, if there is one.
    pub(super) fn new(config: &Hash) -> Result<Self, ConfigError> {
        let (algorithm, key) = match config {
            Hash::Md5 => return Ok(Self::Plain(Digest::Md5)),
            Hash::Sha1 => return Ok(Self::Plain(Digest::Sha1)),
            Hash::Sha256 => return Ok(Self::Plain(Digest::Sha256)),
            Hash::Sha3 => return Ok(Self::Plain(Digest::Sha3)),
            Hash::HmacSha256(key) => (hmac::HMAC_SHA256, key),
            Hash::HmacSha512(key) => (hmac::HMAC_SHA512, key),
        };
        match key {
            HmacKey::Inline(key) => Ok(Self::Keyed(Box::new(hmac::Key::new(algorithm, key.as_bytes())))),
            HmacKey::File(path) => KeyFile::open(&path.value, algorithm)
                .map(Self::File)
                .map_err(|error| ConfigError { at: path.at.clone(), message: error.to_string() }),
        }
    }

    /// Appends the text that stands for `content`.
    pub(super) fn put(&self, content: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Plain(digest) => digest.put(content, out),
            Self::Keyed(key) => put_hex(hmac::sign(key, content).as_ref(), out),
            Self::File(file) => file.put(content, out),
        }
    }
}

#[cfg(test)]
mod tests;
