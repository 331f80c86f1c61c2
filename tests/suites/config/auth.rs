//! `auth` that loads, and what is said of it.

use spanwarden::config::{
    auth::{BearerTokenExtension, BearerTokens},
    extensions::Extension,
};

use super::good;

fn bearer(text: &str) -> (BearerTokenExtension, Vec<String>) {
    let text = format!(
        "extensions:\n  bearertokenauth: {text}\nreceivers: {{otlp: {{protocols: {{grpc: {{}}}}}}}}\nexporters: {{debug: {{}}}}\n\
         service: {{extensions: [bearertokenauth], pipelines: {{traces: {{receivers: [otlp], exporters: [debug]}}}}}}\n"
    );
    let config = good(&text);
    let Extension::BearerToken(bearer) = &config.extensions[0].config else {
        panic!("{:?}", config.extensions)
    };
    (bearer.as_ref().clone(), config.warnings)
}

#[test]
fn the_collectors_fields_of_bearertokenauth() {
    let (one, warnings) = bearer("{token: some-secret-token}");
    assert_eq!((one.header.as_str(), one.scheme.as_str()), ("Authorization", "Bearer"));
    assert!(matches!(&one.tokens, BearerTokens::Inline(tokens) if tokens == &["some-secret-token"]));
    assert_eq!(warnings, Vec::<String>::new());
    let (own, _) = bearer("{header: X-Token, scheme: '', tokens: [a-secret, b-secret]}");
    assert_eq!((own.header.as_str(), own.scheme.as_str()), ("X-Token", ""));
    assert!(matches!(&own.tokens, BearerTokens::Inline(tokens) if tokens.len() == 2));
    let (file, warnings) = bearer("{filename: /etc/tokens, token: some-secret-token}");
    assert!(matches!(&file.tokens, BearerTokens::File(path) if path.ends_with("tokens")));
    assert!(warnings.len() == 1 && warnings[0].contains("are ignored"), "{warnings:?}");
}

#[test]
fn tokens_in_the_clear_are_warned_of_where_they_cross_a_network() {
    for (protocols, warned) in [
        ("{grpc: {endpoint: 'localhost:4317', auth: {authenticator: bearertokenauth}}}", 0),
        ("{http: {endpoint: '127.0.0.5:4318', auth: {authenticator: bearertokenauth}}}", 0),
        ("{http: {endpoint: '[::1]:4318', auth: {authenticator: bearertokenauth}}}", 0),
        ("{grpc: {endpoint: ':4317', auth: {authenticator: bearertokenauth}}}", 1),
        (
            "{grpc: {endpoint: '0.0.0.0:4317'}, http: {endpoint: '10.0.0.1:4318', auth: {authenticator: bearertokenauth}}}",
            1,
        ),
        (
            "{grpc: {endpoint: '0.0.0.0:4317', tls: {cert_file: a, key_file: b}, auth: {authenticator: bearertokenauth}}}",
            0,
        ),
    ] {
        let text = format!(
            "receivers: {{otlp: {{protocols: {protocols}}}}}\nextensions: {{bearertokenauth: {{token: some-secret-token}}}}\n\
             exporters: {{debug: {{}}}}\n\
             service: {{extensions: [bearertokenauth], pipelines: {{traces: {{receivers: [otlp], exporters: [debug]}}}}}}\n"
        );
        let warnings = good(&text).warnings;
        let found = warnings.iter().filter(|line| line.contains("reads the tokens")).count();
        assert_eq!((found, warnings.len()), (warned, warned), "{protocols}: {warnings:?}");
    }
}

#[test]
fn an_exporter_on_this_machine_may_send_its_token_in_the_clear() {
    for exporter in [
        "otlp: {endpoint: 'localhost:4317', tls: {insecure: true}, auth: {authenticator: bearertokenauth}}",
        "otlp: {endpoint: 'gw:4317', auth: {authenticator: bearertokenauth}}",
        "otlphttp: {endpoint: 'http://127.0.0.1:4318/x', auth: {authenticator: bearertokenauth}}",
        "otlphttp: {endpoint: 'https://gw', auth: {authenticator: bearertokenauth}}",
        "loadbalancing: {protocol: {otlp: {tls: {insecure: true}, auth: {authenticator: bearertokenauth}}}, resolver: {static: {hostnames: ['127.0.0.1:1', localhost]}}}",
    ] {
        let kind = exporter.split(':').next().unwrap();
        let text = format!(
            "receivers: {{otlp: {{protocols: {{grpc: {{}}}}}}}}\nextensions: {{bearertokenauth: {{token: some-secret-token}}}}\n\
             exporters:\n  {exporter}\n\
             service: {{extensions: [bearertokenauth], pipelines: {{traces: {{receivers: [otlp], exporters: [{kind}]}}}}}}\n"
        );
        assert!(good(&text).exporters[0].config.auth().is_some(), "{exporter}");
    }
}
