//! `k8sattributes`.

use super::super::fields::nearest;
use crate::config::{
    fields::{Fields, Report},
    processors::{FieldExtract, K8sAttributes},
    yaml::Node,
};

/// What `extract.metadata` may name: what the kernel's evidence and a pod source tell.
const METADATA: [&str; 8] = [
    "k8s.namespace.name",
    "k8s.pod.name",
    "k8s.pod.uid",
    "k8s.pod.ip",
    "k8s.node.name",
    "k8s.deployment.name",
    "k8s.container.name",
    "container.id",
];
/// What the Collector knows beyond these.
const METADATA_NOT_BUILT: [&str; 24] = [
    "k8s.pod.hostname",
    "k8s.pod.start_time",
    "k8s.node.uid",
    "k8s.cluster.uid",
    "k8s.deployment.uid",
    "k8s.replicaset.name",
    "k8s.replicaset.uid",
    "k8s.statefulset.name",
    "k8s.statefulset.uid",
    "k8s.daemonset.name",
    "k8s.daemonset.uid",
    "k8s.job.name",
    "k8s.job.uid",
    "k8s.cronjob.name",
    "k8s.cronjob.uid",
    "container.image.name",
    "container.image.tag",
    "container.image.tags",
    "container.image.repo_digests",
    "service.name",
    "service.namespace",
    "service.version",
    "service.instance.id",
    "host.name",
];

pub(super) fn read(mut fields: Fields<'_>) -> K8sAttributes {
    let mut config = fields.table("extract").map(extract).unwrap_or_default();
    config.passthrough = fields.boolean("passthrough").unwrap_or(false);
    let report = fields.report();
    for rule in fields.list("pod_association") {
        association(report, rule);
    }
    if let Some(mut filter) = fields.table("filter") {
        filter.ignored(&["node", "node_from_env_var"], "an agent asks for the pods of its own node only");
        filter.not_built(&["namespace", "fields", "labels"]);
    }
    fields.not_built(&["exclude"]);
    fields.ignored(&["auth_type", "context"], "pods come from `extensions.origin.pods`");
    fields.ignored(
        &["wait_for_metadata", "wait_for_metadata_timeout", "watch_sync_period", "pod_delete_grace_period"],
        "the kernel's evidence needs no watch",
    );
    config
}

fn extract(mut fields: Fields<'_>) -> K8sAttributes {
    let metadata = fields.located_strings("metadata");
    for name in &metadata {
        if METADATA_NOT_BUILT.contains(&name.value.as_str()) {
            fields.report().error(&name.at, format!("`{}` is known but not built yet", name.value));
        } else if !METADATA.contains(&name.value.as_str()) {
            fields.report().error(&name.at, nearest::unknown("metadata", &name.value, &METADATA));
        }
    }
    fields.not_built(&["otel_annotations", "deployment_name_from_replicaset"]);
    let labels = field_extracts(&mut fields, "labels");
    let annotations = field_extracts(&mut fields, "annotations");
    K8sAttributes {
        metadata: metadata.into_iter().map(|name| name.value).collect(),
        labels,
        annotations,
        passthrough: false,
    }
}

fn field_extracts(fields: &mut Fields<'_>, key: &'static str) -> Vec<FieldExtract> {
    let report = fields.report();
    fields.list(key).iter().filter_map(|item| field_extract(Fields::new(report, item))).collect()
}

fn field_extract(mut fields: Fields<'_>) -> Option<FieldExtract> {
    let extract = FieldExtract {
        tag_name: fields.string("tag_name").filter(|name| !name.is_empty()),
        key: fields.string("key").filter(|key| !key.is_empty()),
        key_regex: fields.located("key_regex").filter(|pattern| !pattern.value.is_empty()),
    };
    let sources = ["pod", "namespace", "node", "deployment", "statefulset", "daemonset", "job"]
        .map(|name| (name, name));
    if let Some(from) = fields.choice("from", &sources)
        && from != "pod"
    {
        fields.error_at("from", format!("`{from}` is known but not built yet; `pod` is"));
    }
    if fields.present("regex").is_some() {
        fields.error_at(
            "regex",
            "the Collector has removed `regex`; extract the whole value and use `transform`",
        );
    }
    if extract.key.is_some() == extract.key_regex.is_some() {
        fields.error("needs exactly one of `key` and `key_regex`");
        return None;
    }
    Some(extract)
}

/// Checked so that a mistake shows; what the kernel knows of a connection always comes first.
fn association(report: &Report, rule: &Node) {
    let mut fields = Fields::new(report, rule);
    let sources = fields.list("sources");
    if sources.len() > 4 {
        fields.error_at("sources", "at most 4 sources, as in the Collector");
    }
    for source in sources {
        one_source(Fields::new(report, source));
    }
    // The older form, one source without a list.
    if fields.present("from").is_some() {
        one_source(fields);
    } else if sources.is_empty() {
        fields.error("`sources` is required and must not be empty");
    }
}

fn one_source(mut fields: Fields<'_>) {
    if fields.get("from").is_none() {
        return fields.error("`from` is required: `connection` or `resource_attribute`");
    }
    let claimed = fields.choice("from", &[("connection", false), ("resource_attribute", true)]);
    let name = fields.string("name").filter(|name| !name.is_empty());
    if claimed == Some(true) {
        if name.is_none() {
            fields.error("`resource_attribute` needs a `name`");
        }
        fields.warn_at("from", "a pod is known by its connection; what a sender claims is not used");
    }
}
