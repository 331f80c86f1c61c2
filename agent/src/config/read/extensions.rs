//! `extensions:`

mod networks;
mod plaintext;
pub(super) mod pods;

use std::path::PathBuf;

use super::endpoint;
use crate::config::{
    extensions::{Extension, FindingsOutput, OriginExtension},
    fields::Fields,
};

pub(super) fn read(kind: &'static str, fields: Fields<'_>) -> Extension {
    match kind {
        "origin" => Extension::Origin(Box::new(origin(fields))),
        "oidc" => Extension::Oidc(Box::new(super::oidc::read(fields))),
        "bearertokenauth" => Extension::BearerToken(Box::new(super::bearer::read(fields))),
        "identity" => Extension::Identity(Box::new(super::identity::read(fields))),
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
    let cgroup = fields.absolute("cgroup", "/sys/fs/cgroup");
    let pods = pods::read(&mut fields);
    let events = pods::events(&mut fields, pods.as_ref());
    let required = fields.choice("evidence", &[("required", true), ("preferred", false)]).unwrap_or(true);
    let plaintext = plaintext::read(&mut fields, required);
    if plaintext.needs_pods() && fields.get("pods").is_none() {
        fields.error_at(
            "plaintext",
            "`rules` and `exclude` select by namespaces and labels, which only `pods` tells: add `pods: api`, `pods: kubelet` or `pods: {file: pods.yaml}`",
        );
    }
    OriginExtension {
        cgroup: cgroup.unwrap_or_else(|| PathBuf::from("/sys/fs/cgroup")),
        required,
        plaintext,
        findings: findings(&mut fields),
        cluster_cidrs: networks::read(&mut fields, "cluster_cidrs"),
        pin_path: fields.absolute("pin_path", "/sys/fs/bpf/spanwarden"),
        pods,
        events,
    }
}

/// Events are throttled in the kernel, where a share is kept in thousandths.
const MOST_PER_SECOND: u32 = 1_000_000;

fn findings(fields: &mut Fields<'_>) -> FindingsOutput {
    let mut output = FindingsOutput::default();
    let Some(mut fields) = fields.table("findings") else { return output };
    if let Some(file) = fields.located("file") {
        if file.value.is_empty() || file.value.ends_with('/') {
            fields
                .report()
                .error(&file.at, "must be the path of a file, such as `/var/log/spanwarden/findings.jsonl`");
        }
        output.file = Some(PathBuf::from(file.value));
    }
    for (key, field) in [("per_second", &mut output.per_second), ("burst", &mut output.burst)] {
        let Some(number) = fields.unsigned::<u32>(key) else { continue };
        if !(1..=MOST_PER_SECOND).contains(&number) {
            fields.error_at(key, format!("must be between 1 and {MOST_PER_SECOND}, but this is {number}"));
        }
        *field = number;
    }
    output
}
