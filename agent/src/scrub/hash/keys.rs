//! A file of keys: `EPOCH: KEY` a line, the newest last.
//!
//! Values are hashed with the last key, and its epoch stands before the hash. Who takes a key out of the file, and
//! keeps it nowhere else, has made everything that was hashed with it anonymous: nobody can compute those hashes again.

#![forbid(unsafe_code)]

use std::{
    collections::HashSet,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, Mutex, PoisonError, Weak},
};

use arc_swap::ArcSwap;
use aws_lc_rs::hmac;
use sha2::{Digest as _, Sha256};

use super::put_hex;
use crate::telemetry::metrics::{Counters, counter};

/// The largest file that is read.
const MAX_BYTES: u64 = 64 << 10;
/// More epochs than a key a day for two years.
const MAX_KEYS: usize = 1000;
/// An epoch stands before each hash.
const MAX_EPOCH: usize = 32;

static RELOADS: LazyLock<Counters> = LazyLock::new(|| {
    counter(
        "spanwarden_scrub_hash_key_reload",
        "Changes of key files for hashes: ok, or error for each new reason why the old key stays in use.",
        &["result"],
    )
});

/// What is wrong with a key file. Never says what a key is.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeyFileError {
    /// Not there, not readable, not a file.
    #[error("the key file {} can't be read ({source}); mount it, or correct the path", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its content is of no use.
    #[error("the key file {}: {message}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What, and what to write instead.
        message: String,
    },
}

/// A key and its name.
#[derive(Debug)]
struct Epoch {
    name: Box<str>,
    key: hmac::Key,
}

/// A file of keys.
pub(in crate::scrub) struct KeyFile {
    path: PathBuf,
    algorithm: hmac::Algorithm,
    newest: ArcSwap<Epoch>,
    seen: Mutex<Seen>,
}

impl std::fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyFile").field("path", &self.path).finish_non_exhaustive()
    }
}

/// What was read last.
struct Seen {
    /// SHA-256 of the content that is in use.
    content: [u8; 32],
    /// The last error, so that it is told once.
    error: Option<String>,
}

impl KeyFile {
    /// Reads the file; [`reload_all`] reads it again.
    pub(super) fn open(path: &Path, algorithm: hmac::Algorithm) -> Result<Arc<Self>, KeyFileError> {
        let (content, epoch) = load(path, algorithm)?;
        let file = Arc::new(Self {
            path: path.to_owned(),
            algorithm,
            newest: ArcSwap::from_pointee(epoch),
            seen: Mutex::new(Seen { content, error: None }),
        });
        OPEN.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&file));
        Ok(file)
    }

    /// Appends `EPOCH:hex`.
    pub(super) fn put(&self, content: &[u8], out: &mut Vec<u8>) {
        let newest = self.newest.load();
        out.extend_from_slice(newest.name.as_bytes());
        out.push(b':');
        put_hex(hmac::sign(&newest.key, content).as_ref(), out);
    }

    /// Reads the file again. While it is of no use the key stays as it was.
    pub(super) fn reload(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match load(&self.path, self.algorithm) {
            Ok((content, epoch)) => {
                if content != seen.content {
                    RELOADS.with_label_values(&["ok"]).inc();
                    tracing::info!(file = %self.path.display(), epoch = &*epoch.name, "hash keys read again");
                    self.newest.store(Arc::new(epoch));
                }
                *seen = Seen { content, error: None };
            }
            Err(error) => {
                let error = error.to_string();
                if seen.error.as_ref() != Some(&error) {
                    RELOADS.with_label_values(&["error"]).inc();
                    tracing::error!(%error, "values are still hashed with the key that was read before");
                    seen.error = Some(error);
                }
            }
        }
    }
}

/// Every file that plans use.
static OPEN: Mutex<Vec<Weak<KeyFile>>> = Mutex::new(Vec::new());

/// Reads the files of all plans again. It may wait for a file system, so no span waits for it.
pub(in crate::scrub) fn reload_all() {
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    open.retain(|file| file.strong_count() > 0);
    let files: Vec<_> = open.iter().filter_map(Weak::upgrade).collect();
    drop(open);
    for file in files {
        file.reload();
    }
}

/// What tells two contents of a file apart; `None` where it can't be read.
pub(super) fn fingerprint(path: &Path) -> Option<[u8; 32]> {
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes)).ok()?;
    Some(Sha256::digest(&bytes).into())
}

fn load(path: &Path, algorithm: hmac::Algorithm) -> Result<([u8; 32], Epoch), KeyFileError> {
    let failed = |source| KeyFileError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(failed(io::Error::other("it is no file")));
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    let (name, key) = newest(&bytes, least_key(algorithm))
        .map_err(|message| KeyFileError::Content { path: path.to_owned(), message })?;
    Ok((Sha256::digest(&bytes).into(), Epoch { name: name.into(), key: hmac::Key::new(algorithm, key) }))
}

/// How long a key must be at least, in bytes: as long as the hash, which is what the Collector asks for too.
fn least_key(algorithm: hmac::Algorithm) -> usize {
    algorithm.digest_algorithm().output_len()
}

