//! What is refused, where, and what the message says.

use super::{complete, component, config, parse, path};

/// A refused configuration: text, line, part of the path, part of the message.
type Bad = (String, u32, &'static str, &'static str);

fn bad_sections() -> Vec<Bad> {
    let text = |text: &str| text.to_owned();
    vec![
        (text("proccessors: {}"), 1, "proccessors", "did you mean `processors`?"),
        (text("processors:\nreceivers: 5"), 2, "receivers", "must be a mapping"),
        (text("connectors:\n  forward:"), 1, "connectors", "`connectors` is known but not built yet"),
        (text("service: {}"), 1, "service", "`pipelines` is required"),
        (text("service: {pipelines: {}}"), 1, "service::pipelines", "at least one pipeline"),
        (
            text("service:\n  pipelines:\n    metrics: {receivers: [otlp]}"),
            3,
            "pipelines::metrics",
            "`metrics` pipelines are known but not built yet",
        ),
        (text("service:\n  pipelines:\n    trace: {}"), 3, "pipelines::trace", "did you mean `traces`?"),
        (
            text("service:\n  pipelines:\n    traces:\n      receivers: [otpl]\n      exporters: [debug]"),
            4,
            "traces::receivers[0]",
            "did you mean `otlp`?",
        ),
        (
            text(
                "service:\n  pipelines:\n    traces:\n      receivers: [otlp]\n      exporters: [debug, kafka]",
            ),
            5,
            "traces::exporters[1]",
            "no exporter `kafka` is defined under `exporters`",
        ),
        (
            text("service:\n  pipelines:\n    traces:\n      receivers: [otlp]\n      exporters: []"),
            3,
            "pipelines::traces",
            "at least one entry in `exporters`",
        ),
        (
            text(
                "service:\n  pipelines:\n    traces:\n      receivers: [otlp, otlp]\n      exporters: [debug]",
            ),
            4,
            "receivers[1]",
            "twice",
        ),
        (
            text(
                "service:\n  extensions: [orign]\n  pipelines: {traces: {receivers: [otlp], exporters: [debug]}}",
            ),
            2,
            "service::extensions[0]",
            "no extension `orign` is defined",
        ),
        (
            text(
                "service:\n  pipelines: {traces: {receivers: [otlp], exporters: [debug]}}\n  telemetry:\n    metrics: {address: nope}",
            ),
            4,
            "metrics::address",
            "the port is missing",
        ),
        (
            text(
                "service:\n  pipelines: {traces: {receivers: [otlp], exporters: [debug]}}\n  telemetry:\n    logs: {level: verbose}",
            ),
            4,
            "logs::level",
            "unknown value `verbose`",
        ),
        (text("a: 1\nb: [}"), 2, "", "not valid YAML"),
        (
            text("exporters: {debug: }\nexporters: {debug: }"),
            2,
            "",
            "`exporters` is here twice in one mapping (first in line 1)",
        ),
        (text("exporters:\n  debug:\n  de bug:"), 3, "exporters::de bug", "is not a component id"),
        (text("exporters:\n  debug:\n  debug/:"), 3, "exporters::debug/", "what follows the slash"),
    ]
}

