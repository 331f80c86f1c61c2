//! The configuration reader: what it reads, what it refuses and where it says so, and that nothing makes it panic.

#[path = "config/bad.rs"]
mod bad;

use std::{path::PathBuf, time::Duration};

use proptest::prelude::*;
use spanwarden::config::{
    self, Component, Config, Errors,
    exporters::{Compression, Exporter, Resolver},
    extensions::Extension,
    processors::{
        Action, ActionValue, ErrorMode, Literal, PolicyRule, Processor, RedactionSummary, StatusCode,
    },
    receivers::{OtlpReceiver, Receiver},
    tls::{ServerTls, TlsVersion},
};

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/configs").join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap()
}

fn load(name: &str) -> Config {
    config::load(&path(name)).unwrap_or_else(|errors| panic!("{name}: {errors}"))
}

/// Reads with the variables that the tables use.
fn parse(text: &str) -> Result<Config, Errors> {
    let variable = |name: &str| match name {
        "PORT" => Some("4317".to_owned()),
        "KEYS" => Some("[a, b]".to_owned()),
        "ZIP" => Some("0042".to_owned()),
        "SECRET" => Some("pa$$word${PORT}".to_owned()),
        _ => None,
    };
    let file = |_: &std::path::Path| Err("no such file".to_owned());
    config::parse_with(
        text,
        "t.yaml",
        &config::yaml::expand::Environment { variable: &variable, file: &file },
    )
}

fn good(text: &str) -> Config {
    let text = complete(text);
    parse(&text).unwrap_or_else(|errors| panic!("{text}\n{errors}"))
}

/// A snippet of one or more sections with the smallest rest around it, the snippet first so that lines are its own.
fn complete(snippet: &str) -> String {
    let has = |section: &str| snippet.lines().any(|line| line.starts_with(section));
    let exporter = first_id(snippet, "exporters:").unwrap_or("debug");
    let receiver = first_id(snippet, "receivers:").unwrap_or("otlp");
    let mut text = format!("{}\n", snippet.trim_end());
    if !has("receivers:") {
        text.push_str("receivers: {otlp: {protocols: {grpc: {}}}}\n");
    }
    if !has("exporters:") {
        text.push_str("exporters: {debug: {}}\n");
    }
    if !has("service:") {
        text.push_str(&format!(
            "service: {{pipelines: {{traces: {{receivers: [{receiver}], exporters: [{exporter}]}}}}}}\n"
        ));
    }
    text
}

fn first_id<'t>(snippet: &'t str, section: &str) -> Option<&'t str> {
    let mut lines = snippet.lines().skip_while(|line| !line.starts_with(section));
    lines.next()?;
    lines.next()?.trim().split(':').next()
}

/// `path: kind\nbody` as a section with one component, the body indented below it.
fn component(section: &str, id: &str, body: &str) -> String {
    let body: Vec<String> = body.lines().map(|line| format!("    {line}")).collect();
    format!("{section}:\n  {id}:\n{}\n", body.join("\n"))
}

macro_rules! only {
    ($list:expr, $pattern:pat => $value:expr) => {
        match &$list[0].config {
            $pattern => $value,
            other => panic!("unexpected {other:?}"),
        }
    };
}

fn processor<'c>(config: &'c Config, id: &str) -> &'c Processor {
    let found = config.processors.iter().find(|component| component.id.to_string() == id);
    &found.unwrap_or_else(|| panic!("no {id}")).config
}

fn ids<T>(components: &[Component<T>]) -> Vec<String> {
    components.iter().map(|component| component.id.to_string()).collect()
}

// --- The reference documents' configurations -------------------------------------------------------------------

