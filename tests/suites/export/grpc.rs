use std::time::Duration;

use spanwarden::{
    config::exporters::{Compression, Exporter as Config},
    export,
    otlp::RefusalKind,
};

use super::{
    configs::{self, grpc, metric, started},
    load::batch,
    servers::{self, Reply, Server},
};

#[tokio::test]
async fn bytes_arrive_as_they_were_in_every_compression() {
    let server = Server::grpc([]).await;
    for (compression, encoding) in
        [(Compression::None, None), (Compression::Gzip, Some("gzip")), (Compression::Zstd, Some("zstd"))]
    {
        let mut config = grpc(&server.endpoint);
        config.compression = compression;
        config.headers = vec![("X-Scope-OrgID".into(), "tenant".into())];
        let exporter = started("otlp", "bytes", Config::Otlp(config)).await;
        let batch = batch(1, 40, 20);
        assert_eq!(exporter.consume(batch.clone()).await.unwrap().rejected_spans, 0);
        server.got(|got| {
            let got = got.last().unwrap();
            assert_eq!(got.data, batch.data);
            assert_eq!(got.path, "/opentelemetry.proto.collector.trace.v1.TraceService/Export");
            let header = |name: &str| got.headers.get(name).map(|v| v.to_str().unwrap());
            assert_eq!(header("content-type"), Some("application/grpc"));
            assert_eq!(header("te"), Some("trailers"));
            assert_eq!(header("x-scope-orgid"), Some("tenant"));
            assert_eq!(header("grpc-timeout"), Some("10000m"));
            assert_eq!(header("grpc-encoding"), encoding);
        });
    }
    assert_eq!(metric(r#"otelcol_exporter_sent_spans{exporter="otlp/bytes"}"#), 3 * 800);
}

#[tokio::test]
async fn large_batches_pass_the_peers_windows() {
    let server = Server::grpc([]).await;
    let exporter = started("otlp", "large", Config::Otlp(grpc(&server.endpoint))).await;
    let batch = batch(1, 1000, 60);
    assert!(batch.data.len() > 4 << 20);
    exporter.consume(batch.clone()).await.unwrap();
    assert_eq!(server.accepted(), [batch.data]);
}

#[tokio::test]
async fn what_may_pass_is_tried_again() {
    let codes = [1, 4, 10, 11, 14, 15];
    let script: Vec<_> = codes.map(|code| Reply::Code(code, None)).into();
    let server = Server::grpc(script).await;
    let exporter = started("otlp", "again", Config::Otlp(grpc(&server.endpoint))).await;
    let batch = batch(1, 3, 2);
    exporter.consume(batch.clone()).await.unwrap();
    assert_eq!(server.requests(), codes.len() + 1);
    assert_eq!(server.accepted(), [batch.data]);
    assert_eq!(server.connections(), 1, "an answer is no reason to reconnect");
    assert_eq!(metric(r#"spanwarden_export_retries{cause="unavailable",exporter="otlp/again"}"#), 1);
    assert_eq!(metric(r#"otelcol_exporter_send_failed_spans{exporter="otlp/again"}"#), 0);
}

#[tokio::test]
async fn what_will_not_pass_is_not() {
    // RESOURCE_EXHAUSTED is one of them as long as it says nothing of when.
    for code in [2, 3, 5, 6, 7, 8, 9, 12, 13, 16] {
        let server = Server::grpc([Reply::Code(code, None)]).await;
        let exporter = started("otlp", "permanent", Config::Otlp(grpc(&server.endpoint))).await;
        let refusal = exporter.consume(batch(1, 3, 2)).await.unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::Permanent, "{code}");
        assert!(!refusal.message.contains("oops"), "the backend's text stays here: {}", refusal.message);
        assert_eq!(server.requests(), 1);
    }
    assert_eq!(metric(r#"otelcol_exporter_send_failed_spans{exporter="otlp/permanent"}"#), 60);
    assert_eq!(metric(r#"spanwarden_export_refused{cause="unimplemented",exporter="otlp/permanent"}"#), 1);
}

#[tokio::test]
async fn retry_info_is_a_floor() {
    let server = Server::grpc([Reply::Code(8, Some(400)), Reply::Code(14, Some(300))]).await;
    let exporter = started("otlp", "floor", Config::Otlp(grpc(&server.endpoint))).await;
    exporter.consume(batch(1, 3, 2)).await.unwrap();
    server.got(|got| {
        assert!(got[1].at - got[0].at >= Duration::from_millis(400));
        assert!(got[2].at - got[1].at >= Duration::from_millis(300));
    });
}

#[tokio::test]
async fn retry_info_beyond_the_limit_goes_to_the_sender() {
    let server = Server::grpc([Reply::Code(8, Some(60_000))]).await;
    let exporter = started("otlp", "beyond", Config::Otlp(grpc(&server.endpoint))).await;
    let refusal = exporter.consume(batch(1, 3, 2)).await.unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Overloaded { retry_after: Duration::from_mins(1) });
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn partial_success_is_counted_and_passed_up() {
    let server = Server::grpc([Reply::Partial(2)]).await;
    let exporter = started("otlp", "partial", Config::Otlp(grpc(&server.endpoint))).await;
    let accepted = exporter.consume(batch(1, 3, 2)).await.unwrap();
    assert_eq!(accepted.rejected_spans, 2);
    assert!(accepted.message.contains('2') && !accepted.message.contains("oops"), "{}", accepted.message);
    assert_eq!(server.requests(), 1);
    assert_eq!(metric(r#"otelcol_exporter_sent_spans{exporter="otlp/partial"}"#), 4);
    assert_eq!(metric(r#"spanwarden_export_rejected_spans{exporter="otlp/partial"}"#), 2);
}

#[tokio::test]
async fn a_closed_connection_is_replaced_at_once() {
    let server = Server::grpc([]).await;
    let mut config = grpc(&server.endpoint);
    config.retry.enabled = false;
    let exporter = started("otlp", "closed", Config::Otlp(config)).await;
    for round in 1..=5 {
        exporter.consume(batch(round, 3, 2)).await.unwrap();
        assert_eq!(server.connections() as u64, round);
        server.disconnect();
    }
    assert_eq!(server.accepted().len(), 5);
}

#[tokio::test]
async fn no_answer_ends_with_the_timeout() {
    let server = Server::grpc([Reply::Never]).await;
    let mut config = grpc(&server.endpoint);
    config.timeout = Duration::from_millis(200);
    config.retry.enabled = false;
    let exporter = started("otlp", "silent", Config::Otlp(config)).await;
    let refusal = exporter.consume(batch(1, 3, 2)).await.unwrap_err();
    assert_eq!(refusal.cause, "timeout");
    assert!(matches!(refusal.kind, RefusalKind::Unavailable { .. }));
    exporter.consume(batch(2, 3, 2)).await.expect("over a new connection");
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn nobody_there_is_unavailable_and_says_what_to_do() {
    let (_socket, endpoint) = servers::nobody();
    let mut config = grpc(&endpoint);
    config.retry.max_elapsed_time = Duration::from_millis(50);
    let exporter = started("otlp", "nobody", Config::Otlp(config)).await;
    let refusal = exporter.consume(batch(1, 3, 2)).await.unwrap_err();
    assert!(matches!(refusal.kind, RefusalKind::Unavailable { .. }));
    assert_eq!(refusal.cause, "connect");
    assert!(refusal.message.contains("check that the backend runs"), "{}", refusal.message);
}

#[tokio::test]
async fn a_server_that_is_none_is_named() {
    let server = Server::grpc([Reply::Status(404, None), Reply::Status(503, None)]).await;
    let mut config = grpc(&server.endpoint);
    config.retry.enabled = false;
    let exporter = started("otlp", "none", Config::Otlp(config)).await;
    let refusal = exporter.consume(batch(1, 3, 2)).await.unwrap_err();
    assert_eq!((refusal.kind, refusal.cause), (RefusalKind::Permanent, "http_status"));
    assert!(refusal.message.contains("404") && refusal.message.contains("4317"));
    let refusal = exporter.consume(batch(1, 3, 2)).await.unwrap_err();
    assert!(matches!(refusal.kind, RefusalKind::Unavailable { .. }));
}

/// Several current-thread runtimes share one exporter: each has a connection of its own.
#[test]
fn threads_do_not_share_connections() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (send, receive) = std::sync::mpsc::channel();
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let serving = std::thread::spawn(move || {
        runtime().block_on(async {
            let server = Server::grpc([]).await;
            send.send(server.endpoint.clone()).unwrap();
            ended.await.unwrap();
            (server.connections(), super::load::spans(&server.accepted()))
        })
    });
    let component = configs::component("otlp", "threads", Config::Otlp(grpc(&receive.recv().unwrap())));
    let exporter = export::build(&component).unwrap();
    let workers: Vec<_> = (0..3)
        .map(|worker| {
            let exporter = std::sync::Arc::clone(&exporter);
            std::thread::spawn(move || {
                runtime().block_on(async {
                    for round in 0..10 {
                        exporter.consume(batch(worker * 100 + round, 4, 3)).await.unwrap();
                    }
                });
            })
        })
        .collect();
    for worker in workers {
        worker.join().unwrap();
    }
    end.send(()).unwrap();
    let (connections, spans) = serving.join().unwrap();
    assert_eq!(connections, 3);
    assert_eq!(spans.len(), 3 * 10 * 12);
    assert!(spans.values().all(|n| *n == 1));
}

#[test]
fn bad_settings_are_refused_with_their_place() {
    let wrong = |edit: fn(&mut spanwarden::config::exporters::OtlpExporter)| {
        let mut config = grpc("gw:4317");
        edit(&mut config);
        let component = configs::component("otlp", "bad", Config::Otlp(config));
        export::build(&component).err().expect("an error").to_string()
    };
    for error in [
        wrong(|c| c.endpoint.value = "unix:///run/otel".into()),
        wrong(|c| c.headers = vec![("a b".into(), "x".into())]),
        wrong(|c| c.headers = vec![("x".into(), "a\nb".into())]),
        wrong(|c| c.headers = vec![("grpc-timeout".into(), "1S".into())]),
        wrong(|c| {
            c.tls.insecure = false;
            c.tls.ca_file = Some("/nonexistent/ca.pem".into());
        }),
    ] {
        assert!(error.starts_with("test.yaml:1:1: exporters::test: "), "{error}");
    }
}
