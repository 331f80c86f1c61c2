//! A backend of many tenants: OTLP/HTTP, and every span with the tenants that its request named.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
};

use anyhow::Result;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Collected, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use prost::Message as _;
use spanwarden_tests::proto::v1::{ExportTraceServiceRequest, ResourceSpans, any_value};
use tokio::{net::TcpListener, runtime::Builder, sync::oneshot};

/// A span as it came.
#[derive(Clone, Debug)]
pub(crate) struct Arrived {
    pub(crate) number: u64,
    /// Every value of the tenants' header.
    pub(crate) tenants: Vec<String>,
    /// `k8s.pod.uid` of its resource.
    pub(crate) pod_uid: Option<String>,
}

type Spans = Arc<Mutex<Vec<Arrived>>>;

/// It ends when it is dropped.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    spans: Spans,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Backend {
    /// On loopback of the network that the caller is in.
    pub(crate) fn start() -> Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let spans = Spans::default();
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::clone(&spans);
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let thread = thread::Builder::new().name("backend".to_owned()).spawn(move || {
            runtime.block_on(async {
                let serving = serve(listener, shared);
                tokio::select! {
                    () = serving => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { address, spans, stop: Some(stop), thread: Some(thread) })
    }

    pub(crate) fn spans(&self) -> Vec<Arrived> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(listener: std::net::TcpListener, spans: Spans) {
    let listener = TcpListener::from_std(listener).expect("a listener");
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        let spans = Arc::clone(&spans);
        let service = service_fn(move |request| {
            let spans = Arc::clone(&spans);
            async move { Ok::<_, Infallible>(take(&spans, request).await) }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), service));
    }
}

async fn take(spans: &Spans, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let tenants: Vec<String> = request
        .headers()
        .get_all("x-scope-orgid")
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .collect();
    let body = request.into_body().collect().await.map(Collected::to_bytes);
    let Some(export) = body.ok().and_then(|body| ExportTraceServiceRequest::decode(body).ok()) else {
        let mut response = Response::default();
        *response.status_mut() = StatusCode::BAD_REQUEST;
        return response;
    };
    let mut spans = spans.lock().unwrap_or_else(PoisonError::into_inner);
    for resource_spans in export.resource_spans {
        let pod_uid = pod_uid(&resource_spans);
        for span in resource_spans.scope_spans.iter().flat_map(|scope| &scope.spans) {
            let number = span.span_id.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
            spans.push(Arrived { number, tenants: tenants.clone(), pod_uid: pod_uid.clone() });
        }
    }
    Response::default()
}

fn pod_uid(of: &ResourceSpans) -> Option<String> {
    let attributes = &of.resource.as_ref()?.attributes;
    let uid = attributes.iter().find(|attribute| attribute.key == "k8s.pod.uid")?;
    match uid.value.as_ref()?.value.as_ref()? {
        any_value::Value::StringValue(uid) => Some(uid.clone()),
        _ => None,
    }
}
