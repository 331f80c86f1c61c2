//! Prints precision and recall of the built-in detectors (run by `cargo xtask bench pii`).
//!
//! Exits with an error where a bound is missed: see [`spanwarden_tests::pii`].

use anyhow::{Context, Result, ensure};
use spanwarden::config::detectors;
use spanwarden_tests::pii::{self, Bounds};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: u64| {
        arguments.get(at).map_or(Ok(default), |text| text.parse().context("a number"))
    };
    let (positives, benign, seed) = (number(0, 2000)?, number(1, 1_000_000)?, number(2, 1)?);
    let names: Vec<&'static str> =
        detectors::all().map(|(name, _)| name).filter(|name| *name != "ip").collect();
    let report = pii::measure(&pii::plan(""), &names, positives as usize, benign, seed);
    println!(
        "detector set version {}, {positives} planted for each detector, seed {seed}\n",
        detectors::VERSION
    );
    println!("{report}");
    let missed = Bounds::default().missed(&report);
    ensure!(missed.is_empty(), "bounds are missed:\n{}", missed.join("\n"));
    Ok(())
}
