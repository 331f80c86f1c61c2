//! Which windows share a bucket of the sieve.
//!
//! A bucket lets through what its windows allow at each place taken together, so windows that look alike go into one.
//! Two clusters after the other are merged, those first for which the fewest more positions of telemetry get through.

#![forbid(unsafe_code)]

use super::pattern::window::{self, ByteSet, Window};

/// Places of a window that the sieve looks at.
pub(super) const PLACES: usize = 8;
/// Windows that are compared with each other; a plan's time to compile grows with the square. More join the cluster
/// that they suit best.
const COMPARED: usize = 192;

/// What a bucket allows: for each place, a bit for each low and each high half of a byte.
#[derive(Clone, Copy, Debug)]
pub(super) struct Halves {
    pub(super) low: [u16; PLACES],
    pub(super) high: [u16; PLACES],
}

impl Halves {
    fn of(window: &[ByteSet]) -> Self {
        // After its end, a window allows anything.
        let mut halves = Self { low: [u16::MAX; PLACES], high: [u16::MAX; PLACES] };
        for (place, set) in window.iter().enumerate().take(PLACES) {
            (halves.low[place], halves.high[place]) = (0, 0);
            for byte in set.bytes() {
                halves.low[place] |= 1 << (byte & 15);
                halves.high[place] |= 1 << (byte >> 4);
            }
        }
        halves
    }

    fn or(mut self, other: &Self) -> Self {
        self.low.iter_mut().zip(other.low).for_each(|(mine, theirs)| *mine |= theirs);
        self.high.iter_mut().zip(other.high).for_each(|(mine, theirs)| *mine |= theirs);
        self
    }

    /// How often a position of telemetry gets through.
    fn chance(&self, shares: &[[f64; 16]; 16]) -> f64 {
        let place = |(low, high): (&u16, &u16)| {
            let rows = shares.iter().enumerate().filter(|(row, _)| high >> row & 1 == 1);
            let share = |(_, row): (usize, &[f64; 16])| {
                row.iter()
                    .enumerate()
                    .filter(|(column, _)| low >> column & 1 == 1)
                    .map(|(_, s)| s)
                    .sum::<f64>()
            };
            if *low == u16::MAX && *high == u16::MAX { 1.0 } else { rows.map(share).sum::<f64>().min(1.0) }
        };
        self.low.iter().zip(&self.high).map(place).product()
    }
}

/// Windows that share a bucket.
#[derive(Clone, Debug)]
pub(super) struct Cluster {
    pub(super) halves: Halves,
    /// Their places in the list.
    pub(super) windows: Vec<usize>,
    chance: f64,
}

/// Deals windows out to at most so many buckets.
pub(super) fn clusters(windows: &[Window], most: usize) -> Vec<Cluster> {
    let shares: [[f64; 16]; 16] =
        std::array::from_fn(|high| std::array::from_fn(|low| window::share((high << 4 | low) as u8)));
    let single = |(number, window): (usize, &Window)| {
        let halves = Halves::of(window);
        Cluster { halves, windows: vec![number], chance: halves.chance(&shares) }
    };
    let mut clusters: Vec<Cluster> = windows.iter().enumerate().map(single).collect();
    let rest = clusters.split_off(clusters.len().min(COMPARED));
    let more = |a: &Cluster, b: &Cluster| a.halves.or(&b.halves).chance(&shares) - a.chance - b.chance;
    // By cluster, what merging it with each one before it costs.
    let mut costs: Vec<Vec<f64>> =
        (0..clusters.len()).map(|a| (0..a).map(|b| more(&clusters[a], &clusters[b])).collect()).collect();
    while clusters.len() > most {
        let pairs =
            costs.iter().enumerate().flat_map(|(a, row)| row.iter().enumerate().map(move |(b, c)| (c, a, b)));
        let Some((_, a, b)) = pairs.min_by(|(x, ..), (y, ..)| x.total_cmp(y)) else { break };
        let gone = clusters.remove(a);
        costs.remove(a);
        for row in costs.iter_mut().skip(a) {
            row.remove(a);
        }
        join(&mut clusters[b], gone, &shares);
        for other in 0..clusters.len() {
            if other != b {
                costs[other.max(b)][other.min(b)] = more(&clusters[other], &clusters[b]);
            }
        }
    }
    for cluster in rest {
        let best = (0..clusters.len())
            .min_by(|a, b| more(&clusters[*a], &cluster).total_cmp(&more(&clusters[*b], &cluster)));
        if let Some(best) = best {
            join(&mut clusters[best], cluster, &shares);
        }
    }
    clusters
}

fn join(cluster: &mut Cluster, other: Cluster, shares: &[[f64; 16]; 16]) {
    cluster.halves = cluster.halves.or(&other.halves);
    cluster.chance = cluster.halves.chance(shares);
    cluster.windows.extend(other.windows);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scrub::pattern;

    #[test]
    fn every_window_is_in_one_bucket_that_lets_it_through() {
        let windows: Vec<Window> = (0..300)
            .flat_map(|number| {
                pattern::windows(&format!("{}k{number:03}_[a-f]{{3}}", ["", "A", "x-"][number % 3]))
            })
            .collect();
        for most in [1, 8, 24] {
            let clusters = clusters(&windows, most);
            assert_eq!(clusters.len(), most);
            let mut seen: Vec<usize> = clusters.iter().flat_map(|cluster| cluster.windows.clone()).collect();
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..windows.len()));
            for cluster in &clusters {
                for window in &cluster.windows {
                    let own = Halves::of(&windows[*window]);
                    assert!((0..PLACES).all(|at| own.low[at] & !cluster.halves.low[at] == 0));
                    assert!((0..PLACES).all(|at| own.high[at] & !cluster.halves.high[at] == 0));
                }
            }
        }
        assert!(clusters(&[], 8).is_empty());
    }
}