/// The last of the keys, where all of them are well-formed. Errors name lines and never quote keys.
fn newest(content: &[u8], least: usize) -> Result<(&str, &[u8]), String> {
    if content.len() as u64 > MAX_BYTES {
        return Err("more than 64 KiB; take keys out that nobody needs any more".to_owned());
    }
    let text =
        std::str::from_utf8(content).map_err(|_| "is no text; write `EPOCH: KEY` a line".to_owned())?;
    let (mut epochs, mut keys, mut found) = (HashSet::new(), HashSet::new(), None);
    for (line, number) in text.trim_start_matches('\u{feff}').lines().zip(1..) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (epoch, key) = line
            .split_once(':')
            .map(|(epoch, key)| (epoch.trim(), key.trim()))
            .ok_or_else(|| format!("line {number} is not `EPOCH: KEY`"))?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if epoch.is_empty() || epoch.len() > MAX_EPOCH || !epoch.bytes().all(plain) {
            return Err(format!(
                "line {number}: an epoch has 1 to {MAX_EPOCH} letters, digits, `-`, `_` or `.`, such as `2026-11`"
            ));
        }
        if key.len() < least {
            return Err(format!(
                "line {number}: the key has {} bytes and must have at least {least}; `openssl rand -hex {least}` makes one",
                key.len()
            ));
        }
        if !epochs.insert(epoch) {
            return Err(format!("line {number}: the epoch is there twice; each key has its own"));
        }
        if !keys.insert(key) {
            return Err(format!(
                "line {number}: the key is that of another epoch too, so that taking it out would erase nothing"
            ));
        }
        if keys.len() > MAX_KEYS {
            return Err(format!("more than {MAX_KEYS} keys; take out those that nobody needs any more"));
        }
        found = Some((epoch, key.as_bytes()));
    }
    found.ok_or_else(|| "has no key; write `EPOCH: KEY` a line, the newest last".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_key_counts_and_every_line_is_checked() {
        let long = "k".repeat(32);
        let other = "o".repeat(32);
        let text = format!("# keys\n2026-10: {long}\n\n 2026-11 :  {other} \r\n");
        assert_eq!(newest(text.as_bytes(), 32), Ok(("2026-11", other.as_bytes())));
        for (text, what) in [
            (String::new(), "has no key"),
            ("# only\n".to_owned(), "has no key"),
            (format!("a {long}"), "line 1 is not"),
            (format!(": {long}"), "line 1: an epoch"),
            (format!("a b: {long}"), "line 1: an epoch"),
            (format!("{}: {long}", "e".repeat(33)), "line 1: an epoch"),
            (format!("a: {long}\nb: short"), "line 2: the key has 5 bytes"),
            (format!("a: {long}\na: {other}"), "line 2: the epoch is there twice"),
            (format!("a: {long}\nb: {long}"), "line 2: the key is that of another"),
            ("x".repeat(65 << 10), "more than 64 KiB"),
        ] {
            let error = newest(text.as_bytes(), 32).expect_err(what);
            assert!(error.contains(what), "{error}");
            assert!(!error.contains(&long) && !error.contains("short"), "{error}");
        }
        assert!(newest(b"a: \xff", 1).expect_err("no text").contains("no text"));
        assert_eq!(least_key(hmac::HMAC_SHA256), 32);
        assert_eq!(least_key(hmac::HMAC_SHA512), 64);
    }

    #[test]
    fn a_new_key_counts_from_its_reload_on_and_a_bad_file_changes_nothing() {
        let path = std::env::temp_dir().join(format!("spanwarden-keys-{}", std::process::id()));
        let write = |text: &str| std::fs::write(&path, text).expect("a writable temporary folder");
        let hash = |file: &KeyFile| {
            let mut out = Vec::new();
            file.put(b"alice", &mut out);
            String::from_utf8(out).expect("text")
        };
        let (one, two) = ("1".repeat(32), "2".repeat(32));
        write(&format!("a: {one}\n"));
        let file = KeyFile::open(&path, hmac::HMAC_SHA256).expect("a key");
        let first = hash(&file);
        assert!(first.starts_with("a:") && first.len() == 66, "{first}");
        write(&format!("a: {one}\nb: {two}\n"));
        assert_eq!(hash(&file), first, "not read yet");
        file.reload();
        let second = hash(&file);
        assert!(second.starts_with("b:") && second[2..] != first[2..]);
        write("b: short\n");
        file.reload();
        assert_eq!(hash(&file), second);
        std::fs::remove_file(&path).expect("it is there");
        file.reload();
        assert_eq!(hash(&file), second);
        assert!(
            KeyFile::open(&path, hmac::HMAC_SHA256).expect_err("gone").to_string().contains("can't be read")
        );
        write(&format!("a: {one}\n"));
        file.reload();
        assert_eq!(hash(&file), first, "an epoch that is the last again");
        std::fs::remove_file(&path).expect("it is there");
    }
}
