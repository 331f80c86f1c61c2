//! `cargo xtask test`

use anyhow::Result;
use clap::Args;

use crate::{
    build::{cargo, step},
    setup,
};

/// Arguments of `test`.
#[derive(Args)]
pub(crate) struct Test {
    /// Leaves out the rebuild of the kernel programs; the committed object is tested
    #[arg(long)]
    no_ebpf: bool,
}

impl Test {
    pub(crate) fn run(self) -> Result<()> {
        setup::programs()?;
        let python = setup::python()?;
        let tools = setup::kustomize()?;
        step("format", cargo().args(["fmt", "--all", "--check"]))?;
        step(
            "lints",
            cargo().args(["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]),
        )?;
        let mut tests = cargo();
        tests.args(["test", "--workspace", "--locked"]).env("SPANWARDEN_PYTHON", &python);
        if let Some(tools) = tools {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let all = std::iter::once(tools).chain(std::env::split_paths(&path));
            tests.env("PATH", std::env::join_paths(all)?);
        }
        step("tests", &mut tests)
    }
}
