//! What tests and demo need from the machine, and how it gets there.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail};

use crate::build::{root, step, target};

/// Programs by the Debian package that has them.
const PROGRAMS: [(&str, &str); 5] = [
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("cc", "gcc"),
    ("python3", "python3-venv"),
    ("openssl", "openssl"),
];

/// Whether this process may install packages and make namespaces.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Whether a program is on the path, or where administrators' programs are.
pub(crate) fn has(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|d: PathBuf| d.join(program).is_file())
}

/// Installs what is missing of the programs that the demo and the tests use; says what is missing where it can't.
pub(crate) fn programs() -> Result<()> {
    let missing: Vec<&str> = PROGRAMS.iter().filter(|(p, _)| !has(p)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    packages(&missing)
}

/// Installs Debian packages as root; otherwise an error with the command to run.
pub(crate) fn packages(names: &[&str]) -> Result<()> {
    if !(is_root() && has("apt-get")) {
        bail!("missing: {0}. Install them (Debian: apt-get install {0}) and run this again", names.join(" "));
    }
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["-qq", "-o", "Dpkg::Use-Pty=0"])
            .args(arguments);
        command
    };
    step("package lists", &mut apt(&["update"]))?;
    let mut install = apt(&["install", "-y", "--no-install-recommends"]);
    step(&format!("packages {}", names.join(" ")), install.args(names))
}

/// The version that still builds with Go 1.26; newer ones want a newer Go.
const KUSTOMIZE: &str = "sigs.k8s.io/kustomize/kustomize/v5@v5.8.2";

/// Makes sure that `deploy/` can be built: by `kubectl`, by `kustomize`, or by a `kustomize` built here with Go.
/// Returns the directory to add to the path, if any.
pub(crate) fn kustomize() -> Result<Option<PathBuf>> {
    let tools = target().join("tools");
    if has("kubectl") || has("kustomize") {
        return Ok(None);
    }
    if tools.join("kustomize").is_file() {
        return Ok(Some(tools));
    }
    if !has("go") {
        bail!(
            "missing: kubectl, or kustomize, or Go 1.25 or newer to build it with. Install one and run this again"
        );
    }
    step("kustomize", Command::new("go").env("GOBIN", &tools).args(["install", KUSTOMIZE]))?;
    Ok(Some(tools))
}

/// The test client in Go with the real OpenTelemetry SDK, built where suites look for it; its path.
pub(crate) fn go_client() -> Result<PathBuf> {
    go("the OpenTelemetry SDK for Go", "go-cases", ".")
}

/// The load of net/http for `bench kernel`, built likewise.
pub(crate) fn go_load() -> Result<PathBuf> {
    go("a client and a server in Go", "go-load", "./load")
}

/// A program of `tests/clients/go`. The modules come from Go's proxy in the versions and with the checksums given there.
fn go(what: &str, name: &str, package: &str) -> Result<PathBuf> {
    let tools = target().join("tools");
    fs::create_dir_all(&tools)?;
    let program = tools.join(name);
    if !has("go") {
        bail!(
            "missing: Go 1.25 or newer, for {what}, which is run here (go.dev/dl; Debian: apt-get install golang-go, \
             from trixie-backports on). Install it and run this again"
        );
    }
    let mut build = Command::new("go");
    build
        .current_dir(root().join("tests/clients/go"))
        .args(["build", "-trimpath", "-o"])
        .arg(&program)
        .arg(package);
    step(what, &mut build)?;
    Ok(program)
}

/// A Python environment with the real OpenTelemetry SDK; the path of its interpreter.
pub(crate) fn python() -> Result<PathBuf> {
    let requirements = root().join("tests/fixtures/sdk/requirements.txt");
    let wanted = fs::read_to_string(&requirements)?;
    let directory = target().join("python");
    let (interpreter, stamp) = (directory.join("bin/python"), directory.join("requirements.installed"));
    if interpreter.is_file() && fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(interpreter);
    }
    make_environment(&directory)?;
    let mut install = Command::new(&interpreter);
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]).arg(&requirements);
    step("the OpenTelemetry SDK for Python", &mut install)?;
    fs::write(stamp, wanted)?;
    Ok(interpreter)
}

/// The packages of the OpenTelemetry SDK for Node; the path of the `package.json` beside which they are.
pub(crate) fn node() -> Result<PathBuf> {
    if !(has("node") && has("npm")) {
        packages(&["nodejs", "npm"])?;
    }
    let client = root().join("tests/clients/node");
    let wanted = fs::read_to_string(client.join("package-lock.json"))?;
    let directory = target().join("node");
    let (package, stamp) = (directory.join("package.json"), directory.join("installed.json"));
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(package);
    }
    fs::create_dir_all(&directory)?;
    for file in ["package.json", "package-lock.json"] {
        fs::copy(client.join(file), directory.join(file))?;
    }
    let mut install = Command::new("npm");
    install.current_dir(&directory).args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]);
    step("the OpenTelemetry SDK for Node", &mut install)?;
    fs::write(stamp, wanted)?;
    Ok(package)
}

fn make_environment(directory: &Path) -> Result<()> {
    let create = |directory: &Path| {
        let mut command = Command::new("python3");
        command.args(["-m", "venv"]).arg(directory);
        command
    };
    if step("a Python environment", &mut create(directory)).is_ok() {
        return Ok(());
    }
    packages(&["python3-venv"])?; // Debian's python3 comes without ensurepip
    step("a Python environment", &mut create(directory))
}
