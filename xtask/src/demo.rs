//! `cargo xtask demo`

use std::process::Command;

use anyhow::Result;

use crate::{
    build::{cargo, step, target},
    setup,
};

/// Sets up, builds and hands over to the `demo` program of the tests crate, which has the harness.
pub(crate) fn run() -> Result<()> {
    if setup::is_root() {
        setup::programs()?;
    } else {
        println!("not root: pods and kernel evidence need it. The rest is shown without them.");
    }
    let python = setup::python()?;
    let mut build = cargo();
    build.args(["build", "--release", "--locked", "--bin", "spanwarden", "--bin", "demo"]);
    step("the release build", &mut build)?;
    let release = target().join("release");
    let status = Command::new(release.join("demo"))
        .env("SPANWARDEN_BIN", release.join("spanwarden"))
        .env("SPANWARDEN_PYTHON", python)
        .status()?;
    std::process::exit(status.code().unwrap_or(1));
}
