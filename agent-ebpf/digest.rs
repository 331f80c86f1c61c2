//! The digest that ties the committed object to its sources. Included by `agent/build.rs`, which refuses a
//! stale object, and by `cargo xtask ebpf`, which writes it; so it is one definition.

use sha2::{Digest as _, Sha256};
use std::{
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
};

/// SHA-256 over `Cargo.toml` and every file below `src`, in the order of their paths, each as path, length and
/// contents, so that no two different trees give the same bytes.
pub(crate) fn sources(agent_ebpf: &Path) -> io::Result<String> {
    let mut files = vec![agent_ebpf.join("Cargo.toml")];
    walk(&agent_ebpf.join("src"), &mut files)?;
    let mut named = Vec::with_capacity(files.len());
    for file in files {
        let name = file.strip_prefix(agent_ebpf).map_err(io::Error::other)?;
        let name = name.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/");
        named.push((name, file));
    }
    named.sort();
    let mut hash = Sha256::new();
    for (name, file) in named {
        let contents = fs::read(file)?;
        hash.update(name.as_bytes());
        hash.update([0]);
        hash.update((contents.len() as u64).to_be_bytes());
        hash.update(contents);
    }
    let mut hex = String::with_capacity(64);
    for byte in hash.finalize() {
        let _ = write!(hex, "{byte:02x}");
    }
    Ok(hex)
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}
