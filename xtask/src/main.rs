//! The developer's commands. `cargo xtask --help` lists them.
//!
//! This crate builds nothing of the product into itself, so that it works when the product does not compile.

use clap::{Parser, Subcommand};

mod bench;
mod build;
mod demo;
mod ebpf;
mod fuzz;
mod interop;
mod kernels;
mod setup;
mod test;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Developer's commands of spanwarden", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Shows the whole of it on this machine: pods, an agent, three gateways and the real Python SDK (root)
    Demo,
    /// Sets up what is missing and runs every test, the kernel's too (root)
    Test(test::Test),
    /// Builds the kernel programs, or checks that the committed object is what its sources give
    Ebpf(ebpf::Ebpf),
    /// Boots other kernels and runs there what the kernel has a say in (root)
    Kernels(kernels::Kernels),
    /// Checks against real programs that take minutes to build; not part of `test`
    Interop(interop::Interop),
    /// Measures CPU per span against a load generator and a sink of the project's own; `kernel`: the kernel programs
    Bench(bench::Bench),
    /// Runs fuzz targets with coverage (nightly toolchain, C++ compiler); `test` runs the same without
    Fuzz(fuzz::Fuzz),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Demo => demo::run(),
        Command::Test(test) => test.run(),
        Command::Ebpf(ebpf) => ebpf.run(),
        Command::Kernels(kernels) => kernels.run(),
        Command::Interop(interop) => interop.run(),
        Command::Bench(bench) => bench.run(),
        Command::Fuzz(fuzz) => fuzz.run(),
    }
}
