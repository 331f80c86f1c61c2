//! `extensions:`

use std::path::PathBuf;

use super::endpoint;
use crate::config::{
    extensions::{Extension, FindingsOutput, OriginExtension, PlaintextPolicy, Pods},
    fields::Fields,
    yaml::Value,
};

pub(super) fn read(kind: &'static str, fields: Fields<'_>) -> Extension {
    match kind {
        "origin" => Extension::Origin(origin(fields)),
        _ => health_check(fields),
    }
}

fn health_check(mut fields: Fields<'_>) -> Extension {
    let endpoint = endpoint::listen(&mut fields, "localhost:13133");
    if let Some(path) = fields.string("path")
        && path != "/"
    {
        fields.error_at("path", "a `path` other than `/` is known but not built yet");
    }
    fields.not_built(&[
        "tls",
        "auth",
        "cors",
        "response_headers",
        "response_body",
        "include_metadata",
        "use_v2",
        "http",
        "grpc",
    ]);
    fields.ignored(&["check_collector_pipeline"], "readiness follows the pipelines always");
    Extension::HealthCheck { endpoint }
}

fn origin(mut fields: Fields<'_>) -> OriginExtension {
    let cgroup = fields.located("cgroup");
    if let Some(path) = &cgroup
        && !path.value.starts_with('/')
    {
        fields
            .error_at("cgroup", "must be an absolute path of a cgroup2 directory, such as `/sys/fs/cgroup`");
    }
    OriginExtension {
        cgroup: PathBuf::from(cgroup.map_or_else(|| "/sys/fs/cgroup".to_owned(), |path| path.value)),
        required: fields.choice("evidence", &[("required", true), ("preferred", false)]).unwrap_or(true),
        plaintext: plaintext(&mut fields),
        findings: FindingsOutput::default(),
        cluster_cidrs: Vec::new(),
        pin_path: None,
        pods: pods(&mut fields),
    }
}

fn plaintext(fields: &mut Fields<'_>) -> PlaintextPolicy {
    let not_built = "is known but not built yet; `observe` is";
    match fields.get("plaintext") {
        Some(node) if matches!(node.value, Value::Map(_)) => {
            fields.error_at("plaintext", format!("a mapping with selectors {not_built}"));
        }
        Some(_) => {
            let words = [("observe", None), ("warn", Some("warn")), ("block", Some("block"))];
            if let Some(Some(word)) = fields.choice("plaintext", &words) {
                fields.error_at("plaintext", format!("`{word}` {not_built}"));
            }
        }
        None => {}
    }
    PlaintextPolicy::default()
}

fn pods(fields: &mut Fields<'_>) -> Option<Pods> {
    let words = [("kubelet", "kubelet"), ("api", "api")];
    if matches!(fields.get("pods")?.value, Value::Scalar(_)) {
        if let Some(word) = fields.choice("pods", &words) {
            fields.error_at("pods", format!("`{word}` is known but not built yet; `{{file: pods.yaml}}` is"));
        }
        return None;
    }
    let mut pods = fields.table("pods")?;
    let file = pods.located("file");
    let mut sources = usize::from(file.is_some());
    for (key, _) in words {
        if pods.present(key).is_some() {
            sources += 1;
            pods.error_at(key, format!("`{key}` is known but not built yet; `file` is"));
        }
    }
    match file {
        _ if sources != 1 => {
            pods.error("names one source of pods: `file`");
            None
        }
        Some(file) if file.value.is_empty() => {
            pods.error_at("file", "must not be empty");
            None
        }
        file => file.map(|file| Pods::File(PathBuf::from(file.value))),
    }
}
