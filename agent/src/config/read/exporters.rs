//! `exporters:`

use std::{path::PathBuf, time::Duration};

use super::{auth, endpoint, loadbalancing, tls};
use crate::config::{
    Located,
    exporters::{
        Compression, DebugExporter, Exporter, FileExporter, OtlpExporter, OtlpHttpExporter, Retry,
        SendingQueue,
    },
    fields::Fields,
    yaml::Value,
};

pub(super) fn read(kind: &'static str, fields: Fields<'_>) -> Option<Exporter> {
    match kind {
        "otlp" => Some(Exporter::Otlp(otlp_with_endpoint(fields))),
        "otlphttp" => Some(Exporter::OtlpHttp(otlp_http(fields))),
        "file" => file(fields).map(Exporter::File),
        "debug" => Some(Exporter::Debug(debug(fields))),
        _ => loadbalancing::read(fields).map(Exporter::LoadBalancing),
    }
}

const BUFFERS: [&str; 2] = ["read_buffer_size", "write_buffer_size"];

fn otlp_with_endpoint(mut fields: Fields<'_>) -> OtlpExporter {
    let endpoint = fields.required("endpoint");
    if let Some(endpoint) = &endpoint {
        endpoint::grpc_target(&fields, endpoint);
    }
    let none = Located { value: String::new(), at: fields.at.clone() };
    otlp(fields, endpoint.unwrap_or(none))
}

/// An `otlp` exporter whose endpoint is known.
pub(super) fn otlp(mut fields: Fields<'_>, endpoint: Located<String>) -> OtlpExporter {
    let exporter = OtlpExporter {
        endpoint,
        tls: tls::client(&mut fields),
        compression: compression(&mut fields),
        headers: headers(&mut fields),
        auth: auth::read(&mut fields),
        timeout: timeout(&mut fields, Duration::from_secs(5)),
        retry: retry(&mut fields),
        queue: queue(&mut fields),
    };
    let scheme = exporter.endpoint.value.split_once("://").map(|(scheme, _)| scheme);
    if scheme == Some("https") && exporter.tls.insecure {
        fields.error_at("tls", "`insecure: true` contradicts the endpoint's `https://`");
    }
    fields.not_built(&["authority", "user_agent", "keepalive", "middlewares", "batcher"]);
    fields.ignored(&BUFFERS, "buffers follow what is sent");
    fields.ignored(
        &["balancer_name"],
        "one connection is held to an endpoint; use `loadbalancing` for several",
    );
    fields.ignored(&["wait_for_ready"], "a request waits for its connection within `timeout`");
    exporter
}

fn otlp_http(mut fields: Fields<'_>) -> OtlpHttpExporter {
    let endpoint = fields.located("endpoint").filter(|endpoint| !endpoint.value.is_empty());
    let traces_endpoint = fields.located("traces_endpoint").filter(|endpoint| !endpoint.value.is_empty());
    for url in [&endpoint, &traces_endpoint].into_iter().flatten() {
        endpoint::url(&fields, url);
    }
    if endpoint.is_none() && traces_endpoint.is_none() {
        fields.error("`endpoint` (to which `/v1/traces` is appended) or `traces_endpoint` is required");
    }
    let none = Located { value: String::new(), at: fields.at.clone() };
    let exporter = OtlpHttpExporter {
        endpoint: endpoint.unwrap_or(none),
        traces_endpoint,
        json: fields.choice("encoding", &[("proto", false), ("json", true)]).unwrap_or(false),
        tls: tls::client(&mut fields),
        compression: compression(&mut fields),
        headers: headers(&mut fields),
        auth: auth::read(&mut fields),
        timeout: timeout(&mut fields, Duration::from_secs(30)),
        retry: retry(&mut fields),
        queue: queue(&mut fields),
    };
    fields.not_built(&[
        "proxy_url",
        "cookies",
        "compression_params",
        "disable_keep_alives",
        "middlewares",
        "batcher",
    ]);
    fields.ignored(&BUFFERS, "buffers follow what is sent");
    fields.ignored(&["metrics_endpoint", "logs_endpoint", "profiles_endpoint"], "only traces are sent");
    fields.ignored(
        &[
            "max_idle_conns",
            "max_idle_conns_per_host",
            "max_conns_per_host",
            "idle_conn_timeout",
            "http2_read_idle_timeout",
            "http2_ping_timeout",
            "force_attempt_http2",
        ],
        "connections are kept as they are needed",
    );
    exporter
}

/// What a request may take. The Collector's 0 is "for ever"; no wait here is without an end.
fn timeout(fields: &mut Fields<'_>, default: Duration) -> Duration {
    let timeout = fields.duration("timeout").unwrap_or(default);
    if timeout.is_zero() {
        fields.error_at(
            "timeout",
            "must be longer than 0: a backend that never answers would hold its batch for ever",
        );
    }
    timeout
}

fn compression(fields: &mut Fields<'_>) -> Compression {
    let unbuilt = ["snappy", "zlib", "deflate", "x-snappy-framed", "lz4"];
    if let Some(name) = fields.string("compression")
        && unbuilt.contains(&name.as_str())
    {
        fields.error_at(
            "compression",
            format!("`{name}` is known but not built yet; `gzip`, `zstd` and `none` are"),
        );
        return Compression::Gzip;
    }
    let words = [
        ("gzip", Compression::Gzip),
        ("zstd", Compression::Zstd),
        ("none", Compression::None),
        ("", Compression::None),
    ];
    fields.choice("compression", &words).unwrap_or(Compression::Gzip)
}

