//! The kernel's modules that the suites need, in the order in which they can be loaded.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use object::{Object as _, ObjectSection as _};

/// What pods, Services, connection look-up and kTLS need. One that a kernel has built in, or not at all, is left
/// out: then the test that needs it says so.
const WANTED: [&str; 26] = [
    "veth",
    "dummy",
    "nf_tables",
    "nft_chain_nat",
    "nft_nat",
    "nft_masq",
    "nft_ct",
    "nft_counter",
    "nft_objref",
    "nft_limit",
    "nft_exthdr",
    "nft_reject_inet",
    "nft_redir",
    "nf_conntrack_netlink",
    "inet_diag",
    "tcp_diag",
    "mptcp_diag",
    "unix_diag",
    "sch_netem",
    "tls",
    // What TLS by the kernel encrypts with, and nobody here loads on demand.
    "gcm",
    "ghash_generic",
    "ctr",
    "aesni_intel",
    "virtio_pci",
    "virtio_console",
];

/// A module, ready for `finit_module(2)`.
pub(super) struct Module {
    /// Name of the file in the guest.
    pub(super) name: String,
    /// The ELF file.
    pub(super) content: Vec<u8>,
}

/// Reads the modules below `kernel`; what others depend on comes first.
pub(super) fn wanted(kernel: &Path) -> Result<Vec<Module>> {
    let mut files = BTreeMap::new();
    find(kernel, &mut files)?;
    ensure!(!files.is_empty(), "no modules in {}", kernel.display());
    let mut order = Order { files: &files, seen: BTreeSet::new(), modules: Vec::new() };
    for name in WANTED {
        if files.contains_key(name) {
            order.visit(name)?;
        }
    }
    Ok(order.modules)
}

/// Files by the module's name, in which `-` is `_`.
fn find(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            find(&entry.path(), files)?;
        } else if let Some((name, "" | ".xz" | ".zst" | ".gz")) =
            entry.file_name().to_str().and_then(|name| name.split_once(".ko"))
        {
            files.insert(name.replace('-', "_"), entry.path());
        }
    }
    Ok(())
}

struct Order<'a> {
    files: &'a BTreeMap<String, PathBuf>,
    seen: BTreeSet<String>,
    modules: Vec<Module>,
}

impl Order<'_> {
    fn visit(&mut self, name: &str) -> Result<()> {
        if !self.seen.insert(name.to_owned()) {
            return Ok(());
        }
        // Not a file: built in.
        let Some(path) = self.files.get(name) else { return Ok(()) };
        let content = read(path)?;
        for needed in needs(&content).with_context(|| path.display().to_string())? {
            self.visit(&needed)?;
        }
        self.modules.push(Module { name: format!("{name}.ko"), content });
        Ok(())
    }
}

/// What `modinfo` calls depends, and softdep's `pre:`.
fn needs(module: &[u8]) -> Result<Vec<String>> {
    let file = object::File::parse(module)?;
    let section = file.section_by_name(".modinfo").context("no .modinfo")?;
    let mut names = Vec::new();
    for line in section.data()?.split(|byte| *byte == 0) {
        let line = String::from_utf8_lossy(line);
        if let Some(depends) = line.strip_prefix("depends=") {
            names.extend(depends.split(',').map(|name| name.replace('-', "_")));
        } else if let Some(soft) = line.strip_prefix("softdep=pre:") {
            let soft = soft.split("post:").next().unwrap_or_default();
            names.extend(soft.split_whitespace().map(|name| name.replace('-', "_")));
        }
    }
    names.retain(|name| !name.is_empty());
    Ok(names)
}

/// The file's content, unpacked by the program of that compression.
fn read(path: &Path) -> Result<Vec<u8>> {
    let mut unpack = match path.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => Command::new("xz"),
        Some("zst") => Command::new("zstd"),
        Some("gz") => Command::new("gzip"),
        _ => return fs::read(path).with_context(|| path.display().to_string()),
    };
    let output = unpack.arg("-dc").arg(path).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("cannot run {}", unpack.get_program().display()))?;
    ensure!(output.status.success(), "{unpack:?}: {}", output.status);
    Ok(output.stdout)
}
