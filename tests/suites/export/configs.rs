//! Exporter configurations as the reader would give them, and the metrics that come of them.

use std::{sync::Arc, time::Duration};

use spanwarden::{
    config::{
        Component, ComponentId, Located, Location,
        exporters::{
            Compression, Exporter as Config, LoadBalancing, OtlpExporter, OtlpHttpExporter, Resolver, Retry,
        },
        tls::ClientTls,
    },
    export::{self, Exporter},
};

fn at() -> Location {
    Location { file: "test.yaml".into(), line: 1, column: 1, path: "exporters::test".into() }
}

/// A component of this name: every test takes its own, since metrics are the process's.
pub(crate) fn component<T>(kind: &str, name: &str, config: T) -> Component<T> {
    Component { id: ComponentId { kind: kind.into(), name: Some(name.into()) }, at: at(), config }
}

/// Retries at once, and gives up soon.
pub(crate) fn eager() -> Retry {
    Retry {
        enabled: true,
        initial_interval: Duration::from_millis(2),
        randomization_factor: 0.5,
        multiplier: 1.5,
        max_interval: Duration::from_millis(20),
        max_elapsed_time: Duration::from_secs(20),
    }
}

pub(crate) fn plaintext() -> ClientTls {
    ClientTls { insecure: true, ..ClientTls::default() }
}

/// gRPC to one endpoint, plaintext, uncompressed, with eager retries.
pub(crate) fn grpc(endpoint: &str) -> OtlpExporter {
    OtlpExporter {
        endpoint: Located { value: endpoint.into(), at: at() },
        tls: plaintext(),
        compression: Compression::None,
        headers: Vec::new(),
        auth: None,
        timeout: Duration::from_secs(10),
        retry: eager(),
        queue: None,
    }
}

pub(crate) fn http(endpoint: &str) -> OtlpHttpExporter {
    OtlpHttpExporter {
        endpoint: Located { value: endpoint.into(), at: at() },
        traces_endpoint: None,
        json: false,
        tls: ClientTls::default(),
        compression: Compression::None,
        headers: Vec::new(),
        auth: None,
        timeout: Duration::from_secs(10),
        retry: eager(),
        queue: None,
    }
}

pub(crate) fn balancing(hostnames: Vec<String>) -> LoadBalancing {
    LoadBalancing { protocol: grpc(""), resolver: Resolver::Static { hostnames }, rendezvous: false }
}

/// Built and started.
pub(crate) async fn started(kind: &str, name: &str, config: Config) -> Arc<dyn Exporter> {
    let exporter = export::build(&component(kind, name, config)).expect("the configuration is good");
    exporter.start().await.expect("it starts");
    exporter
}

/// The value of a metric line that begins with `series`.
pub(crate) fn metric(series: &str) -> u64 {
    let text = spanwarden::telemetry::metrics::render();
    let line = text.lines().find_map(|line| line.strip_prefix(series));
    line.map_or(0, |value| value.trim().parse().expect("a count"))
}
