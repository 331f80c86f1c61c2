//! The embedded default, and every configuration in the repository, in the hands of the stages that compile them.

use bytes::Bytes;
use spanwarden::{
    config::{Component, Config, DEFAULT, processors::Processor},
    otlp::{
        Batch, Context,
        encode::{Value, field, field_with, key_value},
        view::{ValueView, resource_spans},
    },
    sampling::policy::Policies,
    scrub::{Plan, PlanScratch},
};

use super::{config, load, path};

fn is_scrubbing(component: &Component<Processor>) -> bool {
    use Processor::{Attributes, Filter, K8sAttributes, Redaction, Resource, Span, Transform};
    matches!(
        component.config,
        Redaction(_) | Transform(_) | Attributes(_) | Resource(_) | Filter(_) | Span(_) | K8sAttributes(_)
    )
}

/// Patterns, statements and policies compile.
fn compile(config: &Config) -> Plan {
    for component in &config.processors {
        if let Processor::TailSampling(sampling) = &component.config {
            Policies::new(&sampling.policies).unwrap_or_else(|error| panic!("{error}"));
        }
    }
    let scrubbing: Vec<_> = config.processors.iter().filter(|component| is_scrubbing(component)).collect();
    Plan::compile(&scrubbing, None).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_configuration_of_the_repository_compiles() {
    for name in super::GOOD {
        compile(&load(name));
    }
    for deployed in ["agent/config/agent.yaml", "gateway/config/gateway.yaml"] {
        let file = path("../../../deploy").join(deployed);
        let config = config::load(&file).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(config.warnings, Vec::<String>::new(), "{deployed}");
        compile(&config);
    }
}

/// What the embedded default makes of a span with one string attribute: `None` when the attribute is gone.
fn scrubbed(plan: &Plan, key: &str, value: &str) -> Option<String> {
    let mut request = Vec::new();
    field_with(&mut request, 1, |resource_spans| {
        field_with(resource_spans, 2, |scope_spans| {
            field_with(scope_spans, 2, |span| {
                field(span, 1, &[1; 16]);
                field(span, 2, &[2; 8]);
                key_value(span, 9, key, Value::String(value));
            });
        });
    });
    let batch = Batch { data: Bytes::from(request), spans: 1, context: Context::default() };
    let batch = plan.apply(batch, &mut PlanScratch::default()).unwrap();
    let texts: Vec<String> = resource_spans(&batch.data)
        .flat_map(|resource| resource.scope_spans().collect::<Vec<_>>())
        .flat_map(|scope| scope.spans().collect::<Vec<_>>())
        .flat_map(|span| span.attributes().collect::<Vec<_>>())
        .map(|attribute| match attribute.value {
            ValueView::String(text) => String::from_utf8_lossy(text.as_ref()).into_owned(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(texts.len() <= 1);
    texts.into_iter().next()
}

#[test]
fn the_default_scrubs_what_must_not_be_stored() {
    let config = config::parse(DEFAULT, "default.yaml").unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.warnings, Vec::<String>::new());
    let plan = compile(&config);
    let long = "a1B2c3D4e5".repeat(4);
    for (value, secret) in [
        ("Authorization: Bearer abc.DEF-123==".to_owned(), "abc.DEF"),
        ("basic dXNlcjpwYXNzd29yZA==".to_owned(), "dXNl"),
        (format!("key sk-{long}"), "a1B2"),
        (format!("sk_live_{long}"), "a1B2"),
        ("id AKIAIOSFODNN7EXAMPLE.".to_owned(), "AKIA"),
        (format!("token ghp_{long} used"), "ghp_"),
        (format!("github_pat_{long}"), "a1B2"),
        ("xoxb-123456789012-abcdef".to_owned(), "1234"),
        ("jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl".to_owned(), "eyJ"),
        ("postgres://app:hunter2@db:5432/x".to_owned(), "hunter2"),
        ("/users/alice@example.com/orders".to_owned(), "alice"),
        ("/users?mail=alice%40example.com".to_owned(), "alice"),
        ("ssn 078-05-1120".to_owned(), "078-05"),
        ("card 4111 1111 1111 1111 ok".to_owned(), "4111"),
        ("4111-1111-1111-1111".to_owned(), "1111"),
        ("5555555555554444".to_owned(), "5555"),
        ("378282246310005".to_owned(), "3782"),
        ("30569309025904".to_owned(), "3056"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIEow==\n-----END RSA PRIVATE KEY-----".to_owned(), "MIIE"),
        ("-----BEGIN PRIVATE KEY-----\nMIIEow".to_owned(), "MIIE"),
    ] {
        let left = scrubbed(&plan, "note", &value).expect("only its value is masked");
        assert!(!left.contains(secret) && left.contains("[REDACTED]"), "{value} became {left}");
    }
    for key in ["http.request.header.authorization", "http.response.header.set-cookie"] {
        assert_eq!(scrubbed(&plan, key, "x"), None, "{key}");
    }
    for key in ["db.password", "app.apiKey", "client_secret", "session.token", "db.query.parameter.0"] {
        assert_eq!(scrubbed(&plan, key, "x").as_deref(), Some("[REDACTED]"), "{key}");
    }
    let sql = "SELECT * FROM t2024 WHERE mail = 'o''neil' AND id = 12345 LIMIT 10";
    for key in ["db.statement", "db.query.text"] {
        let left = scrubbed(&plan, key, sql).unwrap();
        assert_eq!(left, "SELECT * FROM t2024 WHERE mail = ? AND id = ? LIMIT ?", "{key}");
        assert_eq!(scrubbed(&plan, key, "SET session:alice x EX 10").unwrap(), "SET ?");
        assert_eq!(scrubbed(&plan, key, "{\"find\": \"users\"}").unwrap(), "{\"find\": \"?\"}");
    }
    let hash = scrubbed(&plan, "user.id", "42").unwrap();
    assert_eq!(hash, "73475cb40a568e8da8a045ced110137e159f890ac4da883b6b17dc651b3a8049");
}

/// What looks a little like a secret and is none stays: a trace must remain of use.
#[test]
fn the_default_leaves_the_rest() {
    let config = config::parse(DEFAULT, "default.yaml").unwrap_or_else(|errors| panic!("{errors}"));
    let plan = compile(&config);
    for value in [
        "1763731200000",
        "1763731200000000000",
        "2026-11-21T13:00:00Z",
        "4bf92f3577b34da6a3ce929d0e0e4736",
        "8f14e45f-ceea-467f-a8b6-123456789012",
        "10.0.0.1:4317",
        "1.31.4-rc.2",
        "checkout-7d9c5b6f4-x2x7z",
        "https://shop.example.com/api/v1/orders/12345?page=2",
        "Mozilla/5.0 (X11; Linux x86_64)",
        "GET /api/{id}",
        "SELECT 1",
        "sk-learn",
        "java.lang.IllegalStateException: no bearer",
        "registry.example.com/app@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    ] {
        assert_eq!(scrubbed(&plan, "note", value).as_deref(), Some(value));
    }
    for key in ["token.count", "secretary", "http.route", "password.changed"] {
        assert_eq!(scrubbed(&plan, key, "x").as_deref(), Some("x"), "{key}");
    }
}