/// A mapping, or the Collector's newer list of `{name, value}`.
fn headers(fields: &mut Fields<'_>) -> Vec<(String, String)> {
    let report = fields.report();
    let mut headers: Vec<(Located<String>, Option<&str>)> = Vec::new();
    let mut items = Vec::new();
    match fields.get("headers").map(|node| &node.value) {
        Some(Value::Map(entries)) => {
            headers.extend(
                entries.iter().map(|(key, value)| {
                    (Located { value: key.name.clone(), at: key.at.clone() }, value.text())
                }),
            );
        }
        Some(Value::Seq(list)) => items.extend(list),
        Some(_) => fields.error_at("headers", "must be a mapping of names to values"),
        None => {}
    }
    for item in items {
        let mut item = Fields::new(report, item);
        let name = item.required("name");
        let value = item.get("value");
        headers.extend(name.map(|name| (name, value.and_then(|value| value.text()))));
    }
    let mut pairs = Vec::new();
    for (name, value) in headers {
        let parsed = http::HeaderName::try_from(&name.value);
        match (parsed, value) {
            (Err(_), _) => report.error(&name.at, "is not a header's name"),
            (Ok(_), None) => report.error(&name.at, "a header needs a value of text"),
            (Ok(parsed), Some(value)) if http::HeaderValue::try_from(value).is_ok() => {
                pairs.push((parsed.as_str().to_owned(), value.to_owned()));
            }
            // The value itself may be a secret: it is not shown.
            (Ok(_), Some(_)) => {
                report.error(&name.at, "the value has characters that no header may have (a line end?)");
            }
        }
    }
    pairs
}

fn retry(fields: &mut Fields<'_>) -> Retry {
    let default = Retry {
        enabled: true,
        initial_interval: Duration::from_secs(5),
        randomization_factor: 0.5,
        multiplier: 1.5,
        max_interval: Duration::from_secs(30),
        max_elapsed_time: Duration::from_mins(5),
    };
    let Some(mut fields) = fields.table("retry_on_failure") else { return default };
    let retry = Retry {
        enabled: fields.boolean("enabled").unwrap_or(default.enabled),
        initial_interval: fields.duration("initial_interval").unwrap_or(default.initial_interval),
        randomization_factor: fields.float("randomization_factor").unwrap_or(default.randomization_factor),
        multiplier: fields.float("multiplier").unwrap_or(default.multiplier),
        max_interval: fields.duration("max_interval").unwrap_or(default.max_interval),
        max_elapsed_time: fields.duration("max_elapsed_time").unwrap_or(default.max_elapsed_time),
    };
    if !(0.0..=1.0).contains(&retry.randomization_factor) {
        fields.error_at("randomization_factor", "must be between 0 and 1");
    }
    if retry.multiplier < 0.0 {
        fields.error_at("multiplier", "must not be negative");
    }
    if retry.initial_interval.is_zero() && retry.enabled {
        fields.error_at(
            "initial_interval",
            "must be longer than 0: a failing backend would be asked without a pause",
        );
    }
    if !retry.max_elapsed_time.is_zero() && retry.max_elapsed_time < retry.initial_interval {
        fields.error_at("max_elapsed_time", "must not be shorter than `initial_interval`");
    }
    retry
}

fn queue(fields: &mut Fields<'_>) -> Option<SendingQueue> {
    let mut fields = fields.table("sending_queue")?;
    let enabled = fields.boolean("enabled").unwrap_or(true);
    let queue = SendingQueue {
        num_consumers: fields.unsigned("num_consumers").unwrap_or(10),
        queue_size: fields.unsigned("queue_size").unwrap_or(1000),
    };
    if let Some(sizer) = fields.choice("sizer", &[("requests", true), ("items", false), ("bytes", false)])
        && !sizer
    {
        fields.error_at("sizer", "`items` and `bytes` are known but not built yet; `requests` is");
    }
    fields.not_built(&["block_on_overflow", "wait_for_result", "storage", "batch"]);
    for (key, value) in [("num_consumers", u64::from(queue.num_consumers)), ("queue_size", queue.queue_size)]
    {
        if enabled && value == 0 {
            fields.error_at(key, "must be more than 0");
        }
    }
    enabled.then_some(queue)
}

fn file(mut fields: Fields<'_>) -> Option<FileExporter> {
    let path = fields.required("path");
    let flush_interval = fields.duration("flush_interval").unwrap_or(Duration::from_secs(1));
    if flush_interval.is_zero() {
        fields.error_at("flush_interval", "must be longer than 0");
    }
    if let Some(false) = fields.choice("format", &[("json", true), ("proto", false)]) {
        fields.error_at("format", "`proto` is known but not built yet; `json` is");
    }
    let append = fields.boolean("append").unwrap_or(false);
    fields.not_built(&[
        "rotation",
        "compression",
        "encoding",
        "group_by",
        "create_directory",
        "directory_permissions",
    ]);
    Some(FileExporter { path: PathBuf::from(path?.value), append, flush_interval })
}

fn debug(mut fields: Fields<'_>) -> DebugExporter {
    let words = [("basic", Some(false)), ("normal", Some(true)), ("detailed", None)];
    let verbosity = fields.choice("verbosity", &words).unwrap_or(Some(false));
    if verbosity.is_none() {
        fields.error_at(
            "verbosity",
            "`detailed` would write span content to the log and is refused; use the `file` exporter",
        );
    }
    fields.ignored(
        &["sampling_initial", "sampling_thereafter", "use_internal_logger", "output_paths", "sending_queue"],
        "counts go to the log",
    );
    DebugExporter { normal: verbosity.unwrap_or(false) }
}