#[test]
fn document_000_scrubbing_loads_unchanged() {
    let config = load("000-step1-scrubbing.yaml");
    let Processor::Redaction(redaction) = processor(&config, "redaction/pii") else { panic!() };
    assert!(redaction.allow_all_keys);
    assert_eq!(redaction.blocked_keys.len(), 5);
    assert_eq!(redaction.blocked_keys[2], "http.response.header.set-cookie");
    let patterns: Vec<&str> = redaction.blocked_values.iter().map(|pattern| pattern.value.as_str()).collect();
    assert_eq!(
        patterns,
        [
            r"(?i)Bearer\s+[A-Za-z0-9\-._~+/]+=*",
            r"\b\d{3}-\d{2}-\d{4}\b",
            r"\b(?:\d[ -]*?){13,16}\b",
            "sk-[A-Za-z0-9]{32,}",
        ]
    );
    assert_eq!(redaction.blocked_values[1].at.path.as_ref(), "processors::redaction/pii::blocked_values[1]");
    assert_eq!(redaction.summary, RedactionSummary::Silent);

    let Processor::Transform(urls) = processor(&config, "transform/scrub-urls") else { panic!() };
    assert_eq!(urls.error_mode, ErrorMode::DropValue);
    assert_eq!(urls.trace_statements[0].context.as_ref().unwrap().value, "span");
    let statements = &urls.trace_statements[0].statements;
    assert_eq!(statements.len(), 4);
    assert_eq!(
        statements[0].value,
        r#"replace_pattern(attributes["http.url"], "[a-zA-Z0-9._%+-]+@[a-zA-Z0-9.-]+\\.[a-zA-Z]{2,}", "[EMAIL-REDACTED]")"#
    );
    assert_eq!(statements[3].value, r#"replace_pattern(attributes["db.statement"], "= [0-9]{4,}", "= ?")"#);
    let Processor::Transform(hash) = processor(&config, "transform/hash-user-ids") else { panic!() };
    assert_eq!(
        hash.trace_statements[0].statements[0].value,
        r#"set(attributes["user.id"], SHA256(attributes["user.id"])) where attributes["user.id"] != nil"#
    );
    let pipeline = &config.service.pipelines[0];
    assert_eq!(
        pipeline.processors.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["redaction/pii", "transform/scrub-urls", "transform/hash-user-ids", "tail_sampling", "batch"]
    );
    let exporter = only!(config.exporters, Exporter::OtlpHttp(exporter) => exporter);
    assert_eq!(exporter.endpoint.value, "http://tempo.tracing.svc:4318");
    assert_eq!(config.warnings.len(), 1, "expected_new_traces_per_sec only: {:?}", config.warnings);
}

#[test]
fn document_000_tail_sampling() {
    let config = load("000-step6-tail-sampling.yaml");
    let sampling = only!(config.processors, Processor::TailSampling(sampling) => sampling);
    assert_eq!(
        (sampling.decision_wait, sampling.num_traces, sampling.policies.len()),
        (Duration::from_secs(15), 50_000, 5)
    );
    let rules: Vec<&PolicyRule> = sampling.policies.iter().map(|policy| &policy.rule).collect();
    assert!(
        matches!(rules[0], PolicyRule::StatusCode { status_codes } if status_codes == &[StatusCode::Error])
    );
    assert!(matches!(rules[1], PolicyRule::Latency { threshold, upper_threshold: None }
        if *threshold == Duration::from_secs(2)));
    let PolicyRule::StringAttribute { key, values, regex: true, invert_match: false } = rules[2] else {
        panic!()
    };
    assert_eq!((key.as_str(), values.len(), values[4].value.as_str()), ("http.target", 5, "/api/keys"));
    assert!(matches!(rules[4], PolicyRule::Probabilistic { hash_salt, sampling_percentage }
        if hash_salt == "default-hash-seed" && (sampling_percentage - 0.5).abs() < f64::EPSILON));
    let exporter = only!(config.exporters, Exporter::Otlp(exporter) => exporter);
    assert!(exporter.tls.insecure && exporter.queue.is_none() && exporter.retry.enabled);
    assert_eq!((exporter.compression, exporter.timeout), (Compression::Gzip, Duration::from_secs(5)));
}

#[test]
fn document_001_receiver_tls() {
    let config = load("001-receiver-tls.yaml");
    let Receiver::Otlp(OtlpReceiver { grpc: Some(grpc), http: Some(http) }) = &config.receivers[0].config
    else {
        panic!("both protocols")
    };
    let tls = ServerTls {
        cert_file: "/etc/otelcol/server.crt".into(),
        key_file: "/etc/otelcol/server.key".into(),
        client_ca_file: Some("/etc/otelcol/client-ca.crt".into()),
        min_version: TlsVersion::V12,
    };
    assert_eq!((grpc.tls.as_ref(), http.tls.as_ref()), (Some(&tls), Some(&tls)));
    assert_eq!(config.warnings.len(), 2);
    assert!(config.warnings.iter().all(|line| line.contains("`ca_file`") && line.contains("client_ca_file")));
}

#[test]
fn document_002_basics() {
    let config = load("002-basics.yaml");
    let Processor::MemoryLimiter(limiter) = processor(&config, "memory_limiter") else { panic!() };
    assert_eq!(
        (limiter.limit_mib, limiter.spike_limit_mib, limiter.check_interval),
        (Some(3072), Some(512), Duration::from_secs(5))
    );
    assert_eq!(config.service.telemetry.metrics.as_deref(), Some("0.0.0.0:8888"));
    assert!(config.service.telemetry.metrics_explicit);
    let Processor::Batch(batch) = processor(&config, "batch") else { panic!() };
    assert_eq!(
        (batch.timeout, batch.send_batch_size, batch.send_batch_max_size),
        (Duration::from_millis(200), 8192, 0)
    );
}

/// What is not built is the only thing that these are refused for.
#[test]
fn documents_with_parts_that_are_not_built_are_refused_for_exactly_these() {
    for (name, expected) in [
        (
            "000-step2-oidc.yaml",
            vec![
                (":8:3: extensions::oidc: ", "the extension `oidc` is known but not built yet"),
                ("receivers::otlp::protocols::grpc::auth: ", "`auth` is known but not built yet"),
                ("receivers::otlp::protocols::http::auth: ", "`auth` is known but not built yet"),
            ],
        ),
        (
            "002-policies.yaml",
            vec![(
                "processors::tail_sampling::policies[5]::type: ",
                "the policy type `composite` is known but not built yet",
            )],
        ),
        (
            "002-receiver-auth.yaml",
            vec![
                ("receivers::otlp::protocols::grpc::auth: ", "`auth` is known but not built yet"),
                ("extensions::oidc: ", "the extension `oidc` is known but not built yet"),
            ],
        ),
    ] {
        let errors = config::load(&path(name)).expect_err(name);
        let lines: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
        assert_eq!(lines.len(), expected.len(), "{errors}");
        for (line, (place, message)) in lines.iter().zip(expected) {
            assert!(line.contains(place) && line.ends_with(message), "{line}\n{place}{message}");
        }
    }
}

#[test]
fn document_003_agent_loads_unchanged() {
    let config = load("003-agent.yaml");
    let Receiver::Otlp(otlp) = &config.receivers[0].config;
    assert_eq!(otlp.grpc.as_ref().unwrap().endpoint, "0.0.0.0:4317");
    assert_eq!(otlp.http.as_ref().unwrap().max_request_body_size, 20 << 20);
    let Processor::K8sAttributes(k8s) = processor(&config, "k8sattributes") else { panic!() };
    assert_eq!((k8s.metadata.len(), k8s.metadata[5].as_str()), (6, "k8s.container.name"));
    assert_eq!((k8s.labels[0].tag_name.as_deref(), k8s.labels[0].key.as_deref()), (Some("app"), Some("app")));
    let Processor::Resource(actions) = processor(&config, "resource") else { panic!() };
    assert_eq!(actions[0].key.value, "cluster");
    assert!(matches!(&actions[0].action, Action::Insert(ActionValue::Literal(Literal::String(value)))
        if value == "prod-us-east-1"));
    let balancer = only!(config.exporters, Exporter::LoadBalancing(balancer) => balancer);
    assert!(balancer.protocol.tls.insecure && !balancer.rendezvous);
    let Resolver::Dns { hostname, port, interval, timeout } = &balancer.resolver else { panic!() };
    assert_eq!((hostname.as_str(), port.as_deref()), ("otel-gateway-headless.monitoring.svc", Some("4317")));
    assert_eq!((*interval, *timeout), (Duration::from_secs(5), Duration::from_secs(1)));
    assert_eq!(config.warnings, Vec::<String>::new());
}

#[test]
fn document_003_gateway_loads_unchanged() {
    let config = load("003-gateway.yaml");
    assert_eq!(ids(&config.exporters), ["otlp/tempo", "otlp/jaeger"]);
    let Processor::TailSampling(sampling) = processor(&config, "tail_sampling") else { panic!() };
    assert_eq!(sampling.policies.len(), 4);
    assert!(matches!(&sampling.policies[2].rule, PolicyRule::StringAttribute { key, regex: false, .. }
        if key == "service.name"));
}

#[test]
fn document_003_production_policy_loads_unchanged() {
    let config = load("003-production-policy.yaml");
    let sampling = only!(config.processors, Processor::TailSampling(sampling) => sampling);
    let PolicyRule::And(parts) = &sampling.policies[4].rule else { panic!() };
    assert!(matches!(&parts[0].rule, PolicyRule::StringAttribute { invert_match: true, .. }));
    assert!(matches!(&parts[1].rule, PolicyRule::Probabilistic { .. }));
}

/// Renaming any key on any line of any configuration that loads is noticed, at that line.
#[test]
fn no_key_is_ignored_silently() {
    let mut renamed = 0;
    for name in [
        "000-step1-scrubbing.yaml",
        "000-step6-tail-sampling.yaml",
        "001-receiver-tls.yaml",
        "002-basics.yaml",
        "003-agent.yaml",
        "003-gateway.yaml",
        "003-production-policy.yaml",
    ] {
        let text = text(name);
        let lines: Vec<&str> = text.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let start = line.len() - line.trim_start_matches([' ', '-']).len();
            let Some((key, rest)) = line[start..].split_once(':') else { continue };
            let is_key = key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            if !is_key || !(rest.is_empty() || rest.starts_with(' ')) {
                continue;
            }
            let mut changed = lines.clone();
            let new = format!("{}{key}_zq:{rest}", &line[..start]);
            changed[index] = &new;
            let errors = config::parse(&changed.join("\n"), name).expect_err(&new);
            let found = errors.0.iter().any(|error| {
                error.at.line as usize == index + 1 && error.message.contains(&format!("`{key}_zq`"))
            });
            assert!(found, "{name}:{}: {new}\n{errors}", index + 1);
            renamed += 1;
        }
    }
    assert!(renamed > 150, "only {renamed} keys were tried");
}

