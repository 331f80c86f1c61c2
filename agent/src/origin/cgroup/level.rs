//! What a directory of the hierarchy is to somebody who looks for pods from the root down.

use super::names::{self, KubeletLevel};

/// See [`level`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::origin) enum Level {
    /// Holds pods: `kubepods`, or a class of service.
    Group,
    /// A pod's own; or, where a runtime makes no cgroups for pods, one of its containers.
    Pod(String),
    /// A container runtime's service, in which containers may lie beside the runtime itself.
    Runtime,
    /// May lead to one of the others.
    Lead,
    /// Neither it nor anything below it.
    Other,
}

/// Reads a path relative to the hierarchy's root, by the same rules as [`super::parse`].
pub(in crate::origin) fn level(path: &str) -> Level {
    let segments = || path.split('/').filter(|segment| !segment.is_empty());
    if let Some(root) = names::kubepods_root(segments()) {
        return below_kubepods(segments().skip(root.depth), root.stem);
    }
    let depth = segments().count();
    let Some(last) = segments().next_back() else { return Level::Lead };
    let parent = segments().nth(depth.wrapping_sub(2)).filter(|_| depth > 1);
    if let Some(found) = names::containerd_without_systemd(last) {
        let in_place = parent.is_none_or(|parent| depth <= 3 && names::is_runtime_service(parent));
        return if in_place { Level::Pod(found.pod_uid) } else { Level::Other };
    }
    if depth <= 2 && names::is_runtime_service(last) {
        return Level::Runtime;
    }
    // `kubepods_root` follows the same two ways: `kubelet`, and slices named as systemd nests them.
    let leads = path.trim_matches('/') == "kubelet" || nested_slices(segments());
    if leads { Level::Lead } else { Level::Other }
}

fn below_kubepods<'a>(mut segments: impl Iterator<Item = &'a str>, stem: Option<&str>) -> Level {
    let Some(first) = segments.next() else { return Level::Group };
    match (KubeletLevel::read(first, stem), segments.next()) {
        (Some(KubeletLevel::Class(_)), None) => Level::Group,
        (Some(KubeletLevel::Pod(uid)), None) => Level::Pod(uid),
        (Some(KubeletLevel::Class(_)), Some(second)) if segments.next().is_none() => {
            let stem = stem.map(|_| first.strip_suffix(".slice").unwrap_or(first));
            match KubeletLevel::read(second, stem) {
                Some(KubeletLevel::Pod(uid)) => Level::Pod(uid),
                _ => Level::Other,
            }
        }
        _ => Level::Other,
    }
}

/// Whether each segment is a slice whose name goes on where its parent's ends (systemd.slice(5)).
fn nested_slices<'a>(segments: impl Iterator<Item = &'a str>) -> bool {
    let mut outer: Option<&str> = None;
    for segment in segments {
        let Some(stem) = segment.strip_suffix(".slice") else { return false };
        let own = match outer {
            None => Some(stem),
            Some(outer) => stem.strip_prefix(outer).and_then(|rest| rest.strip_prefix('-')),
        };
        if own.is_none_or(|own| own.is_empty() || own.contains('-')) {
            return false;
        }
        outer = Some(stem);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::cgroup::parse;

    const UID: &str = "7c6fb7c2-3e6b-4c57-9a1e-5b2f0c9d1e11";
    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn every_layout_is_followed_from_the_root_to_its_pods() {
        let (under, colon) = (UID.replace('-', "_"), format!("kubepods-burstable-pod{UID}.slice"));
        let layouts = [
            format!("kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{under}.slice"),
            format!("kubepods.slice/kubepods-pod{under}.slice"),
            format!("kubepods/besteffort/pod{UID}"),
            format!("kubepods/pod{UID}"),
            format!("kubelet/kubepods/burstable/pod{UID}"),
            format!("kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{under}.slice"),
            format!("a.slice/a-b.slice/a-b-kubepods.slice/a-b-kubepods-pod{under}.slice"),
            format!("system.slice/containerd.service/{colon}:cri-containerd:{ID}"),
            format!("{colon}:cri-containerd:{ID}"),
        ];
        for layout in layouts {
            let ends: Vec<usize> =
                layout.match_indices('/').map(|(at, _)| at).chain([layout.len()]).collect();
            for &end in &ends[..ends.len() - 1] {
                let found = level(&layout[..end]);
                assert!(matches!(found, Level::Group | Level::Lead | Level::Runtime), "{layout}: {found:?}");
            }
            assert_eq!(level(&layout), Level::Pod(UID.to_owned()), "{layout}");
            // What `parse` says of the same path, or of a container in it.
            let container = parse(&format!("{layout}/{ID}")).map(|found| found.pod_uid);
            assert_eq!(container, Ok(Some(UID.to_owned())), "{layout}");
            assert_eq!(level(&format!("{layout}/{ID}")), Level::Other, "{layout}");
        }
    }

    #[test]
    fn what_holds_no_pods_is_not_entered() {
        for (path, expected) in [
            ("", Level::Lead),
            ("kubepods", Level::Group),
            ("kubepods.slice/kubepods-besteffort.slice", Level::Group),
            ("system.slice", Level::Lead),
            ("system.slice/containerd.service", Level::Runtime),
            ("system.slice/sshd.service", Level::Other),
            ("kubepods.slice/other.slice", Level::Other),
            ("kubepods/burstable/else", Level::Other),
            ("user.slice/user-1000.slice/user@1000.service", Level::Other),
            ("user.slice/other-1000.slice", Level::Other),
            ("docker/kubepods", Level::Other),
            ("init.scope", Level::Other),
        ] {
            assert_eq!(level(path), expected, "{path}");
        }
        let deceptive = format!("app/kubepods-pod{UID}.slice:cri-containerd:{ID}");
        assert_eq!(level(&deceptive), Level::Other);
    }
}
