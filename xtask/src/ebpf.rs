//! `cargo xtask ebpf`: builds the kernel programs, and proves that the committed object is what its sources give.

mod object_file;
mod toolchain;

#[path = "../../agent-ebpf/digest.rs"]
mod digest;

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use object_file::Programs;
use toolchain::Toolchain;

use crate::build::{root, step, target};

/// `ebpf`
#[derive(Args)]
pub(crate) struct Ebpf {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Rebuilds the committed object and its digest
    Build,
    /// Builds the programs afresh and compares their instructions with the committed object's
    Verify {
        /// Keeps the fresh object here; `SPANWARDEN_EBPF_OBJECT=PATH cargo build` embeds it
        #[arg(long, value_name = "PATH")]
        output: Option<PathBuf>,
    },
}

impl Ebpf {
    pub(crate) fn run(self) -> Result<()> {
        match self.command {
            Command::Build => renew(),
            Command::Verify { output } => {
                let fresh = verify()?;
                if let Some(output) = output {
                    fs::copy(&fresh, &output).with_context(|| output.display().to_string())?;
                }
                Ok(())
            }
        }
    }
}

/// The committed object and the file that says what it was built from.
fn committed() -> (PathBuf, PathBuf) {
    let folder = root().join("agent-ebpf/object");
    (folder.join("spanwarden.bpf.o"), folder.join("spanwarden.bpf.digest"))
}

/// Builds with whatever is there and replaces the committed object.
fn renew() -> Result<()> {
    let toolchain = toolchain::find(None)?;
    let fresh = compile(&toolchain)?;
    let (object, record) = committed();
    fs::create_dir_all(object.parent().context("the object's folder")?)?;
    fs::copy(&fresh, &object)?;
    let sources = digest::sources(&root().join("agent-ebpf"))?;
    fs::write(&record, format!("sources {sources}\ntoolchain {}\n", toolchain.version))?;
    println!("    {} and {}", object.display(), record.display());
    Ok(())
}

/// Builds afresh, compares, and gives the fresh object's path: tests embed that one.
pub(crate) fn verify() -> Result<PathBuf> {
    let (object, record) = committed();
    let record = fs::read_to_string(&record).with_context(|| record.display().to_string())?;
    let line = |name: &str| record.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    if line("sources ") != digest::sources(&root().join("agent-ebpf"))? {
        bail!("{} is stale: run `cargo xtask ebpf build` and commit what it writes", object.display());
    }
    let recorded = line("toolchain ");
    let toolchain = toolchain::find(Some(recorded))?;
    let fresh = compile(&toolchain)?;
    let differences = Programs::read(&object)?.differences(&Programs::read(&fresh)?);
    if differences.is_empty() {
        println!("    the programs of {} are those that its sources give", object.display());
        return Ok(fresh);
    }
    let hint = if toolchain.version == recorded {
        "the same toolchain gives other instructions: the committed object was not built from these sources"
            .to_owned()
    } else {
        format!(
            "it was built with `{recorded}`, which is not here, and `{}` may well give other instructions: install \
             the recorded one, or renew the object with `cargo xtask ebpf build`",
            toolchain.version
        )
    };
    bail!("{} differs from a fresh build in {}; {hint}", object.display(), differences.join(", "))
}

/// Compiles the programs; the path of the object, without debug sections.
fn compile(toolchain: &Toolchain) -> Result<PathBuf> {
    let folder = target().join("ebpf");
    let mut cargo = toolchain.cargo();
    cargo
        .current_dir(root())
        .args(["build", "--release", "--locked", "-Zbuild-std=core", "--target", "bpfel-unknown-none"])
        .args(["--package", "spanwarden-ebpf", "--features", "programs", "--bin", "spanwarden-programs"])
        .env("CARGO_TARGET_DIR", &folder)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags(toolchain)?.join("\u{1f}"))
        // One module for the linker, which optimises by itself; BTF is made of the debug information.
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "2")
        .env("CARGO_PROFILE_RELEASE_PANIC", "abort");
    step(&format!("kernel programs, with {}", toolchain.version), &mut cargo)?;
    let linked = folder.join("bpfel-unknown-none/release/spanwarden-programs");
    let stripped = folder.join("spanwarden.bpf.o");
    object_file::strip_debug(&linked, &stripped)?;
    Ok(stripped)
}

/// Nothing of where things lie on this machine may get into the object.
fn flags(toolchain: &Toolchain) -> Result<Vec<String>> {
    let remap = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(Path::new(&env::var_os("HOME")?).join(".cargo")));
    let mut flags = vec![
        format!("-Clinker={}", toolchain.linker.display()),
        "-Clink-arg=--btf".to_owned(),
        // Fills and copies as stores, not as calls of functions that go byte by byte.
        "-Clink-arg=--disable-expand-memcpy-in-order".to_owned(),
        "-Cdebuginfo=2".to_owned(),
        remap(&fs::canonicalize(root())?, "spanwarden"),
        remap(&toolchain.sources()?, "library"),
    ];
    // One folder a registry, named after its host.
    let registries =
        home.into_iter().flat_map(|home| fs::read_dir(home.join("registry/src"))).flatten().flatten();
    flags.extend(registries.map(|registry| remap(&registry.path(), "registry")));
    Ok(flags)
}
