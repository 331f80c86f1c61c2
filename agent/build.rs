//! Puts the compiled kernel programs where `origin::bpf` embeds them, and refuses an object that does not
//! belong to the sources beside it. No BPF toolchain is needed for that: the object is in the repository.

#[path = "../agent-ebpf/digest.rs"]
mod digest;

use std::{env, fs, path::Path, process::ExitCode};

/// Embeds this object instead of the committed one, unchecked: `cargo xtask test` sets it to a fresh build.
/// At compile time only, so that nobody can give a running agent other programs.
const OVERRIDE: &str = "SPANWARDEN_EBPF_OBJECT";
const RENEW: &str = "cargo xtask ebpf build";

fn main() -> ExitCode {
    match embed() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            println!("cargo::error={message}");
            ExitCode::FAILURE
        }
    }
}

fn embed() -> Result<(), String> {
    println!("cargo::rerun-if-env-changed={OVERRIDE}");
    println!("cargo::rerun-if-changed=build.rs");
    let home = env::var("CARGO_MANIFEST_DIR").map_err(|e| e.to_string())?;
    let out = env::var("OUT_DIR").map_err(|e| e.to_string())?;
    let object = if let Some(path) = env::var_os(OVERRIDE) {
        Path::new(&path).to_path_buf()
    } else {
        let sources = Path::new(&home).join("../agent-ebpf");
        for watched in ["src", "Cargo.toml", "object", "digest.rs"] {
            println!("cargo::rerun-if-changed={}", sources.join(watched).display());
        }
        let object = sources.join("object/spanwarden.bpf.o");
        check(&sources, &sources.join("object/spanwarden.bpf.digest"))?;
        object
    };
    println!("cargo::rerun-if-changed={}", object.display());
    fs::copy(&object, Path::new(&out).join("spanwarden.bpf.o"))
        .map(drop)
        .map_err(|e| format!("{}: {e}; renew it with `{RENEW}`", object.display()))
}

/// The digest file's line `sources HEX` must be that of the sources.
fn check(sources: &Path, recorded: &Path) -> Result<(), String> {
    let text = fs::read_to_string(recorded)
        .map_err(|e| format!("{}: {e}; renew it with `{RENEW}`", recorded.display()))?;
    let recorded = text.lines().find_map(|line| line.strip_prefix("sources ")).unwrap_or_default();
    let actual = digest::sources(sources).map_err(|e| format!("{}: {e}", sources.display()))?;
    if recorded == actual {
        return Ok(());
    }
    Err(format!(
        "agent-ebpf/object/spanwarden.bpf.o is stale: it was built from sources {recorded}, they are {actual} \
         now; renew it with `{RENEW}`"
    ))
}
