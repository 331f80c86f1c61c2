//! From cgroup ids to paths.
//!
//! A cgroup's id is its directory's inode number (cgroup2, 64-bit kernels since 5.5, where ids are never used
//! again). A record holds the ids from level 1 down, so a path is found by reading one directory a level, and
//! it is found as far down as it still exists: a container that is gone leaves its pod.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::DirEntryExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

/// Cgroups remembered; a node has some hundreds. Beyond it all are forgotten and found again.
const REMEMBERED: usize = 16_384;

/// What is known of the watched tree, with whatever the caller makes of a path.
pub(super) struct Tree<P> {
    root: PathBuf,
    root_id: u64,
    /// Only ids whose own directory was found: what is said of them stays true when it is removed.
    found: Mutex<HashMap<u64, Arc<P>>>,
}

impl<P: Clone> Tree<P> {
    pub(super) fn new(root: &Path, root_id: u64) -> Self {
        Self { root: root.to_path_buf(), root_id, found: Mutex::default() }
    }

    /// The innermost cgroup of the chain that exists, or existed when it was asked for earlier; `None` when even
    /// the outermost is gone. `make` gets a path relative to the root.
    pub(super) fn find(&self, id: u64, ancestors: &[u64], make: impl Fn(&Path) -> P) -> Option<P> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = found.get(&id) {
            return Some(P::clone(known));
        }
        drop(found);
        let mut path = self.root.clone();
        let mut last = None;
        for next in self.below_root(id, ancestors) {
            let Some(name) = child(&path, next) else { break };
            path.push(name);
            last = Some(next);
        }
        let Some(last) = last else {
            return if id == self.root_id { Some(make(Path::new(""))) } else { self.remembered(ancestors) };
        };
        let place = make(path.strip_prefix(&self.root).unwrap_or(&path));
        if last == id {
            self.remember(id, &place);
            return Some(place);
        }
        // Something below is gone; an ancestor seen earlier may know more than what still exists.
        let deeper = ancestors.iter().position(|&a| a == last).map_or(ancestors, |at| &ancestors[at + 1..]);
        Some(self.remembered(deeper).unwrap_or(place))
    }

    /// The ids from the first level below the root to `id`. Where the root itself is not in the chain it is the
    /// hierarchy's root (level 0).
    fn below_root(&self, id: u64, ancestors: &[u64]) -> Vec<u64> {
        let mut chain: Vec<u64> = ancestors.iter().copied().take_while(|&a| a != 0).collect();
        if chain.last() != Some(&id) && id != 0 {
            chain.push(id);
        }
        match chain.iter().position(|&a| a == self.root_id) {
            Some(at) => chain.split_off(at + 1),
            None => chain,
        }
    }

    fn remembered(&self, ancestors: &[u64]) -> Option<P> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        ancestors.iter().rev().find_map(|a| found.get(a)).map(|known| P::clone(known))
    }

    fn remember(&self, id: u64, place: &P) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if found.len() >= REMEMBERED {
            found.clear();
        }
        found.insert(id, Arc::new(place.clone()));
    }
}

/// The entry with this inode number.
fn child(directory: &Path, id: u64) -> Option<std::ffi::OsString> {
    fs::read_dir(directory).ok()?.flatten().find(|entry| entry.ino() == id).map(|entry| entry.file_name())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    /// Inode numbers are ids here too, so any directory tree will do.
    fn make_tree(name: &str) -> (PathBuf, Vec<u64>) {
        let root = std::env::temp_dir().join(format!("spanwarden-tree-{name}-{}", std::process::id()));
        fs::create_dir_all(root.join("kubepods/pod1/c1/nested")).unwrap();
        let ids = ["", "kubepods", "kubepods/pod1", "kubepods/pod1/c1", "kubepods/pod1/c1/nested"]
            .map(|path| fs::metadata(root.join(path)).unwrap().ino());
        (root, ids.to_vec())
    }

    fn path(tree: &Tree<PathBuf>, id: u64, ancestors: &[u64]) -> Option<PathBuf> {
        tree.find(id, ancestors, Path::to_path_buf)
    }

    #[test]
    fn a_chain_is_followed_to_its_end_and_as_far_as_it_exists() {
        let (root, ids) = make_tree("exists");
        let tree = Tree::new(&root, ids[0]);
        let ancestors = [ids[1], ids[2], ids[3], ids[4], 0, 0];
        assert_eq!(path(&tree, ids[4], &ancestors), Some("kubepods/pod1/c1/nested".into()));
        // The watched root somewhere in the chain.
        assert_eq!(
            path(&tree, ids[3], &[7, ids[0], ids[1], ids[2], ids[3], 0]),
            Some("kubepods/pod1/c1".into())
        );
        // A leaf that nobody ever saw: its pod is still known.
        assert_eq!(path(&tree, 1 << 60, &[ids[1], ids[2], 1 << 60, 0, 0, 0]), Some("kubepods/pod1".into()));
        // One that was asked for before it was removed.
        fs::remove_dir_all(root.join("kubepods/pod1")).unwrap();
        assert_eq!(path(&tree, ids[4], &ancestors), Some("kubepods/pod1/c1/nested".into()));
        // A sibling of it that was not, below a container that was.
        assert_eq!(
            path(&tree, 1 << 61, &[ids[1], ids[2], ids[3], 1 << 61, 0, 0]),
            Some("kubepods/pod1/c1".into())
        );
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(path(&tree, 1 << 60, &[1 << 60, 0, 0, 0, 0, 0]), None);
        assert_eq!(path(&tree, ids[0], &[0; 6]), Some("".into()));
    }

    #[test]
    fn a_leaf_below_level_six_is_found_under_its_known_ancestors() {
        let (root, ids) = make_tree("deep");
        let tree = Tree::new(&root, ids[0]);
        assert_eq!(path(&tree, ids[4], &[ids[1], ids[2], ids[3]]), Some("kubepods/pod1/c1/nested".into()));
        fs::remove_dir_all(&root).unwrap();
    }
}
