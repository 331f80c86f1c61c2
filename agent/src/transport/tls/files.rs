//! The files of a configuration, read as they were at one time.
//!
//! A Secret or `ConfigMap` volume publishes its files as links through `..data`, a link to a directory that is swapped
//! whole. Reading certificate and key through two looks at `..data` can pair an old one with a new one, so it is
//! resolved once for all files of a directory.

#![forbid(unsafe_code)]

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use super::TlsError;

/// The link that is swapped (Kubernetes, `pkg/volume/util/atomic_writer.go`).
pub(super) const DATA: &str = "..data";
/// Largest file: the revocation list of a public CA is some megabytes.
const MAX_FILE: u64 = 32 << 20;
/// How often a set is read anew whose directory was swapped away meanwhile.
const TRIES: usize = 5;

/// Distinguishes contents.
pub(super) type Fingerprint = [u8; 32];

/// Bytes of files, as they were at one time.
pub(super) struct Snapshot {
    files: Vec<(PathBuf, Vec<u8>)>,
}

impl Snapshot {
    /// Reads all of `paths`, each once.
    pub(super) fn read(paths: &[PathBuf]) -> Result<Self, TlsError> {
        let mut tries = 0;
        loop {
            tries += 1;
            match Self::try_read(paths) {
                Err(TlsError::Read { source, .. })
                    if source.kind() == io::ErrorKind::NotFound && tries < TRIES => {}
                outcome => return outcome,
            }
        }
    }

    fn try_read(paths: &[PathBuf]) -> Result<Self, TlsError> {
        let mut published = HashMap::new();
        let mut files: Vec<(PathBuf, Vec<u8>)> = Vec::with_capacity(paths.len());
        for path in paths {
            if files.iter().all(|(known, _)| known != path) {
                files.push((path.clone(), content(path, &resolve(path, &mut published))?));
            }
        }
        Ok(Self { files })
    }

    /// The content of one of the paths that were read.
    pub(super) fn content(&self, path: &Path) -> &[u8] {
        self.files.iter().find(|(known, _)| known == path).map_or(&[], |(_, content)| content)
    }

    /// Of the content of all files.
    pub(super) fn fingerprint(&self) -> Fingerprint {
        self.fingerprint_of(self.files.iter().map(|(path, _)| path.as_path()))
    }

    /// Of the content of these files, in this order.
    pub(super) fn fingerprint_of<'a>(&self, paths: impl Iterator<Item = &'a Path>) -> Fingerprint {
        let mut hash = Sha256::new();
        for path in paths {
            let content = self.content(path);
            hash.update((content.len() as u64).to_le_bytes());
            hash.update(content);
        }
        hash.finalize().into()
    }
}

/// Where `path` is to be read: in the directory that `..data` is now, where it is published that way.
fn resolve(path: &Path, published: &mut HashMap<PathBuf, Option<PathBuf>>) -> PathBuf {
    let mut through = || {
        let parent = path.parent()?;
        let link = fs::read_link(path).ok()?;
        let below = link.strip_prefix(DATA).ok()?.to_owned();
        let data = published
            .entry(parent.to_owned())
            .or_insert_with(|| fs::read_link(parent.join(DATA)).ok().map(|directory| parent.join(directory)));
        Some(data.as_ref()?.join(below))
    };
    through().unwrap_or_else(|| path.to_owned())
}

fn content(path: &Path, at: &Path) -> Result<Vec<u8>, TlsError> {
    let read = || {
        let mut content = Vec::new();
        File::open(at)?.take(MAX_FILE + 1).read_to_end(&mut content)?;
        Ok(content)
    };
    match read() {
        Ok(content) if content.len() as u64 > MAX_FILE => {
            Err(TlsError::TooLarge { path: path.to_owned(), limit: MAX_FILE })
        }
        Ok(content) => Ok(content),
        Err(source) => Err(TlsError::Read { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests;
