//! The kernels of the matrix, as Debian builds them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};

use super::apt::Suite;

/// A column of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// As it is asked for, and `newest` for what moves.
    pub(super) version: &'static str,
    /// Debian's suite that has it.
    pub(super) suite: &'static str,
}

/// The oldest supported one, the long-term ones that distributions ship, and the newest to be had.
pub(super) const ALL: [Wanted; 4] = [
    Wanted { version: "5.10", suite: "bullseye" },
    Wanted { version: "6.1", suite: "bookworm" },
    Wanted { version: "6.12", suite: "trixie" },
    Wanted { version: "newest", suite: "sid" },
];

/// A kernel that is there.
#[derive(Debug)]
pub(super) struct Kernel {
    /// `uname -r`
    pub(super) release: String,
    /// The bootable image.
    pub(super) image: PathBuf,
    /// The folder of its modules.
    pub(super) modules: PathBuf,
}

impl Wanted {
    /// Whether `--kernel asked` means this one.
    pub(super) fn is(&self, asked: &str, folder: &Path, architecture: &str) -> bool {
        let cached = || self.cached(folder, architecture).ok().flatten();
        asked == self.version
            || asked == self.suite
            || cached().is_some_and(|kernel| kernel.release.starts_with(&format!("{asked}.")))
    }

    /// What was downloaded before.
    pub(super) fn cached(&self, folder: &Path, architecture: &str) -> Result<Option<Kernel>> {
        let root = self.root(folder, architecture);
        if root.exists() { unpacked(&root).map(Some) } else { Ok(None) }
    }

    /// The cached one, or a download.
    pub(super) fn get(&self, folder: &Path, architecture: &str, refresh: bool) -> Result<Kernel> {
        if !refresh && let Some(kernel) = self.cached(folder, architecture)? {
            return Ok(kernel);
        }
        let suite = Suite::new(folder, self.suite, architecture)?;
        suite.update()?;
        // The cloud variant: half the size, and everything that a machine under QEMU has.
        let all = format!("linux-image-cloud-{architecture}");
        let image = suite.dependencies(&all)?.into_iter().find(|name| name.starts_with("linux-image-"));
        let image = image.with_context(|| format!("{all} of {} names no kernel", self.suite))?;
        let mut parts = suite.dependencies(&image)?;
        // Since 7.x the image and the modules are packages of their own.
        parts.retain(|name| name.starts_with("linux-binary-") || name.starts_with("linux-modules-"));
        parts.push(image);
        let root = self.root(folder, architecture);
        if root.exists() {
            fs::remove_dir_all(&root)?;
        }
        suite.unpack(&parts, &root)?;
        unpacked(&root)
    }

    fn root(&self, folder: &Path, architecture: &str) -> PathBuf {
        folder.join(format!("{}-{architecture}", self.suite))
    }
}

/// Finds image and modules in unpacked packages.
fn unpacked(root: &Path) -> Result<Kernel> {
    for modules in ["lib/modules", "usr/lib/modules"] {
        let modules = root.join(modules);
        if !modules.is_dir() {
            continue;
        }
        let folders: Vec<_> = fs::read_dir(&modules)?.collect::<Result<_, _>>()?;
        let [folder] = folders.as_slice() else { bail!("not one kernel in {}", modules.display()) };
        let release = folder.file_name().to_string_lossy().into_owned();
        let candidates = [root.join(format!("boot/vmlinuz-{release}")), folder.path().join("vmlinuz")];
        let image = candidates.into_iter().find(|path| path.is_file());
        let image = image.with_context(|| format!("no kernel image of {release} in {}", root.display()))?;
        ensure!(folder.path().join("kernel").is_dir(), "no modules in {}", folder.path().display());
        return Ok(Kernel { release, image, modules: folder.path().join("kernel") });
    }
    bail!("{} has no kernel: remove it, and run this again", root.display())
}