fn bad_components() -> Vec<Bad> {
    let receiver = |body: &str| component("receivers", "otlp", body);
    let exporter = |id: &str, body: &str| component("exporters", id, body);
    let extension = |id: &str, body: &str| component("extensions", id, body);
    vec![
        ("receivers:\n  otlpp: {}".into(), 2, "receivers::otlpp", "did you mean `otlp`?"),
        (
            "receivers:\n  zipkin: {}".into(),
            2,
            "receivers::zipkin",
            "the receiver `zipkin` is known but not built yet",
        ),
        (receiver("protocols: {}"), 3, "otlp::protocols", "at least one of `grpc` and `http`"),
        (receiver("protocol: {grpc: }"), 3, "otlp::protocol", "did you mean `protocols`?"),
        (receiver("protocols:\n  grpc: {endpoint: 'localhost'}"), 4, "grpc::endpoint", "the port is missing"),
        (
            receiver("protocols:\n  grpc: {endpoint: 'http://localhost:4317'}"),
            4,
            "grpc::endpoint",
            "brackets",
        ),
        (
            receiver("protocols:\n  grpc: {endpoint: '::1:4317'}"),
            4,
            "grpc::endpoint",
            "in brackets, `[::1]:4317`",
        ),
        (receiver("protocols:\n  grpc:\n    tls:"), 5, "grpc::tls", "`tls` is empty"),
        (
            receiver("protocols:\n  grpc:\n    tls: {cert_file: a}"),
            5,
            "grpc::tls",
            "both `cert_file` and `key_file`",
        ),
        (
            receiver("protocols:\n  grpc:\n    tls: {cert_file: a, key_file: b, min_version: '1.1'}"),
            5,
            "tls::min_version",
            "TLS 1.1 is not spoken",
        ),
        (
            receiver("protocols:\n  grpc:\n    max_recv_msg_size: 4"),
            5,
            "grpc::max_recv_msg_size",
            "did you mean `max_recv_msg_size_mib`?",
        ),
        (
            receiver("protocols:\n  grpc:\n    max_recv_msg_size_mib: -4"),
            5,
            "max_recv_msg_size_mib",
            "not negative",
        ),
        (
            receiver("protocols:\n  http: {cors: {allowed_origins: ['*']}}"),
            4,
            "http::cors",
            "`cors` is known but not built yet",
        ),
        (
            receiver(
                "protocols:\n  grpc: {endpoint: 'localhost:4318'}\n  http: {endpoint: 'localhost:4318'}",
            ),
            2,
            "receivers::otlp",
            "both listen on `localhost:4318`",
        ),
        (exporter("logging", "verbosity: basic"), 2, "exporters::logging", "it is `debug` now"),
        (exporter("otlphtp", "endpoint: http://a:1"), 2, "exporters::otlphtp", "did you mean `otlphttp`?"),
        (exporter("debug", "verbosity: detailed"), 3, "debug::verbosity", "span content"),
        (exporter("file", "path: ''"), 3, "file::path", "must not be empty"),
        (exporter("file", "path: x\nrotation: {max_megabytes: 1}"), 4, "file::rotation", "not built yet"),
        (exporter("otlp", "tls: {insecure: true}"), 3, "exporters::otlp", "`endpoint` is required"),
        (exporter("otlp", "endpoint: tempo"), 3, "otlp::endpoint", "the port is missing"),
        (exporter("otlp", "endpoint: https://tempo:1\ntls: {insecure: true}"), 4, "otlp::tls", "contradicts"),
        (
            exporter("otlp", "endpoint: a:1\ntls: {cert_file: x}"),
            4,
            "otlp::tls",
            "both `cert_file` and `key_file`",
        ),
        (
            exporter("otlp", "endpoint: a:1\ncompression: snappy"),
            4,
            "otlp::compression",
            "`snappy` is known but not built yet",
        ),
        (exporter("otlp", "endpoint: a:1\ncompression: gzp"), 4, "otlp::compression", "did you mean `gzip`?"),
        (exporter("otlp", "endpoint: a:1\ntimeout: 5"), 4, "otlp::timeout", "needs a unit: `5s`"),
        (exporter("otlp", "endpoint: a:1\ntimeout: 5 parsecs"), 4, "otlp::timeout", "must be a duration"),
        (
            exporter("otlp", "endpoint: a:1\nheaders: {'bad name': x}"),
            4,
            "headers::bad name",
            "is not a header's name",
        ),
        (
            exporter("otlp", "endpoint: a:1\nsending_queue: {storage: file_storage}"),
            4,
            "sending_queue::storage",
            "not built yet",
        ),
        (
            exporter("otlp", "endpoint: a:1\nretry_on_failure: {multiplier: x}"),
            4,
            "retry_on_failure::multiplier",
            "must be a number",
        ),
        (
            exporter("otlphttp", "endpoint: tempo:4318"),
            3,
            "otlphttp::endpoint",
            "starts with `http://` or `https://`",
        ),
        (exporter("otlphttp", "endpoint: http://u:p@tempo:4318"), 3, "otlphttp::endpoint", "credentials"),
        (
            exporter(
                "loadbalancing",
                "protocol: {otlp: }\nresolver: {static: {hostnames: [a]}, dns: {hostname: b}}",
            ),
            4,
            "loadbalancing::resolver",
            "exactly one",
        ),
        (
            exporter("loadbalancing", "protocol: {otlp: }\nresolver: {k8s: {service: a}}"),
            4,
            "resolver::k8s",
            "not built yet",
        ),
        (
            exporter("loadbalancing", "protocol: {otlp: }\nresolver: {dns: {hostname: a, port: 70000}}"),
            4,
            "dns::port",
            "is not a port",
        ),
        (
            exporter("loadbalancing", "protocol: {otlp: }\nresolver: {static: {hostnames: []}}"),
            4,
            "resolver::static",
            "must not be empty",
        ),
        (
            exporter("loadbalancing", "resolver: {static: {hostnames: [a]}}"),
            3,
            "loadbalancing",
            "`protocol.otlp` is required",
        ),
        (
            exporter(
                "loadbalancing",
                "protocol: {otlp: }\nresolver: {static: {hostnames: [a]}}\nrouting_key: service",
            ),
            5,
            "routing_key",
            "not built yet",
        ),
        (extension("orgin", "{}"), 2, "extensions::orgin", "did you mean `origin`?"),
        (
            extension("identity", "{}"),
            2,
            "extensions::identity",
            "the extension `identity` is known but not built yet",
        ),
        (extension("origin", "evidence: requird"), 3, "origin::evidence", "did you mean `required`?"),
        (
            extension("origin", "plaintext: block"),
            3,
            "origin::plaintext",
            "`block` is known but not built yet",
        ),
        (extension("origin", "pods: {kubelet: {}}"), 3, "origin::pods::kubelet", "not built yet"),
        (extension("origin", "cgroup: fs/cgroup"), 3, "origin::cgroup", "absolute"),
    ]
}

