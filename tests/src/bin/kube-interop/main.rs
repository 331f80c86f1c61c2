//! The program against a real kube-apiserver: `cargo xtask interop kube`.
//!
//! `kube-interop PROGRAMS DEPLOY`: a directory with `etcd` and `kube-apiserver`, and the repository's `deploy/`.
#![forbid(unsafe_code)]

mod access;
mod cluster;
mod pods;
mod tokens;

use std::{env, path::PathBuf};

use anyhow::{Context as _, Result};

use cluster::Cluster;

fn main() -> Result<()> {
    let outcome = run();
    spanwarden_tests::cleanup::wait_if_interrupted();
    outcome
}

fn run() -> Result<()> {
    spanwarden::telemetry::logs::init("error", false);
    let mut arguments = env::args_os().skip(1).map(PathBuf::from);
    let (programs, deploy) =
        (arguments.next().context("PROGRAMS is missing")?, arguments.next().context("DEPLOY is missing")?);
    let cluster = Cluster::start(&programs)?;
    println!("kube-apiserver and etcd run at {}", cluster.url());
    let checks: [(&str, &dyn Fn() -> Result<()>); 5] = [
        ("RBAC of deploy/", &|| access::check(&cluster, &deploy)),
        ("the watch of a node's pods", &|| pods::watch(&cluster)),
        ("a list and a watch without initial events", &|| pods::place(&cluster)),
        ("Events", &|| pods::events(&cluster)),
        ("pod-bound tokens", &|| tokens::check(&cluster)),
    ];
    for (what, check) in checks {
        check().with_context(|| format!("{what}\n{}", cluster.said()))?;
        println!("ok: {what}");
    }
    Ok(())
}
