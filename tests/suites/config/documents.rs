//! The reference documents' configurations load unchanged, as what they say.

use std::time::Duration;

use super::{GOOD, complete, ids, load, parse, path, processor, text};
use spanwarden::config::{
    self,
    exporters::{Compression, Exporter, Resolver},
    extensions::Extension,
    processors::{
        Action, ActionValue, ErrorMode, Literal, PolicyRule, Processor, RedactionSummary, StatusCode,
    },
    receivers::{OtlpReceiver, Receiver},
    tls::{ClientAuth, ServerTls, TlsVersion},
};

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
        spiffe: None,
        cert_file: "/etc/otelcol/server.crt".into(),
        key_file: "/etc/otelcol/server.key".into(),
        client_ca_file: Some("/etc/otelcol/client-ca.crt".into()),
        client_auth: ClientAuth::Required,
        crl_files: Vec::new(),
        reload_interval: None,
        min_version: TlsVersion::V12,
    };
    assert_eq!((grpc.tls.as_ref(), http.tls.as_ref()), (Some(&tls), Some(&tls)));
    assert_eq!(config.warnings.len(), 2);
    assert!(config.warnings.iter().all(|line| line.contains("`ca_file`") && line.contains("client_ca_file")));
}

#[test]
fn tls_says_whether_clients_show_certificates_and_how_files_are_renewed() {
    let read = |more: &str| {
        let text = format!(
            "receivers:\n  otlp:\n    protocols:\n      grpc:\n        tls: {{cert_file: a, key_file: b, {more}}}\n"
        );
        let config = parse(&complete(&text)).unwrap_or_else(|errors| panic!("{more}: {errors}"));
        let Receiver::Otlp(OtlpReceiver { grpc: Some(grpc), .. }) = &config.receivers[0].config else {
            panic!("gRPC is configured")
        };
        (grpc.tls.clone().unwrap(), config.warnings.len())
    };
    for (more, auth, warnings) in [
        ("", ClientAuth::Off, 0),
        ("client_auth: off", ClientAuth::Off, 0),
        ("client_ca_file: c", ClientAuth::Required, 0),
        ("client_ca_file: c, client_auth: required, client_ca_file_reload: true", ClientAuth::Required, 0),
        ("client_ca_file: c, client_auth: optional", ClientAuth::Optional, 0),
        ("client_ca_file: c, client_auth: off", ClientAuth::Off, 1),
    ] {
        let (tls, found) = read(more);
        assert_eq!((tls.client_auth, found), (auth, warnings), "{more}");
    }
    let (tls, _) = read("client_ca_file: c, crl_files: [d, e], reload_interval: 5m");
    assert_eq!(tls.crl_files, ["d", "e"].map(std::path::PathBuf::from));
    assert_eq!(tls.reload_interval, Some(Duration::from_mins(5)));
    assert_eq!(read("reload_interval: 0s").0.reload_interval, None, "the Collector's default, and here ours");
}

#[test]
fn spiffe_takes_the_place_of_files() {
    for endpoint in ["unix:///run/spire/api.sock", "unix:/run/spire/api.sock", "/run/spire/api.sock"] {
        let text = format!(
            "receivers:\n  otlp:\n    protocols:\n      grpc:\n        tls: {{spiffe: {{endpoint: \"{endpoint}\"}}}}\n"
        );
        let config = parse(&complete(&text)).unwrap_or_else(|errors| panic!("{endpoint}: {errors}"));
        let Receiver::Otlp(OtlpReceiver { grpc: Some(grpc), .. }) = &config.receivers[0].config else {
            panic!("gRPC is configured")
        };
        let tls = grpc.tls.as_ref().unwrap();
        assert_eq!(tls.spiffe.as_ref().unwrap().endpoint, std::path::Path::new("/run/spire/api.sock"));
        assert_eq!(tls.client_auth, ClientAuth::Required, "whoever has an SVID of a known domain");
    }
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

/// The extension stands before and after what names it; tokens in the clear are warned of.
#[test]
fn documents_with_oidc_load() {
    for (name, issuer, header, plaintext) in [
        ("000-step2-oidc.yaml", "https://kubernetes.default.svc.cluster.local", "sub", 1),
        ("002-receiver-auth.yaml", "https://auth.internal/", "authorization", 0),
    ] {
        let config = load(name);
        let oidc = only!(config.extensions, Extension::Oidc(oidc) => oidc);
        assert_eq!((oidc.providers[0].issuer_url.as_str(), oidc.attribute.as_str()), (issuer, header));
        let Receiver::Otlp(otlp) = &config.receivers[0].config;
        let auth = otlp.grpc.as_ref().unwrap().auth.as_ref().unwrap();
        assert_eq!(auth.authenticator.value, config.extensions[0].id);
        let clear = config.warnings.iter().filter(|line| line.contains("reads the tokens"));
        assert_eq!(clear.count(), plaintext, "{:?}", config.warnings);
    }
}

/// What is not built is the only thing that these are refused for.
#[test]
fn documents_with_parts_that_are_not_built_are_refused_for_exactly_these() {
    for (name, expected) in [(
        "002-policies.yaml",
        vec![(
            "processors::tail_sampling::policies[5]::type: ",
            "the policy type `composite` is known but not built yet",
        )],
    )] {
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
    let [warning] = &config.warnings[..] else { panic!("{:?}", config.warnings) };
    assert!(warning.contains("`k8sattributes` adds nothing") && warning.contains("extensions::origin"));
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
    for name in GOOD {
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
