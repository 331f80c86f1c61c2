//! Cgroup paths of every runtime and driver, and what a process may do to them from inside its own cgroup.

use std::fmt::Write as _;

use proptest::prelude::*;
use spanwarden::origin::cgroup::{ContainerPath, NotAContainer, Qos, parse};

const TABLE: &str = include_str!("../fixtures/cgroups.tsv");

/// The answer in the table's columns.
fn columns(answer: &Result<ContainerPath, NotAContainer>) -> [String; 5] {
    let or_none = |text: Option<&str>| text.unwrap_or("-").to_owned();
    match answer {
        Ok(found) => [
            found.runtime.to_string(),
            found.container_id.clone(),
            or_none(found.pod_uid.as_deref()),
            or_none(found.qos.map(Qos::as_str)),
            found.nested_depth.to_string(),
        ],
        Err(reason) => {
            let kind = match reason {
                NotAContainer::PodLevel { .. } => "!pod",
                NotAContainer::Monitor { .. } => "!monitor",
                NotAContainer::KubeletLevel => "!kubelet",
                NotAContainer::OutsideKubelet(_) => "!outside",
                NotAContainer::OutsideNamespace => "!namespace",
                NotAContainer::Host => "!host",
            };
            [kind.to_owned(), "-".to_owned(), or_none(reason.pod_uid()), "-".to_owned(), "-".to_owned()]
        }
    }
}

/// `(case, path, expected columns)`
fn table() -> Vec<(&'static str, &'static str, Vec<&'static str>)> {
    let lines = TABLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let mut fields = line.split('\t');
            let (case, path) = (fields.next().unwrap(), fields.next().unwrap());
            (case, path, fields.collect())
        })
        .collect()
}

#[test]
fn every_runtime_and_driver() {
    let mut wrong = String::new();
    let table = table();
    for (case, path, expected) in &table {
        let got = columns(&parse(path));
        if got.as_slice() != expected.as_slice() {
            let _ = writeln!(wrong, "{case}: {path}\n  expected {expected:?}\n  got      {got:?}");
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    assert!(table.len() > 80, "the table lost rows: {}", table.len());
}

/// Names that a process would choose to deceive, mixed with anything else that a cgroup may be called.
fn segment() -> impl Strategy<Value = String> {
    const UID: &str = "0aa1bb2c-11dd-22ee-33ff-445566778899";
    let id = "fedcba9876543210".repeat(4);
    let escaped = UID.replace('-', "_");
    let deceptive = [
        "kubepods".to_owned(),
        "kubelet".to_owned(),
        "burstable".to_owned(),
        "kubepods.slice".to_owned(),
        "system.slice".to_owned(),
        "user.slice".to_owned(),
        "containerd.service".to_owned(),
        "kubepods-burstable.slice".to_owned(),
        "docker".to_owned(),
        "lxc".to_owned(),
        "ecs".to_owned(),
        format!("pod{UID}"),
        format!("kubepods-pod{escaped}.slice"),
        format!("kubepods-burstable-pod{escaped}.slice"),
        format!("kubepods-pod{escaped}.slice:cri-containerd:{id}"),
        format!("cri-containerd-{id}.scope"),
        format!("crio-conmon-{id}.scope"),
        format!("crio-{id}.scope"),
        id,
    ];
    prop_oneof![
        4 => proptest::sample::select(deceptive.to_vec()),
        1 => "[a-z.:_@-]{1,20}",
        // Anything but the slash and the line break, which /proc escapes.
        1 => "[^/\n]{1,20}",
    ]
    .prop_filter("`.` and `..` cannot be made", |name| name != "." && name != "..")
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4096) })]

    #[test]
    fn any_text_gets_an_answer(path in "\\PC*", segments in proptest::collection::vec(segment(), 0..12)) {
        let _ = parse(&path);
        let _ = parse(&segments.join("/"));
    }

    /// Whatever a container's process creates below its own cgroup, it stays the same container.
    #[test]
    fn sub_cgroups_never_change_the_identity(
        row in proptest::sample::select(table()),
        below in proptest::collection::vec(segment(), 1..6),
    ) {
        let (_, path, _) = row;
        let path = path.trim_end_matches(" (deleted)");
        if let Ok(before) = parse(path) {
            let after = parse(&format!("{path}/{}", below.join("/"))).expect("still a container");
            prop_assert_eq!(after.nested_depth, before.nested_depth + below.len());
            prop_assert_eq!(ContainerPath { nested_depth: before.nested_depth, ..after }, before);
        }
    }

    /// What is made below a place that is no kubelet's and no runtime's never counts as a pod's.
    #[test]
    fn no_pod_can_be_forged_outside_of_the_kubelet(
        place in proptest::sample::select(vec![
            "/user.slice/user-1000.slice/user@1000.service",
            "/system.slice/ci.service",
            "/docker/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            "/lxc.payload.web",
            "/machine.slice/machine-a.scope",
        ]),
        below in proptest::collection::vec(segment(), 1..8),
    ) {
        let answer = parse(&format!("{place}/{}", below.join("/")));
        let uid = match &answer {
            Ok(found) => found.pod_uid.as_deref(),
            Err(reason) => reason.pod_uid(),
        };
        prop_assert_eq!(uid, None);
    }
}
