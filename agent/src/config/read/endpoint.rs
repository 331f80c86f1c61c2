//! Addresses and URLs.

use crate::config::{Located, fields::Fields};

/// The address that a server listens on; `:4317` is every address, as in Go.
pub(super) fn listen(fields: &mut Fields<'_>, default: &str) -> String {
    let Some(endpoint) = fields.located("endpoint") else { return default.to_owned() };
    match split(&endpoint.value) {
        Ok((host, _)) if host.contains("://") => {
            fields.report().error(&endpoint.at, "a listener's endpoint is `host:port`, without a scheme");
        }
        Ok(("", port)) => return format!("[::]:{port}"),
        Ok(_) => return endpoint.value,
        Err(message) => fields.report().error(&endpoint.at, message),
    }
    default.to_owned()
}

/// `host:port`, `[v6]:port` or `:port`.
pub(super) fn split(text: &str) -> Result<(&str, u16), String> {
    let bad = |why: &str| format!("`{}` is not `host:port`: {why}", text.escape_debug());
    let (host, port) = text.rsplit_once(':').ok_or_else(|| bad("the port is missing"))?;
    let port = port.parse::<u16>().map_err(|_| bad("the port must be a number up to 65535"))?;
    if let Some(inner) = host.strip_prefix('[') {
        let inner = inner.strip_suffix(']').ok_or_else(|| bad("`]` is missing"))?;
        let address = inner.split_once('%').map_or(inner, |(address, _)| address);
        return match address.parse::<std::net::Ipv6Addr>() {
            Ok(_) => Ok((host, port)),
            Err(_) => Err(bad("what stands in brackets is not an IPv6 address")),
        };
    }
    if host.contains(':') {
        return Err(bad("an IPv6 address is written in brackets, `[::1]:4317`"));
    }
    host_name(host).map_err(bad)?;
    Ok((host, port))
}

/// Refuses what no host name or address contains.
pub(super) fn host_name(host: &str) -> Result<(), &'static str> {
    match host.chars().find(|c| c.is_whitespace() || c.is_control() || matches!(c, '/' | '@' | '?' | '#')) {
        Some(_) => Err("the host has characters that no host name has"),
        None => Ok(()),
    }
}

/// A gRPC client's target: `host:port`, `http://…` or `https://…`, without a path.
pub(super) fn grpc_target(fields: &Fields<'_>, endpoint: &Located<String>) {
    let text = endpoint.value.as_str();
    for scheme in ["dns://", "unix://", "unix:", "passthrough:", "xds:"] {
        if text.starts_with(scheme) {
            let message = format!("`{scheme}…` is known but not built yet; write `host:port`");
            return fields.report().error(&endpoint.at, message);
        }
    }
    let authority = ["http://", "https://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    let checked = split(authority.map_or(text, |authority| authority.trim_end_matches('/')));
    match checked {
        Ok(("", _)) => fields.report().error(&endpoint.at, "the host is missing"),
        Ok((_, 0)) => fields.report().error(&endpoint.at, "port 0 can't be dialled"),
        Ok(_) => {}
        Err(message) => fields.report().error(&endpoint.at, message),
    }
}

/// An HTTP client's URL.
pub(super) fn url(fields: &Fields<'_>, endpoint: &Located<String>) {
    let text = endpoint.value.as_str();
    let Some(rest) = ["http://", "https://"].iter().find_map(|scheme| text.strip_prefix(scheme)) else {
        let message =
            format!("`{}` is not a URL: it starts with `http://` or `https://`", text.escape_debug());
        return fields.report().error(&endpoint.at, message);
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let checked = match authority {
        "" => Err("the host is missing".to_owned()),
        authority if authority.contains('@') => {
            Err("credentials in a URL end up in logs; put them into `headers`".to_owned())
        }
        authority if authority.ends_with(']') || !authority.contains(':') => {
            split(&format!("{authority}:1")).map(drop)
        }
        authority => split(authority).map(drop),
    };
    if let Err(message) = checked {
        fields.report().error(&endpoint.at, message);
    }
}
