//! Tokens that an exporter sends: the one of now, whichever the exporter is.

use std::{sync::Arc, time::Duration};

use spanwarden::{
    config,
    export::{self, Exporter},
    otlp::{Batch, Context, Refusal, RefusalKind},
};

use super::{Tokens, harness::*};

/// The exporter that a configuration has, with the tokens of `own`.
fn exporter(receiver: &Running, own: &Tokens, kind: &str) -> Arc<dyn Exporter> {
    let (grpc, http) = (receiver.grpc, receiver.http);
    let exporter = match kind {
        "otlp" => format!(
            "{{endpoint: '{grpc}', tls: {{insecure: true}}, auth: {{authenticator: bearertokenauth}}, retry_on_failure: {{enabled: false}}}}"
        ),
        "otlphttp" => format!(
            "{{endpoint: 'http://{http}', auth: {{authenticator: bearertokenauth}}, retry_on_failure: {{enabled: false}}}}"
        ),
        _ => format!(
            "{{protocol: {{otlp: {{tls: {{insecure: true}}, auth: {{authenticator: bearertokenauth}}, retry_on_failure: {{enabled: false}}}}}}, resolver: {{static: {{hostnames: ['{grpc}']}}}}}}"
        ),
    };
    let file = own.path();
    let text = format!(
        "receivers: {{otlp: {{protocols: {{grpc: {{}}}}}}}}
extensions: {{bearertokenauth: {{filename: '{}'}}}}
exporters: {{{kind}: {exporter}}}
service: {{extensions: [bearertokenauth], pipelines: {{traces: {{receivers: [otlp], exporters: [{kind}]}}}}}}
",
        file.display()
    );
    let config = config::parse(&text, "outgoing.yaml").unwrap_or_else(|errors| panic!("{text}{errors}"));
    assert!(config.exporters[0].config.auth().is_some());
    export::build_with(&config.exporters[0], &|auth| {
        assert_eq!(auth.authenticator.value.kind, "bearertokenauth");
        Some(Arc::clone(&own.bearer))
    })
    .unwrap()
}

async fn send(exporter: &Arc<dyn Exporter>) -> Result<(), Refusal> {
    let batch = Batch { data: request(2, 20).into(), spans: 2, context: Context::default() };
    soon("delivery", exporter.consume(batch)).await.map(drop)
}

#[tokio::test]
async fn the_token_of_now_goes_with_every_request() {
    let asked = Tokens::new("asked", "first-secret-token-1 agent\n");
    let own = Tokens::new("own", "first-secret-token-1\nnot-this-secret-token\n");
    let receiver = Setup { gates: asked.gates(), ..Setup::new("outgoing") }.start();
    for kind in ["otlp", "otlphttp", "loadbalancing"] {
        asked.replace("first-secret-token-1 agent\n");
        asked.bearer.reload();
        own.replace("first-secret-token-1\n");
        own.bearer.reload();
        let exporter = exporter(&receiver, &own, kind);
        exporter.start().await.unwrap();
        let before = receiver.sink.spans();
        send(&exporter).await.unwrap_or_else(|refusal| panic!("{kind}: {refusal:?}"));
        assert_eq!(receiver.sink.spans(), before + 2, "{kind}");
        // Taken back there, and not known here yet.
        asked.replace("second-secret-token-2 agent\n");
        asked.bearer.reload();
        let refusal = send(&exporter).await.unwrap_err();
        assert!(!refusal.message.contains("secret"), "{kind}: {refusal:?}");
        own.replace("second-secret-token-2\n");
        own.bearer.reload();
        send(&exporter).await.unwrap_or_else(|refusal| panic!("{kind}: {refusal:?}"));
        assert_eq!(receiver.sink.spans(), before + 4, "{kind}");
        // Nothing to send is no reason to send nothing at all.
        own.replace("");
        own.bearer.reload();
        let refusal = send(&exporter).await.unwrap_err();
        assert!(matches!(refusal.kind, RefusalKind::Unavailable { .. }), "{kind}: {refusal:?}");
        assert!(refusal.message.contains("no token to send"), "{kind}: {refusal:?}");
        exporter.shutdown(tokio::time::Instant::now() + Duration::from_secs(5)).await;
    }
    receiver.stop(PATIENCE).await;
}

#[test]
fn an_exporter_without_its_authenticator_is_an_error() {
    let text = "receivers: {otlp: {protocols: {grpc: {}}}}
extensions: {bearertokenauth: {token: some-secret-token}}
exporters: {otlp: {endpoint: 'gw:4317', auth: {authenticator: bearertokenauth}}}
service: {extensions: [bearertokenauth], pipelines: {traces: {receivers: [otlp], exporters: [otlp]}}}
";
    let config = config::parse(text, "outgoing.yaml").unwrap_or_else(|errors| panic!("{errors}"));
    let error = export::build(&config.exporters[0]).err().expect("nothing is sent without").to_string();
    assert!(error.contains("no `bearertokenauth` extension `bearertokenauth` is enabled"), "{error}");
}