// --- What is read ----------------------------------------------------------------------------------------------

#[test]
fn old_and_new_names_mean_the_same() {
    for (old, new, body) in [
        ("otlp", "otlp_grpc", "endpoint: a:1"),
        ("otlphttp", "otlp_http", "endpoint: http://a:1"),
        (
            "loadbalancing",
            "load_balancing",
            "protocol: {otlp: {}}\nresolver: {static: {hostnames: [a, 'b:1']}}",
        ),
    ] {
        let of = |id| format!("{:?}", good(&component("exporters", id, body)).exporters[0].config);
        assert_eq!(of(old).replace(old, ""), of(new).replace(new, "").replace(old, ""));
        assert_eq!(good(&component("exporters", new, body)).exporters[0].id.kind, new);
    }
    let body = "passthrough: true";
    let new = good(&component("processors", "k8s_attributes", body));
    assert!(matches!(&new.processors[0].config, Processor::K8sAttributes(k8s) if k8s.passthrough));
}

#[test]
fn protocols_without_a_body_have_their_defaults() {
    let config = good("receivers:\n  otlp:\n    protocols:\n      grpc:\n      http:\n");
    let Receiver::Otlp(otlp) = &config.receivers[0].config;
    let (grpc, http) = (otlp.grpc.as_ref().unwrap(), otlp.http.as_ref().unwrap());
    assert_eq!((grpc.endpoint.as_str(), grpc.max_recv_msg_size_mib), ("localhost:4317", 4));
    assert_eq!((http.endpoint.as_str(), http.traces_url_path.as_str()), ("localhost:4318", "/v1/traces"));
    assert!(grpc.tls.is_none() && http.tls.is_none());
    let one = good("receivers:\n  otlp:\n    protocols:\n      http:\n");
    let Receiver::Otlp(otlp) = &one.receivers[0].config;
    assert!(otlp.grpc.is_none() && otlp.http.is_some());
    assert_eq!(one.service.telemetry.metrics.as_deref(), Some("localhost:8888"));
    assert!(!one.service.telemetry.metrics_explicit);
}

