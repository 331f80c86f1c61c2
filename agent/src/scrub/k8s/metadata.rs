//! The values of `extract.metadata`.

use crate::origin::{Origin, Pod};

pub(super) use crate::config::processors::K8S_METADATA as KNOWN;

/// What is known under a name of [`KNOWN`].
pub(super) fn value(origin: &Origin, name: &str) -> Option<String> {
    let pod = origin.pod.as_deref();
    match name {
        "k8s.pod.uid" => return origin.pod_uid.clone().or_else(|| known(&pod?.uid)),
        "container.id" => return origin.container_id.clone(),
        "k8s.pod.ip" => {
            return Some(
                pod.and_then(|pod| pod.ips.first().copied()).unwrap_or(origin.peer.ip()).to_string(),
            );
        }
        _ => {}
    }
    let pod = pod?;
    let container = || pod.container(origin.container_id.as_deref()?);
    match name {
        "k8s.namespace.name" | "service.namespace" => known(&pod.namespace),
        "k8s.pod.name" => known(&pod.name),
        "k8s.pod.hostname" => pod.hostname.clone(),
        "k8s.pod.start_time" => pod.created.clone(),
        "k8s.node.name" => pod.node.clone(),
        "k8s.deployment.name" => pod.deployment.clone(),
        "k8s.cronjob.name" => pod.cron_job.clone(),
        "k8s.container.name" => known(&container()?.name),
        "container.image.name" => Some(Image::of(&container()?.image)?.repository.to_owned()),
        "container.image.tag" => Image::of(&container()?.image)?.tag.map(str::to_owned),
        "service.name" => service_name(pod),
        "service.version" => {
            label(pod, "app.kubernetes.io/version").or_else(|| Image::of(&container()?.image)?.version())
        }
        "service.instance.id" => Some(format!("{}.{}.{}", pod.namespace, pod.name, container()?.name)),
        _ => owner(pod, name),
    }
}

fn known(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn label(pod: &Pod, key: &str) -> Option<String> {
    pod.labels.iter().find(|(label, _)| label == key).and_then(|(_, value)| known(value))
}

/// `k8s.KIND.name` and `k8s.KIND.uid`.
fn owner(pod: &Pod, name: &str) -> Option<String> {
    let (kind, field) = name.strip_prefix("k8s.")?.split_once('.')?;
    let owner = pod.owners.iter().find(|owner| owner.kind.eq_ignore_ascii_case(kind))?;
    known(if field == "uid" { &owner.uid } else { &owner.name })
}

/// By the semantic conventions' rules for Kubernetes: the recommended labels, then what the pod belongs to.
fn service_name(pod: &Pod) -> Option<String> {
    let labelled =
        || label(pod, "app.kubernetes.io/instance").or_else(|| label(pod, "app.kubernetes.io/name"));
    let owned = || {
        let kinds = ["ReplicaSet", "StatefulSet", "DaemonSet", "Job"];
        let owner = kinds.iter().find_map(|kind| pod.owners.iter().find(|owner| owner.kind == *kind))?;
        known(&owner.name)
    };
    labelled()
        .or_else(|| pod.deployment.clone())
        .or_else(|| pod.cron_job.clone())
        .or_else(owned)
        .or_else(|| known(&pod.name))
}

/// A reference to an image, `[registry[:port]/]path[:tag][@digest]`.
struct Image<'a> {
    repository: &'a str,
    /// `latest` where there is neither tag nor digest.
    tag: Option<&'a str>,
    digest: Option<&'a str>,
    /// Whether the tag was written.
    tagged: bool,
}

