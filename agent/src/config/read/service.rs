//! `service:`

use super::{endpoint, parse_id};
use crate::config::{
    ComponentId, Located, Location,
    fields::{Fields, nearest},
    service::{Pipeline, Service, Telemetry},
};

/// Where Prometheus finds the metrics unless told otherwise, as in the Collector.
const METRICS: &str = "localhost:8888";

/// A service, and where each reference in it stands.
pub(super) struct Read {
    pub(super) config: Service,
    pub(super) at: Location,
    pub(super) extensions: Vec<Located<String>>,
    pub(super) pipelines: Vec<PipelineRefs>,
}

/// A pipeline's references as written.
pub(super) struct PipelineRefs {
    pub(super) at: Location,
    pub(super) receivers: Vec<Located<String>>,
    pub(super) processors: Vec<Located<String>>,
    pub(super) exporters: Vec<Located<String>>,
}

pub(super) fn read(mut fields: Fields<'_>) -> Read {
    let at = fields.at.clone();
    let extensions = fields.located_strings("extensions");
    let (pipelines, refs) = pipelines(&mut fields);
    let telemetry = telemetry(&mut fields);
    let config = Service { extensions: to_ids(&fields, &extensions), pipelines, telemetry };
    Read { config, at, extensions, pipelines: refs }
}

fn to_ids(fields: &Fields<'_>, names: &[Located<String>]) -> Vec<ComponentId> {
    names.iter().filter_map(|name| parse_id(fields.report(), &name.value, &name.at)).collect()
}

fn pipelines(fields: &mut Fields<'_>) -> (Vec<Pipeline>, Vec<PipelineRefs>) {
    let report = fields.report();
    let (mut pipelines, mut all_refs) = (Vec::new(), Vec::new());
    let Some(mut table) = fields.table("pipelines") else {
        fields.error("`pipelines` is required, with at least `traces`");
        return (pipelines, all_refs);
    };
    let entries = table.entries();
    if entries.is_empty() {
        table.error("at least one pipeline is required: `traces`");
    }
    for (key, node) in entries {
        let Some(id) = parse_id(report, &key.name, &key.at) else { continue };
        match id.kind.as_str() {
            "traces" => {}
            signal @ ("metrics" | "logs" | "profiles") => {
                report.error(
                    &key.at,
                    format!("`{signal}` pipelines are known but not built yet; `traces` are"),
                );
                continue;
            }
            other => {
                let known = ["traces", "metrics", "logs", "profiles"];
                report.error(&key.at, nearest::unknown("signal", other, &known));
                continue;
            }
        }
        let mut pipeline = Fields::new(report, node);
        let refs = PipelineRefs {
            at: key.at.clone(),
            receivers: pipeline.located_strings("receivers"),
            processors: pipeline.located_strings("processors"),
            exporters: pipeline.located_strings("exporters"),
        };
        pipelines.push(Pipeline {
            id,
            at: key.at.clone(),
            receivers: to_ids(&pipeline, &refs.receivers),
            processors: to_ids(&pipeline, &refs.processors),
            exporters: to_ids(&pipeline, &refs.exporters),
        });
        all_refs.push(refs);
    }
    (pipelines, all_refs)
}

fn telemetry(fields: &mut Fields<'_>) -> Telemetry {
    let mut telemetry = Telemetry {
        metrics: Some(METRICS.to_owned()),
        metrics_explicit: false,
        log_level: "info".to_owned(),
        log_json: false,
    };
    let Some(mut fields) = fields.table("telemetry") else { return telemetry };
    if let Some(metrics) = fields.table("metrics") {
        (telemetry.metrics, telemetry.metrics_explicit) = self::metrics(metrics);
    }
    if let Some(logs) = fields.table("logs") {
        (telemetry.log_level, telemetry.log_json) = self::logs(logs);
    }
    if let Some(mut traces) = fields.table("traces") {
        let words = [("none", true), ("basic", false), ("normal", false), ("detailed", false)];
        if traces.choice("level", &words) == Some(false) {
            traces.error_at("level", "traces of its own are known but not built yet; `none` is");
        }
        traces.not_built(&["propagators", "processors"]);
    }
    fields.not_built(&["resource"]);
    telemetry
}

/// The address and whether the file names it.
fn metrics(mut fields: Fields<'_>) -> (Option<String>, bool) {
    let levels = [("none", false), ("basic", true), ("normal", true), ("detailed", true)];
    let on = fields.choice("level", &levels).unwrap_or(true);
    let address = fields.located("address");
    if let Some(address) = &address
        && let Err(message) = endpoint::split(&address.value)
    {
        fields.error_at("address", message);
    }
    let address = address.map(|address| match address.value.strip_prefix(':') {
        Some(port) => format!("[::]:{port}"),
        None => address.value,
    });
    let reader = reader(&mut fields);
    if address.is_some() && reader.is_some() {
        fields.error_at("address", "`address` is the older form of `readers`; use one of them");
    }
    fields.not_built(&["views"]);
    let named = address.or(reader);
    let explicit = named.is_some();
    (on.then(|| named.unwrap_or_else(|| METRICS.to_owned())), explicit && on)
}

/// The pull reader: `readers: [{pull: {exporter: {prometheus: {host, port}}}}]`.
fn reader(fields: &mut Fields<'_>) -> Option<String> {
    let report = fields.report();
    let readers = fields.list("readers");
    if readers.len() > 1 {
        fields.error_at("readers", "more than one reader is known but not built yet");
    }
    let mut reader = Fields::new(report, readers.first()?);
    if reader.present("periodic").is_some() {
        reader.error_at("periodic", "`periodic` is known but not built yet; `pull` is");
        return None;
    }
    let Some(mut pull) = reader.table("pull") else {
        reader.error("`pull` is required: `pull: {exporter: {prometheus: {host: localhost, port: 8888}}}`");
        return None;
    };
    let Some(mut exporter) = pull.table("exporter") else {
        pull.error("`exporter` is required, with `prometheus`");
        return None;
    };
    let Some(mut prometheus) = exporter.table("prometheus") else {
        exporter.error("`prometheus` is required, with `host` and `port`");
        return None;
    };
    let host = prometheus.string("host").unwrap_or_else(|| "localhost".to_owned());
    let port: u16 = prometheus.unsigned("port").unwrap_or(8888);
    prometheus.ignored(
        &[
            "without_scope_info",
            "without_type_suffix",
            "without_units",
            "with_resource_constant_labels",
            "translation_strategy",
            "without_target_info",
        ],
        "names are the ones of the Collector's built-in reader",
    );
    let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host };
    let address = format!("{host}:{port}");
    if let Err(message) = endpoint::split(&address) {
        prometheus.error(message);
    }
    Some(address)
}

/// The level in lower case and whether the encoding is JSON.
fn logs(mut fields: Fields<'_>) -> (String, bool) {
    let levels = [
        ("debug", "debug"),
        ("info", "info"),
        ("warn", "warn"),
        ("error", "error"),
        ("DEBUG", "debug"),
        ("INFO", "info"),
        ("WARN", "warn"),
        ("ERROR", "error"),
    ];
    let level = fields.choice("level", &levels).unwrap_or("info");
    let json = fields.choice("encoding", &[("console", false), ("json", true)]).unwrap_or(false);
    fields.ignored(
        &["sampling", "development", "disable_caller", "disable_stacktrace"],
        "it is about the Collector's own logger",
    );
    fields.not_built(&["output_paths", "error_output_paths", "initial_fields", "processors"]);
    (level.to_owned(), json)
}
