use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;
use spanwarden::{
    config::exporters::{Exporter as Config, LoadBalancing},
    export::{self, Exporter},
    otlp::{Batch, RefusalKind},
    route::{
        resolver::{Resolve, Resolving},
        ring::Ring,
    },
};

use super::{
    configs::{balancing, component, metric, started},
    load::{Span, batch, spans},
    servers::{Reply, Server, nobody},
};

async fn three() -> Vec<Server> {
    join_all((0..3).map(|_| Server::grpc([]))).await
}

fn endpoints(servers: &[Server]) -> Vec<String> {
    servers.iter().map(|server| server.endpoint.clone()).collect()
}

fn accepted(servers: &[Server]) -> BTreeMap<Span, usize> {
    let all: Vec<Bytes> = servers.iter().flat_map(Server::accepted).collect();
    spans(&all)
}

fn sent(batches: &[Batch]) -> BTreeMap<Span, usize> {
    spans(batches.iter().map(|batch| &batch.data))
}

/// The endpoint that the Collector's ring gives a trace.
fn owner(endpoints: &[String], trace: &[u8]) -> String {
    let mut members: Vec<Arc<str>> = endpoints.iter().map(|e| Arc::from(e.as_str())).collect();
    members.sort();
    members[Ring::new(&members).owner(trace.try_into().unwrap())].to_string()
}

async fn exporter(name: &str, config: LoadBalancing) -> Arc<dyn Exporter> {
    started("loadbalancing", name, Config::LoadBalancing(config)).await
}

#[tokio::test]
async fn every_trace_goes_to_its_owner_only() {
    for rendezvous in [false, true] {
        let servers = three().await;
        let mut config = balancing(endpoints(&servers));
        config.rendezvous = rendezvous;
        let exporter = exporter("owner", config).await;
        // Every trace comes three times, in other batches.
        let batches: Vec<Batch> = (0..30).map(|n| batch(n % 10, 20, 1 + n / 10)).collect();
        let results = join_all(batches.iter().map(|batch| exporter.consume(batch.clone()))).await;
        assert!(results.iter().all(|r| r.as_ref().is_ok_and(|a| a.rejected_spans == 0)));
        assert_eq!(accepted(&servers), sent(&batches));
        let mut seen = BTreeMap::<Vec<u8>, &str>::new();
        for server in &servers {
            assert!(server.requests() > 0);
            for span in spans(&server.accepted()).into_keys() {
                if !rendezvous {
                    assert_eq!(owner(&endpoints(&servers), &span.trace_id), server.endpoint);
                }
                let first = *seen.entry(span.trace_id).or_insert(&server.endpoint);
                assert_eq!(first, server.endpoint);
            }
        }
        assert_eq!(seen.len(), 200);
    }
}

#[tokio::test]
async fn a_single_backend_gets_the_same_bytes() {
    let server = Server::grpc([]).await;
    let exporter = exporter("single", balancing(vec![server.endpoint.clone()])).await;
    let batch = batch(1, 10, 3);
    exporter.consume(batch.clone()).await.unwrap();
    assert_eq!(server.accepted(), [batch.data]);
}