fn bad_processors() -> Vec<Bad> {
    let of = |id: &str, body: &str| component("processors", id, body);
    let policy = |body: &str| component("processors", "tail_sampling", &format!("policies:\n  - {body}"));
    vec![
        (of("scrub", "{}"), 2, "processors::scrub", "the processor `scrub` is known but not built yet"),
        (of("tailsampling", "{}"), 2, "processors::tailsampling", "did you mean `tail_sampling`?"),
        (of("batch", "send_batchsize: 1"), 3, "batch::send_batchsize", "did you mean `send_batch_size`?"),
        (
            of("batch", "send_batch_size: 100\nsend_batch_max_size: 50"),
            4,
            "send_batch_max_size",
            "at least `send_batch_size` (100)",
        ),
        (of("batch", "send_batch_size: \"100\""), 3, "send_batch_size", "but this is the string \"100\""),
        (of("batch", "send_batch_size: 5000000000"), 3, "send_batch_size", "too large"),
        (
            of("memory_limiter", "limit_mib: 100"),
            3,
            "processors::memory_limiter",
            "`check_interval` must be longer than 0",
        ),
        (
            of("memory_limiter", "check_interval: 1s"),
            3,
            "processors::memory_limiter",
            "`limit_mib` or `limit_percentage`",
        ),
        (
            of("memory_limiter", "check_interval: 1s\nlimit_percentage: 101"),
            4,
            "limit_percentage",
            "at most 100",
        ),
        (
            of("memory_limiter", "check_interval: 1s\nlimit_mib: 10\nspike_limit_mib: 10"),
            5,
            "spike_limit_mib",
            "less than `limit_mib` (10)",
        ),
        (
            of("redaction", "allow_all_keys: true\nblocked_key: [a]"),
            4,
            "redaction::blocked_key",
            "did you mean `blocked_keys`?",
        ),
        (of("redaction", "allow_all_keys: 'true'"), 3, "allow_all_keys", "`true` or `false`"),
        (
            of("redaction", "allow_all_keys: true\nblocked_values: ['a', '']"),
            4,
            "blocked_values[1]",
            "empty pattern",
        ),
        (of("redaction", "allow_all_keys: true\nhash_function: md5"), 4, "hash_function", "not built yet"),
        (
            of("redaction", "allow_all_keys: true\ndb_sanitizer: {sql: {enabled: true}}"),
            4,
            "db_sanitizer",
            "not built yet",
        ),
        (of("transform", "trace_statments: []"), 3, "trace_statments", "did you mean `trace_statements`?"),
        (of("transform", "log_statements: ['set(a, 1)']"), 3, "log_statements", "not built yet"),
        (
            of("transform", "trace_statements: [{context: sapn, statements: [x]}]"),
            3,
            "trace_statements[0]::context",
            "did you mean `span`?",
        ),
        (
            of("transform", "trace_statements: [{context: span}]"),
            3,
            "trace_statements[0]",
            "`statements` is required",
        ),
        (
            of("attributes", "actions: [{key: a, action: instert, value: 1}]"),
            3,
            "actions[0]::action",
            "did you mean `insert`?",
        ),
        (
            of("attributes", "actions: [{key: a, action: extract, pattern: x}]"),
            3,
            "actions[0]::action",
            "`extract` is known but not built yet",
        ),
        (
            of("attributes", "include: {match_type: strict}\nactions: [{key: a, action: delete}]"),
            3,
            "attributes::include",
            "not built yet",
        ),
        (
            of("attributes", "actions: [{key: a, action: insert}]"),
            3,
            "actions[0]",
            "`value` or `from_attribute`",
        ),
        (
            of("resource", "actions: [{key: a, action: delete}]"),
            3,
            "resource::actions",
            "known here: `attributes`",
        ),
        (of("resource", "attributes: [{action: upsert, value: 1}]"), 3, "attributes[0]", "`key` is required"),
        (
            of("k8sattributes", "extract: {metadata: [k8s.pod.nam]}"),
            3,
            "metadata[0]",
            "did you mean `k8s.pod.name`?",
        ),
        (
            of("k8sattributes", "extract: {labels: [{tag_name: a}]}"),
            3,
            "labels[0]",
            "exactly one of `key` and `key_regex`",
        ),
        (
            of("k8sattributes", "pod_association: [{sources: [{from: conection}]}]"),
            3,
            "sources[0]::from",
            "did you mean `connection`?",
        ),
        (of("tail_sampling", "decision_wait: 5s"), 3, "processors::tail_sampling", "`policies` is required"),
        (
            of("tail_sampling", "sampling_strategy: span-ingest\npolicies: [{name: a, type: always_sample}]"),
            3,
            "sampling_strategy",
            "not built yet",
        ),
        (policy("{type: always_sample}"), 4, "policies[0]", "`name` is required"),
        (policy("{name: a, type: always_sampel}"), 4, "policies[0]::type", "did you mean `always_sample`?"),
        (
            policy("{name: a, type: rate_limiting, rate_limiting: {spans_per_second: 1}}"),
            4,
            "policies[0]::type",
            "`rate_limiting` is known but not built yet",
        ),
        (
            policy("{name: a, type: always_sample}\n  - {name: a, type: always_sample}"),
            5,
            "policies[1]::name",
            "two policies are named `a`",
        ),
        (
            policy("{name: a, type: status_code, status_code: {status_codes: [ERR]}}"),
            4,
            "status_codes[0]",
            "unknown status code `ERR`",
        ),
        (policy("{name: a, type: latency}"), 4, "policies[0]", "needs `latency:`"),
        (
            policy("{name: a, type: latency, latency: {threshold_ms: 5, upper_threshold_ms: 4}}"),
            4,
            "upper_threshold_ms",
            "more than `threshold_ms`",
        ),
        (
            policy("{name: a, type: always_sample, latency: {threshold_ms: 5}}"),
            4,
            "policies[0]::latency",
            "has no effect in a policy of the type `always_sample`",
        ),
        (
            policy("{name: a, type: probabilistic, probabilistic: {sampling_percentage: 101}}"),
            4,
            "sampling_percentage",
            "between 0 and 100",
        ),
        (
            policy("{name: a, type: string_attribute, string_attribute: {key: k, values: []}}"),
            4,
            "string_attribute",
            "`values` is required",
        ),
        (
            policy("{name: a, type: and, and: {and_sub_policy: []}}"),
            4,
            "policies[0]::and",
            "`and_sub_policy` is required",
        ),
        (
            of("batch", "timeout: ${env:NOT_SET_ANYWHERE}"),
            3,
            "batch::timeout",
            "`NOT_SET_ANYWHERE` is not set",
        ),
        (of("redaction", "blocked_values: ['${1}']"), 3, "blocked_values[0]", "write `$${1}`"),
    ]
}

