//! `otlphttp`: OTLP over HTTP/1.1, protobuf or JSON.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header, uri::PathAndQuery};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use serde::Deserialize;

use super::{
    Credentials, Leaf, authorization, bearer, compress,
    dial::{Lease, PerThread, Target, scheme},
    failure::{Failure, FailureKind},
    headers, reply,
};
use crate::{
    auth::bearer::Bearer,
    config::{
        Component, ConfigError, Located,
        exporters::{Compression, OtlpHttpExporter as Config},
    },
    otlp::{Accepted, Batch, json},
    transport::tls::HTTP11,
};

/// Idle connections that a thread keeps.
const MAX_IDLE: usize = 32;
const MAX_RESPONSE: usize = 64 << 10;

/// One backend by HTTP; retries and queue are around it.
pub(super) struct OtlpHttp {
    target: Target,
    path: PathAndQuery,
    headers: HeaderMap,
    bearer: Option<Arc<Bearer>>,
    json: bool,
    compression: Compression,
    timeout: Duration,
    /// HTTP/1.1 carries one request at a time, so a thread has as many connections as requests under way.
    idle: PerThread<Idle>,
}

/// A thread's idle connections.
type Idle = Mutex<Vec<Ready>>;

/// A connection that can be used.
struct Ready {
    sender: SendRequest<Full<Bytes>>,
    lease: Lease,
}

impl OtlpHttp {
    pub(super) fn build<T>(
        component: &Component<T>,
        config: &Config,
        credentials: Credentials<'_>,
    ) -> Result<Self, ConfigError> {
        let (target, path) = match &config.traces_endpoint {
            Some(whole) => endpoint(config, whole, ""),
            None => endpoint(config, &config.endpoint, "/v1/traces"),
        }?;
        let mut all = HeaderMap::new();
        let content = if config.json { "application/json" } else { "application/x-protobuf" };
        all.insert(header::CONTENT_TYPE, HeaderValue::from_static(content));
        let host = target.authority.as_str().parse();
        all.insert(
            header::HOST,
            host.map_err(|_| ConfigError {
                at: config.endpoint.at.clone(),
                message: format!("`{}` is no host", target.authority),
            })?,
        );
        all.extend(headers(component, &config.headers)?);
        all.entry(header::USER_AGENT).or_insert(super::USER_AGENT);
        Ok(Self {
            target,
            path,
            headers: all,
            bearer: bearer(config.auth.as_ref(), credentials)?,
            json: config.json,
            compression: config.compression,
            timeout: config.timeout,
            idle: PerThread::new(),
        })
    }

    /// The body, and whether it is compressed.
    fn body(&self, batch: &Batch) -> Result<(Bytes, bool), Failure> {
        let plain = if self.json {
            let mut text = Vec::with_capacity(batch.data.len() * 2);
            json::to_json(&batch.data, &mut text)
                .map_err(|e| Failure::permanent("json", format!("no JSON form: {e}")))?;
            Bytes::from(text)
        } else {
            batch.data.clone()
        };
        let compressed = compress::compress(self.compression, &plain)
            .map_err(|e| Failure::permanent("compression", format!("compressing failed: {e}")))?;
        let flag = compressed.is_some();
        Ok((compressed.unwrap_or(plain), flag))
    }

    async fn call(&self, body: Bytes, compressed: bool, batch: &Batch) -> Result<Accepted, Failure> {
        let spans = batch.spans;
        let mut headers = self.headers.clone();
        if let Some(tenant) = batch.context.tenant.as_deref() {
            headers.insert(tenant.header.clone(), tenant.name.clone());
        }
        if let Some((name, value)) = authorization(self.bearer.as_ref())? {
            headers.insert(name, value);
        }
        let idle = self.idle.get(Mutex::default);
        // An idle connection may have been closed by the server meanwhile: then a fresh one is tried at once.
        let used = loop {
            let next = lock(&idle).pop();
            match next {
                Some(ready) if ready.sender.is_closed() || ready.lease.is_over() => {}
                other => break other,
            }
        };
        if let Some(ready) = used
            && let Ok((response, ready)) = self.exchange(ready, headers.clone(), &body, compressed).await
        {
            return self.read(response, ready, &idle, spans).await;
        }
        let fresh = self.connect(&idle).await?;
        let (response, ready) =
            self.exchange(fresh, headers, &body, compressed).await.map_err(|e| self.transport(&e))?;
        self.read(response, ready, &idle, spans).await
    }

