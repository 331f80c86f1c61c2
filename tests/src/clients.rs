//! The real SDKs that suites run: set up by `cargo xtask test`, found beside what cargo built, or named by the
//! environment.

#![forbid(unsafe_code)]

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

/// A program of a client in another language, with the arguments that it always has.
#[derive(Clone, Debug)]
pub struct Client {
    /// The program.
    pub program: PathBuf,
    /// What comes before a case's own arguments.
    pub arguments: Vec<String>,
}

/// The SDK for Python: `fixtures/sdk/cases.py` and its interpreter.
pub fn python() -> Result<Client> {
    let program = find("SPANWARDEN_PYTHON", "python/bin/python").context(
        "no Python environment with the OpenTelemetry SDK: `cargo xtask test` makes it (Debian: apt-get install \
         python3-venv)",
    )?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/sdk/cases.py");
    Ok(Client { program, arguments: vec![script.display().to_string()] })
}

/// The SDK for Go: `clients/go`.
pub fn go() -> Result<Client> {
    let program = find("SPANWARDEN_GO_CLIENT", "tools/go-cases").context(
        "the client in Go is not built: `cargo xtask test` builds it, or `go build -C tests/clients/go -o \
         $PWD/target/tools/go-cases .` does; both need Go 1.25 or newer (go.dev/dl, or Debian's golang-go from trixie \
         backports on)",
    )?;
    Ok(Client { program, arguments: Vec::new() })
}

/// A load between a client and a server of net/http: `clients/go/load`.
pub fn go_load() -> Result<Client> {
    let program = find("SPANWARDEN_GO_LOAD", "tools/go-load").context(
        "the load in Go is not built: `cargo xtask bench kernel` builds it, or `go build -C tests/clients/go -o \
         $PWD/target/tools/go-load ./load` does; both need Go 1.25 or newer (go.dev/dl, or Debian's golang-go from \
         trixie backports on)",
    )?;
    Ok(Client { program, arguments: Vec::new() })
}

/// The SDK for Node: `clients/node`, and where its dependencies are.
pub fn node() -> Result<Client> {
    let package = find("SPANWARDEN_NODE_PACKAGE", "node/package.json").context(
        "the dependencies of the client in Node are not installed: `cargo xtask test` does it (Debian: apt-get install \
         npm)",
    )?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/node/main.js");
    let arguments = vec![script.display().to_string(), package.display().to_string()];
    Ok(Client { program: "node".into(), arguments })
}

/// What `variable` names, or what is below cargo's target directory, where this program was built.
fn find(variable: &str, below: &str) -> Result<PathBuf> {
    if let Some(path) = env::var_os(variable) {
        return Ok(path.into());
    }
    let own = env::current_exe()?;
    let candidates = own.ancestors().skip(1).take(3).map(|directory| directory.join(below));
    match candidates.into_iter().find(|path| path.is_file()) {
        Some(found) => Ok(found),
        None => bail!("neither {variable} is set nor is there {below} above {}", own.display()),
    }
}
