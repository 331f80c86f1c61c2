use std::time::Duration;

use spanwarden::{
    config::exporters::{Compression, Exporter as Config},
    otlp::RefusalKind,
};

use super::{
    configs::{http, metric, started},
    files,
    load::batch,
    servers::{Reply, Server},
};

#[tokio::test]
async fn bytes_arrive_as_they_were() {
    let server = Server::http([]).await;
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let mut config = http(&format!("http://{}/", server.endpoint));
        config.compression = compression;
        let exporter = started("otlphttp", "bytes", Config::OtlpHttp(config)).await;
        let batch = batch(1, 40, 20);
        exporter.consume(batch.clone()).await.unwrap();
        exporter.consume(batch.clone()).await.unwrap();
        server.got(|got| {
            let [.., first, second] = got else { panic!("two requests") };
            for got in [first, second] {
                assert_eq!(got.data, batch.data);
                assert_eq!(got.path, "/v1/traces");
                assert_eq!(got.headers["content-type"], "application/x-protobuf");
                assert_eq!(got.headers["host"], server.endpoint);
            }
            assert_eq!(first.connection, second.connection, "connections are kept");
        });
    }
    assert_eq!(metric(r#"otelcol_exporter_sent_spans{exporter="otlphttp/bytes"}"#), 6 * 800);
}

#[tokio::test]
async fn a_whole_url_is_used_as_it_is() {
    let server = Server::http([]).await;
    let mut config = http("http://unused:1");
    let mut whole = config.endpoint.clone();
    whole.value = format!("http://{}/insert/otlp?x=1", server.endpoint);
    config.traces_endpoint = Some(whole);
    let exporter = started("otlphttp", "whole", Config::OtlpHttp(config)).await;
    exporter.consume(batch(1, 2, 2)).await.unwrap();
    server.got(|got| assert_eq!(got[0].path, "/insert/otlp"));
}

#[tokio::test]
async fn what_may_pass_is_tried_again_after_the_time_asked_for() {
    let server = Server::http([
        Reply::Status(503, Some("1")),
        Reply::Status(429, None),
        Reply::Status(502, None),
        Reply::Status(504, None),
    ])
    .await;
    let config = http(&format!("http://{}", server.endpoint));
    let exporter = started("otlphttp", "again", Config::OtlpHttp(config)).await;
    let batch = batch(1, 3, 2);
    exporter.consume(batch.clone()).await.unwrap();
    assert_eq!(server.requests(), 5);
    assert_eq!(server.accepted(), [batch.data]);
    server.got(|got| assert!(got[1].at - got[0].at >= Duration::from_secs(1)));
}

#[tokio::test]
async fn what_will_not_pass_is_not() {
    for status in [400, 401, 403, 404, 408, 413, 500, 501] {
        let server = Server::http([Reply::Status(status, None)]).await;
        let config = http(&format!("http://{}", server.endpoint));
        let exporter = started("otlphttp", "permanent", Config::OtlpHttp(config)).await;
        let refusal = exporter.consume(batch(1, 3, 2)).await.unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::Permanent);
        assert!(refusal.message.contains(&status.to_string()));
        assert_eq!(server.requests(), 1);
    }
}

#[tokio::test]
async fn partial_success_is_passed_up() {
    let server = Server::http([Reply::Partial(3)]).await;
    let config = http(&format!("http://{}", server.endpoint));
    let exporter = started("otlphttp", "partial", Config::OtlpHttp(config)).await;
    assert_eq!(exporter.consume(batch(1, 3, 2)).await.unwrap().rejected_spans, 3);
}

#[tokio::test]
async fn json_says_the_same() {
    for compression in [Compression::None, Compression::Gzip] {
        let server = Server::http([Reply::Partial(2)]).await;
        let mut config = http(&format!("http://{}", server.endpoint));
        (config.json, config.compression) = (true, compression);
        let exporter = started("otlphttp", "json", Config::OtlpHttp(config)).await;
        let batch = batch(1, 5, 3);
        assert_eq!(exporter.consume(batch.clone()).await.unwrap().rejected_spans, 2);
        server.got(|got| {
            assert_eq!(got[0].headers["content-type"], "application/json");
            let text = std::str::from_utf8(&got[0].data).unwrap();
            assert_eq!(files::spans(text), files::expected(&batch));
        });
    }
}

#[tokio::test]
async fn a_connection_that_the_server_closed_is_replaced() {
    let server = Server::http([]).await;
    let mut config = http(&format!("http://{}", server.endpoint));
    config.retry.enabled = false;
    let exporter = started("otlphttp", "closed", Config::OtlpHttp(config)).await;
    for round in 0..5 {
        exporter.consume(batch(round, 3, 2)).await.unwrap();
        server.disconnect();
    }
    assert_eq!(server.accepted().len(), 5);
}
