//! The demonstration: pods on a made node, one agent, three gateways, and the real OpenTelemetry SDK.
//!
//! Run by `cargo xtask demo`, which sets up what it needs. Prints what a person reads in a minute; ends with
//! status 1 when what it shows is not what must be.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail};
use spanwarden_tests::{cleanup, process::Process, requirements};

#[path = "demo/evidence.rs"]
mod evidence;
#[path = "demo/report.rs"]
mod report;
#[path = "demo/world.rs"]
mod world;

use world::World;

/// How many traces the shop sends. Three of ten are worth keeping whatever the sampling percentage is.
const SHOP_TRACES: usize = 40;
/// Longest a sender may take: the SDK's own deadlines are shorter.
const SENDER_PATIENCE: Duration = Duration::from_secs(40);

fn main() -> Result<()> {
    let outcome = show();
    cleanup::wait_if_interrupted();
    outcome
}

fn show() -> Result<()> {
    let missing = requirements::missing();
    if !missing.is_empty() {
        println!("No pods and no kernel evidence here, because this is missing:");
        for what in &missing {
            println!("  - {what}");
        }
        println!(
            "Shown without them: scrubbing, routing, sampling. Not shown: who sent what, plaintext findings.\n"
        );
    }
    let mut world = World::new(missing.is_empty()).context("setting up")?;
    let senders = drive(&world)?;
    progress("waiting for the gateways to decide (decision_wait is 2 s)");
    world.wait_for_decisions(senders.expected_traces())?;
    let evidence = world.end(senders)?;
    report::print(&evidence);
    let wrong = report::wrong(&evidence);
    if !wrong.is_empty() {
        bail!("this is not what must be shown:\n  - {}", wrong.join("\n  - "));
    }
    Ok(())
}

/// Says what is happening.
fn progress(what: &str) {
    println!("... {what}");
}

/// What the senders printed.
#[derive(Default)]
struct Senders {
    shop: String,
    forger: Option<String>,
    fallback: Option<String>,
}

impl Senders {
    /// Traces that reach the agent: the fallback's go to another collector.
    fn expected_traces(&self) -> usize {
        let traces = |output: &str| output.lines().filter(|line| line.starts_with("trace ")).count();
        traces(&self.shop) + self.forger.as_deref().map_or(0, traces)
    }
}

fn drive(world: &World) -> Result<Senders> {
    progress(&format!("the shop, a well-behaved service, sends {SHOP_TRACES} traces full of personal data"));
    let shop = run(world.sender("shop", "shop.py", &[&SHOP_TRACES.to_string()])?)?;
    let mut senders = Senders { shop, ..Senders::default() };
    if world.has_pods() {
        progress("a pod sends spans under another service's name");
        senders.forger = Some(run(world.sender("forger", "forger.py", &[])?)?);
        progress("a service whose TLS fails falls back to plaintext towards another collector");
        let mut collector = world.sender("collector", "plain_collector.py", &["0.0.0.0", "4318"])?;
        collector.wait_for_line("listening", SENDER_PATIENCE)?;
        let target = world.address_of("collector", 4318)?;
        senders.fallback = Some(run(world.sender("inventory", "fallback.py", &[&target])?)?);
    }
    Ok(senders)
}

fn run(mut sender: Process) -> Result<String> {
    sender.wait_success(SENDER_PATIENCE)?;
    Ok(sender.output())
}

/// Where everything that is worth a look is left.
fn directory() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program.ancestors().nth(2).context("the demo is built into cargo's target directory")?;
    Ok(target.join("demo"))
}
