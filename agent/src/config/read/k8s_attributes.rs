//! `k8sattributes`.

use super::super::fields::nearest;
use crate::config::{
    fields::{Fields, Report},
    processors::{FieldExtract, K8S_METADATA, K8sAttributes, PodFilter, Requirement, RequirementOp},
    yaml::Node,
};

/// What the Collector knows beyond these, and what it would take.
const METADATA_NOT_BUILT: [(&str, &str); 7] = [
    ("k8s.node.uid", "a pod does not tell it; it takes a watch of nodes"),
    ("k8s.cluster.uid", "it takes a watch of namespaces"),
    ("k8s.deployment.uid", "a pod does not tell it; it takes a watch of replica sets"),
    ("k8s.cronjob.uid", "a pod does not tell it; it takes a watch of jobs"),
    ("container.image.tags", "lists are not written here; `container.image.tag` is built"),
    ("container.image.repo_digests", "lists are not written here"),
    ("host.name", "it is no attribute of a pod"),
];
/// Fields of a pod that `filter.fields` may name, and those that only the API server can select by.
const FIELDS: [&str; 4] = ["metadata.name", "metadata.namespace", "spec.nodeName", "spec.serviceAccountName"];

pub(super) fn read(mut fields: Fields<'_>) -> K8sAttributes {
    let mut config = fields.table("extract").map(extract).unwrap_or_default();
    config.passthrough = fields.boolean("passthrough").unwrap_or(false);
    let report = fields.report();
    for rule in fields.list("pod_association") {
        association(report, rule);
    }
    if let Some(mut filter) = fields.table("filter") {
        filter.ignored(&["node", "node_from_env_var"], "an agent asks for the pods of its own node only");
        config.filter = pod_filter(&mut filter);
    }
    if let Some(mut exclude) = fields.table("exclude") {
        let report = exclude.report();
        let pods = exclude.list("pods").iter().map(|pod| Fields::new(report, pod));
        config.exclude = pods.filter_map(|mut pod| pod.required("name")).collect();
    }
    fields.ignored(&["auth_type", "context"], "pods come from `extensions.origin.pods`");
    fields.ignored(
        &["wait_for_metadata", "wait_for_metadata_timeout", "watch_sync_period", "pod_delete_grace_period"],
        "no span waits for metadata: until they have come a pod is known by its uid",
    );
    config
}

fn extract(mut fields: Fields<'_>) -> K8sAttributes {
    let metadata = fields.located_strings("metadata");
    for name in &metadata {
        let not_built = METADATA_NOT_BUILT.iter().find(|(known, _)| *known == name.value);
        if let Some((known, why)) = not_built {
            fields.report().error(&name.at, format!("`{known}` is known but not built yet: {why}"));
        } else if !K8S_METADATA.contains(&name.value.as_str()) {
            fields.report().error(&name.at, nearest::unknown("metadata", &name.value, &K8S_METADATA));
        }
    }
    let otel_annotations = fields.boolean("otel_annotations").unwrap_or(false);
    // Always so here.
    let _ = fields.boolean("deployment_name_from_replicaset");
    let labels = field_extracts(&mut fields, "labels");
    let annotations = field_extracts(&mut fields, "annotations");
    K8sAttributes {
        metadata: metadata.into_iter().map(|name| name.value).collect(),
        labels,
        annotations,
        otel_annotations,
        ..K8sAttributes::default()
    }
}

fn pod_filter(fields: &mut Fields<'_>) -> PodFilter {
    let namespace = fields.string("namespace").filter(|namespace| !namespace.is_empty());
    let labels = [
        ("equals", RequirementOp::Equals),
        ("not-equals", RequirementOp::NotEquals),
        ("exists", RequirementOp::Exists),
        ("does-not-exist", RequirementOp::DoesNotExist),
    ];
    let report = fields.report();
    let list = |items: &[Node], ops: &[(&'static str, RequirementOp)], known: &[&'static str]| {
        items.iter().filter_map(|item| requirement(Fields::new(report, item), ops, known)).collect()
    };
    PodFilter {
        namespace,
        labels: list(fields.list("labels"), &labels, &[]),
        fields: list(fields.list("fields"), &labels[..2], &FIELDS),
    }
}

/// One entry of `labels` or `fields`; `known` are the only keys there are, if there are any.
fn requirement(
    mut fields: Fields<'_>,
    ops: &[(&'static str, RequirementOp)],
    known: &[&'static str],
) -> Option<Requirement> {
    let key = fields.required("key");
    let value = fields.string("value").unwrap_or_default();
    let op = fields.choice("op", ops).unwrap_or(RequirementOp::Equals);
    let key = key?;
    if !known.is_empty() && !known.contains(&key.value.as_str()) {
        let shown = key.value.chars().take(64).flat_map(char::escape_debug).collect::<String>();
        let message = format!("`{shown}` is not built yet; there are {}", known.join(", "));
        fields.report().error(&key.at, message);
    }
    Some(Requirement { key: key.value, value, op })
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
        let message = format!("`{from}` is known but not built yet: only pods are watched; `pod` is");
        fields.error_at("from", message);
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
