//! What a sender can make scrubbing cost: values and messages made to be expensive, held against benign ones of the same
//! size. CPU time of one thread, in memory, the least of several tries.

use std::{cell::RefCell, time::Duration};

use anyhow::{Result, ensure};
use bytes::Bytes;
use nix::time::{ClockId, clock_gettime};
use spanwarden::{
    otlp::{Batch, Context},
    scrub::{Plan, PlanScratch},
};
use spanwarden_tests::adversary::{self, BOUND, SHAPES};

/// Bytes of a request, about.
const SIZE: usize = 48 << 10;
const TRIES: usize = 5;
/// Steps of the search.
const STEPS: usize = 200;

pub(crate) fn run() -> Result<()> {
    println!("A request of {} KiB, in costs of a benign one of that size; {BOUND} is allowed.\n", SIZE >> 10);
    println!("Looks are how often its rules look at a byte: the same number on every machine.\n");
    println!("| rules | shape | benign, ns/byte | worst | looks | of |");
    println!("|---|---|---|---|---|---|");
    let mut worst_of_all = 0f64;
    for (name, config) in &adversary::configs() {
        let plan = adversary::plan(config);
        let benign = cost(&plan, &adversary::benign(SIZE));
        for shape in SHAPES {
            let (worst, unit) =
                adversary::search(shape, SIZE, STEPS, adversary::starts(), |request| cost(&plan, request));
            let ratio = worst / benign;
            worst_of_all = worst_of_all.max(ratio);
            let looks =
                adversary::looks(&plan, &mut PlanScratch::default(), &adversary::request(shape, &unit, SIZE));
            let shown: String = unit.escape_default().take(60).collect();
            println!("| {name} | {shape:?} | {benign:.2} | {ratio:.1} | {looks:.1} | `{shown}` |");
        }
    }
    ensure!(worst_of_all <= BOUND, "a sender can make scrubbing cost {worst_of_all:.1} times what it should");
    Ok(())
}

/// Nanoseconds a byte.
fn cost(plan: &Plan, request: &Bytes) -> f64 {
    thread_local! {
        static SCRATCH: RefCell<PlanScratch> = RefCell::default();
    }
    let now = || Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a clock"));
    let mut best = Duration::MAX;
    for _ in 0..TRIES {
        let batch = Batch { data: request.clone(), spans: 0, context: Context::default() };
        let start = now();
        let done = SCRATCH.with_borrow_mut(|scratch| plan.apply(batch, scratch));
        best = best.min(now().saturating_sub(start));
        assert!(done.is_ok(), "the request is refused: {done:?}");
    }
    best.as_secs_f64() * 1e9 / request.len() as f64
}
