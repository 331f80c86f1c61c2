//! The cgroup v2 directory: is it one, is it the host's, and is this process in it.

#![forbid(unsafe_code)]

use super::Check;
use crate::origin::loader::{OriginError, Root, open_cgroup};
use std::{
    fs,
    path::{Component, Path},
};

const NAME: &str = "cgroup";
const MEMBERSHIP: &str = "cgroup-membership";

/// The directory for later checks, where it can be used.
pub(super) fn check(path: &Path, checks: &mut Vec<Check>) -> Option<Root> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    match open_cgroup(path.to_owned()) {
        Ok(root) => {
            checks.push(view(&root, &mounts));
            checks.push(membership(&root, &mounts));
            Some(root)
        }
        Err(error) => {
            checks.push(unusable(path, &error));
            checks.push(Check::unchecked(MEMBERSHIP, format!("`{}` cannot be used", path.display())));
            None
        }
    }
}

fn unusable(path: &Path, error: &OriginError) -> Check {
    let path = path.display();
    match error {
        OriginError::NotCgroup2 { hint, .. } => {
            Check::fail(NAME, format!("`{path}` is not in a cgroup v2 hierarchy"))
                .because("the programs attach to cgroup v2 only; v1 has no such hooks")
                .remedy(hint.clone())
        }
        OriginError::NoCgroup { source, .. } => Check::fail(
            NAME,
            format!("`{path}` cannot be opened: {source}"),
        )
        .because("the agent attaches to a directory of the host's cgroup v2 hierarchy")
        .remedy(
            "set `extensions.origin.cgroup` (or --cgroup) to where it is mounted; in a pod, mount the host's \
                 /sys/fs/cgroup with a hostPath volume",
        ),
        other => Check::fail(NAME, format!("`{path}` cannot be used")).because(other.to_string()),
    }
}

/// Whose hierarchy it is. Only the root of the whole has no `cgroup.type` (`CFTYPE_NOT_ON_ROOT`, kernel/cgroup/cgroup.c).
fn view(root: &Root, mounts: &str) -> Check {
    let path = root.path.display();
    let beside = if hybrid(mounts) { ", beside cgroup v1" } else { "" };
    if !root.path.join("cgroup.type").exists() {
        let found =
            format!("`{path}` is the host's root of cgroup v2{beside}: every process of the node is seen");
        return Check::ok(NAME, found);
    }
    let below = format!("`{path}` (id {}){beside}", root.id);
    match mount_of(&root.path, mounts) {
        Some(mount) if mount.point.join("cgroup.type").exists() => {
            Check::warn(NAME, format!("{below} is a container's view of the hierarchy"))
                .because("what is outside of this container's own cgroup is not seen: other pods, in a pod")
                .remedy(
                    "in a pod mount the host's /sys/fs/cgroup with a hostPath volume and give that path, as \
                     deploy/agent/daemonset.yaml does; on a node that is a container itself (kind) all is well",
                )
        }
        _ => Check::ok(NAME, format!("{below} is below the host's root: only processes in it are seen")),
    }
}

fn membership(root: &Root, mounts: &str) -> Check {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default();
    match mount_of(&root.path, mounts).and_then(|mount| is_inside(own, &mount, &root.path)) {
        Some(true) => Check::ok(MEMBERSHIP, format!("this process is in it (`{own}`)")),
        Some(false) => Check::fail(MEMBERSHIP, format!("this process is in `{own}`"))
            .because(
                "a process outside of the watched cgroup accepts connections that the programs do not see, so the \
                 agent refuses to start there",
            )
            .remedy("watch the hierarchy's root, or start the agent in a cgroup below the watched one"),
        None => Check::warn(MEMBERSHIP, format!("this process is in `{own}`, as its namespace tells it"))
            .because("from inside of a cgroup namespace it cannot be told how that relates to the watched directory")
            .remedy("none is needed where the canary is attributed"),
    }
}

/// A cgroup2 mount.
struct Mount<'a> {
    /// Where in the hierarchy it begins, as seen from this process's cgroup namespace.
    root: &'a Path,
    point: &'a Path,
}

/// The innermost cgroup2 mount that `path` is on: proc(5), fields 4 and 5, and the type after the separator.
fn mount_of<'a>(path: &Path, mounts: &'a str) -> Option<Mount<'a>> {
    let cgroup2 = mounts.lines().filter_map(|line| {
        let (fields, rest) = line.split_once(" - ")?;
        let mut fields = fields.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        rest.starts_with("cgroup2 ").then_some(Mount { root: Path::new(root), point: Path::new(point) })
    });
    cgroup2.filter(|mount| path.starts_with(mount.point)).max_by_key(|mount| mount.point.as_os_str().len())
}

fn hybrid(mounts: &str) -> bool {
    mounts.lines().any(|line| line.contains(" - cgroup "))
}

/// Whether a process in `own` is in the directory `path` on `mount`; `None` when names are hidden that would be
/// needed to tell.
fn is_inside(own: &str, mount: &Mount<'_>, path: &Path) -> Option<bool> {
    let below = path.strip_prefix(mount.point).ok()?;
    let up = |path: &Path| path.components().filter(|part| *part == Component::ParentDir).count();
    let own = Path::new(own);
    if up(mount.root) == 0 && up(own) == 0 {
        return Some(own.starts_with(mount.root.join(below)));
    }
    // The mount begins above the namespace's own root: everything of the namespace is below it, and by which
    // names is not told.
    (below.as_os_str().is_empty()
        && up(own) == 0
        && mount.root.components().all(|part| !matches!(part, Component::Normal(_))))
    .then_some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_found_in_or_out_or_neither() {
        let inside = |own, root, path| {
            let mount = Mount { root: Path::new(root), point: Path::new("/m") };
            is_inside(own, &mount, Path::new(path))
        };
        let table = [
            ("/", "/", "/m", Some(true)),
            ("/system.slice/a.service", "/", "/m", Some(true)),
            ("/system.slice/a.service", "/", "/m/system.slice", Some(true)),
            ("/system.slicer/a", "/", "/m/system.slice", Some(false)),
            ("/", "/", "/m/kubepods.slice", Some(false)),
            ("/a/b", "/a", "/m", Some(true)),
            ("/a/b", "/a", "/m/c", Some(false)),
            ("/", "/../../..", "/m", Some(true)),
            ("/x", "/../../..", "/m", Some(true)),
            ("/", "/../../..", "/m/kubepods.slice", None),
            ("/", "/../other", "/m", None),
        ];
        for (own, root, path, expected) in table {
            assert_eq!(inside(own, root, path), expected, "{own} in {path} (root {root})");
        }
    }

    #[test]
    fn the_mount_of_a_path_is_the_innermost() {
        let mounts = "\
30 23 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro
31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
32 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
33 30 0:27 /pods /sys/fs/cgroup/unified/pods rw - cgroup2 cgroup2 rw
";
        let point = |path| {
            mount_of(Path::new(path), mounts).map(|mount| (mount.root.to_owned(), mount.point.to_owned()))
        };
        assert_eq!(point("/sys/fs/cgroup/unified/a"), Some(("/".into(), "/sys/fs/cgroup/unified".into())));
        assert_eq!(
            point("/sys/fs/cgroup/unified/pods/a"),
            Some(("/pods".into(), "/sys/fs/cgroup/unified/pods".into()))
        );
        assert_eq!(point("/sys/fs/cgroup/memory"), None);
        assert!(hybrid(mounts));
    }
}