impl<'a> Image<'a> {
    fn of(image: &'a str) -> Option<Self> {
        let (name, digest) =
            image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)));
        let path = name.rfind('/').map_or(0, |slash| slash + 1);
        let (repository, tag) = match name[path..].rfind(':') {
            Some(colon) => (&name[..path + colon], Some(&name[path + colon + 1..])),
            None => (name, None),
        };
        let tag = tag.filter(|tag| !tag.is_empty());
        (!repository.is_empty()).then_some(Self {
            repository,
            tag: tag.or(digest.is_none().then_some("latest")),
            digest,
            tagged: tag.is_some(),
        })
    }

    /// `tag@digest`, or what there is of it.
    fn version(&self) -> Option<String> {
        match (self.tag.filter(|_| self.tagged), self.digest) {
            (Some(tag), Some(digest)) => Some(format!("{tag}@{digest}")),
            (Some(one), None) | (None, Some(one)) => Some(one.to_owned()),
            (None, None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::{Container, Owner};
    use std::sync::Arc;

    fn origin(pod: Pod) -> Origin {
        Origin {
            container_id: Some("c1".into()),
            pod_uid: Some(pod.uid.clone()),
            pod: Some(Arc::new(pod)),
            ..Origin::unknown("10.0.0.1:5".parse().unwrap())
        }
    }

    fn pod() -> Pod {
        Pod {
            uid: "u1".into(),
            name: "web-0".into(),
            namespace: "shop".into(),
            containers: vec![Container {
                id: "c1".into(),
                name: "app".into(),
                image: "registry:5000/shop/web:1.2@sha256:ab".into(),
            }],
            ..Pod::default()
        }
    }

    #[test]
    fn images_in_all_their_forms() {
        for (image, repository, tag, version) in [
            ("nginx", "nginx", Some("latest"), None),
            ("nginx:1.25", "nginx", Some("1.25"), Some("1.25")),
            ("registry:5000/nginx", "registry:5000/nginx", Some("latest"), None),
            ("registry:5000/a/b:v1", "registry:5000/a/b", Some("v1"), Some("v1")),
            ("a/b@sha256:ff", "a/b", None, Some("sha256:ff")),
            ("a/b:v1@sha256:ff", "a/b", Some("v1"), Some("v1@sha256:ff")),
        ] {
            let parsed = Image::of(image).unwrap();
            assert_eq!((parsed.repository, parsed.tag), (repository, tag), "{image}");
            assert_eq!(parsed.version().as_deref(), version, "{image}");
        }
        assert!(Image::of("").is_none() && Image::of("@sha256:ff").is_none());
    }

    #[test]
    fn a_service_is_named_by_its_labels_then_by_its_owner() {
        let owned_by = |kind: &str| Owner { kind: kind.into(), name: "owner".into(), uid: "o1".into() };
        let named = |pod: Pod| value(&origin(pod), "service.name").unwrap();
        assert_eq!(named(pod()), "web-0");
        let mut child = pod();
        child.owners = vec![owned_by("Job")];
        assert_eq!(named(child.clone()), "owner");
        child.cron_job = Some("nightly".into());
        assert_eq!(named(child.clone()), "nightly");
        child.deployment = Some("web".into());
        child.labels = vec![("app.kubernetes.io/name".into(), "by-name".into())];
        assert_eq!(named(child.clone()), "by-name");
        child.labels.push(("app.kubernetes.io/instance".into(), "by-instance".into()));
        assert_eq!(named(child), "by-instance");
    }

    #[test]
    fn owners_are_told_by_kind() {
        let mut pod = pod();
        pod.owners = ["ReplicaSet", "StatefulSet", "DaemonSet", "Job"]
            .map(|kind| Owner { kind: kind.into(), name: format!("n-{kind}"), uid: format!("u-{kind}") })
            .to_vec();
        let origin = origin(pod);
        for kind in ["ReplicaSet", "StatefulSet", "DaemonSet", "Job"] {
            let name = |field| value(&origin, &format!("k8s.{}.{field}", kind.to_lowercase()));
            assert_eq!(name("name"), Some(format!("n-{kind}")));
            assert_eq!(name("uid"), Some(format!("u-{kind}")));
        }
        assert_eq!(value(&origin, "service.instance.id").as_deref(), Some("shop.web-0.app"));
        assert_eq!(value(&origin, "service.version").as_deref(), Some("1.2@sha256:ab"));
    }

    /// Every name that the configuration takes has a value here, given a pod that has everything.
    #[test]
    fn everything_that_can_be_asked_for_is_there() {
        let mut pod = pod();
        pod.owners = ["ReplicaSet", "StatefulSet", "DaemonSet", "Job"]
            .map(|kind| Owner { kind: kind.into(), name: "n".into(), uid: "u".into() })
            .to_vec();
        for field in
            [&mut pod.node, &mut pod.deployment, &mut pod.cron_job, &mut pod.hostname, &mut pod.created]
        {
            *field = Some("x".into());
        }
        let origin = origin(pod);
        for name in KNOWN {
            assert!(value(&origin, name).is_some_and(|value| !value.is_empty()), "{name}");
        }
    }
}
