use std::time::Duration;

use spanwarden::{
    config::exporters::{Exporter as Config, SendingQueue},
    otlp::RefusalKind,
};
use tokio::time::Instant;

use super::{
    configs::{grpc, metric, started},
    load::{batch, spans},
    servers::{Reply, Server},
};

#[tokio::test]
async fn a_queue_acknowledges_at_once_and_is_drained() {
    let server = Server::grpc([]).await;
    let mut config = grpc(&server.endpoint);
    config.queue = Some(SendingQueue { num_consumers: 2, queue_size: 100 });
    let exporter = started("otlp", "drained", Config::Otlp(config)).await;
    for round in 0..50 {
        exporter.consume(batch(round, 3, 2)).await.unwrap();
    }
    exporter.shutdown(Instant::now() + Duration::from_secs(30)).await;
    assert_eq!(spans(&server.accepted()).len(), 300);
    assert_eq!(metric(r#"otelcol_exporter_queue_size{exporter="otlp/drained"}"#), 0);
    assert_eq!(metric(r#"otelcol_exporter_queue_capacity{exporter="otlp/drained"}"#), 100);
    let refusal = exporter.consume(batch(1, 3, 2)).await.unwrap_err();
    assert_eq!(refusal.cause, "shutdown");
}

#[tokio::test]
async fn a_full_queue_refuses_and_its_rest_is_counted() {
    let server = Server::grpc([]).await;
    server.always(Reply::Never);
    let mut config = grpc(&server.endpoint);
    config.timeout = Duration::from_mins(10);
    config.queue = Some(SendingQueue { num_consumers: 1, queue_size: 2 });
    let exporter = started("otlp", "full", Config::Otlp(config)).await;
    exporter.consume(batch(1, 3, 2)).await.unwrap();
    while server.requests() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    exporter.consume(batch(2, 3, 2)).await.unwrap();
    exporter.consume(batch(3, 3, 2)).await.unwrap();
    let refusal = exporter.consume(batch(4, 3, 2)).await.unwrap_err();
    assert!(matches!(refusal.kind, RefusalKind::Overloaded { .. }));
    assert_eq!(metric(r#"otelcol_exporter_enqueue_failed_spans{exporter="otlp/full"}"#), 6);
    assert_eq!(metric(r#"spanwarden_export_refused{cause="queue_full",exporter="otlp/full"}"#), 1);
    exporter.shutdown(Instant::now() + Duration::from_millis(50)).await;
    assert_eq!(metric(r#"otelcol_exporter_send_failed_spans{exporter="otlp/full"}"#), 18);
}

/// Whoever waits to retry is told to come back instead, when the exporter ends.
#[tokio::test]
async fn shutdown_ends_the_wait_for_a_retry() {
    let server = Server::grpc([]).await;
    server.always(Reply::Code(14, None));
    let mut config = grpc(&server.endpoint);
    config.retry.initial_interval = Duration::from_hours(1);
    config.retry.max_interval = Duration::from_hours(1);
    config.retry.max_elapsed_time = Duration::ZERO;
    let exporter = started("otlp", "ends", Config::Otlp(config)).await;
    let ending = async {
        while server.requests() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        exporter.shutdown(Instant::now() + Duration::from_secs(30)).await;
    };
    let sending = tokio::time::timeout(Duration::from_mins(1), exporter.consume(batch(1, 3, 2)));
    let (result, ()) = tokio::join!(sending, ending);
    let refusal = result.expect("it does not wait an hour").unwrap_err();
    assert!(matches!(refusal.kind, RefusalKind::Unavailable { .. }));
}
