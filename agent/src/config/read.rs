//! A located tree to typed components: one file a section.

use super::{
    Component, ComponentId, Config, Errors, Location,
    fields::{Fields, Report},
    yaml::{Key, Node, Value},
};

mod auth;
mod bearer;
mod checks;
mod endpoint;
mod exporters;
mod extensions;
mod identity;
mod k8s_attributes;
mod kinds;
mod loadbalancing;
mod oidc;
mod processors;
mod receivers;
mod scrubbing;
mod selector;
mod service;
mod tail_sampling;
mod tls;

use kinds::{Known, Section};

/// Reads a whole configuration.
pub(super) fn config(root: &Node) -> Result<Config, Errors> {
    let report = Report::default();
    let config = sections(&report, root);
    let (errors, warnings) = report.into_parts();
    match config {
        Some(config) if errors.is_empty() => Ok(Config { warnings, ..config }),
        _ => Err(Errors(errors)),
    }
}

fn sections(report: &Report, root: &Node) -> Option<Config> {
    if root.is_null() {
        report.error(
            &root.at,
            "the configuration is empty; `spanwarden run --print-config` prints one to start from",
        );
        return None;
    }
    let mut fields = Fields::new(report, root);
    let receivers = components(&mut fields, "receivers", Section::Receivers, receivers::read);
    let processors = components(&mut fields, "processors", Section::Processors, |kind, fields| {
        Some(processors::read(kind, fields))
    });
    let exporters = components(&mut fields, "exporters", Section::Exporters, exporters::read);
    let extensions = components(&mut fields, "extensions", Section::Extensions, |kind, fields| {
        Some(extensions::read(kind, fields))
    });
    fields.not_built(&["connectors"]);
    let Some(service) = fields.table("service") else {
        fields.error("`service` is required: without pipelines nothing runs");
        return None;
    };
    let service = service::read(service);
    let defined = checks::Defined {
        receivers: ids(&mut fields, "receivers"),
        processors: ids(&mut fields, "processors"),
        exporters: ids(&mut fields, "exporters"),
        extensions: ids(&mut fields, "extensions"),
    };
    checks::references(report, &service, &defined);
    let config = Config {
        receivers,
        processors,
        exporters,
        extensions,
        service: service.config,
        warnings: Vec::new(),
    };
    checks::components(report, &config);
    auth::check(report, &config, &defined);
    Some(config)
}

/// The ids that a section defines, whether or not their configuration could be read; `None` where the section
/// itself could not.
fn ids(fields: &mut Fields<'_>, section: &'static str) -> Option<Vec<String>> {
    match fields.get(section).map(|node| &node.value) {
        None => Some(Vec::new()),
        Some(Value::Map(entries)) => Some(entries.iter().map(|(key, _)| key.name.clone()).collect()),
        Some(_) => None,
    }
}

/// Reads every component of a section with its type's reader.
fn components<T>(
    fields: &mut Fields<'_>,
    section_name: &'static str,
    section: Section,
    read: impl Fn(&'static str, Fields<'_>) -> Option<T>,
) -> Vec<Component<T>> {
    let report = fields.report();
    let Some(mut table) = fields.table(section_name) else { return Vec::new() };
    let mut components = Vec::new();
    for (key, node) in table.entries() {
        let Some(id) = component_id(report, key) else { continue };
        match kinds::lookup(section, &id.kind) {
            Known::Built(kind) => {
                if let Some(config) = read(kind, Fields::new(report, node)) {
                    components.push(Component { id, at: key.at.clone(), config });
                }
            }
            Known::Refused(message) => report.error(&key.at, message),
        }
    }
    components
}

/// `type` or `type/name` of a key.
fn component_id(report: &Report, key: &Key) -> Option<ComponentId> {
    parse_id(report, &key.name, &key.at)
}

/// Splits an id as the Collector does: a type of letters, digits and `_`, then anything printable.
fn parse_id(report: &Report, text: &str, at: &Location) -> Option<ComponentId> {
    let (kind, name) = match text.split_once('/') {
        Some((kind, name)) => (kind.trim(), Some(name.trim())),
        None => (text.trim(), None),
    };
    let starts = kind.starts_with(|c: char| c.is_ascii_alphabetic());
    if !starts || !kind.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') || kind.len() > 63 {
        report.error(at, format!("`{}` is not a component id: `type` or `type/name`", text.escape_debug()));
        return None;
    }
    if name.is_some_and(|name| name.is_empty() || name.chars().any(|c| c.is_control() || c.is_whitespace())) {
        report.error(
            at,
            format!("`{}`: what follows the slash must be a name without spaces", text.escape_debug()),
        );
        return None;
    }
    Some(ComponentId { kind: kind.to_owned(), name: name.map(str::to_owned) })
}
