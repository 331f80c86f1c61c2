//! The pods' cgroups as they are now.

#![forbid(unsafe_code)]

use crate::origin::{
    cgroup::{Level, level},
    loader::Root,
};
use std::{
    fs,
    os::unix::fs::DirEntryExt as _,
    path::{Path, PathBuf},
};

/// Directory entries that one walk looks at: far more than a node has where pods can be.
const ENTRIES: usize = 65_536;

/// The watched directory.
#[derive(Clone, Debug)]
pub(in crate::origin) struct Watched {
    pub(super) path: PathBuf,
    pub(super) id: u64,
    /// Its path below the hierarchy's root, with a slash in front; empty for the root.
    pub(super) below_mount: String,
}

impl Watched {
    pub(in crate::origin) fn of(root: &Root) -> Self {
        Self { path: root.path.clone(), id: root.id, below_mount: root.below_mount() }
    }
}

/// A cgroup that matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) id: u64,
    pub(super) kind: Kind,
}

impl Node {
    /// Whether it belongs to the pod with this uid.
    pub(super) fn is_pod(&self, uid: &str) -> bool {
        matches!(&self.kind, Kind::Pod(own) if own == uid)
    }
}

/// What it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Holds pods and nothing else.
    Group,
    /// Holds a container runtime, and containers beside it.
    Runtime,
    /// A pod, by uid.
    Pod(String),
}

/// What [`walk`] found.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// Groups before what is in them.
    pub(super) nodes: Vec<Node>,
    /// There was more than is looked at.
    pub(super) cut: bool,
}

/// Walks from the watched directory as far as pods can be. `enter` is told each directory before it is read, so that
/// what appears meanwhile is either read or reported to whoever watches it.
pub(super) fn walk(watched: &Watched, mut enter: impl FnMut(&Path)) -> Walk {
    let mut found = Walk::default();
    let mut waiting = vec![(watched.path.clone(), watched.id, classify(watched, Path::new("")))];
    let mut entries = 0;
    while let Some((path, id, level)) = waiting.pop() {
        match &level {
            Level::Other => continue,
            Level::Pod(uid) => {
                found.nodes.push(Node { id, kind: Kind::Pod(uid.clone()) });
                continue;
            }
            Level::Group => found.nodes.push(Node { id, kind: Kind::Group }),
            Level::Runtime | Level::Lead => {}
        }
        enter(&path);
        let mut pods = Vec::new();
        for entry in fs::read_dir(&path).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            entries += 1;
            if entries > ENTRIES {
                found.cut = true;
                break;
            }
            let below = entry.path();
            let relative = below.strip_prefix(&watched.path).unwrap_or(&below);
            match classify(watched, relative) {
                Level::Pod(uid) => pods.push(Node { id: entry.ino(), kind: Kind::Pod(uid) }),
                Level::Other => {}
                level => waiting.push((below, entry.ino(), level)),
            }
        }
        // A service without containers in it is like any other.
        if level == Level::Runtime && !pods.is_empty() {
            found.nodes.push(Node { id, kind: Kind::Runtime });
        }
        found.nodes.append(&mut pods);
    }
    found
}

/// The watched directory stands for the hierarchy's root; what is nothing there may be something on its full path,
/// for an operator who watches a part of the tree.
fn classify(watched: &Watched, relative: &Path) -> Level {
    let below = relative.to_string_lossy();
    let nested = level(&below);
    if matches!(nested, Level::Group | Level::Pod(_)) || watched.below_mount.is_empty() {
        return nested;
    }
    let whole = level(&format!("{}/{below}", watched.below_mount));
    if whole == Level::Other { nested } else { whole_or(nested, whole) }
}

fn whole_or(nested: Level, whole: Level) -> Level {
    if matches!(whole, Level::Group | Level::Pod(_)) || nested == Level::Other { whole } else { nested }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    const UID: &str = "8dbc05c8-e6f9-4c36-8d3d-2d35b6e5a0ac";
    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    /// Inode numbers are ids in any file system.
    struct Made(PathBuf);

    impl Made {
        fn new(name: &str, directories: &[String]) -> Self {
            let root = std::env::temp_dir().join(format!("spanwarden-walk-{name}-{}", std::process::id()));
            for directory in directories {
                fs::create_dir_all(root.join(directory)).unwrap();
            }
            Self(root)
        }

        fn id(&self, below: &str) -> u64 {
            fs::metadata(self.0.join(below)).unwrap().ino()
        }

        fn watched(&self, below: &str, below_mount: &str) -> Watched {
            Watched { path: self.0.join(below), id: self.id(below), below_mount: below_mount.to_owned() }
        }
    }

    impl Drop for Made {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn sorted(mut nodes: Vec<Node>) -> Vec<Node> {
        nodes.sort_by_key(|node| node.id);
        nodes
    }

    #[test]
    fn groups_and_pods_are_found_and_containers_are_not_entered() {
        let made = Made::new(
            "layouts",
            &[
                format!(
                    "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{}.slice/cri-containerd-{ID}.scope",
                    UID.replace('-', "_")
                ),
                format!("kubelet/kubepods/pod{UID}/{ID}"),
                format!("system.slice/containerd.service/kubepods-pod{UID}.slice:cri-containerd:{ID}"),
                "system.slice/k3s.service".to_owned(),
                format!("system.slice/sshd.service/kubepods/pod{UID}"),
            ],
        );
        let mut entered = Vec::new();
        let found = walk(&made.watched("", ""), |path| entered.push(path.to_owned()));
        let besteffort = "kubepods.slice/kubepods-besteffort.slice";
        let slice = format!("{besteffort}/kubepods-besteffort-pod{}.slice", UID.replace('-', "_"));
        let colon = format!("system.slice/containerd.service/kubepods-pod{UID}.slice:cri-containerd:{ID}");
        let pod = || Kind::Pod(UID.to_owned());
        let expected = [
            ("kubepods.slice", Kind::Group),
            (besteffort, Kind::Group),
            (&slice, pod()),
            ("kubelet/kubepods", Kind::Group),
            (&format!("kubelet/kubepods/pod{UID}"), pod()),
            ("system.slice/containerd.service", Kind::Runtime),
            (&colon, pod()),
        ];
        let expected = expected.map(|(path, kind)| Node { id: made.id(path), kind }).to_vec();
        assert_eq!(sorted(found.nodes), sorted(expected));
        assert!(entered.contains(&made.0.join("system.slice/k3s.service")), "containers may appear there");
        assert!(!entered.contains(&made.0.join("system.slice/sshd.service")));
        assert!(!found.cut);
    }

    #[test]
    fn a_watched_part_of_the_tree_is_known_by_its_full_path() {
        let made = Made::new("part", &[format!("kubepods/burstable/pod{UID}")]);
        let found = walk(&made.watched("kubepods", "/kubepods"), |_| {});
        let expected = [
            ("kubepods", Kind::Group),
            ("kubepods/burstable", Kind::Group),
            (&format!("kubepods/burstable/pod{UID}"), Kind::Pod(UID.to_owned())),
        ];
        let expected = expected.map(|(path, kind)| Node { id: made.id(path), kind }).to_vec();
        assert_eq!(sorted(found.nodes), sorted(expected));
    }
}
