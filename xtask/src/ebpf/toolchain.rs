//! What can compile for BPF: a rustup nightly with `rust-src`, or the distribution's compiler with its sources;
//! and `bpf-linker`, whose LLVM must not be older than the compiler's.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::{
    build::{cargo, step, target},
    setup,
};

/// The version that is built when there is none.
const LINKER: &str = "0.13.0";
/// Debian's compiler of the web browsers: newer than its own, with the library's sources.
const PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// A compiler, its cargo and a linker.
pub(super) struct Toolchain {
    rustc: Vec<String>,
    cargo: Vec<String>,
    pub(super) linker: PathBuf,
    /// One line that says which instructions to expect.
    pub(super) version: String,
}

impl Toolchain {
    /// Its cargo, free of what the cargo that runs this program has set.
    pub(super) fn cargo(&self) -> Command {
        let mut command = plain(&self.cargo);
        if self.rustc.len() == 1 {
            command.env("RUSTC", &self.rustc[0]);
        }
        command
    }

    /// Where the standard library's sources lie.
    pub(super) fn sources(&self) -> Result<PathBuf> {
        library(&self.rustc).context("the compiler has no sources of the standard library")
    }
}

/// A toolchain; the recorded one, if there are several and it is among them.
pub(super) fn find(recorded: Option<&str>) -> Result<Toolchain> {
    let mut compilers = present();
    if compilers.is_empty() {
        if !Path::new("/etc/debian_version").exists() {
            bail!(
                "no compiler for BPF here. Install one with `rustup toolchain install nightly --component rust-src`, and \
                 a linker with `cargo install bpf-linker`; then run this again"
            );
        }
        setup::packages(&PACKAGES).context(
            "no compiler for BPF here; with rustup, `rustup toolchain install nightly --component rust-src` does it too",
        )?;
        compilers = present();
    }
    let mut first = None;
    for (rustc, cargo) in compilers {
        let (release, llvm) = version(&rustc)?;
        let linker = linker(llvm)?;
        let version = format!("{release}, {}", linker_version(&linker)?);
        let toolchain = Toolchain { rustc, cargo, linker, version };
        if recorded.is_none_or(|recorded| recorded == toolchain.version) {
            return Ok(toolchain);
        }
        first = first.or(Some(toolchain));
    }
    first.context(
        "the packages are installed, and yet there is no compiler with the library's sources in /usr/bin",
    )
}

/// Command lines of compilers that have the library's sources, with their cargo.
fn present() -> Vec<(Vec<String>, Vec<String>)> {
    let own = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    [
        (own(&["rustup", "run", "nightly", "rustc"]), own(&["rustup", "run", "nightly", "cargo"])),
        (own(&["/usr/bin/rustc"]), own(&["/usr/bin/cargo"])),
    ]
    .into_iter()
    .filter(|(rustc, cargo)| library(rustc).is_some() && output(cargo, &["--version"]).is_some())
    .collect()
}

fn library(rustc: &[String]) -> Option<PathBuf> {
    let sysroot = output(rustc, &["--print", "sysroot"])?;
    let library = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library");
    library.join("core/src/lib.rs").is_file().then(|| library.canonicalize().ok())?
}

/// The compiler's release with its LLVM, and that LLVM's major version.
fn version(rustc: &[String]) -> Result<(String, u32)> {
    let text = output(rustc, &["-vV"]).context("rustc -vV fails")?;
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let release = field("release:").context("rustc -vV tells no release")?;
    let commit = field("commit-date:").unwrap_or("unknown date");
    let llvm = field("LLVM version:").context("rustc -vV tells no LLVM version")?;
    let major = llvm.split('.').next().and_then(|major| major.parse().ok()).context("LLVM's version")?;
    Ok((format!("rustc {release} ({commit}), LLVM {llvm}"), major))
}

/// `bpf-linker` from the path or from an earlier build of ours; else one is built.
fn linker(llvm: u32) -> Result<PathBuf> {
    let tools = target().join(format!("ebpf-tools/llvm-{llvm}"));
    let built = tools.join("bin/bpf-linker");
    if built.is_file() {
        return Ok(built);
    }
    if let Some(path) = output(&["sh".to_owned()], &["-c", "command -v bpf-linker"]) {
        return Ok(PathBuf::from(path.trim()));
    }
    let prefix = PathBuf::from(format!("/usr/lib/llvm-{llvm}"));
    if !prefix.join("include/llvm-c").is_dir() {
        let package = format!("llvm-{llvm}-dev");
        setup::packages(&[&package]).with_context(|| {
            format!("no bpf-linker here, and {package} to build one; a release of it on the path does it too")
        })?;
    }
    let mut install = cargo();
    clean(&mut install);
    install
        .args([
            "install",
            "bpf-linker",
            "--version",
            LINKER,
            "--locked",
            "--no-default-features",
            "--features",
        ])
        .arg(format!("llvm-{llvm}"))
        .arg("--root")
        .arg(&tools)
        .env("LLVM_PREFIX", &prefix)
        .env("CARGO_TARGET_DIR", tools.join("build"));
    step(&format!("bpf-linker {LINKER} for LLVM {llvm} (about a minute)"), &mut install)?;
    Ok(built)
}

fn linker_version(linker: &Path) -> Result<String> {
    let linker = [linker.to_string_lossy().into_owned()];
    let text = output(&linker, &["--version"]).context("bpf-linker --version fails")?;
    Ok(text.trim().to_owned())
}

/// Standard output of a command that succeeds.
fn output(command: &[String], arguments: &[&str]) -> Option<String> {
    let output = plain(command).args(arguments).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn plain(words: &[String]) -> Command {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    clean(&mut command);
    command
}

/// Removes what cargo and rustup set for the programs that they run.
fn clean(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let own = text.starts_with("CARGO_PKG_")
            || text.starts_with("CARGO_PROFILE_")
            || text.starts_with("CARGO_BUILD_")
            || text.starts_with("RUSTC")
            || text.starts_with("CARGO_MANIFEST");
        if own || matches!(&*text, "CARGO" | "RUSTUP_TOOLCHAIN" | "RUSTFLAGS" | "CARGO_ENCODED_RUSTFLAGS") {
            command.env_remove(&name);
        }
    }
}