#[test]
fn what_is_wrong_is_refused_with_place_and_advice() {
    let table: Vec<Bad> = [bad_sections(), bad_components(), bad_processors()].concat();
    assert!(table.len() >= 100);
    let mut failures = String::new();
    for (snippet, line, path, message) in table {
        let text = complete(&snippet);
        let Err(errors) = parse(&text) else {
            failures.push_str(&format!("loads:\n{text}\n"));
            continue;
        };
        // A mistyped key is also a missing one; nothing else may come with the expected error.
        let (found, rest): (Vec<_>, Vec<_>) = errors.0.iter().partition(|error| {
            error.at.line == line && error.at.path.ends_with(path) && error.message.contains(message)
        });
        let right = found.len() == 1 && rest.iter().all(|error| error.message.contains("` is required"));
        if !right {
            failures.push_str(&format!("wanted line {line}, {path}, {message}:\n{text}{errors}\n\n"));
        }
    }
    assert!(failures.is_empty(), "{failures}");
}

#[test]
fn two_samplers_in_a_pipeline() {
    let text = "processors:\n  tail_sampling: &t {policies: [{name: a, type: always_sample}]}\n  tail_sampling/b: *t\nservice:\n  pipelines:\n    traces:\n      receivers: [otlp]\n      processors: [tail_sampling, tail_sampling/b]\n      exporters: [debug]\n";
    let errors = parse(&complete(text)).unwrap_err();
    assert_eq!(errors.0.len(), 1, "{errors}");
    assert_eq!(errors.0[0].at.path.as_ref(), "service::pipelines::traces::processors[1]");
}

/// One run shows everything that is wrong, in the file's order, and counts it.
#[test]
fn all_errors_at_once() {
    let text = "exporters:\n  otlp: {endpoint: a}\n  debug: {verbose: 1}\nprocessors:\n  batch: {timeout: x}\n  nope:\n";
    let errors = parse(&complete(text)).unwrap_err();
    let lines: Vec<u32> = errors.0.iter().map(|error| error.at.line).collect();
    assert_eq!(lines, [2, 3, 5, 6], "{errors}");
    let shown = errors.to_string();
    assert!(shown.starts_with("t.yaml:2:20: exporters::otlp::endpoint: `a` is not `host:port`"), "{shown}");
    assert!(shown.ends_with("\n4 errors"), "{shown}");
}

#[test]
fn a_file_that_is_not_there_or_is_empty() {
    let error = config::load(&path("nope.yaml")).unwrap_err().to_string();
    assert!(error.contains("nope.yaml: can't be read:") && error.ends_with("\n1 error"), "{error}");
    assert!(parse("").unwrap_err().to_string().contains("the configuration is empty"));
    assert!(parse("- a\n").unwrap_err().to_string().contains("must be a mapping, but this is a list"));
}
