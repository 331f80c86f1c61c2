//! `receivers:`

use std::time::Duration;

use super::{auth, endpoint, tls};
use crate::config::{
    fields::Fields,
    receivers::{GrpcServer, HttpServer, Keepalive, OtlpReceiver, Receiver},
};

/// gRPC's own limit of a message (grpc-go's default), MiB.
const GRPC_MESSAGE_MIB: u64 = 4;
/// confighttp's default, 20 MiB.
const HTTP_BODY: u64 = 20 << 20;

pub(super) fn read(kind: &'static str, mut fields: Fields<'_>) -> Option<Receiver> {
    debug_assert_eq!(kind, "otlp");
    let Some(mut protocols) = fields.table("protocols") else {
        fields
            .error("`protocols` is required, with `grpc`, `http` or both (`grpc:` alone means its defaults)");
        return None;
    };
    let report = protocols.report();
    let grpc = protocols.present("grpc").map(|node| grpc(Fields::new(report, node)));
    let http = protocols.present("http").map(|node| http(Fields::new(report, node)));
    if grpc.is_none() && http.is_none() {
        protocols.error("at least one of `grpc` and `http` is required");
    }
    Some(Receiver::Otlp(OtlpReceiver { grpc, http }))
}

/// What gRPC and HTTP servers share and we do not have.
const NOT_BUILT: [&str; 2] = ["include_metadata", "middlewares"];

fn transport(fields: &mut Fields<'_>) {
    if let Some(transport) = fields.string("transport")
        && !matches!(transport.as_str(), "" | "tcp" | "tcp4" | "tcp6")
    {
        fields.error_at(
            "transport",
            format!("`{}` is known but not built yet; `tcp` is", transport.escape_debug()),
        );
    }
}

fn grpc(mut fields: Fields<'_>) -> GrpcServer {
    let server = GrpcServer {
        endpoint: endpoint::listen(&mut fields, "localhost:4317"),
        tls: tls::server(&mut fields),
        auth: auth::read(&mut fields),
        max_recv_msg_size_mib: match fields.unsigned("max_recv_msg_size_mib") {
            None | Some(0) => GRPC_MESSAGE_MIB,
            Some(size) => size,
        },
        max_concurrent_streams: match fields.unsigned("max_concurrent_streams") {
            None | Some(0) => 200,
            Some(streams) => streams,
        },
        keepalive: fields.table("keepalive").map(keepalive).unwrap_or_default(),
    };
    if server.max_recv_msg_size_mib > 2048 {
        fields.error_at("max_recv_msg_size_mib", "a gRPC message has at most 2048 MiB");
    }
    transport(&mut fields);
    fields.not_built(&NOT_BUILT);
    fields.ignored(&["read_buffer_size", "write_buffer_size"], "buffers follow what arrives");
    server
}

fn keepalive(mut fields: Fields<'_>) -> Keepalive {
    if let Some(mut policy) = fields.table("enforcement_policy") {
        policy.ignored(
            &["min_time", "permit_without_stream"],
            "pings are answered however often they come, at a bounded cost",
        );
    }
    let Some(mut fields) = fields.table("server_parameters") else { return Keepalive::default() };
    // gRPC's zero is infinity for the ages and the default for the pings.
    let mut duration = |key| fields.duration(key).filter(|duration| !duration.is_zero());
    Keepalive {
        max_connection_idle: duration("max_connection_idle"),
        max_connection_age: duration("max_connection_age"),
        max_connection_age_grace: duration("max_connection_age_grace"),
        time: duration("time"),
        timeout: duration("timeout"),
    }
}

fn http(mut fields: Fields<'_>) -> HttpServer {
    let minute = Duration::from_mins(1);
    let server = HttpServer {
        endpoint: endpoint::listen(&mut fields, "localhost:4318"),
        tls: tls::server(&mut fields),
        auth: auth::read(&mut fields),
        max_request_body_size: match fields.unsigned("max_request_body_size") {
            None | Some(0) => HTTP_BODY,
            Some(size) => size,
        },
        traces_url_path: fields.string("traces_url_path").unwrap_or_else(|| "/v1/traces".to_owned()),
        read_header_timeout: fields.duration("read_header_timeout").unwrap_or(minute),
        idle_timeout: fields.duration("idle_timeout").unwrap_or(minute),
    };
    if !server.traces_url_path.starts_with('/') {
        fields.error_at("traces_url_path", "a path starts with `/`");
    }
    transport(&mut fields);
    fields.not_built(&NOT_BUILT);
    fields.not_built(&["cors", "response_headers", "compression_algorithms", "read_timeout"]);
    if fields.boolean("keep_alives_enabled") == Some(false) {
        fields.error_at("keep_alives_enabled", "`keep_alives_enabled: false` is known but not built yet");
    }
    fields.ignored(&["metrics_url_path", "logs_url_path", "profiles_url_path"], "only traces are received");
    fields.ignored(
        &["write_timeout"],
        "a response is a few bytes, and its connection is closed after `idle_timeout`",
    );
    server
}
