//! Requests a second, their latency and their CPU time, with programs and without, in turns.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use spanwarden_tests::process::Process;

use crate::{PATIENCE, median, quartiles};

/// How often the processes are started anew.
const GENERATIONS: u32 = 6;
/// The bound that the figures are reported against: throughput within 2 %.
const BOUND: f64 = 1.02;

/// The kinds of load, by what the processes call them.
const KINDS: [(&str, &str); 2] =
    [("HTTP/1.1 keep-alive", "keepalive"), ("a connection a request", "connect")];

/// A load with sockets in several cgroups.
pub(crate) struct Load<'a> {
    pub(crate) name: &'a str,
    /// What programs the cgroups have; the first has none.
    pub(crate) sides: &'a [&'a str],
    /// Length of a turn: short, so that both sides of a comparison meet the same weather, and long enough for what does
    /// not happen with every request.
    pub(crate) turn: Duration,
}

/// One turn of one side.
struct Turn {
    rate: f64,
    cpu: f64,
    p50: f64,
    p99: f64,
}

/// Two turns without programs with two of a side in between, each two on average.
struct Pair {
    without: Turn,
    with: Turn,
}

impl Load<'_> {
    fn turn(&self, process: &mut Process, side: usize, kind: &str) -> Result<Turn> {
        let figures = ask(process, side, kind, self.turn)?;
        let [requests, wall, cpu, p50, p99] = figures;
        Ok(Turn { rate: requests / wall, cpu: cpu / requests, p50, p99 })
    }

    fn pair(&self, process: &mut Process, side: usize, kind: &str) -> Result<Pair> {
        let mut turn = |side| self.turn(process, side, kind);
        let (before, forth, back, after) = (turn(0)?, turn(side)?, turn(side)?, turn(0)?);
        Ok(Pair { without: before.and(&after), with: forth.and(&back) })
    }
}

/// Has a load run in a cgroup for so long: requests, seconds, CPU seconds, and nanoseconds that half of the requests and
/// 99 % took at most.
pub(crate) fn ask(load: &mut Process, cgroup: usize, kind: &str, time: Duration) -> Result<[f64; 5]> {
    load.say(&format!("{cgroup} {kind} {}", time.as_millis()))?;
    let line = load.wait_for_line("result ", PATIENCE)?;
    let figures: Vec<f64> =
        line.split(' ').skip(1).map(str::parse).collect::<Result<_, _>>().context(line.clone())?;
    figures.try_into().map_err(|_| anyhow::anyhow!("an odd result: {line}"))
}

impl Turn {
    fn and(&self, other: &Self) -> Self {
        let mean = |figure: fn(&Self) -> f64| f64::midpoint(figure(self), figure(other));
        Self { rate: mean(|t| t.rate), cpu: mean(|t| t.cpu), p50: mean(|t| t.p50), p99: mean(|t| t.p99) }
    }
}

/// Prints a table for each kind of a load that `start` starts.
pub(crate) fn compare(load: &Load<'_>, time: Duration, start: impl Fn() -> Result<Process>) -> Result<()> {
    for (kind, command) in KINDS {
        let mut pairs: Vec<Vec<Pair>> = load.sides.iter().map(|_| Vec::new()).collect();
        for _ in 0..GENERATIONS {
            let mut process = start()?;
            process.wait_for_line("ready", PATIENCE)?;
            for side in 0..load.sides.len() {
                load.turn(&mut process, side, command)?; // caches warm
            }
            let end = Instant::now() + time / GENERATIONS;
            while Instant::now() < end {
                for (side, pairs) in pairs.iter_mut().enumerate().skip(1) {
                    pairs.push(load.pair(&mut process, side, command)?);
                }
            }
        }
        table(&format!("{}, {kind}", load.name), load.sides, &pairs);
    }
    Ok(())
}

fn table(name: &str, sides: &[&str], pairs: &[Vec<Pair>]) {
    println!(
        "| {name}: with | times | CPU a request, µs | ratio to without (quartiles) | requests/s | ratio | p50, µs | ratio | p99, µs | ratio |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let all: Vec<&Turn> = pairs.iter().flatten().map(|pair| &pair.without).collect();
    let without = |figure: fn(&Turn) -> f64| median(all.iter().map(|turn| figure(turn)).collect());
    println!(
        "| no program | {} | {:.2} | 1 | {:.0} | 1 | {:.0} | 1 | {:.0} | 1 |",
        all.len(),
        without(|turn| turn.cpu) * 1e6,
        without(|turn| turn.rate),
        without(|turn| turn.p50) / 1e3,
        without(|turn| turn.p99) / 1e3,
    );
    let mut last = [f64::NAN; 2];
    for (side, pairs) in sides.iter().zip(pairs).skip(1) {
        let ratio = |figure: fn(&Turn) -> f64| {
            quartiles(pairs.iter().map(|pair| figure(&pair.with) / figure(&pair.without)).collect())
        };
        let with = |figure: fn(&Turn) -> f64| median(pairs.iter().map(|pair| figure(&pair.with)).collect());
        let quarters = |[low, middle, high]: [f64; 3]| format!("{middle:.3} ({low:.3} to {high:.3})");
        println!(
            "| {side} | {} | {:.2} | {} | {:.0} | {} | {:.0} | {:.3} | {:.0} | {:.3} |",
            pairs.len(),
            with(|turn| turn.cpu) * 1e6,
            quarters(ratio(|turn| turn.cpu)),
            with(|turn| turn.rate),
            quarters(ratio(|turn| turn.rate)),
            with(|turn| turn.p50) / 1e3,
            ratio(|turn| turn.p50)[1],
            with(|turn| turn.p99) / 1e3,
            ratio(|turn| turn.p99)[1],
        );
        last = [ratio(|turn| turn.cpu)[1], ratio(|turn| turn.rate)[1]];
    }
    let [cpu, rate] = last;
    let verdict = if cpu <= BOUND { "within" } else { "ABOVE" };
    println!(
        "\n{name}: a request takes {cpu:.3} of the CPU time ({verdict} the bound of {BOUND}), throughput is {rate:.3} of what it was.\n"
    );
}
