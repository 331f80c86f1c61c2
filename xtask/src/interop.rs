//! `cargo xtask interop`: against the real thing.

use std::{path::Path, process::Command};

use anyhow::{Result, bail};
use clap::{Args, Subcommand};

use crate::{
    build::{cargo, root, step, target},
    setup,
};

/// The version in `interop/kube/apiserver/go.mod`; the API server says it of itself.
const KUBERNETES: (&str, &str, &str) = ("v1.34.4", "1", "34");

#[derive(Args)]
pub(crate) struct Interop {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Builds a real kube-apiserver and etcd (Go; minutes at first, seconds after), starts them on loopback, and checks
    /// pod-bound tokens, the watch of a node's pods, RBAC of deploy/ and Events
    Kube,
    /// Builds a real Tempo (Go; minutes at first, seconds after), starts it on loopback, sends it spans with planted values through
    /// spanwarden, and reads them back with `spanwarden scan`
    Tempo,
}

impl Interop {
    pub(crate) fn run(self) -> Result<()> {
        match self.what {
            What::Kube => kube(),
            What::Tempo => tempo(),
        }
    }
}

/// Fails without what both need.
fn needs(programs: &[&str]) -> Result<()> {
    if !setup::has("go") {
        bail!("Go is not on the PATH. Install 1.26 or newer (https://go.dev/dl/) and run this again");
    }
    for program in programs {
        if !setup::has(program) {
            bail!("{program} is missing (Debian: apt-get install openssl coreutils)");
        }
    }
    Ok(())
}

fn tempo() -> Result<()> {
    needs(&["nice"])?;
    let programs = target().join("interop/tempo");
    std::fs::create_dir_all(&programs)?;
    let program = programs.join("tempo");
    go("tempo", "github.com/grafana/tempo/cmd/tempo", &[], "-s -w", &program)?;
    let mut build = cargo();
    build.args(["build", "--locked", "-p", "spanwarden", "-p", "spanwarden-tests"]);
    build.args(["--bin", "spanwarden", "--bin", "tempo-interop"]);
    step("spanwarden and the checks", &mut build)?;
    step("a real Tempo", Command::new(target().join("debug/tempo-interop")).arg(program))
}

fn kube() -> Result<()> {
    needs(&["openssl", "nice"])?;
    let programs = target().join("interop/kube");
    std::fs::create_dir_all(&programs)?;
    let (version, major, minor) = KUBERNETES;
    let of = "k8s.io/component-base/version";
    let flags =
        format!("-s -w -X {of}.gitVersion={version} -X {of}.gitMajor={major} -X {of}.gitMinor={minor}");
    let tags = ["-tags", "grpcnotrace"];
    go("kube/etcd", "go.etcd.io/etcd/server/v3", &tags, "-s -w", &programs.join("etcd"))?;
    let server = programs.join("kube-apiserver");
    go("kube/apiserver", "k8s.io/kubernetes/cmd/kube-apiserver", &tags, &flags, &server)?;
    let mut build = cargo();
    build.args(["build", "--locked", "-p", "spanwarden-tests", "--bin", "kube-interop"]);
    step("the checks", &mut build)?;
    let mut checks = Command::new(target().join("debug/kube-interop"));
    checks.arg(&programs).arg(root().join("deploy"));
    step("a real API server", &mut checks)
}

/// Builds a package of a module below `interop`, politely. What is up to date is left alone by go itself.
fn go(module: &str, package: &str, more: &[&str], flags: &str, program: &Path) -> Result<()> {
    let mut build = Command::new("nice");
    build
        .args(["-n", "15", "go", "build", "-mod=readonly", "-trimpath"])
        .args(more)
        .args(["-ldflags", flags, "-o"])
        .arg(program)
        .arg(package)
        .current_dir(root().join("xtask/interop").join(module))
        .env("CGO_ENABLED", "0")
        .env("GOTOOLCHAIN", "local")
        .env_remove("GOFLAGS");
    step(package, &mut build)
}
