//! `loadbalancing`.

use std::time::Duration;

use super::{endpoint, exporters};
use crate::config::{
    Located,
    exporters::{LoadBalancing, Resolver},
    fields::Fields,
};

pub(super) fn read(mut fields: Fields<'_>) -> Option<LoadBalancing> {
    let protocol = protocol(&mut fields);
    let resolver = fields.table("resolver");
    if resolver.is_none() {
        fields.error("`resolver` is required: `static` or `dns`");
    }
    let resolver = resolver.and_then(resolver_of);
    let rendezvous = fields.choice("routing", &[("ring", false), ("rendezvous", true)]).unwrap_or(false);
    let keys = [
        ("traceID", true),
        ("", true),
        ("service", false),
        ("attributes", false),
        ("resource", false),
        ("metric", false),
        ("streamID", false),
    ];
    if fields.choice("routing_key", &keys) == Some(false) {
        fields.error_at("routing_key", "keys other than `traceID` are known but not built yet");
    }
    fields.not_built(&["routing_attributes", "timeout", "retry_on_failure", "sending_queue"]);
    Some(LoadBalancing { protocol: protocol?, resolver: resolver?, rendezvous })
}

fn protocol(fields: &mut Fields<'_>) -> Option<crate::config::exporters::OtlpExporter> {
    let Some(mut protocol) = fields.table("protocol") else {
        fields.error("`protocol.otlp` is required (`otlp: {}` is TLS with the system's roots)");
        return None;
    };
    let Some(node) = protocol.present("otlp") else {
        protocol.error("`otlp` is required (`otlp: {}` is TLS with the system's roots)");
        return None;
    };
    let mut otlp = Fields::new(protocol.report(), node);
    otlp.ignored(&["endpoint"], "the resolver names the endpoints");
    let endpoint = Located { value: String::new(), at: otlp.at.clone() };
    Some(exporters::otlp(otlp, endpoint))
}

fn resolver_of(mut fields: Fields<'_>) -> Option<Resolver> {
    let mut kinds = Vec::new();
    for kind in ["static", "dns", "k8s", "aws_cloud_map"] {
        if fields.present(kind).is_some() {
            kinds.push(kind);
        }
    }
    for kind in ["k8s", "aws_cloud_map"] {
        if kinds.contains(&kind) {
            fields.error_at(
                kind,
                format!("`{kind}` is known but not built yet; `dns` of a headless Service is"),
            );
        }
    }
    match kinds.as_slice() {
        ["static"] => {
            fields.table("static").or_else(|| missing(&fields, "static", "hostnames")).and_then(static_hosts)
        }
        ["dns"] => fields.table("dns").or_else(|| missing(&fields, "dns", "hostname")).and_then(dns),
        ["k8s" | "aws_cloud_map"] => None,
        [] => {
            fields.error("names no resolver: `static` or `dns`");
            None
        }
        several => {
            fields.error(format!(
                "names {} resolvers ({}); exactly one is needed",
                several.len(),
                several.join(", ")
            ));
            None
        }
    }
}

fn missing<'a>(fields: &Fields<'a>, resolver: &str, key: &str) -> Option<Fields<'a>> {
    fields.error_at(resolver, format!("`{key}` is required"));
    None
}

fn static_hosts(mut fields: Fields<'_>) -> Option<Resolver> {
    let hostnames = fields.located_strings("hostnames");
    if hostnames.is_empty() {
        fields.error("`hostnames` is required and must not be empty");
        return None;
    }
    let mut seen = std::collections::HashSet::new();
    for host in &hostnames {
        let checked = match host.value.as_str() {
            "" => Err("must not be empty".to_owned()),
            text if text.contains(':') => endpoint::split(text).map(drop),
            text => endpoint::host_name(text).map_err(str::to_owned),
        };
        if let Err(message) = checked {
            fields.report().error(&host.at, message);
        } else if !seen.insert(host.value.as_str()) {
            fields.report().error(&host.at, format!("`{}` is in the list twice", host.value));
        }
    }
    Some(Resolver::Static { hostnames: hostnames.iter().map(|host| host.value.clone()).collect() })
}

fn dns(mut fields: Fields<'_>) -> Option<Resolver> {
    let hostname = fields.required("hostname");
    if let Some(name) = &hostname
        && (name.value.contains(':') || endpoint::host_name(&name.value).is_err())
    {
        fields.error_at("hostname", "is a name without port or scheme; the port goes into `port`");
    }
    let port = fields.string("port").filter(|port| !port.is_empty());
    if let Some(port) = &port
        && !port.parse::<u16>().is_ok_and(|port| port > 0)
    {
        fields.error_at("port", format!("`{}` is not a port: 1 to 65535", port.escape_debug()));
    }
    let mut positive = |key, default| {
        let duration = fields.duration(key).unwrap_or(default);
        if duration.is_zero() {
            fields.error_at(key, "must be longer than 0");
        }
        duration
    };
    let interval = positive("interval", Duration::from_secs(5));
    let timeout = positive("timeout", Duration::from_secs(1));
    Some(Resolver::Dns { hostname: hostname?.value, port, interval, timeout })
}