    async fn connect(&self, idle: &Arc<Idle>) -> Result<Ready, Failure> {
        let (stream, lease) = self.target.dial().await?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|e| self.transport(&e))?;
        let backend = self.target.authority.to_string();
        let (mut lease_of_task, idle) = (lease.clone(), Arc::downgrade(idle));
        tokio::spawn(async move {
            let mut connection = std::pin::pin!(connection);
            let ended = tokio::select! {
                ended = &mut connection => ended,
                () = lease_of_task.over() => {
                    // Also where no request comes by to notice it. One under way keeps its connection to its end.
                    if let Some(idle) = idle.upgrade() {
                        lock(&idle).retain(|ready| !ready.lease.is_over());
                    }
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(backend, %error, "an export connection ended");
            }
        });
        Ok(Ready { sender, lease })
    }

    async fn exchange(
        &self,
        mut ready: Ready,
        headers: HeaderMap,
        body: &Bytes,
        compressed: bool,
    ) -> Result<(Response<Incoming>, Ready), hyper::Error> {
        let mut request = Request::new(Full::new(body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from(self.path.clone());
        *request.headers_mut() = headers;
        if let Some(name) = compress::name(self.compression).filter(|_| compressed) {
            request.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static(name));
        }
        ready.sender.ready().await?;
        let response = ready.sender.send_request(request).await?;
        Ok((response, ready))
    }

    /// Reads the answer to its end, so that the connection can be used again.
    async fn read(
        &self,
        response: Response<Incoming>,
        ready: Ready,
        idle: &Idle,
        spans: u32,
    ) -> Result<Accepted, Failure> {
        let (parts, mut body) = response.into_parts();
        let mut data = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|e| self.transport(&e))?;
            if let Ok(chunk) = frame.into_data() {
                if data.len() + chunk.len() > MAX_RESPONSE {
                    // The status says what matters; the connection is not used again.
                    return self.outcome(parts.status, &parts.headers, &[], spans);
                }
                data.extend_from_slice(&chunk);
            }
        }
        {
            let mut idle = lock(idle);
            if idle.len() < MAX_IDLE && !ready.lease.is_over() {
                idle.push(ready);
            }
        }
        self.outcome(parts.status, &parts.headers, &data, spans)
    }

    /// <https://opentelemetry.io/docs/specs/otlp/#otlphttp-response>
    fn outcome(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
        spans: u32,
    ) -> Result<Accepted, Failure> {
        if status.is_success() {
            let content = headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
            return Ok(if content.starts_with(b"application/json") {
                partial_success(body, spans)
            } else if content.starts_with(b"application/x-protobuf") {
                reply::accepted(body, spans)
            } else {
                Accepted::default()
            });
        }
        let after = headers.get(header::RETRY_AFTER).and_then(retry_after);
        let (kind, cause, hint) = match status.as_u16() {
            429 => (FailureKind::Overloaded(after), "http_429", "it has too much to do"),
            502..=504 => (FailureKind::Unavailable(after), "http_unavailable", "it is away"),
            401 | 403 => {
                (FailureKind::Permanent, "http_forbidden", "check the exporter's headers and certificate")
            }
            404 | 405 => {
                (FailureKind::Permanent, "http_not_found", "check the endpoint's path; OTLP's is /v1/traces")
            }
            413 => (FailureKind::Permanent, "http_too_large", "lower send_batch_max_size or raise its limit"),
            _ => (FailureKind::Permanent, "http_status", "its log says why"),
        };
        let message = format!("{} answered HTTP {}: {hint}", self.target.authority, status.as_u16());
        Err(Failure { kind, cause, message })
    }

    fn transport(&self, error: &hyper::Error) -> Failure {
        let message = format!("the connection to {} broke: {error}", self.target.authority);
        Failure::unavailable("connection", message)
    }
}

