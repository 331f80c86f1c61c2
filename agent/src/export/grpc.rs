//! Unary OTLP/gRPC over hyper's HTTP/2 client: one connection a thread, no copy of the payload.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use http_body_util::BodyExt;
use hyper::{
    body::Incoming,
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::time::Instant;

mod body;
mod status;

use body::{PREFIX, Unary};

use super::{
    compress,
    dial::{Lease, PerThread, Target},
    failure::Failure,
    reply, retry,
};
use crate::{
    auth::{Tenant, bearer::Bearer},
    config::exporters::Compression,
    otlp::{Accepted, Batch},
};

/// The method of `opentelemetry/proto/collector/trace/v1/trace_service.proto`.
const METHOD: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
/// What a peer may have on its way to us; answers are small, but a stalled one must not stall the rest.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
const FRAME: u32 = 1 << 20;
/// An `ExportTraceServiceResponse` is some ten bytes, with an error message some hundred.
const MAX_RESPONSE: usize = 64 << 10;
/// Waits between dials while nobody answers, whatever the number of batches that want to go there.
const REDIAL: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// What every request of an exporter has in common.
pub(crate) struct Settings {
    headers: HeaderMap,
    bearer: Option<Arc<Bearer>>,
    compression: Compression,
    timeout: Duration,
}

impl Settings {
    /// `extra` are the configured headers, `bearer` whose token goes with every request.
    pub(crate) fn new(
        extra: HeaderMap,
        bearer: Option<Arc<Bearer>>,
        compression: Compression,
        timeout: Duration,
    ) -> Self {
        let mut headers = HeaderMap::with_capacity(6 + extra.len());
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.insert("grpc-accept-encoding", HeaderValue::from_static("identity"));
        // At most eight digits (gRPC over HTTP/2); a day in milliseconds has them.
        let limit = timeout.as_millis().clamp(1, 99_999_999);
        if let Ok(value) = format!("{limit}m").parse::<HeaderValue>() {
            headers.insert("grpc-timeout", value);
        }
        headers.extend(extra);
        headers.entry(header::USER_AGENT).or_insert(super::USER_AGENT);
        Self { headers, bearer, compression, timeout }
    }
}

/// A client of one backend.
pub(crate) struct Client {
    target: Target,
    uri: Uri,
    settings: Arc<Settings>,
    channels: PerThread<Channel>,
}

/// One thread's connection.
#[derive(Default)]
struct Channel {
    /// Taken for the length of a clone.
    ready: Mutex<Option<Ready>>,
    /// Held while dialling, so that many batches wait for one connection.
    dialling: tokio::sync::Mutex<Redial>,
}

/// A connection that can be used.
#[derive(Clone)]
struct Ready {
    sender: SendRequest<Unary>,
    lease: Lease,
}

impl Channel {
    /// The connection, where there is one that may still be used. One that may not is let go, which ends it once its
    /// requests are answered.
    fn usable(&self) -> Option<SendRequest<Unary>> {
        let mut ready = lock(&self.ready);
        if ready.as_ref().is_some_and(|ready| ready.sender.is_closed() || ready.lease.is_over()) {
            *ready = None;
        }
        ready.as_ref().map(|ready| ready.sender.clone())
    }
}

/// Where the dialling stands.
#[derive(Default)]
struct Redial {
    /// The last failure, and until when it is the answer for others as well.
    failed: Option<(Failure, Instant)>,
    /// The wait before the one after it.
    wait: Duration,
}

/// One try's error: what it is to the caller, and whether it was the connection's.
struct Broken {
    failure: Failure,
    connection: bool,
}

impl Client {
    pub(crate) fn new(target: Target, settings: Arc<Settings>) -> Self {
        let uri = Uri::builder()
            .scheme(target.scheme())
            .authority(target.authority.clone())
            .path_and_query(METHOD)
            .build()
            .expect("scheme, authority and path are valid on their own");
        Self { target, uri, settings, channels: PerThread::new() }
    }

    /// One try, within the timeout.
    pub(crate) async fn send(&self, batch: &Batch) -> Result<Accepted, Failure> {
        let compressed = compress::compress(self.settings.compression, &batch.data)
            .map_err(|e| Failure::permanent("compression", format!("compressing failed: {e}")))?;
        let flag = compressed.is_some();
        let message = compressed.unwrap_or_else(|| batch.data.clone());
        let channel = self.channels.get(Channel::default);
        let call = self.call(&channel, &message, flag, batch.context.tenant.as_deref());
        if let Ok(response) = tokio::time::timeout(self.settings.timeout, call).await {
            return Ok(reply::accepted(&response?, batch.spans));
        }
        // Whether the request or the connection is stuck can't be told; a new one settles it.
        *lock(&channel.ready) = None;
        let message = format!(
            "{} did not answer within {:?}; raise the exporter's timeout or see what slows it",
            self.target.authority, self.settings.timeout
        );
        Err(Failure::unavailable("timeout", message))
    }

    /// Closes what is idle.
    pub(crate) fn close(&self) {
        self.channels.clear();
    }

    /// A connection that was used before may have been closed meanwhile (`max_connection_age`): then the request
    /// goes out once more at once, over a new one.
    async fn call(
        &self,
        channel: &Arc<Channel>,
        message: &Bytes,
        compressed: bool,
        tenant: Option<&Tenant>,
    ) -> Result<Bytes, Failure> {
        let (sender, used) = self.connection(channel).await?;
        match self.exchange(sender, message, compressed, tenant).await {
            Err(Broken { connection: true, .. }) if used => {
                *lock(&channel.ready) = None;
                let (sender, _) = self.connection(channel).await?;
                self.exchange(sender, message, compressed, tenant).await
            }
            other => other,
        }
        .map_err(|broken| {
            if broken.connection {
                *lock(&channel.ready) = None;
            }
            broken.failure
        })
    }

    /// The thread's connection, and whether it was there before.
    async fn connection(&self, channel: &Arc<Channel>) -> Result<(SendRequest<Unary>, bool), Failure> {
        if let Some(sender) = channel.usable() {
            return Ok((sender, true));
        }
        let mut redial = channel.dialling.lock().await;
        if let Some(sender) = channel.usable() {
            return Ok((sender, true));
        }
        match &redial.failed {
            Some((failure, until)) if Instant::now() < *until => return Err(failure.clone()),
            _ => {}
        }
        match self.dial(channel).await {
            Ok(ready) => {
                *redial = Redial::default();
                let sender = ready.sender.clone();
                *lock(&channel.ready) = Some(ready);
                Ok((sender, false))
            }
            Err(failure) => {
                redial.wait = (redial.wait * 2).clamp(REDIAL.0, REDIAL.1);
                let until = Instant::now() + redial.wait.mul_f64(0.5 + retry::random() / 2.0);
                redial.failed = Some((failure.clone(), until));
                tracing::warn!(error = failure.message, "an export connection could not be made");
                Err(failure)
            }
        }
    }

    async fn dial(&self, channel: &Arc<Channel>) -> Result<Ready, Failure> {
        let (stream, lease) = self.target.dial().await?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|e| self.transport(&e))?;
        let backend = self.target.authority.to_string();
        let (mut lease_of_task, channel) = (lease.clone(), Arc::downgrade(channel));
        tokio::spawn(async move {
            let mut connection = std::pin::pin!(connection);
            let ended = tokio::select! {
                ended = &mut connection => ended,
                () = lease_of_task.over() => {
                    // Also where no request comes by to notice it.
                    if let Some(channel) = channel.upgrade() {
                        channel.usable();
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
        mut sender: SendRequest<Unary>,
        message: &Bytes,
        compressed: bool,
        tenant: Option<&Tenant>,
    ) -> Result<Bytes, Broken> {
        let mut request = Request::new(Unary::new(message.clone(), compressed));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = Version::HTTP_2;
        request.headers_mut().clone_from(&self.settings.headers);
        if let Some(tenant) = tenant {
            request.headers_mut().insert(tenant.header.clone(), tenant.name.clone());
        }
        let authorization = super::authorization(self.settings.bearer.as_ref())
            .map_err(|failure| Broken { failure, connection: false })?;
        if let Some((name, value)) = authorization {
            request.headers_mut().insert(name, value);
        }
        if let Some(name) = compress::name(self.settings.compression).filter(|_| compressed) {
            request.headers_mut().insert("grpc-encoding", HeaderValue::from_static(name));
        }
        let broken = |e: hyper::Error| Broken { failure: self.transport(&e), connection: true };
        sender.ready().await.map_err(broken)?;
        let response = sender.send_request(request).await.map_err(broken)?;
        self.read(response).await
    }

    /// The message of the response once its status says OK.
    async fn read(&self, response: Response<Incoming>) -> Result<Bytes, Broken> {
        let authority = self.target.authority.as_str();
        let answered = |failure| Broken { failure, connection: false };
        if response.status() != StatusCode::OK {
            return Err(answered(status::http(response.status(), authority)));
        }
        // A response of headers only carries its status there.
        if let Some(outcome) = status::outcome(response.headers(), authority) {
            return outcome.map(|()| Bytes::new()).map_err(answered);
        }
        let mut body = response.into_body();
        let mut data = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|e| Broken { failure: self.transport(&e), connection: true })?;
            match frame.into_data() {
                Ok(chunk) if data.len() + chunk.len() <= MAX_RESPONSE => data.extend_from_slice(&chunk),
                Ok(_) => {
                    let message = format!("{authority} answered with more than {MAX_RESPONSE} bytes");
                    return Err(answered(Failure::permanent("response_too_large", message)));
                }
                Err(frame) => {
                    if let Some(outcome) =
                        frame.trailers_ref().and_then(|trailers| status::outcome(trailers, authority))
                    {
                        return outcome.map(|()| message_of(data.freeze())).map_err(answered);
                    }
                }
            }
        }
        let message = format!("{authority} ended its answer without grpc-status; it may be no gRPC server");
        Err(answered(Failure::permanent("no_status", message)))
    }

    /// The connection broke, or the stream was reset: the request may have been processed or not, which OTLP
    /// answers by sending it again.
    fn transport(&self, error: &hyper::Error) -> Failure {
        use std::fmt::Write as _;
        let mut text = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(inner) = source {
            let _ = write!(text, ": {inner}");
            source = inner.source();
        }
        let message = format!(
            "the connection to {} broke: {text}; if it goes on, check that HTTP/2 gets through to it",
            self.target.authority
        );
        Failure::unavailable("connection", message)
    }
}

/// The first message of a response body. One that claims compression or another length is taken for empty: we
/// accept identity only, and the status said OK.
fn message_of(mut body: Bytes) -> Bytes {
    if body.len() < PREFIX || body.get_u8() != 0 {
        return Bytes::new();
    }
    let length = body.get_u32() as usize;
    if length <= body.len() { body.split_to(length) } else { Bytes::new() }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