#[test]
fn variables_take_the_field_s_type() {
    let config = good(&component(
        "processors",
        "attributes",
        "actions:\n  - {key: zip, action: insert, value: '${ZIP}'}\n  - {key: p, action: upsert, value: \"${env:PORT}\"}\n  - {key: s, action: update, value: 'x${SECRET}'}\n  - {key: 'a$$b', action: delete, pattern: '^x$'}",
    ));
    let Processor::Attributes(actions) = &config.processors[0].config else { panic!() };
    assert!(matches!(&actions[0].action, Action::Insert(ActionValue::Literal(Literal::Int(42)))));
    assert!(matches!(&actions[1].action, Action::Upsert(ActionValue::Literal(Literal::Int(4317)))));
    assert!(matches!(&actions[2].action, Action::Update(ActionValue::Literal(Literal::String(text)))
        if text == "xpa$$word${PORT}"));
    assert_eq!(actions[3].key.value, "a$b");
    assert!(
        matches!(&actions[3].action, Action::Delete { pattern: Some(pattern) } if pattern.value == "^x$")
    );

    let config =
        good(&component("processors", "redaction", "allow_all_keys: true\nblocked_keys: ${env:KEYS}"));
    let redaction = only!(config.processors, Processor::Redaction(redaction) => redaction);
    assert_eq!(redaction.blocked_keys, ["a", "b"]);
    let config = good(&component(
        "exporters",
        "otlp",
        "endpoint: tempo:${env:PORT}\nheaders: {x-zip: '${ZIP}', n: 7}",
    ));
    let exporter = only!(config.exporters, Exporter::Otlp(exporter) => exporter);
    assert_eq!(exporter.endpoint.value, "tempo:4317");
    assert_eq!(exporter.headers, [("x-zip".to_owned(), "0042".to_owned()), ("n".to_owned(), "7".to_owned())]);
}

