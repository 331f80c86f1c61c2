//! The kernel's run-time statistics of the programs at the hooks of one cgroup.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Result, ensure};
use aya::programs::{ProgramInfo, loaded_programs};
use spanwarden_tests::bpf::{Hook, programs};

/// The name of the empty programs.
const EMPTY: &str = "empty";

/// Program ids of each hook: the empty one's, and ours.
pub(crate) struct Programs {
    hooks: Vec<(Hook, u32, u32)>,
}

/// Time and runs so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Runs {
    pub(crate) nanoseconds: f64,
    pub(crate) count: f64,
}

impl Runs {
    fn of(info: &ProgramInfo) -> Self {
        Self { nanoseconds: info.run_time().as_nanos() as f64, count: info.run_count() as f64 }
    }

    fn since(self, before: Self) -> Self {
        Self { nanoseconds: self.nanoseconds - before.nanoseconds, count: self.count - before.count }
    }

    /// Nanoseconds a run.
    pub(crate) fn mean(self) -> f64 {
        self.nanoseconds / self.count
    }
}

/// By hook: the empty program's, and ours.
pub(crate) type Snapshot = BTreeMap<&'static str, (Runs, Runs)>;

impl Programs {
    /// Finds them: each hook has the empty one and ours, and nobody else's.
    pub(crate) fn at(cgroup: &Path) -> Result<Self> {
        let infos = all();
        let mut hooks = Vec::new();
        for hook in Hook::ALL {
            let ids = programs(cgroup, hook)?;
            let (empty, ours): (Vec<u32>, Vec<u32>) =
                ids.iter().partition(|id| infos.get(id).and_then(ProgramInfo::name_as_str) == Some(EMPTY));
            if ours.is_empty() {
                continue; // a hook that this version does not use
            }
            ensure!(empty.len() == 1 && ours.len() == 1, "{hook:?} has {ids:?}");
            hooks.push((hook, empty[0], ours[0]));
        }
        Ok(Self { hooks })
    }

    /// Reads all of them.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let infos = all();
        let runs = |id: &u32| infos.get(id).map(Runs::of).unwrap_or_default();
        self.hooks.iter().map(|(hook, empty, ours)| (name(*hook), (runs(empty), runs(ours)))).collect()
    }
}

/// What was added between two snapshots.
pub(crate) fn between(before: &Snapshot, after: &Snapshot) -> Snapshot {
    after
        .iter()
        .map(|(hook, now)| {
            let then = before.get(hook).copied().unwrap_or_default();
            (*hook, (now.0.since(then.0), now.1.since(then.1)))
        })
        .collect()
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

fn all() -> BTreeMap<u32, ProgramInfo> {
    loaded_programs().filter_map(Result::ok).map(|info| (info.id(), info)).collect()
}
