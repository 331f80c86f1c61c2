//! The kernel's run-time statistics of the programs at the hooks of one cgroup.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Result, bail, ensure};
use spanwarden_tests::bpf::{Hook, Program, programs};

/// The name of the empty programs: at each hook one that runs before ours and one that runs after it, because the first
/// of all pays for what the others find in the caches.
pub(crate) const EMPTY: &str = "empty";

/// The name of the programs that look up the packet's socket and do no more.
pub(crate) const LOOK_UP: &str = "look_up";

/// At each hook in use: the empty programs, ours, and at those of packets the one that looks up a socket.
pub(crate) struct Programs {
    hooks: Vec<(Hook, [Program; 2], Program, Option<Program>)>,
}

/// Time and runs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Runs {
    pub(crate) nanoseconds: f64,
    pub(crate) count: f64,
}

impl Runs {
    fn of(program: &Program) -> Result<Self> {
        let info = program.info()?;
        Ok(Self { nanoseconds: info.nanoseconds as f64, count: info.runs as f64 })
    }

    /// Both on average.
    fn and(self, other: Self) -> Self {
        Self {
            nanoseconds: f64::midpoint(self.nanoseconds, other.nanoseconds),
            count: f64::midpoint(self.count, other.count),
        }
    }

    fn since(self, before: Self) -> Self {
        Self { nanoseconds: self.nanoseconds - before.nanoseconds, count: self.count - before.count }
    }

    /// Nanoseconds a run.
    pub(crate) fn mean(self) -> f64 {
        self.nanoseconds / self.count
    }
}

/// By hook: the empty programs' (on average), ours, and the look-up's (zero where there is none).
pub(crate) type Snapshot = BTreeMap<&'static str, [Runs; 3]>;

impl Programs {
    /// Finds them: each hook has the empty ones and ours, and nobody else's.
    pub(crate) fn at(cgroup: &Path) -> Result<Self> {
        let mut hooks = Vec::new();
        for hook in Hook::ALL {
            let (mut empty, mut ours, mut look_up) = (Vec::new(), Vec::new(), Vec::new());
            for id in programs(cgroup, hook)? {
                let program = Program::open(id)?;
                let list = match program.info()?.name.as_str() {
                    EMPTY => &mut empty,
                    LOOK_UP => &mut look_up,
                    _ => &mut ours,
                };
                list.push(program);
            }
            ensure!(ours.len() <= 1, "{hook:?} has {} programs of ours", ours.len());
            let count = empty.len();
            let Ok(empty) = <[Program; 2]>::try_from(empty) else {
                bail!("{hook:?} has {count} empty programs")
            };
            // A hook that this version does not use has the others alone.
            if let Some(ours) = ours.pop() {
                hooks.push((hook, empty, ours, look_up.pop()));
            }
        }
        Ok(Self { hooks })
    }

    /// Reads all of them.
    pub(crate) fn snapshot(&self) -> Result<Snapshot> {
        let read =
            |(hook, [before, after], ours, look_up): &(Hook, [Program; 2], Program, Option<Program>)| {
                let look_up = look_up.as_ref().map(Runs::of).transpose()?.unwrap_or_default();
                let empty = Runs::of(before)?.and(Runs::of(after)?);
                Ok((name(*hook), [empty, Runs::of(ours)?, look_up]))
            };
        self.hooks.iter().map(read).collect()
    }
}

/// What was added between two snapshots.
pub(crate) fn between(before: &Snapshot, after: &Snapshot) -> Snapshot {
    let added = |(hook, now): (&&'static str, &[Runs; 3])| {
        let then = before.get(hook).copied().unwrap_or_default();
        (*hook, [0, 1, 2].map(|which| now[which].since(then[which])))
    };
    after.iter().map(added).collect()
}

fn name(hook: Hook) -> &'static str {
    match hook {
        Hook::Ingress => "ingress",
        Hook::Egress => "egress",
        Hook::SockOps => "sock_ops",
        Hook::Connect4 => "connect4",
        Hook::Connect6 => "connect6",
    }
}
