//! Compiles the OTLP trace protos for the oracle: prost types, and the descriptors that the canary test reads.

use std::{env, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let protos = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("fixtures/proto");
    println!("cargo::rerun-if-changed={}", protos.display());
    let files = protox::compile(["opentelemetry/proto/collector/trace/v1/trace_service.proto"], [&protos])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), prost::Message::encode_to_vec(&files))?;
    prost_build::Config::new().include_file("otlp.rs").compile_fds(files)?;
    Ok(())
}