#[test]
fn literals_are_typed_as_yaml_types_them() {
    for (value, literal) in [
        ("text", Literal::String("text".into())),
        ("'5'", Literal::String("5".into())),
        ("5", Literal::Int(5)),
        ("-0x10", Literal::Int(-16)),
        ("1_000", Literal::Int(1000)),
        ("5.5", Literal::Double(5.5)),
        ("1e3", Literal::Double(1000.0)),
        ("true", Literal::Bool(true)),
        ("yes", Literal::String("yes".into())),
        ("1.2.3", Literal::String("1.2.3".into())),
    ] {
        let text = component(
            "processors",
            "resource",
            &format!("attributes: [{{key: k, action: insert, value: {value}}}]"),
        );
        let config = good(&text);
        let Processor::Resource(actions) = &config.processors[0].config else { panic!() };
        assert!(
            matches!(&actions[0].action, Action::Insert(ActionValue::Literal(read)) if *read == literal),
            "{value}: {:?}",
            actions[0].action
        );
    }
}

#[test]
fn statements_in_every_form() {
    let config = good(&component(
        "processors",
        "transform",
        "error_mode: ignore\ntrace_statements:\n  - set(span.attributes[\"a\"], \"$$1\")\n  - delete_key(span.attributes, \"b\")\n  - context: spanevent\n    error_mode: silent\n    conditions: ['attributes[\"x\"] != nil']\n    statements:\n      - delete_key(attributes, \"c\")\n  - delete_key(resource.attributes, \"d\")",
    ));
    let Processor::Transform(transform) = &config.processors[0].config else { panic!() };
    assert_eq!(transform.error_mode, ErrorMode::Ignore);
    let shape: Vec<_> = transform
        .trace_statements
        .iter()
        .map(|group| {
            (
                group.context.as_ref().map(|context| context.value.as_str()),
                group.conditions.len(),
                group.statements.len(),
                group.error_mode,
            )
        })
        .collect();
    assert_eq!(
        shape,
        [(None, 0, 2, None), (Some("spanevent"), 1, 1, Some(ErrorMode::Silent)), (None, 0, 1, None)]
    );
    assert_eq!(transform.trace_statements[0].statements[0].value, r#"set(span.attributes["a"], "$1")"#);
}

#[test]
fn extensions_and_telemetry() {
    let config = good(
        "extensions:\n  origin:\n    cgroup: /sys/fs/cgroup/x\n    pods: {file: pods.yaml}\n  health_check:\nservice:\n  extensions: [health_check, origin]\n  telemetry:\n    metrics:\n      readers: [{pull: {exporter: {prometheus: {host: '::', port: 9999, without_units: true}}}}]\n    logs: {level: DEBUG, encoding: json}\n  pipelines: {traces/a: {receivers: [otlp], exporters: [debug]}}\n",
    );
    let origin = config.origin().unwrap();
    assert!(origin.required);
    assert_eq!(origin.cgroup, PathBuf::from("/sys/fs/cgroup/x"));
    assert!(
        matches!(&config.enabled_extensions().next().unwrap().config, Extension::HealthCheck { endpoint }
        if endpoint == "localhost:13133")
    );
    let telemetry = &config.service.telemetry;
    assert_eq!(telemetry.metrics.as_deref(), Some("[::]:9999"));
    assert!(telemetry.metrics_explicit && telemetry.log_json && telemetry.log_level == "debug");
    assert_eq!(config.service.pipelines[0].id.to_string(), "traces/a");
    assert_eq!(config.warnings.len(), 1);

    let off = good(
        "service: {telemetry: {metrics: {level: none}}, pipelines: {traces: {receivers: [otlp], exporters: [debug]}}}\n",
    );
    assert_eq!(off.service.telemetry.metrics, None);
}

/// Accepted without effect: one line each, naming place and reason.
#[test]
fn accepted_but_meaningless_is_a_warning() {
    for (text, key) in [
        (component("exporters", "otlp", "endpoint: a:1\nbalancer_name: round_robin"), "balancer_name"),
        (component("exporters", "otlp", "endpoint: a:1\nread_buffer_size: 1"), "read_buffer_size"),
        (component("exporters", "otlphttp", "endpoint: http://a:1\nmax_idle_conns: 1"), "max_idle_conns"),
        (
            component(
                "processors",
                "memory_limiter",
                "check_interval: 1s\nlimit_mib: 9\nmin_gc_interval_when_soft_limited: 1s",
            ),
            "min_gc_interval_when_soft_limited",
        ),
        (component("processors", "redaction", "summary: info"), "allow_all_keys"),
        (
            component("processors", "k8sattributes", "filter: {node_from_env_var: KUBE_NODE_NAME}"),
            "node_from_env_var",
        ),
        (
            component(
                "processors",
                "k8sattributes",
                "pod_association: [{sources: [{from: resource_attribute, name: k8s.pod.ip}]}]",
            ),
            "from",
        ),
        (
            component(
                "processors",
                "tail_sampling",
                "policies: [{name: a, type: string_attribute, string_attribute: {key: k, values: [v], invert_match: true}}]",
            ),
            "invert_match",
        ),
        ("extensions: {origin: {}}\n".to_owned(), "origin"),
        (
            component("exporters", "otlp", "endpoint: a:1\ntls: {insecure_skip_verify: true}"),
            "insecure_skip_verify",
        ),
    ] {
        let config = good(&text);
        assert_eq!(config.warnings.len(), 1, "{text}{:?}", config.warnings);
        assert!(
            config.warnings[0].starts_with("t.yaml:") && config.warnings[0].contains(key),
            "{:?}",
            config.warnings
        );
    }
}

/// Written out as what happens anyway, a key that is not built changes nothing.
#[test]
fn neutral_values_of_what_is_not_built_pass() {
    for text in [
        component(
            "processors",
            "redaction",
            "allow_all_keys: true\nhash_function: \"\"\nurl_sanitizer: {enabled: false}\ndb_sanitizer: {}",
        ),
        component(
            "processors",
            "tail_sampling",
            "block_on_overflow: false\nsampling_strategy: trace-complete\npolicies: [{name: a, type: always_sample}]",
        ),
        component("processors", "batch", "metadata_keys: []"),
        component(
            "exporters",
            "otlp",
            "endpoint: a:1\nsending_queue: {enabled: false, block_on_overflow: false, sizer: requests}",
        ),
        "receivers:\n  otlp:\n    protocols: {http: {include_metadata: false, cors: }}\n".to_owned(),
    ] {
        assert_eq!(good(&text).warnings, Vec::<String>::new(), "{text}");
    }
}

// --- Nothing panics --------------------------------------------------------------------------------------------

const FIXTURES: [&str; 8] = [
    "000-step1-scrubbing.yaml",
    "000-step2-oidc.yaml",
    "000-step6-tail-sampling.yaml",
    "001-receiver-tls.yaml",
    "002-basics.yaml",
    "002-policies.yaml",
    "003-agent.yaml",
    "003-production-policy.yaml",
];

/// An error's place is in the file.
fn check_places(text: &str) {
    if let Err(errors) = parse(text) {
        assert!(!errors.0.is_empty());
        let lines = u32::try_from(text.lines().count()).unwrap() + 2;
        for error in &errors.0 {
            assert!(error.at.line <= lines, "{error} of {lines} lines");
            assert!(!error.message.is_empty());
        }
        assert!(errors.to_string().lines().count() > errors.0.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text(text in any::<String>()) {
        check_places(&text);
    }

    #[test]
    fn yaml_like_text(text in "([ \\n\\t:,&*!|>'\"\\[\\]{}#%@`?~<.$0a-]|- |: |\\n  |\\$\\{|<<: |&a |\\*a |---\\n|\u{feff}|\u{85}|é){0,200}") {
        check_places(&text);
    }

    /// A fixture with some pieces cut out, doubled, or replaced.
    #[test]
    fn mutated_fixtures(
        fixture in 0..FIXTURES.len(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), 0_usize..40, "[ \\n:\\[\\]{}&*!'\"$0-9a-z-]{0,12}", any::<bool>()), 1..6),
    ) {
        let mut chars: Vec<char> = text(FIXTURES[fixture]).chars().collect();
        for (index, cut, insert, double) in edits {
            let start = index.index(chars.len().max(1)).min(chars.len());
            let end = (start + cut).min(chars.len());
            let piece: Vec<char> = if double { chars[start..end].to_vec() } else { insert.chars().collect() };
            chars.splice(if double { start..start } else { start..end }, piece);
        }
        check_places(&chars.into_iter().collect::<String>());
    }
}
