//! What runtimes and the kubelet call their cgroups.

use super::{Qos, Runtime};

/// Services below which containerd without `SystemdCgroup` makes its containers' cgroups: it takes the
/// kubelet's systemd-style parent for a name and puts it below the cgroup it runs in itself.
const RUNTIME_SERVICES: [&str; 12] = [
    "containerd",
    "cri-containerd",
    "crio",
    "docker",
    "k0scontroller",
    "k0sworker",
    "k3s",
    "k3s-agent",
    "kubelet",
    "rke2-agent",
    "rke2-server",
    "snap.microk8s.daemon-containerd",
];

/// Where a kubelet keeps its pods.
pub(super) struct KubepodsRoot<'a> {
    /// How many segments lead there, itself included.
    pub(super) depth: usize,
    /// systemd driver: the slice's name without `.slice`; every slice below begins with it.
    pub(super) stem: Option<&'a str>,
}

/// Finds the kubelet's `kubepods` from the root. systemd driver: `kubepods.slice`, or slices nested by
/// systemd's rule (`a.slice/a-kubepods.slice`, from `cgroupRoot: /a`). cgroupfs driver: `kubepods`, or
/// `kubelet/kubepods`, the `cgroupRoot` that kind uses.
pub(super) fn kubepods_root<'a>(mut segments: impl Iterator<Item = &'a str>) -> Option<KubepodsRoot<'a>> {
    let mut segment = segments.next()?;
    if segment == "kubepods" {
        return Some(KubepodsRoot { depth: 1, stem: None });
    }
    if segment == "kubelet" {
        return (segments.next()? == "kubepods").then_some(KubepodsRoot { depth: 2, stem: None });
    }
    let mut outer: Option<&str> = None;
    let mut depth = 1;
    loop {
        let stem = segment.strip_suffix(".slice")?;
        let own = match outer {
            None => stem,
            Some(outer) => stem.strip_prefix(outer)?.strip_prefix('-')?,
        };
        if own == "kubepods" {
            return Some(KubepodsRoot { depth, stem: Some(stem) });
        }
        if own.is_empty() || own.contains('-') {
            return None;
        }
        outer = Some(stem);
        segment = segments.next()?;
        depth += 1;
    }
}

/// A segment below `kubepods`.
pub(super) enum KubeletLevel {
    /// `burstable` or `besteffort`.
    Class(Qos),
    /// A pod, by uid.
    Pod(String),
}

impl KubeletLevel {
    /// Reads `burstable`, `besteffort` or `pod<uid>`; with `stem` in systemd's spelling of a nested slice.
    pub(super) fn read(segment: &str, stem: Option<&str>) -> Option<Self> {
        let own = match stem {
            None => segment,
            Some(stem) => segment.strip_suffix(".slice")?.strip_prefix(stem)?.strip_prefix('-')?,
        };
        match own {
            "burstable" => Some(Self::Class(Qos::Burstable)),
            "besteffort" => Some(Self::Class(Qos::BestEffort)),
            _ => pod_uid(own.strip_prefix("pod")?).map(Self::Pod),
        }
    }
}

/// A pod's uid: a UUID (systemd's driver writes `_` for `-`) or a static pod's configuration hash.
pub(super) fn pod_uid(text: &str) -> Option<String> {
    // The kubelet hashes a static pod's manifest with MD5: 32 digits.
    if is_hex(text, 32) {
        return Some(text.to_owned());
    }
    let dash = |at: usize| matches!(at, 8 | 13 | 18 | 23);
    let valid = text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match byte {
            b'-' | b'_' => dash(at),
            b'0'..=b'9' | b'a'..=b'f' => !dash(at),
            _ => false,
        });
    valid.then(|| text.replace('_', "-"))
}

/// A container of CRI's: `<prefix>-<id>.scope`, `<prefix>-<id>`, `<id>`, or `…:<prefix>:<id>`.
pub(super) fn container(segment: &str) -> Option<(Runtime, &str)> {
    if let Some(found) = containerd_without_systemd(segment) {
        return Some((found.runtime, found.container_id));
    }
    let name = segment.strip_suffix(".scope").unwrap_or(segment);
    if is_hex(name, 64) && name.len() == segment.len() {
        return Some((Runtime::Unknown, name));
    }
    let (prefix, id) = name.rsplit_once('-')?;
    (is_hex(id, 64)).then_some(())?;
    Some((prefixed(prefix)?, id))
}

