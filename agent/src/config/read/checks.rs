//! What can be checked only when everything has been read: references, and components beside each other.

use std::collections::{HashMap, HashSet};

use super::service::Read;
use crate::config::{
    Config, Located, Location,
    extensions::Extension,
    fields::{Report, nearest},
    processors::Processor,
    receivers::Receiver,
};

/// The ids that each section defines; `None` where that is not known, so that nothing is said about references.
pub(super) struct Defined {
    pub(super) receivers: Option<Vec<String>>,
    pub(super) processors: Option<Vec<String>>,
    pub(super) exporters: Option<Vec<String>>,
    pub(super) extensions: Option<Vec<String>>,
}

/// Every reference of the service must be defined, and be there once.
pub(super) fn references(report: &Report, service: &Read, defined: &Defined) {
    check(report, "extension", "extensions", &service.extensions, defined.extensions.as_deref());
    for id in defined.extensions.iter().flatten() {
        let enabled = service.extensions.iter().any(|extension| extension.value == *id);
        if !enabled {
            report.warn(
                &service.at,
                format!("the extension `{id}` is defined but not in `service::extensions`: it is off"),
            );
        }
    }
    for pipeline in &service.pipelines {
        check(report, "receiver", "receivers", &pipeline.receivers, defined.receivers.as_deref());
        check(report, "processor", "processors", &pipeline.processors, defined.processors.as_deref());
        check(report, "exporter", "exporters", &pipeline.exporters, defined.exporters.as_deref());
        needed(report, &pipeline.at, "receivers", &pipeline.receivers);
        needed(report, &pipeline.at, "exporters", &pipeline.exporters);
        one_sampler(report, &pipeline.processors);
    }
}

fn check(report: &Report, what: &str, section: &str, names: &[Located<String>], defined: Option<&[String]>) {
    let Some(defined) = defined else { return };
    let known: Vec<&str> = defined.iter().map(String::as_str).collect();
    let mut seen = HashSet::new();
    for name in names {
        if !known.contains(&name.value.as_str()) {
            let shown = name.value.escape_debug();
            let message = match nearest::nearest(&name.value, &known) {
                Some(near) => format!("no {what} `{shown}` is defined; did you mean `{near}`?"),
                None => format!("no {what} `{shown}` is defined under `{section}`"),
            };
            report.error(&name.at, message);
        } else if !seen.insert(name.value.as_str()) {
            report.error(&name.at, format!("the {what} `{}` is in the list twice", name.value));
        }
    }
}

fn needed(report: &Report, at: &Location, key: &str, names: &[Located<String>]) {
    if names.is_empty() {
        report.error(at, format!("a pipeline needs at least one entry in `{key}`"));
    }
}

fn one_sampler(report: &Report, processors: &[Located<String>]) {
    let samplers = processors.iter().filter(|name| name.value.split('/').next() == Some("tail_sampling"));
    for second in samplers.skip(1) {
        report.error(&second.at, "a pipeline has at most one `tail_sampling`; put all policies into one");
    }
}

/// Two listeners on one address: the second would fail at start.
pub(super) fn components(report: &Report, config: &Config) {
    let mut listeners: HashMap<&str, String> = HashMap::new();
    let mut listen = |address, what: String, at: &Location| {
        if let Some(other) = listeners.get(address) {
            report.error(at, format!("{what} and {other} both listen on `{address}`"));
        } else {
            listeners.insert(address, what);
        }
    };
    for receiver in &config.receivers {
        let Receiver::Otlp(otlp) = &receiver.config;
        if let Some(grpc) = &otlp.grpc {
            listen(&grpc.endpoint, format!("`{}` (grpc)", receiver.id), &receiver.at);
        }
        if let Some(http) = &otlp.http {
            listen(&http.endpoint, format!("`{}` (http)", receiver.id), &receiver.at);
        }
    }
    for extension in &config.extensions {
        if let Extension::HealthCheck { endpoint } = &extension.config {
            listen(endpoint, format!("`{}`", extension.id), &extension.at);
        }
    }
    let origins =
        config.extensions.iter().filter(|extension| matches!(extension.config, Extension::Origin(_)));
    for second in origins.skip(1) {
        report.error(&second.at, "one `origin` is enough: it serves all receivers");
    }
    metadata_needs_origins(report, config);
    tokens_need_identity(report, config);
}

/// Without `identity` nobody compares a token with the pod that the kernel saw.
fn tokens_need_identity(report: &Report, config: &Config) {
    let compared = config.extensions.iter().any(|e| matches!(e.config, Extension::Identity(_)));
    if compared || config.origin().is_none() {
        return;
    }
    for extension in &config.extensions {
        if matches!(extension.config, Extension::Oidc(_)) {
            report.warn(
                &extension.at,
                format!(
                    "`{}` believes a good token from whoever sends it, a stolen one too: enable \
                     `extensions::identity`, which compares it with the pod that the kernel saw",
                    extension.id
                ),
            );
        }
    }
}

/// Pods are known by the origin of a connection: without one, `k8sattributes` would add nothing and say nothing.
fn metadata_needs_origins(report: &Report, config: &Config) {
    if config.origin().is_some() {
        return;
    }
    for processor in &config.processors {
        if matches!(processor.config, Processor::K8sAttributes(_)) {
            report.warn(
                &processor.at,
                format!(
                    "`{}` adds nothing: pods are known from `extensions::origin`, which is not enabled",
                    processor.id
                ),
            );
        }
    }
}
