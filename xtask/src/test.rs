//! `cargo xtask test`

use std::{env, ffi::OsString, path::PathBuf, process::Command};

use anyhow::Result;
use clap::Args;

use crate::{
    build::{cargo, step, target},
    ebpf, kernels, setup,
};

/// Arguments of `test`.
#[derive(Args)]
pub(crate) struct Test {
    /// Leaves out the rebuild of the kernel programs: the committed object is tested as it is
    #[arg(long)]
    no_ebpf: bool,
    /// Leaves out other kernels, on which else the tests run that stand for the suites: `cargo xtask kernels --short`
    #[arg(long)]
    no_kernels: bool,
}

impl Test {
    pub(crate) fn run(self) -> Result<()> {
        setup::programs()?;
        let python = setup::python()?;
        let go_client = setup::go_client()?;
        let node_package = setup::node()?;
        if !self.no_kernels {
            kernels::fetch()?;
        }
        let path = search_path(setup::kustomize()?)?;
        let object = if self.no_ebpf { None } else { Some(ebpf::verify()?) };
        let cargo = |arguments: &[&str]| {
            let mut command = cargo();
            command.args(arguments).env("PATH", &path);
            command.env("SPANWARDEN_PYTHON", &python).env("SPANWARDEN_GO_CLIENT", &go_client);
            command.env("SPANWARDEN_NODE_PACKAGE", &node_package);
            if let Some(object) = &object {
                command.env("SPANWARDEN_EBPF_OBJECT", object);
            }
            command
        };
        step("format", &mut cargo(&["fmt", "--all", "--check"]))?;
        let lints = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
        step("lints", &mut cargo(&lints))?;
        step("build", &mut cargo(&["build", "--workspace", "--bins", "--locked"]))?;
        step("tests", &mut cargo(&["test", "--workspace", "--locked"]))?;
        let debug = target().join("debug");
        let mut demo = Command::new(debug.join("demo"));
        demo.env("SPANWARDEN_BIN", debug.join("spanwarden")).env("SPANWARDEN_PYTHON", &python);
        step("the demo, as a test", &mut demo)?;
        if self.no_kernels { Ok(()) } else { kernels::short(object.as_deref()) }
    }
}

/// The search path with our own tools before it.
fn search_path(tools: Option<PathBuf>) -> Result<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    Ok(env::join_paths(tools.into_iter().chain(env::split_paths(&path)))?)
}