impl Leaf for OtlpHttp {
    async fn send(&self, batch: &Batch) -> Result<Accepted, Failure> {
        let (body, compressed) = self.body(batch)?;
        let call = self.call(body, compressed, batch);
        tokio::time::timeout(self.timeout, call).await.unwrap_or_else(|_| {
            let message = format!(
                "{} did not answer within {:?}; raise the exporter's timeout or see what slows it",
                self.target.authority, self.timeout
            );
            Err(Failure::unavailable("timeout", message))
        })
    }

    async fn close(&self) {
        self.idle.clear();
    }
}

/// Address and path of a URL.
fn endpoint(
    config: &Config,
    url: &Located<String>,
    append: &str,
) -> Result<(Target, PathAndQuery), ConfigError> {
    let error = |message: String| ConfigError { at: url.at.clone(), message };
    let wrong = || error(format!("`{}` is no URL; write http://host:port or https://host:port", url.value));
    let (plaintext, rest) = scheme(&url.value).map_err(|e| error(e.to_string()))?;
    let plaintext = plaintext.ok_or_else(wrong)?;
    let (host, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let path = format!("{}{append}", if append.is_empty() { path } else { path.trim_end_matches('/') });
    let path = if path.starts_with('/') { path } else { format!("/{path}") };
    let mut authority: http::uri::Authority = host.parse().map_err(|_| wrong())?;
    if authority.port().is_none() {
        let port = if plaintext { 80 } else { 443 };
        authority = format!("{host}:{port}").parse().map_err(|_| wrong())?;
    }
    let target = Target::new(authority, plaintext, &config.tls, HTTP11).map_err(|e| error(e.to_string()))?;
    Ok((target, path.parse().map_err(|_| wrong())?))
}

/// `Retry-After`: seconds, or a date.
fn retry_after(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

/// `ExportTraceServiceResponse` in JSON; int64 is text there, and some write it as a number.
fn partial_success(body: &[u8], spans: u32) -> Accepted {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Reply {
        partial_success: Option<Partial>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Partial {
        rejected_spans: Option<serde_json::Value>,
    }
    let rejected = serde_json::from_slice::<Reply>(body)
        .ok()
        .and_then(|reply| reply.partial_success?.rejected_spans)
        .and_then(|n| n.as_i64().or_else(|| n.as_str()?.parse().ok()));
    reply::partial(rejected.unwrap_or(0), spans)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let of = |text: &str| retry_after(&text.parse().unwrap());
        assert_eq!(of("17"), Some(Duration::from_secs(17)));
        assert_eq!(of("Thu, 01 Jan 1970 00:00:00 GMT"), Some(Duration::ZERO));
        let soon = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(100));
        assert!(of(&soon).is_some_and(|d| (98..=100).contains(&d.as_secs())));
        assert_eq!(of("later"), None);
        assert_eq!(of("-1"), None);
    }

    #[test]
    fn json_partial_success_is_text_or_number() {
        for (body, rejected) in [
            (r#"{"partialSuccess":{"rejectedSpans":"3","errorMessage":"x"}}"#, 3),
            (r#"{"partialSuccess":{"rejectedSpans":3}}"#, 3),
            (r#"{"partialSuccess":{"rejectedSpans":"99"}}"#, 5),
            (r#"{"partialSuccess":{}}"#, 0),
            ("{}", 0),
            ("not json", 0),
        ] {
            assert_eq!(partial_success(body.as_bytes(), 5).rejected_spans, rejected, "{body}");
        }
    }
}
