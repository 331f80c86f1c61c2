//! What a sender can make scrubbing cost, counted in bytes that are looked at: the same on every machine.
//! `cargo xtask bench adversary` measures the time.

use std::fmt::Write as _;

use spanwarden::scrub::PlanScratch;
use spanwarden_tests::adversary::{self, BOUND, SHAPES, Shape};

const SIZE: usize = 48 << 10;
const STEPS: usize = 12;

/// Nothing that the search finds is looked at more than so many times as often as everyday spans.
#[test]
fn no_request_is_looked_at_much_more_often_than_benign_ones() {
    let mut table = String::new();
    let mut worst = 0f64;
    for (name, config) in &adversary::configs() {
        let (plan, mut scratch) = (adversary::plan(config), PlanScratch::default());
        let benign = adversary::looks(&plan, &mut scratch, &adversary::benign(SIZE));
        for shape in SHAPES {
            let (looks, unit) = adversary::search(shape, SIZE, STEPS, |request| {
                adversary::looks(&plan, &mut scratch, request)
            });
            writeln!(table, "{name}, {shape:?}: {looks:.1} against {benign:.1}, {unit:?}")
                .expect("a string takes it");
            worst = worst.max(looks / benign);
        }
    }
    println!("{table}");
    assert!(worst <= BOUND, "{worst:.1}\n{table}");
}

/// What is looked at grows with the size and no faster: a value of a megabyte costs, byte for byte, what a small one does.
#[test]
fn a_megabyte_costs_as_much_a_byte_as_a_kilobyte() {
    for (name, config) in &adversary::configs() {
        let (plan, mut scratch) = (adversary::plan(config), PlanScratch::default());
        for shape in [Shape::OneValue, Shape::Deep, Shape::List, Shape::Statements, Shape::Systems] {
            for unit in ["4111-1111 a@b.com token: x ", "'a' -- \"$a$ /* ", "%25%40\u{200b}1+1 ", "eyJ.AKIA/"]
            {
                let mut looks =
                    |size| adversary::looks(&plan, &mut scratch, &adversary::request(shape, unit, size));
                let (small, large) = (looks(16 << 10), looks(1 << 20));
                assert!(large < 1.5 * small + 1.0, "{name}, {shape:?}, {unit:?}: {large} against {small}");
            }
        }
    }
}
