//! The guest's file system: the suites' own binaries where cargo put them, because they look for each other there.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{
    cpio::Archive,
    debian::Kernel,
    elf::{Libraries, System},
    modules,
};

/// The object's place in the guest.
const OBJECT: &str = "/spanwarden.bpf.o";
/// Small programs that tests and a look around use; all of them are busybox.
const APPLETS: [&str; 16] = [
    "sh", "cat", "sleep", "true", "false", "kill", "ls", "mkdir", "rm", "mount", "umount", "ps", "dd",
    "head", "grep", "dmesg",
];

/// What goes into every guest of an architecture.
pub(super) struct Contents {
    /// Where the libraries and tools come from.
    pub(super) system: System,
    /// Programs of the project, stripped: path in the guest and file.
    pub(super) programs: Vec<(String, PathBuf)>,
    /// The guest's first process.
    pub(super) init: PathBuf,
    /// `ip` and `nft`.
    pub(super) tools: Vec<PathBuf>,
    /// The static busybox, which tests use.
    pub(super) busybox: Option<PathBuf>,
    /// The compiled kernel programs.
    pub(super) object: PathBuf,
}

impl Contents {
    /// Packs an image for one kernel; `plan` gets the modules and the object's place added.
    pub(super) fn pack(&self, kernel: &Kernel, plan: &Value, image: &Path) -> Result<()> {
        let mut archive = Archive::create(image)?;
        archive.copy("/init", &self.init, true)?;
        if let Some(busybox) = &self.busybox {
            archive.copy("/bin/busybox", busybox, true)?;
            for applet in APPLETS {
                archive.link(&format!("/bin/{applet}"), "busybox")?;
            }
        }
        let mut libraries = Libraries::new();
        self.system.collect(&self.init, &mut libraries)?;
        for (at, file) in &self.programs {
            archive.copy(at, file, true)?;
            self.system.collect(file, &mut libraries)?;
        }
        for tool in &self.tools {
            let name = tool.file_name().and_then(|name| name.to_str()).context("a tool without name")?;
            archive.copy(&format!("/usr/sbin/{name}"), tool, true)?;
            self.system.collect(tool, &mut libraries)?;
        }
        for (at, file) in &libraries {
            archive.copy(at, file, true)?;
        }
        archive.copy(OBJECT, &self.object, false)?;
        archive.file("/etc/hosts", b"127.0.0.1 localhost\n::1 localhost\n", false)?;
        archive.file("/etc/passwd", b"root:x:0:0:root:/:/bin/sh\n", false)?;
        for folder in ["/proc", "/sys", "/dev", "/run", "/tmp", "/root"] {
            archive.directory(folder)?;
        }
        let mut places = Vec::new();
        for module in modules::wanted(&kernel.modules)? {
            let at = format!("/modules/{}", module.name);
            archive.file(&at, &module.content, false)?;
            places.push(at);
        }
        let mut plan = plan.clone();
        plan["modules"] = json!(places);
        plan["object"] = json!(OBJECT);
        archive.file("/plan.json", plan.to_string().as_bytes(), false)?;
        archive.finish()
    }
}

/// Copies of `programs` without symbols below `folder`: a fifth of the size.
pub(super) fn strip(strip: &str, programs: &[PathBuf], folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    fs::create_dir_all(folder)?;
    let mut stripped = Vec::new();
    for program in programs {
        let at = program.to_str().context("a path that is no text")?.to_owned();
        let name = program.file_name().context("a program without name")?;
        let to = folder.join(name);
        let status = Command::new(strip).arg("--strip-all").arg("-o").args([&to, program]).status();
        let status = status.with_context(|| format!("cannot run {strip}: install binutils"))?;
        ensure!(status.success(), "{strip} {at}: {status}");
        stripped.push((at, to));
    }
    Ok(stripped)
}
