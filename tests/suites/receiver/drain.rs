//! The end: nothing that was acknowledged is lost, and nobody waits for ever.

use std::time::Duration;

use spanwarden::config::receivers::Keepalive;
use tokio::{io::AsyncReadExt as _, net::TcpStream};

use super::harness::*;

#[tokio::test]
async fn what_is_in_flight_is_finished_and_acknowledged() {
    let receiver = Setup { workers: 2, ..Setup::new("drain") }.start();
    receiver.sink.hold();
    let mut waiting = Vec::new();
    for _ in 0..4 {
        let mut client = GrpcClient::connect(receiver.grpc).await;
        waiting.push(tokio::spawn(async move { client.export(&request(5, 100)).await.status }));
        let to = receiver.http;
        waiting.push(tokio::spawn(async move {
            let reply = http(to, post(PROTOBUF, &[], request(5, 100))).await;
            (reply.status == 200).then_some(0)
        }));
    }
    let mut idle = TcpStream::connect(receiver.grpc).await.unwrap();
    receiver.sink.wait_for_arrivals(8).await;
    receiver.trigger.drain(PATIENCE);
    // Idle connections end at once, new ones are not taken.
    let _ = soon("the idle connection ends", idle.read_to_end(&mut Vec::new())).await;
    soon("the port closes", async {
        while TcpStream::connect(receiver.grpc).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    receiver.sink.release();
    for waiting in waiting {
        assert_eq!(soon("a request in flight", waiting).await.unwrap(), Some(0));
    }
    assert_eq!(receiver.sink.spans(), 40);
    receiver.stop(PATIENCE).await;
}

#[tokio::test]
async fn under_load_no_acknowledged_span_is_lost() {
    let receiver = Setup { workers: 2, ..Setup::new("drain-load") }.start();
    let mut clients = Vec::new();
    for _ in 0..6 {
        let mut client = GrpcClient::connect(receiver.grpc).await;
        clients.push(tokio::spawn(async move {
            let (message, mut acknowledged) = (request(3, 2000), 0);
            let headers = [("content-type", "application/grpc")];
            while let Ok(reply) = client.call(EXPORT, &headers, framed(0, &message)).await {
                assert_eq!(reply.status, Some(0), "{reply:?}");
                acknowledged += 3;
            }
            acknowledged
        }));
    }
    receiver.sink.wait_for_arrivals(200).await;
    receiver.trigger.drain(PATIENCE);
    let mut acknowledged = 0;
    for client in clients {
        acknowledged += soon("the client sees the end", client).await.unwrap();
    }
    let sink = std::sync::Arc::clone(&receiver.sink);
    receiver.stop(PATIENCE).await;
    assert!(acknowledged >= 3 * 190, "{acknowledged}");
    assert!(sink.spans() >= acknowledged, "{} taken, {acknowledged} acknowledged", sink.spans());
}

#[tokio::test]
async fn what_does_not_end_is_cut_at_the_deadline() {
    let receiver = Setup::new("drain-cut").start();
    receiver.sink.hold();
    let mut client = GrpcClient::connect(receiver.grpc).await;
    let call = tokio::spawn(async move {
        client.call(EXPORT, &[("content-type", "application/grpc")], framed(0, &request(1, 1))).await
    });
    receiver.sink.wait_for_arrivals(1).await;
    receiver.trigger.drain(Duration::from_millis(100));
    receiver.refused_connection("grpc", "drain_deadline").await;
    assert!(soon("the client is told", call).await.unwrap().is_err(), "never acknowledged");
    receiver.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn old_and_idle_connections_are_renewed() {
    let short = Duration::from_millis(200);
    for (id, keepalive) in [
        ("age", Keepalive { max_connection_age: Some(short), ..Keepalive::default() }),
        ("idle", Keepalive { max_connection_idle: Some(short), ..Keepalive::default() }),
    ] {
        let receiver = Setup { keepalive, ..Setup::new(id) }.start();
        let mut client = GrpcClient::connect(receiver.grpc).await;
        receiver.sink.hold();
        let mut busy = client.clone();
        let busy = tokio::spawn(async move { busy.export(&request(1, 1)).await.status });
        receiver.sink.wait_for_arrivals(1).await;
        tokio::time::sleep(2 * short).await;
        receiver.sink.release();
        assert_eq!(soon("in flight", busy).await.unwrap(), Some(0), "{id}: what is in flight is finished");
        soon("the connection ends", async {
            while receiver.metric("spanwarden_receiver_open_connections", "grpc", None) > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        let again = client.call(EXPORT, &[("content-type", "application/grpc")], framed(0, b"")).await;
        assert!(again.is_err(), "{id}");
        assert_eq!(GrpcClient::connect(receiver.grpc).await.export(&request(1, 1)).await.status, Some(0));
        receiver.stop(PATIENCE).await;
    }
}
