//! Whether programs of others leave room at the hooks.

#![forbid(unsafe_code)]

use super::{
    Check,
    query::{self, Attached},
};
use crate::origin::loader::Root;
use aya::programs::loaded_programs;
use std::{collections::BTreeMap, fs::File, io, os::unix::fs::MetadataExt as _};

const NAME: &str = "hooks";

/// The hooks in use: `enum bpf_attach_type` (linux/bpf.h).
const HOOKS: [(u32, &str); 5] =
    [(10, "connect4"), (11, "connect6"), (3, "sock_ops"), (1, "egress"), (0, "ingress")];

/// The program by which running agents are counted: one each.
const ONE_EACH: &str = "origin_connect4";

/// Bytes that the kernel keeps of a program's name (`BPF_OBJ_NAME_LEN` less the terminator).
const NAME_LENGTH: usize = 15;

/// Looks at the hooks of the cgroup and of all above, without attaching; `own` are the names of our programs.
pub(super) fn check(root: Option<&Root>, own: &[String]) -> Check {
    let Some(root) = root else {
        return Check::unchecked(NAME, "there is no cgroup to look at (see `cgroup`)");
    };
    match look(root) {
        Ok(found) => judge(&found, own),
        Err(error) => Check::unchecked(NAME, format!("BPF_PROG_QUERY: {error}"))
            .remedy("the kernel answers only processes with BPF and NET_ADMIN (see `capabilities`)"),
    }
}

/// What is attached at one hook of one cgroup.
struct Found {
    hook: &'static str,
    /// Its directory, for people.
    path: String,
    /// Whether it is the watched cgroup itself, and not one above.
    here: bool,
    attached: Attached,
}

fn look(root: &Root) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    for directory in root.path.ancestors() {
        let Ok(file) = File::open(directory) else { break };
        // The mount's root has been passed when its parent is on another file system.
        if file.metadata()?.dev() != root.dir.metadata()?.dev() {
            break;
        }
        for (attach_type, hook) in HOOKS {
            let attached = query::attached(&file, attach_type)?;
            let path = directory.display().to_string();
            found.push(Found { hook, path, here: directory == root.path, attached });
        }
    }
    Ok(found)
}

/// As the kernel decides it (`hierarchy_allows_attach` and `__cgroup_bpf_attach`, kernel/bpf/cgroup.c): in the cgroup
/// itself everything must share; above, the nearest cgroup with a program must share or give way.
fn judge(found: &[Found], own: &[String]) -> Check {
    let names = names();
    let (mut exclusive, mut displaced) = (Vec::new(), Vec::new());
    for (_, hook) in HOOKS {
        let at_hook: Vec<&Found> =
            found.iter().filter(|at| at.hook == hook && !at.attached.programs.is_empty()).collect();
        let said = |at: &Found| format!("{} at {hook} of `{}`", list(&at.attached.programs, &names), at.path);
        if let Some(here) = at_hook.iter().find(|at| at.here) {
            if !here.attached.shares() {
                exclusive.push(said(here));
            }
            continue;
        }
        if let Some(above) = at_hook.first().filter(|at| !at.attached.shares()) {
            let list = if above.attached.gives_way() { &mut displaced } else { &mut exclusive };
            list.push(said(above));
        }
    }
    if !exclusive.is_empty() {
        return Check::fail(NAME, "programs of others are attached exclusively")
            .because(exclusive.join("; "))
            .remedy(
                "their owner must attach by link or with BPF_F_ALLOW_MULTI (Cilium and systemd do); `bpftool cgroup \
                 tree` shows them. The agent cannot start before",
            );
    }
    if !displaced.is_empty() {
        return Check::warn(NAME, "attaching would displace programs of others")
            .because(format!(
                "{} gives way to programs in cgroups below it, and would not run there",
                displaced.join("; ")
            ))
            .remedy("watch the hierarchy's root, or have its owner attach with BPF_F_ALLOW_MULTI");
    }
    Check::ok(NAME, format!("all {} have room; {}", HOOKS.len(), company(found, &names, own)))
}

/// Who else is there.
fn company(found: &[Found], names: &BTreeMap<u32, String>, own: &[String]) -> String {
    let ids: Vec<u32> = found.iter().flat_map(|at| at.attached.programs.iter().copied()).collect();
    if ids.is_empty() {
        return "nothing is attached".to_owned();
    }
    if names.is_empty() {
        return format!("{} programs are attached, whose names are not told without SYS_ADMIN", ids.len());
    }
    let is =
        |id: &u32, own: &str| names.get(id).is_some_and(|name| name == &own[..own.len().min(NAME_LENGTH)]);
    let agents = ids.iter().filter(|id| is(id, ONE_EACH)).count();
    let others = ids.iter().filter(|id| !own.iter().any(|own| is(id, own))).count();
    match agents {
        0 => format!("{others} programs of others share them"),
        1 => format!("an agent runs here and is left alone; {others} programs of others share them"),
        _ => format!("{agents} agents run here and are left alone; {others} programs of others share them"),
    }
}

/// Names of all loaded programs by id.
fn names() -> BTreeMap<u32, String> {
    let programs = loaded_programs().filter_map(Result::ok);
    programs.map(|info| (info.id(), info.name_as_str().unwrap_or_default().to_owned())).collect()
}

fn list(programs: &[u32], names: &BTreeMap<u32, String>) -> String {
    let listed: Vec<String> = programs
        .iter()
        .map(|id| match names.get(id).map(String::as_str) {
            None | Some("") => format!("program {id}"),
            Some(name) => format!("program {id} `{name}`"),
        })
        .collect();
    listed.join(" and ")
}
