//! What differs between the architectures of guests.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result};
use clap::ValueEnum;

use super::{
    guest::{Machine, PC, VIRT},
    suites::{self, GUEST},
};
use crate::build::step;

/// By Debian's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Architecture {
    /// x86-64: with this machine's programs and the suites
    Amd64,
    /// `AArch64`: with the one program that loads and attaches; no suites
    Arm64,
}

/// Static, and linked without another architecture's compiler.
const ARM64_TARGET: &str = "aarch64-unknown-linux-musl";

impl Architecture {
    /// Debian's name of it.
    pub(super) fn debian(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// What QEMU emulates.
    pub(super) fn machine(self) -> &'static Machine {
        match self {
            Self::Amd64 => &PC,
            Self::Arm64 => &VIRT,
        }
    }

    /// The guest's program for an architecture that is not this machine's.
    pub(super) fn foreign_guest(self) -> Result<Option<PathBuf>> {
        match self {
            Self::Amd64 => Ok(None),
            Self::Arm64 => build(ARM64_TARGET).map(Some),
        }
    }
}

/// Builds `kernel-guest` for another architecture.
fn build(triple: &str) -> Result<PathBuf> {
    let mut installed = Command::new("rustup");
    let installed = installed.args(["target", "list", "--installed"]).stderr(Stdio::inherit()).output();
    let installed = installed.context("cannot run rustup: it has the other architecture's library")?;
    let installed = String::from_utf8_lossy(&installed.stdout).into_owned();
    if !installed.lines().any(|line| line == triple) {
        step(&format!("Rust for {triple}"), Command::new("rustup").args(["target", "add", triple]))?;
    }
    println!("==> the guest's program for {triple}");
    let mut command = suites::cargo_json(&["build", "--package", "spanwarden-guest", "--target", triple]);
    // Rust's own linker knows every architecture, and this machine's `strip` only its own.
    let variable = triple.to_uppercase().replace('-', "_");
    command.env(format!("CARGO_TARGET_{variable}_LINKER"), "rust-lld").env("CARGO_PROFILE_DEV_STRIP", "true");
    let messages = suites::messages(&mut command)?;
    let found = messages.iter().find(|message| message["target"]["name"] == GUEST);
    let found = found.and_then(|message| message["executable"].as_str()).map(PathBuf::from);
    found.with_context(|| format!("cargo has built no {GUEST} for {triple}"))
}
