//! `cargo xtask fuzz`: fuzz targets with coverage and the address sanitizer.
//!
//! It does what `cargo fuzz` would do, with nothing but a nightly toolchain and a C++ compiler: the engine is built
//! from the sources in `libfuzzer-sys`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{
    build::{root, step, target},
    setup,
};

/// What makes the compiler count edges, tell the engine what is compared, and check every access to memory.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-simplifycfg-branch-fold-threshold=0 \
    -Zsanitizer=address --cfg fuzzing";

/// The targets, and the longest input of each, in bytes: long enough for everything that they tell apart.
const TARGETS: [(&str, u32); 10] = [
    ("walker", 2048),
    ("ottl", 512),
    ("pattern", 256),
    ("sql", 1024),
    ("url", 512),
    ("nosql", 1024),
    ("plan", 2048),
    ("json", 2048),
    ("token", 2048),
    ("proto", 1024),
];

/// `fuzz`
#[derive(Args)]
pub(crate) struct Fuzz {
    /// A target of `tests/fuzz/targets`; without one, each in turn
    target: Option<String>,
    /// Seconds for each target
    #[arg(long, default_value_t = 600)]
    seconds: u32,
    /// Instead of a run: adds what earlier runs have found to `tests/fuzz/corpus`, as few inputs as reach all of it
    #[arg(long)]
    keep: bool,
}

impl Fuzz {
    pub(crate) fn run(self) -> Result<()> {
        let named = |name: &str| self.target.as_deref().is_none_or(|wanted| wanted == name);
        let chosen: Vec<_> = TARGETS.into_iter().filter(|(name, _)| named(name)).collect();
        if chosen.is_empty() {
            bail!("no such target; there are {}", TARGETS.map(|(name, _)| name).join(", "));
        }
        let programs = build()?;
        for (name, longest) in chosen {
            let place = Place::of(name)?;
            if self.keep {
                place.keep(&programs, longest)?;
            } else {
                place.run(&programs, longest, self.seconds)?;
            }
        }
        Ok(())
    }
}

/// Builds all targets; the folder in which they are.
fn build() -> Result<PathBuf> {
    let version = Command::new("rustc").args(["+nightly", "-vV"]).output().context("rustc")?;
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let Some(host) = version.lines().find_map(|line| line.strip_prefix("host: ")) else {
        bail!("fuzzing needs a nightly toolchain: run `rustup toolchain install nightly`, then this again");
    };
    if !setup::has("c++") {
        setup::packages(&["g++"])?;
    }
    let folder = target().join("fuzz");
    let mut cargo = Command::new("cargo");
    cargo
        .args(["+nightly", "build", "--release", "--locked", "--bins", "--target", host])
        .arg("--manifest-path")
        .arg(root().join("tests/fuzz/Cargo.toml"))
        .env("CARGO_TARGET_DIR", &folder)
        .env("RUSTFLAGS", FLAGS);
    // The cargo that runs this program has set them for its own toolchain.
    for name in ["CARGO", "RUSTC", "RUSTUP_TOOLCHAIN", "CARGO_ENCODED_RUSTFLAGS"] {
        cargo.env_remove(name);
    }
    step("the fuzz targets, some minutes the first time", &mut cargo)?;
    Ok(folder.join(host).join("release"))
}

/// Where a target's inputs are.
struct Place {
    name: &'static str,
    /// In the repository.
    committed: PathBuf,
    /// What runs have found.
    found: PathBuf,
    /// Inputs that break something.
    broken: PathBuf,
}

impl Place {
    fn of(name: &'static str) -> Result<Self> {
        let folder = target().join("fuzz");
        let place = Self {
            name,
            committed: root().join("tests/fuzz/corpus").join(name),
            found: folder.join("found").join(name),
            broken: folder.join("broken").join(name),
        };
        for folder in [&place.found, &place.broken] {
            fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        Ok(place)
    }

    fn program(&self, programs: &Path, longest: u32) -> Command {
        let mut program = Command::new(programs.join(self.name));
        program
            .arg(format!("-max_len={longest}"))
            .args(["-timeout=10", "-rss_limit_mb=2048"])
            .arg(format!("-artifact_prefix={}/", self.broken.display()));
        program
    }

    fn run(&self, programs: &Path, longest: u32, seconds: u32) -> Result<()> {
        let mut program = self.program(programs, longest);
        program.arg(format!("-max_total_time={seconds}")).arg("-print_final_stats=1");
        step(
            &format!("{} for {seconds} s; what breaks it is kept in {}", self.name, self.broken.display()),
            program.arg(&self.found).arg(&self.committed),
        )
    }

    /// What is committed stays, so that an input that once broke something is tried for ever.
    fn keep(&self, programs: &Path, longest: u32) -> Result<()> {
        let mut program = self.program(programs, longest);
        step(
            &format!("{}: what adds to the corpus", self.name),
            program.arg("-set_cover_merge=1").arg(&self.committed).arg(&self.found),
        )
    }
}
