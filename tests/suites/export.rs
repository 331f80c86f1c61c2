//! The exporters, as the pipeline uses them, against small OTLP servers on the loopback interface.

#[path = "export/balancing.rs"]
mod balancing;
#[path = "export/configs.rs"]
mod configs;
#[path = "export/files.rs"]
mod files;
#[path = "export/grpc.rs"]
mod grpc;
#[path = "export/http.rs"]
mod http_exporter;
#[path = "export/load.rs"]
mod load;
#[path = "export/queue.rs"]
mod queue;
#[path = "export/servers.rs"]
mod servers;
#[path = "export/tls.rs"]
mod tls;
