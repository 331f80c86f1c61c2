//! Against the kernel's own map and directories that are named like cgroups. Needs root.

use super::*;
use crate::{
    config::extensions::{PlaintextRule, PodSelector},
    origin::{Pod, loader::OBJECT},
};
use aya::EbpfLoader;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::{
    collections::HashMap, fs, net::IpAddr, os::fd::AsFd as _, os::unix::fs::MetadataExt as _, path::PathBuf,
};

struct Tree(PathBuf);

impl Tree {
    fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("spanwarden-policies-{name}-{}", std::process::id()));
        fs::create_dir_all(root.join("kubepods/burstable")).unwrap();
        Self(root)
    }

    fn id(&self, below: &str) -> u64 {
        fs::metadata(self.0.join(below)).unwrap().ino()
    }

    fn pod(&self, number: usize) -> u64 {
        let below = format!("kubepods/burstable/pod{}", uid(number));
        fs::create_dir(self.0.join(&below)).unwrap();
        self.id(&below)
    }

    fn watched(&self) -> Watched {
        Watched { path: self.0.clone(), id: self.id(""), below_mount: String::new() }
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn uid(number: usize) -> String {
    format!("5aa00000-7e57-4e57-8e57-{number:012x}")
}

#[derive(Default)]
struct Listed(Mutex<HashMap<String, Arc<Pod>>>);

impl Listed {
    fn add(&self, number: usize, namespace: &str) {
        let pod = Pod { uid: uid(number), namespace: namespace.to_owned(), ..Pod::default() };
        self.0.lock().unwrap().insert(uid(number), Arc::new(pod));
    }
}

impl PodSource for Listed {
    fn by_uid(&self, uid: &str) -> Option<Arc<Pod>> {
        self.0.lock().unwrap().get(uid).cloned()
    }

    fn by_ip(&self, _: IpAddr) -> Option<Arc<Pod>> {
        None
    }
}

fn policies(tree: &Tree, policy: PlaintextPolicy, own: Vec<u64>, pods: &Arc<Listed>) -> Policies {
    let mut bpf = EbpfLoader::new().load(OBJECT).unwrap();
    let mut policies: KernelMap<_, u64, Policy> = bpf.take_map("POLICIES").unwrap().try_into().unwrap();
    let denied = bpf.take_map("DENIED").unwrap().try_into().unwrap();
    // What an agent before this one has left.
    policies.insert(77, Policy(abi::Policy { mode: abi::MODE_BLOCK, ..abi::Policy::default() }), 0).unwrap();
    let pods: Arc<dyn PodSource> = Arc::<Listed>::clone(pods);
    Policies::new((policies, denied), policy, tree.watched(), own, pods)
}

/// What the kernel has, as `(mode, group)` by cgroup.
fn in_kernel(policies: &Policies) -> BTreeMap<u64, (u32, bool)> {
    let state = policies.state();
    let entries = state.policies.iter().map(Result::unwrap);
    entries.map(|(id, Policy(p))| (id, (p.mode, p.flags & abi::POLICY_GROUP != 0))).collect()
}

/// `observe`, but `block` in the namespace `shop`.
fn shop_only() -> PlaintextPolicy {
    let pods = PodSelector { namespaces: vec!["shop".to_owned()], match_labels: Vec::new() };
    let rules = vec![PlaintextRule { mode: PlaintextMode::Block, pods }];
    PlaintextPolicy { rules, ..PlaintextPolicy::default() }
}

#[test]
fn pods_that_differ_from_their_group_have_an_entry_and_lose_it_with_their_cgroup() {
    let (tree, pods) = (Tree::new("entries"), Arc::<Listed>::default());
    let (blocked, _unknown, _other, own) = (tree.pod(1), tree.pod(2), tree.pod(3), tree.pod(4));
    for (number, namespace) in [(1, "shop"), (3, "bank"), (4, "shop")] {
        pods.add(number, namespace);
    }
    let policies = policies(&tree, shop_only(), vec![own], &pods);
    policies.rescan();
    let groups =
        [tree.id("kubepods"), tree.id("kubepods/burstable")].map(|id| (id, (abi::MODE_OBSERVE, true)));
    let expected =
        groups.into_iter().chain([(blocked, (abi::MODE_BLOCK, false))]).collect::<BTreeMap<_, _>>();
    assert_eq!(in_kernel(&policies), expected);
    fs::remove_dir(tree.0.join(format!("kubepods/burstable/pod{}", uid(1)))).unwrap();
    policies.rescan();
    assert_eq!(in_kernel(&policies), BTreeMap::from(groups));
}

#[test]
fn where_all_are_blocked_the_agent_s_own_pod_is_not() {
    let (tree, pods) = (Tree::new("own"), Arc::<Listed>::default());
    let (_unknown, own) = (tree.pod(1), tree.pod(2));
    let policy = PlaintextPolicy { mode: PlaintextMode::Block, ..PlaintextPolicy::default() };
    let policies = policies(&tree, policy, vec![7, own], &pods);
    policies.rescan();
    let found = in_kernel(&policies);
    assert_eq!(found.get(&tree.id("kubepods")), Some(&(abi::MODE_BLOCK, true)));
    assert_eq!(found.get(&own), Some(&(abi::MODE_OBSERVE, false)));
    assert_eq!(found.len(), 3, "{found:?}");
    assert_eq!(policies.verdict(&uid(1)), Verdict::Blocked, "unknown, but all are");
    pods.add(2, "spanwarden");
    assert_eq!(policies.verdict(&uid(2)), Verdict::Passes);
}

#[test]
fn new_cgroups_and_new_knowledge_are_noticed() {
    let (tree, pods) = (Tree::new("new"), Arc::<Listed>::default());
    let policies = policies(&tree, shop_only(), Vec::new(), &pods);
    policies.rescan();
    let events = policies.events().unwrap();
    let told = |patience: u16| {
        poll(&mut [PollFd::new(events.as_fd(), PollFlags::POLLIN)], PollTimeout::from(patience)) == Ok(1)
    };
    assert!(!told(0));
    let pod = tree.pod(1);
    assert!(told(10_000));
    policies.rescan();
    assert!(!told(0), "what was read is not told again");
    assert_eq!(in_kernel(&policies).get(&pod), None);
    assert_eq!(policies.verdict(&uid(1)), Verdict::Unknown);
    pods.add(1, "shop");
    policies.refresh();
    assert_eq!(in_kernel(&policies).get(&pod), Some(&(abi::MODE_BLOCK, false)));
    // One whose plaintext is seen before its cgroup was.
    let second = tree.pod(2);
    pods.add(2, "shop");
    std::thread::sleep(RESPITE);
    assert_eq!(policies.verdict(&uid(2)), Verdict::Blocked);
    assert_eq!(in_kernel(&policies).get(&second), Some(&(abi::MODE_BLOCK, false)));
    assert_eq!(policies.verdict(&uid(3)), Verdict::Unknown, "nobody");
    pods.add(4, "bank");
    tree.pod(4);
    std::thread::sleep(RESPITE);
    assert_eq!(policies.verdict(&uid(4)), Verdict::Passes);
}

#[test]
fn a_denial_names_the_pod_s_cgroup() {
    let (tree, pods) = (Tree::new("deny"), Arc::<Listed>::default());
    let pod = tree.pod(1);
    let policies = policies(&tree, shop_only(), Vec::new(), &pods);
    policies.rescan();
    policies.deny(&uid(1), "10.96.0.1:4317".parse().unwrap(), 12);
    let state = policies.state();
    let denied: Vec<_> = state.denied.iter().map(Result::unwrap).collect();
    let [(DenyKey(key), 12)] = denied.as_slice() else { panic!("{}", denied.len()) };
    assert_eq!((key.cgroup_id, key.port), (pod, 4317));
    assert_eq!(key.destination, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 96, 0, 1]);
}

#[test]
fn more_pods_than_fit_are_counted_and_groups_come_first() {
    let (tree, pods) = (Tree::new("full"), Arc::<Listed>::default());
    for number in 0..abi::POLICIES {
        tree.pod(number);
        pods.add(number, "shop");
    }
    let policies = policies(&tree, shop_only(), Vec::new(), &pods);
    let before = REFUSED.with_label_values(&["full"]).get();
    policies.rescan();
    // One for each of both groups.
    assert!(REFUSED.with_label_values(&["full"]).get() >= before + 2);
    let found = in_kernel(&policies);
    assert_eq!(found.len(), abi::POLICIES);
    assert_eq!(found.get(&tree.id("kubepods")), Some(&(abi::MODE_OBSERVE, true)));
}
