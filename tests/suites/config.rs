//! The configuration reader: what it reads, what it refuses and where it says so, and that nothing makes it panic.

/// The configuration of the first component, which must be of the given kind.
macro_rules! only {
    ($list:expr, $pattern:pat => $value:expr) => {
        match &$list[0].config {
            $pattern => $value,
            other => panic!("unexpected {other:?}"),
        }
    };
}

#[path = "config/auth.rs"]
mod auth;
#[path = "config/bad.rs"]
mod bad;
#[path = "config/default.rs"]
mod default;
#[path = "config/documents.rs"]
mod documents;
#[path = "config/robust.rs"]
mod robust;

use std::path::PathBuf;

use spanwarden::config::{
    self, Component, Config, Errors,
    exporters::Exporter,
    extensions::Extension,
    processors::{Action, ActionValue, ErrorMode, Literal, Processor},
    receivers::Receiver,
};

/// The configurations of the reference documents that load.
const GOOD: [&str; 9] = [
    "000-step1-scrubbing.yaml",
    "000-step2-oidc.yaml",
    "000-step6-tail-sampling.yaml",
    "001-receiver-tls.yaml",
    "002-basics.yaml",
    "002-receiver-auth.yaml",
    "003-agent.yaml",
    "003-gateway.yaml",
    "003-production-policy.yaml",
];

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
        let pipeline = format!("{{receivers: [{receiver}], exporters: [{exporter}]}}");
        text.extend(["service: {pipelines: {traces: ", &pipeline, "}}\n"]);
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

fn processor<'c>(config: &'c Config, id: &str) -> &'c Processor {
    let found = config.processors.iter().find(|component| component.id.to_string() == id);
    &found.unwrap_or_else(|| panic!("no {id}")).config
}

fn ids<T>(components: &[Component<T>]) -> Vec<String> {
    components.iter().map(|component| component.id.to_string()).collect()
}

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
    let Processor::Attributes(attributes) = &config.processors[0].config else { panic!() };
    let actions = &attributes.actions;
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

#[test]
fn sources_of_pods_and_events() {
    use spanwarden::config::extensions::{ApiClient, Pods};
    let origin = |body: &str| {
        let config = good(&format!("extensions:\n  origin: {body}\n"));
        let found = config.extensions.iter().find_map(|extension| match &extension.config {
            Extension::Origin(origin) => Some(origin.as_ref().clone()),
            _ => None,
        });
        found.unwrap()
    };
    for body in ["{pods: kubelet}", "{pods: {kubelet: {}}}", "{pods: {kubelet: }}"] {
        let Some(Pods::Kubelet(kubelet)) = origin(body).pods else { panic!("{body}") };
        assert_eq!(kubelet.endpoint, "https://127.0.0.1:10250");
        assert_eq!(
            (kubelet.interval, kubelet.client),
            (std::time::Duration::from_secs(10), ApiClient::default())
        );
    }
    for body in ["{pods: api}", "{pods: {api: }}"] {
        let found = origin(body);
        let Some(Pods::Api(api)) = found.pods else { panic!("{body}") };
        assert_eq!((api.node, api.client, found.events), (None, ApiClient::default(), None));
    }
    let way = "endpoint: 'https://10.96.0.1:443/', ca_file: /ca.crt, token_file: /token";
    let expected = ApiClient {
        endpoint: Some("https://10.96.0.1:443".into()),
        ca_file: Some("/ca.crt".into()),
        token_file: Some("/token".into()),
        insecure_skip_verify: false,
    };
    let found = origin(&format!("{{pods: {{api: {{node: n1, {way}}}}}, events: true}}"));
    let Some(Pods::Api(api)) = found.pods else { panic!() };
    assert_eq!((api.node.as_deref(), &api.client), (Some("n1"), &expected));
    assert_eq!(found.events, Some(expected.clone()), "the way of the watch");
    assert_eq!(origin(&format!("{{pods: kubelet, events: {{{way}}}}}")).events, Some(expected));
    assert_eq!(origin("{pods: kubelet, events: true}").events, Some(ApiClient::default()));
    assert_eq!(origin("{pods: kubelet, events: false}").events, None);
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
        let mut config = good(&text);
        config.warnings.retain(|line| !line.contains("adds nothing")); // no `origin` here; its own test has it
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
