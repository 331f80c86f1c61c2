//! `URL`: an address as a map of its parts, under the names of the semantic conventions.

#![forbid(unsafe_code)]

use super::{Fit, Unfit, Value};

/// Splits an address (RFC 3986, section 3). Parts that it has not are not in the map.
pub(super) fn parse(text: &str) -> Fit<Value<'static>> {
    if text.is_empty() || text.contains(|c: char| c.is_control() || c == ' ') {
        return Err(Unfit);
    }
    let mut parts: Vec<(&str, Value<'_>)> = vec![("url.original", Value::text(text))];
    let (rest, fragment) = cut(text, '#');
    let (rest, query) = cut(rest, '?');
    let (scheme, rest) = scheme(rest);
    let (authority, path) = match rest.strip_prefix("//") {
        Some(rest) => {
            let end = rest.find('/').unwrap_or(rest.len());
            (Some(&rest[..end]), &rest[end..])
        }
        None => (None, rest),
    };
    let mut add = |name, value: &str| parts.push((name, Value::text(value)));
    if let Some(scheme) = scheme {
        add("url.scheme", &scheme.to_ascii_lowercase());
    }
    add("url.path", path);
    if let Some(query) = query {
        add("url.query", query);
    }
    if let Some(fragment) = fragment {
        add("url.fragment", fragment);
    }
    let file = path.rsplit('/').next().unwrap_or_default();
    if let Some((name, extension)) = file.rsplit_once('.')
        && !name.is_empty()
        && !extension.is_empty()
    {
        add("url.extension", extension);
    }
    if let Some(authority) = authority {
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        if let Some(user) = user {
            add("url.user_info", user);
            let (name, password) = cut(user, ':');
            add("url.username", name);
            if let Some(password) = password {
                add("url.password", password);
            }
        }
        let (host, port) = port(host)?;
        add("url.domain", host);
        if let Some(port) = port {
            parts.push(("url.port", Value::Int(port)));
        }
    }
    Value::map(parts.iter().map(|(name, value)| (name.as_bytes(), value.clone())))
}

fn cut(text: &str, at: char) -> (&str, Option<&str>) {
    text.split_once(at).map_or((text, None), |(before, after)| (before, Some(after)))
}

fn scheme(text: &str) -> (Option<&str>, &str) {
    match text.split_once(':') {
        Some((scheme, rest))
            if scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')) =>
        {
            (Some(scheme), rest)
        }
        _ => (None, text),
    }
}

/// Host and port; an IPv6 address keeps its colons.
fn port(host: &str) -> Fit<(&str, Option<i64>)> {
    let name_end = host.rfind(']').map_or(0, |end| end + 1);
    match host[name_end..].rsplit_once(':') {
        Some((_, "")) => Ok((&host[..host.len() - 1], None)),
        Some((_, digits)) => {
            let port: u16 = digits.parse().map_err(|_| Unfit)?;
            Ok((&host[..host.len() - digits.len() - 1], Some(port.into())))
        }
        None => Ok((host, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_their_names() {
        let json = |text| parse(text).map(|map| map.to_json().to_string());
        assert_eq!(
            json("HTTPS://bob:pw@example.com:8080/a/b.tar?x=1&y#top").as_deref(),
            Ok(concat!(
                r#"{"url.domain":"example.com","url.extension":"tar","url.fragment":"top","#,
                r#""url.original":"HTTPS://bob:pw@example.com:8080/a/b.tar?x=1&y#top","url.password":"pw","#,
                r#""url.path":"/a/b.tar","url.port":8080,"url.query":"x=1&y","url.scheme":"https","#,
                r#""url.user_info":"bob:pw","url.username":"bob"}"#
            ))
        );
        assert_eq!(
            json("/only/path").as_deref(),
            Ok(r#"{"url.original":"/only/path","url.path":"/only/path"}"#)
        );
        assert!(json("http://[::1]:80/").is_ok_and(|json| json.contains(r#""url.domain":"[::1]""#)));
        for bad in ["", "a b", "http://x:port/"] {
            assert_eq!(json(bad), Err(Unfit), "{bad}");
        }
    }
}