#[tokio::test]
async fn a_failed_part_is_retried_alone() {
    let servers = three().await;
    let exporter = exporter("alone", balancing(endpoints(&servers))).await;
    let batch = batch(1, 60, 2);
    servers[1].always(Reply::Code(14, None));
    let healing = async {
        while servers[1].requests() < 4 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        servers[1].always(Reply::Ok);
    };
    let (result, ()) = tokio::join!(exporter.consume(batch.clone()), healing);
    assert_eq!(result.unwrap().rejected_spans, 0);
    assert_eq!(accepted(&servers), sent(&[batch]));
    assert_eq!((servers[0].requests(), servers[2].requests()), (1, 1));
    let endpoint = &servers[1].endpoint;
    let outcome = format!(r#"otelcol_loadbalancer_backend_outcome{{endpoint="{endpoint}",success="false"}}"#);
    assert!(metric(&outcome) >= 4);
}

#[tokio::test]
async fn one_backend_down_costs_only_its_part() {
    let servers = [Server::grpc([]).await, Server::grpc([]).await];
    let (_socket, down) = nobody();
    let mut endpoints = endpoints(&servers);
    endpoints.push(down.clone());
    let mut config = balancing(endpoints.clone());
    config.protocol.retry.max_elapsed_time = Duration::from_millis(100);
    let exporter = exporter("down", config).await;
    let batch = batch(1, 60, 2);
    let refusal = exporter.consume(batch.clone()).await.unwrap_err();
    assert!(matches!(refusal.kind, RefusalKind::Unavailable { .. }));
    assert_eq!(refusal.cause, "connect");
    let mut expected = sent(&[batch]);
    let lost = expected.extract_if(.., |span, _| owner(&endpoints, &span.trace_id) == down).count();
    assert!(lost > 0 && !expected.is_empty());
    assert_eq!(accepted(&servers), expected, "the others got theirs exactly once");
    assert!(refusal.message.contains(&format!("{} of 120 spans were delivered", 120 - lost)));
    assert_eq!(metric(r#"otelcol_exporter_send_failed_spans{exporter="loadbalancing/down"}"#), lost as u64);
    assert_eq!(
        metric(r#"otelcol_exporter_sent_spans{exporter="loadbalancing/down"}"#),
        expected.len() as u64
    );
}

#[tokio::test]
async fn a_part_refused_for_good_is_a_partial_success() {
    let servers = three().await;
    servers[0].always(Reply::Code(3, None));
    let endpoints = endpoints(&servers);
    let exporter = exporter("good", balancing(endpoints.clone())).await;
    let batch = batch(1, 60, 2);
    let refused = sent(std::slice::from_ref(&batch))
        .into_keys()
        .filter(|span| owner(&endpoints, &span.trace_id) == endpoints[0])
        .count();
    let accepted = exporter.consume(batch.clone()).await.unwrap();
    assert_eq!(accepted.rejected_spans as usize, refused);
    assert!(servers.iter().all(|server| server.requests() == 1));
    for server in &servers[1..] {
        server.always(Reply::Code(3, None));
    }
    let refusal = exporter.consume(batch).await.unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Permanent);
}

/// A resolver that answers what the test says.
struct Told(Arc<Mutex<Vec<String>>>);

impl Resolve for Told {
    fn kind(&self) -> &'static str {
        "told"
    }

    fn interval(&self) -> Option<Duration> {
        Some(Duration::from_millis(100))
    }

    fn resolve(&self) -> Resolving<'_> {
        let mut members: Vec<Arc<str>> =
            self.0.lock().unwrap().iter().map(|m| Arc::from(m.as_str())).collect();
        members.sort();
        Box::pin(std::future::ready(Ok(members)))
    }
}

async fn told(
    name: &str,
    members: &Arc<Mutex<Vec<String>>>,
    edit: impl Fn(&mut LoadBalancing),
) -> Arc<dyn Exporter> {
    let mut config = balancing(vec!["unused".into()]);
    edit(&mut config);
    let resolver = Box::new(Told(Arc::clone(members)));
    let exporter = export::load_balancing(&component("loadbalancing", name, ()), &config, resolver).unwrap();
    exporter.start().await.unwrap();
    exporter
}

#[tokio::test]
async fn no_backend_yet_is_unavailable_and_then_there_is_one() {
    let members = Arc::default();
    let exporter = told("yet", &members, |_| {}).await;
    let refusal = exporter.consume(batch(1, 3, 2)).await.unwrap_err();
    assert_eq!(refusal.cause, "no_backends");
    assert!(matches!(refusal.kind, RefusalKind::Unavailable { .. }));
    let server = Server::grpc([]).await;
    members.lock().unwrap().push(server.endpoint.clone());
    while exporter.consume(batch(1, 3, 2)).await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn parts_of_a_backend_that_leaves_go_to_those_that_stay() {
    let mut servers = three().await;
    let before = endpoints(&servers);
    let members = Arc::new(Mutex::new(before.clone()));
    // A long wait: only the change of members can end it.
    let exporter = told("leaves", &members, |config| {
        config.protocol.retry.initial_interval = Duration::from_mins(5);
        config.protocol.retry.max_interval = Duration::from_mins(5);
        config.protocol.retry.max_elapsed_time = Duration::ZERO;
    })
    .await;
    let leaver = servers.remove(1);
    leaver.always(Reply::Code(14, None));
    let batch = batch(1, 90, 2);
    let leaving = async {
        while leaver.requests() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        members.lock().unwrap().retain(|member| *member != leaver.endpoint);
    };
    let sending = tokio::time::timeout(Duration::from_mins(1), exporter.consume(batch.clone()));
    let (result, ()) = tokio::join!(sending, leaving);
    result.expect("the change ends the wait").unwrap();
    assert_eq!(leaver.requests(), 1);
    assert_eq!(accepted(&servers), sent(&[batch]), "each span once");
    // What the leaver owned went to its new owners.
    let after = endpoints(&servers);
    for server in &servers {
        for trace in spans(&server.accepted()).into_keys().map(|s| s.trace_id).collect::<BTreeSet<_>>() {
            let old = owner(&before, &trace);
            let expected = if old == leaver.endpoint { owner(&after, &trace) } else { old };
            assert_eq!(expected, server.endpoint);
        }
    }
}
