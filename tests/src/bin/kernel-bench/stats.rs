//! The kernel's run-time statistics of the programs at the hooks of one cgroup.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Result, ensure};
use spanwarden_tests::bpf::{Hook, Program, programs};

/// The name of the empty programs.
pub(crate) const EMPTY: &str = "empty";

/// The name of the programs that look up the packet's socket and do no more.
pub(crate) const LOOK_UP: &str = "look_up";

/// At each hook in use: the empty program, ours, and at those of packets the one that looks up a socket.
pub(crate) struct Programs {
    hooks: Vec<(Hook, Program, Program, Option<Program>)>,
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

    fn since(self, before: Self) -> Self {
        Self { nanoseconds: self.nanoseconds - before.nanoseconds, count: self.count - before.count }
    }

    /// Nanoseconds a run.
    pub(crate) fn mean(self) -> f64 {
        self.nanoseconds / self.count
    }
}

/// By hook: the empty program's, ours, and the look-up's (zero where there is none).
pub(crate) type Snapshot = BTreeMap<&'static str, [Runs; 3]>;

impl Programs {
    /// Finds them: each hook has the empty one and ours, and nobody else's.
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
            ensure!(empty.len() == 1 && ours.len() <= 1, "{hook:?} has {} programs of ours", ours.len());
            // A hook that this version does not use has the others alone.
            if let (Some(empty), Some(ours)) = (empty.pop(), ours.pop()) {
                hooks.push((hook, empty, ours, look_up.pop()));
            }
        }
        Ok(Self { hooks })
    }

    /// Reads all of them.
    pub(crate) fn snapshot(&self) -> Result<Snapshot> {
        let read = |(hook, empty, ours, look_up): &(Hook, Program, Program, Option<Program>)| {
            let look_up = look_up.as_ref().map(Runs::of).transpose()?.unwrap_or_default();
            Ok((name(*hook), [Runs::of(empty)?, Runs::of(ours)?, look_up]))
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
