//! An archive of the kind the kernel unpacks as its first file system: cpio "newc", see
//! `Documentation/driver-api/early-userspace/buffer-format.rst`.
//!
//! Not compressed: an emulated processor takes longer to unpack it than QEMU to copy it.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::Path,
};

use anyhow::{Context, Result, ensure};

/// Types of `st_mode`, inode(7).
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

/// An archive being written. Directories come by themselves before what is in them.
pub(super) struct Archive {
    to: BufWriter<File>,
    directories: BTreeSet<String>,
    inodes: u32,
}

impl Archive {
    /// Starts one.
    pub(super) fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| path.display().to_string())?;
        Ok(Self { to: BufWriter::new(file), directories: BTreeSet::new(), inodes: 0 })
    }

    /// A copy of a file of this machine. `at` is absolute, as everywhere here.
    pub(super) fn copy(&mut self, at: &str, from: &Path, executable: bool) -> Result<()> {
        let content = fs::read(from).with_context(|| from.display().to_string())?;
        self.file(at, &content, executable)
    }

    /// A file.
    pub(super) fn file(&mut self, at: &str, content: &[u8], executable: bool) -> Result<()> {
        let permissions = if executable { 0o755 } else { 0o644 };
        self.entry(at, REGULAR | permissions, content)
    }

    /// A symbolic link.
    pub(super) fn link(&mut self, at: &str, target: &str) -> Result<()> {
        self.entry(at, LINK | 0o777, target.as_bytes())
    }

    /// An empty directory.
    pub(super) fn directory(&mut self, at: &str) -> Result<()> {
        self.entry(&format!("{at}/."), DIRECTORY, &[])
    }

    /// Writes the end.
    pub(super) fn finish(mut self) -> Result<()> {
        self.header("TRAILER!!!", 0, 0)?;
        self.to.flush()?;
        Ok(())
    }

    fn entry(&mut self, at: &str, mode: u32, content: &[u8]) -> Result<()> {
        let name = at.strip_prefix('/').with_context(|| format!("{at} is not absolute"))?;
        for (end, _) in name.match_indices('/') {
            if self.directories.insert(name[..end].to_owned()) {
                self.header(&name[..end], DIRECTORY | 0o755, 0)?;
            }
        }
        if mode != DIRECTORY {
            let size = u32::try_from(content.len()).with_context(|| format!("{at} is too large"))?;
            self.header(name, mode, size)?;
            self.padded(content)?;
        }
        Ok(())
    }

    fn header(&mut self, name: &str, mode: u32, size: u32) -> Result<()> {
        ensure!(!name.split('/').any(|part| part.is_empty() || part == ".."), "a name like {name:?}");
        self.inodes += 1;
        let links = 1;
        let name_size = name.len() as u32 + 1;
        // Inode, mode, uid, gid, links, time, size, device (2), special device (2), size of the name, checksum.
        let fields = [self.inodes, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_size, 0];
        let mut header = b"070701".to_vec();
        for field in fields {
            write!(header, "{field:08X}")?;
        }
        header.extend_from_slice(name.as_bytes());
        header.push(0);
        self.padded(&header)?;
        Ok(())
    }

    /// To a multiple of four bytes, as all that comes before has.
    fn padded(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.to.write_all(bytes)?;
        self.to.write_all(&[0; 3][..bytes.len().next_multiple_of(4) - bytes.len()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Held against another reader of the format.
    #[test]
    fn busybox_or_cpio_unpacks_what_was_packed() -> Result<()> {
        let folder = std::env::temp_dir().join(format!("spanwarden-cpio-{}", std::process::id()));
        fs::create_dir(&folder)?;
        let result = round_trip(&folder);
        fs::remove_dir_all(&folder)?;
        result
    }

    fn round_trip(folder: &Path) -> Result<()> {
        let path = folder.join("archive");
        let mut archive = Archive::create(&path)?;
        for length in 0..9 {
            archive.file(&format!("/a/b{length}/file"), &vec![b'x'; length], length % 2 == 0)?;
        }
        archive.link("/a/link", "b3/file")?;
        archive.directory("/empty")?;
        ensure!(archive.file("/a/../b", b"", false).is_err(), "a name that leads elsewhere");
        archive.finish()?;
        let reader = ["cpio", "busybox"].into_iter().find(|program| crate::setup::has(program));
        let reader = reader.context("cpio or busybox: install one (Debian: apt-get install cpio)")?;
        let mut command = Command::new(reader);
        if reader == "busybox" {
            command.arg("cpio");
        }
        let status = command.args(["-i", "-d"]).current_dir(folder).stdin(File::open(&path)?).status()?;
        ensure!(status.success(), "{reader}: {status}");
        for length in 0..9 {
            ensure!(fs::read(folder.join(format!("a/b{length}/file")))? == vec![b'x'; length], "{length}");
        }
        ensure!(fs::read(folder.join("a/link"))? == b"xxx" && folder.join("empty").is_dir());
        Ok(())
    }
}