fn prefixed(prefix: &str) -> Option<Runtime> {
    Some(match prefix {
        "cri-containerd" => Runtime::Containerd,
        "crio" => Runtime::CriO,
        "docker" => Runtime::Docker,
        "libpod" | "libpod-payload" => Runtime::Podman,
        "nerdctl" => Runtime::Nerdctl,
        _ => return None,
    })
}

/// Whether the segment is the place of a monitor process beside a container.
pub(super) fn is_conmon(segment: &str) -> bool {
    ["crio-conmon-", "libpod-conmon-", "lxc.monitor."].iter().any(|prefix| segment.starts_with(prefix))
}

/// `kubepods-<qos>-pod<uid>.slice:cri-containerd:<id>` taken apart.
pub(super) struct ColonName<'a> {
    pub(super) qos: Qos,
    pub(super) pod_uid: String,
    pub(super) runtime: Runtime,
    pub(super) container_id: &'a str,
}

/// Reads systemd's `slice:prefix:name` notation where a runtime used it as a plain name.
pub(super) fn containerd_without_systemd(segment: &str) -> Option<ColonName<'_>> {
    let mut parts = segment.split(':');
    let (slice, prefix, id) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || !is_hex(id, 64) {
        return None;
    }
    let runtime = prefixed(prefix)?;
    let slice = slice.strip_suffix(".slice")?;
    let (root, pod) = slice.rsplit_once("-pod")?;
    let (root, qos) = match root.rsplit_once('-') {
        Some((root, "burstable")) => (root, Qos::Burstable),
        Some((root, "besteffort")) => (root, Qos::BestEffort),
        _ => (root, Qos::Guaranteed),
    };
    if root != "kubepods" && !root.ends_with("-kubepods") {
        return None;
    }
    Some(ColonName { qos, pod_uid: pod_uid(pod)?, runtime, container_id: id })
}

/// Whether `unit` is a service that runs a container runtime.
pub(super) fn is_runtime_service(unit: &str) -> bool {
    unit.strip_suffix(".service").is_some_and(|name| RUNTIME_SERVICES.contains(&name))
}

/// Whether the segment claims to be a kubelet's.
pub(super) fn looks_like_kubepods(segment: &str) -> bool {
    let Some((slice, _)) = segment.split_once(".slice") else { return segment == "kubepods" };
    slice.split('-').any(|part| part == "kubepods")
}

/// A container without a kubelet: runtime, id, and how many segments of `rest` belong to its name.
pub(super) fn standalone<'a>(
    parent: Option<&str>,
    segment: &'a str,
    mut rest: impl Iterator<Item = &'a str>,
) -> Option<(Runtime, &'a str, usize)> {
    if let Some(name) = segment.strip_prefix("lxc.payload.") {
        return (!name.is_empty()).then_some((Runtime::Lxc, name, 0));
    }
    match (parent, segment) {
        (None, "lxc" | "lxc.payload") => return rest.next().map(|name| (Runtime::Lxc, name, 1)),
        (None, "ecs") => return ecs(rest),
        (_, "docker") => {
            let mut rest = rest.peekable();
            // BuildKit's steps have ids of their own kind, two levels down.
            if rest.next_if_eq(&"buildkit").is_some() {
                let id = rest.next().filter(|id| is_lower_alphanumeric(id))?;
                return Some((Runtime::Docker, id, 2));
            }
            let id = rest.next().filter(|id| is_hex(id, 64))?;
            return Some((Runtime::Docker, id, 1));
        }
        _ => {}
    }
    let (runtime, id) = container(segment)?;
    Some((runtime, id, 0))
}

/// `/ecs/<task>/<id>`, `/ecs/<cluster>/<task>/<id>` and Fargate's `/ecs/<task>/<task>-<number>`.
fn ecs<'a>(rest: impl Iterator<Item = &'a str>) -> Option<(Runtime, &'a str, usize)> {
    rest.take(3).enumerate().skip(1).find_map(|(at, segment)| {
        let fargate = || {
            let (task, number) = segment.split_once('-')?;
            Some(is_hex(task, 32) && !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
        };
        (is_hex(segment, 64) || fargate() == Some(true)).then_some((Runtime::Ecs, segment, at + 1))
    })
}

fn is_lower_alphanumeric(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase())
}

/// Whether `text` is `length` lower-case hexadecimal digits.
pub(super) fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A name somebody else chose, short and printable enough for an error message.
pub(super) fn printable(segment: &str) -> String {
    segment.chars().take(64).map(|c| if c.is_control() { '?' } else { c }).collect()
}
